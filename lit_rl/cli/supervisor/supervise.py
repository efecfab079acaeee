"""Keeps a learner and its actors running until the learner ends, and then leaves nothing behind."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from lit_rl.cli import messages
from lit_rl.cli.errors import CommandError
from lit_rl.cli.run_directory import point_latest
from lit_rl.cli.supervisor.child import Child
from lit_rl.cli.supervisor.plan import Plan, actor_name, check_port, make_plan
from lit_rl.processes import STOP_SIGNALS

_log = logging.getLogger("lit_rl")

LOOK_S = 0.05
GOODBYE_S = 3.0
"""So long actors may take to end by themselves, once the learner has told them that it ends."""
PATIENCE_S = 45.0
"""So long actors may take to end after SIGTERM; the last rows of W&B take some seconds."""


def supervise(argv: Sequence[str], debug: bool = False) -> None:
    """Run ``lit-rl async``.

    Args:
        argv: The command line after ``async``.
        debug: Whether the processes show the stack trace of an error.

    Raises:
        CommandError: The command line or a configuration is wrong, the port is taken, or no actor is left.
        SystemExit: With the exit status of the learner, unless that is 0.
    """
    plan = make_plan(argv)
    check_port(plan.host, plan.port)
    with messages.on_stderr():
        Supervisor(plan, ["--debug"] if debug else []).run()


class Supervisor:
    """Starts the processes, starts lost ones again, passes signals on.

    Args:
        plan: Command lines of the processes to start.
        extra: Arguments of every process.

    Attributes:
        run_directory: The directory into which the learner writes.
    """

    def __init__(self, plan: Plan, extra: Sequence[str] = ()) -> None:
        self._plan, self._extra = plan, list(extra)
        self.run_directory = plan.make_run_directory()
        self._received: list[int] = []
        self._num_passed = 0  # signals that the learner was sent
        self._is_stopping = self._is_latest = self._has_started = False
        self.learner = Child("learner", self._learner_arguments, lambda code: code < 0)
        self.actors = [
            Child(actor_name(number), lambda number=number: self._actor_arguments(number), _is_actor_lost)
            for number in range(1, plan.num_actors + 1)
        ]

    def run(self) -> None:
        """Keep everything running until the learner has ended.

        Raises:
            CommandError: No actor was left.
            SystemExit: With the exit status of the learner.
        """
        try:
            with self._signals():
                for child in (self.learner, *self.actors):
                    child.start()
                while self.learner.tend(not self._is_stopping) is None:
                    self._pass_signals_on()
                    self._look_after_actors()
                    self._point_latest()
                    time.sleep(LOOK_S)
                self._end_actors()
        finally:
            for child in (self.learner, *self.actors):
                child.kill()
        self._remove_empty()
        self._finish(self.learner.exit_code or 0)

    def _finish(self, code: int) -> None:
        if not self._received and self._is_stopping:
            codes = sorted({actor.exit_code or 0 for actor in self.actors})
            has_checkpoint = (self.run_directory / "checkpoints" / "last.ckpt").is_file()
            again = f"lit-rl async --config {self.run_directory}/config.yaml --ckpt_path last"
            raise CommandError(
                f"no actor is left (exit status {', '.join(map(str, codes))}, see the lines above), so the "
                f"learner was asked to stop{f'; go on by {again}' if has_checkpoint else ''}",
                2 if codes == [2] else 1,
            )
        if code < 0 and not self._received:
            raise CommandError(f"the learner was killed by signal {-code}, and is not started again", 1)
        if code != 0:
            sys.exit(code if code > 0 else 128 + self._received[0])

    # Arguments

    def _learner_arguments(self) -> list[str]:
        """Begin the run; after a loss go on from its last checkpoint, or begin it again where it has none."""
        is_again, self._has_started = self._has_started, True
        if not is_again:
            return [*self._plan.learner_of(self.run_directory), *self._extra]
        config = self.run_directory / "config.yaml"
        if config.is_file() and (self.run_directory / "versions.json").is_file():
            return ["fit", "--config", str(config), "--ckpt_path", "last", *self._extra]
        if self._plan.given is not None:
            raise CommandError(
                "the learner was lost before it wrote its config.yaml; start again with another --run_dir "
                f"than {self.run_directory}, which is not empty", 1,
            )  # fmt: skip
        self.run_directory, self._is_latest = self._plan.make_run_directory(), False
        _log.warning("there was no config.yaml yet: the learner begins anew in %s", self.run_directory)
        return [*self._plan.learner_of(self.run_directory), *self._extra]

    def _actor_arguments(self, number: int) -> list[str]:
        return [*self._plan.actor_of(self.run_directory, number), *self._extra]

    # While the learner runs

    def _look_after_actors(self) -> None:
        """Start lost actors again; stop the learner when none is left, as it would wait for ever.

        An actor that ends with status 0 was told by the learner that it ends.
        """
        codes = [actor.tend(not self._is_stopping) for actor in self.actors]
        if not self._is_stopping and all(codes):
            self._is_stopping = True
            self.learner.send(signal.SIGTERM)

    def _pass_signals_on(self) -> None:
        """Let the learner end by the signal that came here; actors end after it, since it may need them."""
        while self._received[self._num_passed :]:
            self._is_stopping = True
            self.learner.send(self._received[self._num_passed])
            self._num_passed += 1

    def _point_latest(self) -> None:
        """Let ``latest`` point to the run once there is something in it."""
        if not self._is_latest and (self.run_directory / "metrics.csv").exists():
            self._is_latest = True
            if self._plan.given is None and self._plan.resumed is None:
                point_latest(self.run_directory)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Keep the signals that come; one that is ignored, as SIGHUP under ``nohup``, stays ignored."""
        before = {}
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                before[signum] = signal.signal(signum, self._on_signal)
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._received.append(signum)

    # When the learner has ended

    def _end_actors(self) -> None:
        """Wait for actors that the learner has told to end; ask the others to stop, and kill what stays."""
        if self.learner.exit_code == 0 and self._wait_for_actors(GOODBYE_S):
            return
        for actor in self.actors:
            actor.send(signal.SIGTERM)
        if not self._wait_for_actors(PATIENCE_S):
            _log.warning("an actor did not end within %g s after SIGTERM, and is killed", PATIENCE_S)

    def _wait_for_actors(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while any(actor.tend(may_start=False) is None for actor in self.actors):
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        return True

    def _remove_empty(self) -> None:
        """Remove a run directory in which nothing was begun, as it was made here."""
        path: Path = self.run_directory
        if self._plan.given is None and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _is_actor_lost(code: int) -> bool:
    """Tell whether an actor is started again: it was killed, or its environment failed."""
    return code < 0 or code == 1
