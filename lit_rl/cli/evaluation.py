"""What an evaluation reports: one line, and ``eval.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist


def student_t(degrees: int, probability: float = 0.975) -> float:
    """Quantile of Student's t distribution, by its expansion in powers of ``1 / degrees``.

    Abramowitz and Stegun 26.7.5 with four terms: 11 % too small at 1 degree, 0.8 % at 2, 0.1 % at 3, then
    exact to 0.03 %.
    """
    z = NormalDist().inv_cdf(probability)
    terms = [
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    ]
    return sum(term / degrees**power for power, term in enumerate(terms))


def confidence_interval(mean: float, std: float, count: int) -> tuple[float, float] | None:
    """95 % interval of the mean of ``count`` episodes (``std`` of the sample); None for one episode."""
    if count < 2:
        return None
    half = student_t(count - 1) * std / count**0.5
    return mean - half, mean + half


def summary(result: Mapping[str, float], checkpoint: Path) -> str:
    """The line that ``lit-rl test`` prints."""
    mean, count = result["return_mean"], int(result["episodes"])
    interval = confidence_interval(mean, result["return_std"], count)
    within = f" (95 % interval {interval[0]:.1f} to {interval[1]:.1f})" if interval else ""
    episodes = "episodes" if count > 1 else "episode, too few for an interval"
    return (
        f"return {mean:.1f}{within} over {count} {episodes}, length {result['length_mean']:.1f}, "
        f"env steps {int(result['env_steps'])}, checkpoint {checkpoint}"
    )


def write_json(result: Mapping[str, float], checkpoint: Path, directory: Path) -> Path:
    """Write ``eval.json`` into the run directory."""
    path = directory / "eval.json"
    unfinished = path.with_name(".eval.json.unfinished")
    unfinished.write_text(
        json.dumps({**result, "checkpoint": str(checkpoint)}, indent=2) + "\n", encoding="utf-8"
    )
    unfinished.replace(path)
    return path
