"""An actor tells of its episodes by lines, a CSV file, curves of TensorBoard, and a run of W&B."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from lit_rl import metrics
from lit_rl.callbacks.companions.companion import Companion
from lit_rl.cli.errors import CommandError
from lit_rl.files import open_own

_log = logging.getLogger("lit_rl")

MODES = ("offline", "online", "disabled")
_LATER_S = 10.0
_PUSH_S = 0.25
_FINISH_S = 30.0


class ActorLog:
    """Prints a line now and then, and records a row for each episode.

    Nothing is written before the first episode ends, so that an actor may be started before the learner has
    made the run directory in which both write. The thread that plays never waits: W&B runs in a process of
    its own, and TensorBoard's file is written by a thread.

    Args:
        name: Name of the actor.
        directory: Folder of ``actor_NAME.csv``, of ``actor_NAME/`` with the events of TensorBoard, and of
            ``wandb/``; None writes none of them.
        period_s: Seconds between two lines.
        wandb: Options from :func:`wandb_options`; None records no run of W&B.
    """

    def __init__(
        self, name: str, directory: str | None, period_s: float, wandb: Mapping[str, Any] | None = None
    ) -> None:
        self._name, self._period_s, self._last = name, period_s, time.monotonic()
        self._directory = None if directory is None else Path(directory)
        self._file: IO[Any] | None = None
        self._rows: csv.DictWriter[str] | None = None
        self._curves = None if directory is None else _Curves(Path(directory) / f"actor_{name}")
        self._wandb = None
        if wandb is not None and directory is not None:
            self._wandb = _WandbRows({**wandb, "dir": str(Path(directory).absolute())})

    def __call__(self, values: Mapping[str, float]) -> None:
        """Tell what is known after an episode, by the names of ``metrics.py``."""
        if self._directory is not None:
            self._write(self._directory, values)
        if time.monotonic() - self._last >= self._period_s:
            self._last = time.monotonic()
            _log.info(
                "%s: %d env steps, %d episodes, return %.1f over the last 10, policy version %d",
                self._name, values[metrics.ACTOR_STEPS], values[metrics.ACTOR_EPISODES],
                values[metrics.ACTOR_REWARD_10], values[metrics.ACTOR_POLICY_VERSION],
            )  # fmt: skip

    def _write(self, directory: Path, values: Mapping[str, float]) -> None:
        try:
            if self._file is None or self._rows is None:
                directory.mkdir(parents=True, exist_ok=True)
                self._file = open_own(directory / f"actor_{self._name}.csv", "a", newline="")
                self._rows = csv.DictWriter(self._file, list(values))
                if self._file.tell() == 0:
                    self._rows.writeheader()
            self._rows.writerow(values)
            self._file.flush()
            if self._curves is not None:
                self._curves.add(values)
        except OSError as error:
            self._directory = None
            _log.warning("%s cannot be written: %s; the actor plays on without", directory, error.strerror)
        if self._wandb is not None:
            self._wandb.add(values)

    def close(self, exit_code: int = 0) -> None:
        """Close the files, and let the run of W&B end with ``exit_code``; may be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._curves is not None:
            self._curves.close()
            self._curves = None
        if self._wandb is not None:
            self._wandb.close(exit_code)
            self._wandb = None


class _Curves:
    """Curves of TensorBoard over the env steps of the actor."""

    def __init__(self, directory: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._directory, self._make = directory, EventFileWriter
        self._event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]  # generated
        self._summary: Any = summary_pb2.Summary  # pyright: ignore[reportAttributeAccessIssue]  # generated
        self._writer: Any = None

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one episode."""
        if self._writer is None:
            self._writer = self._make(str(self._directory), flush_secs=10)
        points = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        step = int(values[metrics.ACTOR_STEPS])
        self._writer.add_event(
            self._event(wall_time=time.time(), step=step, summary=self._summary(value=points))
        )

    def close(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            self._writer.close()


class _WandbRows:
    """Sends rows to the process that runs ``wandb``; a fault of W&B is one warning."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options, self._is_on, self._is_begun = dict(options), True, False
        self._offered = 0
        self._companion: Companion | None = None
        try:
            self._companion = Companion("lit_rl.callbacks.companions.wandb_process", _PUSH_S)
        except OSError as error:
            self._turn_off(f"it could not be started: {error}")

    def add(self, values: Mapping[str, float]) -> None:
        """Hand one row over, without waiting."""
        self._offered += 1
        if not self._is_begun:
            self._is_begun = True
            self._send("start", self._options)
        self._send("row", None, values)
        if self._is_on and self._companion is not None:
            self._hear(self._companion.channel.receive())

    def _send(self, kind: str, value: Any, row: Mapping[str, float] | None = None) -> None:
        if not self._is_on or self._companion is None:
            return
        try:
            self._companion.channel.send((kind, value), row, is_vital=row is None)
        except OSError:
            self._hear(self._companion.channel.receive())
            self._turn_off("its process has ended")

    def _hear(self, said: list[Any]) -> None:
        for kind, text in said:
            if kind == "started":
                _log.info("W&B: %s", text)
            elif kind == "failed":
                self._turn_off(text)

    def _turn_off(self, reason: str) -> None:
        if self._is_on:
            self._is_on = False
            _log.warning("W&B is off from here on (%s); the actor plays on without it", reason)

    def close(self, exit_code: int) -> None:
        """Let the run end, within the time that W&B is given."""
        companion, self._companion = self._companion, None
        if companion is None:
            return
        if self._is_on and self._is_begun:
            self._companion = companion
            self._send("finish", exit_code)
            self._hear(companion.finish(self._options["finish_timeout_s"] + 5.0))  # more than wandb is given
            self._companion = None
            if refused := companion.channel.refused:
                _log.warning("W&B: %d of %d rows were dropped, wandb was slow", refused, self._offered)
        else:
            companion.kill()


def wandb_options(
    name: str, configured: Mapping[str, Any] | None, config: Mapping[str, Any], **given: str | None
) -> dict[str, Any] | None:
    """Decide how the run of W&B of an actor is called and grouped.

    It belongs to the project and the group of the learner's: ``WandbRun`` of the configuration. Where that is
    the run of a learner, as in ``Learner-walking``, the actor's is ``Actor-walking``.

    Args:
        name: Name of the actor.
        configured: Arguments of ``WandbRun``; None where the configuration has none.
        config: The configuration, which the run keeps.
        **given: ``mode``, ``project``, ``group`` and ``run`` (its name) of the command line; None: not given.

    Returns:
        Options of the process that runs ``wandb``; None where no run was asked for.

    Raises:
        CommandError: The mode is none of W&B's.
    """
    own = configured or {}
    mode = given.get("mode") or (own.get("mode", "offline") if configured is not None else "disabled")
    if mode not in MODES:
        raise CommandError(f"mode of WandbRun must be {', '.join(MODES)}, got {mode!r}")
    if mode == "disabled":
        return None
    called = str(own["name"]) if own.get("name") else name
    if own.get("job_type") != "actor" and not called.startswith("Actor-"):
        called = f"Actor-{called.removeprefix('Learner-')}"
    delay = own.get("start_delay_s")
    return {
        "project": given.get("project") or own.get("project") or "lit_rl",
        "group": given.get("group") or own.get("group"),
        "name": given.get("run") or called,
        "job_type": "actor",
        "tags": own.get("tags"),
        "notes": own.get("notes"),
        "entity": own.get("entity"),
        "id": None,  # that of the configuration is the learner's
        "mode": mode,
        "start_delay_s": delay if delay is not None else _LATER_S * (mode == "offline"),
        "finish_timeout_s": float(own.get("finish_timeout_s", _FINISH_S)),
        "is_resumed": False,
        "hyper_parameters": {"actor": name, **config},
        "axes": {"actor": metrics.ACTOR_STEPS, "timer": metrics.ACTOR_STEPS},
    }
