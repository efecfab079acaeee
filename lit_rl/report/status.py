"""The state of a run in a few lines, from its files alone."""

from __future__ import annotations

import math
import time
from pathlib import Path

from lit_rl import metrics
from lit_rl.report.losses import Recorder, read_recorders
from lit_rl.report.runs import Run, read_run
from lit_rl.report.words import duration, number, plural


def describe_run(path: Path, now: float | None = None) -> str:
    """Tell what there is to know of the run in directory ``path``, line by line; the unknown is left out.

    Args:
        path: The run directory.
        now: Unix time, for tests.
    """
    now = time.time() if now is None else now
    run = read_run(path, now)
    lines = {
        "state": ", ".join(filter(None, run.state)),
        "env steps": _progress(run),
        "return": _returns(run),
        "speed": _speed(run),
        "policy": _policy(run),
        "actors": _actors(run),
        "played": _actor_files(path, now),
        "checkpoint": _checkpoint(run, now),
        "recorder": "; ".join(_recorder(recorder, now) for recorder in read_recorders(path)),
        "damaged": _damage(run),
    }
    width = max(map(len, lines))
    return "\n".join([str(path), *(f"  {name:<{width}}  {text}" for name, text in lines.items() if text)])


def _progress(run: Run) -> str:
    done, total = run.env_steps, run.total_env_steps
    if not total:
        return str(done)
    speed = run.last(metrics.STEPS_PER_SECOND)
    is_going = run.state.name == "running" and speed and done < total
    left = f", about {duration((total - done) / speed)} left" if is_going and speed else ""
    return f"{done} of {total} ({done / total:.1%}){left}"


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


def _actor_files(path: Path, now: float) -> str:
    """Tell what actors of ``lit-rl async`` wrote last; those elsewhere write on their own machine."""
    told = []
    for file in sorted(path.glob("actors/actor_*.csv")):
        rows = _last_row(file)
        if rows:
            told.append(
                f"{file.stem.removeprefix('actor_')} {rows[metrics.ACTOR_STEPS]:.0f} env steps, return "
                f"{number(rows[metrics.ACTOR_REWARD_10])} over 10 episodes, "
                f"{duration(now - file.stat().st_mtime)} ago"
            )
    return "; ".join(told)


def _last_row(file: Path) -> dict[str, float]:
    """Read the last whole row of a table of numbers; nothing where there is none."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        names = lines.readline().strip().split(",")
        whole = [line for line in lines if line.endswith("\n") and line.count(",") == len(names) - 1]
    try:
        row = dict(zip(names, map(float, whole[-1].split(",")), strict=True))
    except (IndexError, ValueError):
        return {}
    return row if {metrics.ACTOR_STEPS, metrics.ACTOR_REWARD_10} <= row.keys() else {}


def _checkpoint(run: Run, now: float) -> str:
    """Tell name and age of the newest checkpoint."""
    files = [(path.stat().st_mtime, path.name) for path in run.path.glob("checkpoints/*.ckpt")]
    if not files:
        return "none"
    modified, name = max(files)
    return f"{name}, {duration(now - modified)} ago"


def _recorder(recorder: Recorder, now: float) -> str:
    is_waited_for = recorder.heartbeat is not None and recorder.state == "running"
    beat = f", heartbeat {duration(now - (recorder.heartbeat or now))} ago" if is_waited_for else ""
    return f"{recorder.state}{beat}; records: {recorder.describe()}"


def _damage(run: Run) -> str:
    lines = run.table.damaged
    torn = [f"metrics.csv: {plural(lines, 'incomplete line')} left out"] if lines else []
    return "; ".join([*run.notes, *torn])
