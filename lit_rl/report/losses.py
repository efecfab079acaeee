"""Losses of a run, network by network: from the loss recorder's files, or else from ``metrics.csv``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lit_rl.loss_log import CONFIG, LOG_DIR, STATE, find_loss_logs, segments, trained_again
from lit_rl.report.damage import noting, object_of
from lit_rl.report.tables import Series, Table, in_order, read_table
from lit_rl.trend import WINDOW, trend

COUNTS = ("offered", "written", "dropped", "invalid")
_METRICS_CSV = "learner"
"""Network under which the ``loss/*`` columns of ``metrics.csv`` stand."""


class Loss(NamedTuple):
    """One loss of one network, with its trend over the last values."""

    network: str
    name: str
    series: Series
    trend: str


class Recorder(NamedTuple):
    """What ``recorder.json`` says.

    Attributes:
        state: What the recorder's process is doing, in its own word.
        heartbeat: Unix time of its last sign of life; None when it gave none.
        counts: Numbers of records ``offered``, ``written``, ``dropped`` and ``invalid``; they include earlier
            parts of the run.
    """

    state: str
    heartbeat: float | None
    counts: dict[str, int]

    @property
    def is_lossy(self) -> bool:
        """Whether anything offered was not written."""
        return self.counts["dropped"] + self.counts["invalid"] > 0

    def describe(self) -> str:
        """Say the counts: ``3000 offered, 2990 written, 10 dropped, 0 invalid``."""
        return ", ".join(f"{count} {name}" for name, count in self.counts.items())


@dataclass
class LossLog:
    """What was recorded of the losses of a run.

    Attributes:
        losses: All losses, in the order of networks and columns.
        recorders: What each loss log says of its recorder.
        missing: Networks that were expected and gave no loss, with the reason.
        damaged: Lines that could not be read.
        stride: Number of neighbouring values of which the extremes are kept; 1 where all values are.
        notes: Files that could not be read.
    """

    losses: list[Loss] = field(default_factory=list)
    recorders: list[Recorder] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    damaged: int = 0
    stride: int = 1
    notes: list[str] = field(default_factory=list)


def read_losses(run: Path, metrics: Table) -> LossLog:
    """Read the losses of the run in directory ``run``.

    Args:
        run: The run directory.
        metrics: Its ``metrics.csv``; the columns ``loss/*`` count where no recorder ran.
    """
    log = LossLog()
    log.recorders = read_recorders(run, log.notes)
    parts: dict[tuple[str, str], list[Series]] = {}
    for folder in _folders(run, []):  # read_recorders noted what is wrong
        config: dict[str, Any] = {}
        with noting(f"{folder.name}/{CONFIG}", log.notes):
            config = object_of(folder / CONFIG)
            log.missing |= _missing(config)
        for network, path in ((name, path) for name, paths in segments(folder).items() for path in paths):
            with noting(f"{folder.name}/{path.name}", log.notes):
                table = read_table(path, trained_again(config, path.name))
                log.damaged += table.damaged
                log.stride = max(log.stride, table.stride)
                for name, series in table.columns.items():
                    parts.setdefault((network, name), []).append(series)
    if not parts:
        for name, series in metrics.columns.items():
            if name.startswith("loss/"):
                parts[_METRICS_CSV, name.removeprefix("loss/")] = [series]
    for (network, name), pieces in parts.items():
        steps, values = (np.concatenate(axis) for axis in zip(*pieces, strict=True))
        series = in_order(steps, values)
        recent = series.values[np.isfinite(series.values)][-WINDOW:]
        log.losses.append(Loss(network, name, series, trend(recent.tolist()).label))
    return log


def read_recorders(run: Path, notes: list[str]) -> list[Recorder]:
    """Read the recorders of a run; what cannot be read is left out and noted."""
    found = []
    for folder in _folders(run, notes):
        with noting(f"{folder.name}/{STATE}", notes):
            content = object_of(folder / STATE)
            found += [_parse(content)] if content else []
    return found


def _folders(run: Path, notes: list[str]) -> list[Path]:
    found: list[Path] = []
    with noting(LOG_DIR, notes):
        found += find_loss_logs(run)
    return found


def _parse(content: Mapping[str, Any]) -> Recorder:
    heartbeat, parts = content.get("heartbeat"), [content, *content.get("earlier", [])]
    return Recorder(
        state=str(content.get("state", "unknown")),
        heartbeat=float(heartbeat) if isinstance(heartbeat, int | float) else None,
        counts={name: sum(int(part.get(name) or 0) for part in parts) for name in COUNTS},
    )


def _missing(config: Mapping[str, Any]) -> dict[str, str]:
    networks = config.get("networks")
    about = networks if isinstance(networks, dict) else {}
    return {name: str(it.get("reason")) for name, it in about.items() if it.get("status") == "missing"}
