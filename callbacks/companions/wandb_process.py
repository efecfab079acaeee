"""Runs ``wandb`` in a process that ``WandbRun`` starts and sends the rows to."""

from __future__ import annotations

import json
import os
import re
import select
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from lit_rl.callbacks.companions import companion
from lit_rl.callbacks.companions.channel import Channel
from lit_rl.metrics import ACTOR_STEPS, LEARNER_UPDATES
from lit_rl.processes import Message, lower_children

ENV_STEPS = "env_steps"
AXES = {
    "actor": ACTOR_STEPS,
    "sac": LEARNER_UPDATES,
    "learner": LEARNER_UPDATES,
    "timer": LEARNER_UPDATES,
}
"""Group of a logged name to the axis W&B draws it over; all others are drawn over ``env_steps``. A
run may have others, by its option ``axes``."""

_RUN_FOLDER = re.compile(r"run-\d{8}_\d{6}-([a-z0-9]+)")


def main() -> None:
    """Record rows until the trainer says that nothing follows, or is gone."""
    channel, trainer = companion.attach()
    received = companion.messages(channel, trainer)
    _, options = next(received, (None, None))
    if options is None:
        return
    received = chain(wait(channel, options["start_delay_s"]), received)
    try:
        run = start(options, trainer)
        lower_children()  # the process that wandb has started
        companion.reply(channel, "started", _where(run, options))
        exit_code = record(run, received, options.get("axes") or AXES)
        end(run, exit_code)
        companion.reply(channel, "finished")
    except Exception as error:
        companion.reply(channel, "failed", companion.describe(error))


def wait(channel: Channel, seconds: float) -> list[Message]:
    """Keep what comes in within ``seconds``, or until training is over."""
    kept: list[Message] = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and channel.is_open:
        select.select([channel.socket], [], [], left)
        kept += channel.receive()
        if any(kind == "finish" for kind, *_ in kept[-1:]):
            break
    return kept


def start(options: dict[str, Any], trainer: int) -> Any:
    """``wandb.init``, silent, and without a network when offline.

    Raises:
        Exception: Whatever ``wandb`` raises.
        OSError: Nothing can be written into the run directory.
    """
    os.environ.pop("WANDB_SERVICE", None)  # it belongs to a run that is live in the trainer's process
    if options["mode"] == "offline":
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    directory = Path(options["dir"])
    _check_writable(directory / "wandb")  # wandb would take the temporary directory instead
    import wandb

    run_id = options["id"] or (_last_id(directory) if options["is_resumed"] else None)
    names = ("project", "name", "group", "job_type", "tags", "notes", "entity", "mode", "dir")
    run = wandb.init(
        **{name: options[name] for name in names},
        id=run_id,
        resume="allow",
        config=_config(directory) or options["hyper_parameters"],
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_stats_pid=trainer,
            finish_timeout=options["finish_timeout_s"],
        ),
    )
    run.define_metric(ENV_STEPS)
    axes = options.get("axes") or AXES
    for axis in dict.fromkeys(axes.values()):
        run.define_metric(axis)
    for group, axis in axes.items():
        run.define_metric(f"{group}/*", step_metric=axis)
    return run


def record(run: Any, received: Iterator[Message], axes: Mapping[str, str] = AXES) -> int:
    """Log all rows; returns the exit code the trainer told, or 1 when it was killed.

    A row is ``["row", env steps or None, values]``, and the last message is ``["finish", exit code]``.

    Where several patterns fit a name, W&B takes any of them. So there is no ``*``: each group of names gets a
    pattern of its own when it is first seen.
    """
    known = set(axes)
    for message in received:
        match message:
            case ["row", env_steps, values]:
                for group in {name.partition("/")[0] for name in values if "/" in name} - known:
                    run.define_metric(f"{group}/*", step_metric=ENV_STEPS)
                    known.add(group)
                run.log(values if env_steps is None else values | {ENV_STEPS: env_steps})
            case ["finish", exit_code]:
                return exit_code
    return 1


def end(run: Any, exit_code: int) -> None:
    """End the run and the process that ``wandb`` started for it."""
    import wandb

    run.finish(exit_code)
    wandb.teardown()


def _config(directory: Path) -> dict[str, Any]:
    """``config.yaml`` of the run, and ``versions.json`` under the key ``versions``, as far as they exist."""
    import yaml

    config: dict[str, Any] = {}
    if (path := directory / "config.yaml").is_file():
        config |= yaml.safe_load(path.read_text(encoding="utf-8"))
    if (path := directory / "versions.json").is_file():
        config["versions"] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _last_id(directory: Path) -> str | None:
    """Id of the newest run in the directory."""
    found = [_RUN_FOLDER.search(path.name) for path in sorted((directory / "wandb").glob("*run-*"))]
    return next((match.group(1) for match in reversed(found) if match), None)


def _check_writable(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    probe.touch()
    probe.unlink()


def _where(run: Any, options: dict[str, Any]) -> str:
    return run.url if options["mode"] == "online" else f"offline run {Path(run.dir).parent}"


if __name__ == "__main__":
    main()
