"""What an evaluation reports: one line, and ``eval.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lit_rl import files
from lit_rl.report.statistics import student_t
from lit_rl.report.words import PLAYED


def confidence_interval(mean: float, std: float, count: int) -> tuple[float, float] | None:
    """Compute the 95 % interval of a mean over episodes; one episode gives none.

    Args:
        mean: Mean return.
        std: Sample standard deviation of the returns.
        count: Number of episodes.
    """
    if count < 2:
        return None
    half = student_t(count - 1) * std / count**0.5
    return mean - half, mean + half


def summary(result: Mapping[str, float], checkpoint: Path, policy: str | None = None) -> str:
    """Write the line that ``lit-rl test`` prints.

    Args:
        result: Statistics of the episodes.
        checkpoint: Name of the file that the policy was loaded from.
        policy: What was played, ``greedy`` or ``sample``; None where the data module does not say.
    """
    mean, count = result["return_mean"], int(result["episodes"])
    interval = confidence_interval(mean, result["return_std"], count)
    within = f" (95 % interval {interval[0]:.1f} to {interval[1]:.1f})" if interval else ""
    of_what = f" of the {PLAYED[policy]}" if policy in PLAYED else ""
    episodes = "episodes" if count > 1 else "episode, too few for an interval"
    return (
        f"return {mean:.1f}{within}{of_what} over {count} {episodes}, length {result['length_mean']:.1f}, "
        f"env steps {int(result['env_steps'])}, checkpoint {checkpoint}"
    )


def write_json(
    result: Mapping[str, float], checkpoint: Path, directory: Path, policy: str | None = None
) -> Path:
    """Write ``eval.json`` into the run directory; it also says what was played, as ``eval_policy``."""
    path = directory / "eval.json"
    files.write_json(path, {**result, "eval_policy": policy, "checkpoint": str(checkpoint)})
    return path
