"""The state of a run in a few lines, from its files alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from lit_rl import metrics
from lit_rl.report.damage import DAMAGED, noting, reason
from lit_rl.report.losses import Recorder, read_recorders
from lit_rl.report.process import files_in
from lit_rl.report.runs import Run, read_run
from lit_rl.report.tables import last_row
from lit_rl.report.words import duration, number, plural, short

TAIL = 2_000_000
"""So many bytes at the end of a table are read: what is newest stands there, however large the table is."""

ACTOR_TAIL = 100_000
"""So many of the table of each actor, of which only the last row is told."""


def describe_run(path: Path, now: float | None = None) -> str:
    """Tell what there is to know of the run in directory ``path``, line by line; the unknown is left out.

    Args:
        path: The run directory.
        now: Unix time, for tests.
    """
    now = time.time() if now is None else now
    run = read_run(path, now, TAIL)
    recorders = read_recorders(path, run.notes)
    parts: dict[str, Callable[[], str]] = {
        "state": lambda: ", ".join(filter(None, run.state)),
        "env steps": lambda: _progress(run),
        "return": lambda: _returns(run),
        "speed": lambda: _speed(run),
        "policy": lambda: _policy(run),
        "actors": lambda: _actors(run),
        "played": lambda: _actor_files(run, now),
        "checkpoint": lambda: _checkpoint(run, now),
        "recorder": lambda: "; ".join(_recorder(recorder, now) for recorder in recorders),
        "read": lambda: _part_read(run),
        "damaged": lambda: _damage(run),  # the last: others note what they could not read
    }
    lines = {name: _told(name, tell) for name, tell in parts.items()}
    width = max(map(len, lines))
    return "\n".join([str(path), *(f"  {name:<{width}}  {text}" for name, text in lines.items() if text)])


def _told(name: str, tell: Callable[[], str]) -> str:
    """Tell one thing; where a file holds a wrong value for it, say that."""
    try:
        return tell()
    except DAMAGED as error:
        return reason(error, f"what the files say of {name}")


def _progress(run: Run) -> str:
    done, total = run.env_steps, run.total_env_steps
    if not total:
        return str(done)
    speed = run.last(metrics.STEPS_PER_SECOND) or 0.0
    is_going = run.state.name == "running" and 0 < speed < math.inf and done < total
    left = f", about {duration((total - done) / speed)} left" if is_going else ""
    return f"{done} of {short(total)} ({done / total:.1%}){left}"


def _returns(run: Run) -> str:
    training, evaluation = run.last(metrics.EPISODE_RETURN), run.series(metrics.EVAL_RETURN)
    words = [] if training is None else [f"training {number(training)}"]
    if evaluation is not None:
        words.append(f"evaluation {number(evaluation.last)} at {evaluation.steps[-1]:.0f} env steps")
    return ", ".join(words)


def _speed(run: Run) -> str:
    speed = run.last(metrics.STEPS_PER_SECOND)
    return "" if speed is None or not math.isfinite(speed) else f"{speed:.0f} env steps/s"


def _policy(run: Run) -> str:
    version = run.last(metrics.POLICY_VERSION)
    return "" if version is None or not math.isfinite(version) else f"version {version:.0f}"


def _actors(run: Run) -> str:
    """Tell what is known of actors elsewhere; nothing where the learner plays itself."""
    connected = run.last(metrics.LEARNER_ACTORS)
    if connected is None:
        return ""
    words = [
        f"{connected:.0f} connected" if run.state.name == "running" else f"{connected:.0f} were connected"
    ]
    for name, text in (
        (metrics.LEARNER_UTD, "{:.2f} updates per env step"),
        (metrics.LEARNER_LAG, "{:.1f} versions behind"),
        (metrics.LEARNER_MISSING, "{:.0f} env steps missing"),
        (metrics.LEARNER_REJECTED, "{:.0f} frames rejected"),
    ):
        value = run.last(name)
        if value is not None and math.isfinite(value):
            words.append(text.format(value))
    return ", ".join(words)


def _actor_files(run: Run, now: float) -> str:
    """Tell what actors of ``lit-rl async`` wrote last; those elsewhere write on their own machine."""
    told = []
    for file, modified in sorted(files_in(run.path / "actors")):
        if not file.match("actor_*.csv"):
            continue
        with noting(f"actors/{file.name}", run.notes):
            row = last_row(file, ACTOR_TAIL)
            if row:
                name = short(file.stem.removeprefix("actor_"))
                told.append(
                    f"{name} {row[metrics.ACTOR_STEPS]:.0f} env steps, return "
                    f"{number(row[metrics.ACTOR_REWARD_10])} over 10 episodes, "
                    f"{duration(now - modified)} ago"
                )
    return "; ".join(told)


def _checkpoint(run: Run, now: float) -> str:
    """Tell name and age of the newest checkpoint."""
    found = files_in(run.path / "checkpoints")
    files = [(modified, short(path.name)) for path, modified in found if path.suffix == ".ckpt"]
    if not files:
        return "none"
    modified, name = max(files)
    return f"{name}, {duration(now - modified)} ago"


def _recorder(recorder: Recorder, now: float) -> str:
    is_waited_for = recorder.heartbeat is not None and recorder.state == "running"
    beat = f", heartbeat {duration(now - (recorder.heartbeat or now))} ago" if is_waited_for else ""
    return f"{recorder.state}{beat}; records: {recorder.describe()}"


def _part_read(run: Run) -> str:
    """Say that the table was too large to be read as a whole; what stands before its end is not told."""
    unread = run.table.unread
    return (
        f"the last {TAIL / 1e6:g} MB of metrics.csv, not the {unread / 1e6:.0f} MB before" if unread else ""
    )


def _damage(run: Run) -> str:
    lines = run.table.damaged
    torn = [f"metrics.csv: {plural(lines, 'incomplete line')} left out"] if lines else []
    return "; ".join([*run.notes, *torn])
