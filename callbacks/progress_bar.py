"""Progress in environment steps, as a bar on a terminal and as a few lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from lit_rl.metrics import EPISODE_RETURN, STEPS_PER_SECOND


class EnvStepsProgressBar(ProgressBar):
    """Shows how many env steps are done, the return of recent training episodes, and env steps per second.

    The total is ``total_env_steps`` of whichever callback has it (``EnvStepBudget``). On a terminal this is a
    bar, redrawn at most five times a second. Into a file or a pipe it writes one line each ten percent of the
    total or ``line_interval_s``, whichever comes first.

    Args:
        line_interval_s: Longest time in seconds between two lines where there is no terminal.
    """

    def __init__(self, line_interval_s: float = 30.0) -> None:
        super().__init__()
        self.line_interval_s = line_interval_s
        self._is_enabled = True
        self._bar: tqdm[Any] | None = None
        self._total: int | None = None
        self._drawn_at = 0.0
        self._tenths = 0

    def disable(self) -> None:
        """Show nothing; Lightning calls this on all ranks but the first."""
        self._is_enabled = False

    def enable(self) -> None:
        """Show again."""
        self._is_enabled = True

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Write a line without breaking the bar."""
        if self._is_enabled:
            tqdm.write(sep.join(str(arg) for arg in args), file=sys.stderr)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar where a resumed run left off."""
        totals = (getattr(callback, "total_env_steps", None) for callback in trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
        self._total = next((total for total in totals if total), None)
        self._drawn_at = time.monotonic()
        self._tenths = self._count_tenths(_env_steps(pl_module))
        if self._is_enabled and sys.stderr.isatty():
            initial = _env_steps(pl_module)
            self._bar = tqdm(
                total=self._total, initial=initial, unit=" steps", dynamic_ncols=True, mininterval=0.2
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Redraw if it is time to."""
        if not self._is_enabled:
            return
        since = time.monotonic() - self._drawn_at
        if self._bar is not None:
            if since >= 0.2:
                self._redraw(self._bar, pl_module)
        elif since >= self.line_interval_s or self._count_tenths(_env_steps(pl_module)) > self._tenths:
            self._write_line(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar with its final numbers."""
        if self._bar is not None:
            self._redraw(self._bar, pl_module)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Free the line for the message that follows."""
        self._close()

    def _redraw(self, bar: tqdm[Any], pl_module: LightningModule) -> None:
        bar.set_postfix_str(", ".join(_describe(pl_module)), refresh=False)
        bar.n = _env_steps(pl_module)
        bar.refresh()
        self._drawn_at = time.monotonic()

    def _write_line(self, pl_module: LightningModule) -> None:
        done = _env_steps(pl_module)
        share = f" of {self._total} ({done / self._total:.0%})" if self._total else ""
        sys.stderr.write(", ".join([f"env steps {done}{share}", *_describe(pl_module)]) + "\n")
        sys.stderr.flush()
        self._tenths = self._count_tenths(done)
        self._drawn_at = time.monotonic()

    def _count_tenths(self, done: int) -> int:
        return 10 * done // self._total if self._total else 0

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _env_steps(pl_module: LightningModule) -> int:
    return int(pl_module.env_steps)  # pyright: ignore[reportArgumentType]


def _describe(pl_module: LightningModule) -> list[str]:
    """``["return 187.3", "5120 steps/s"]``; what was not measured yet is left out."""
    metrics: dict[str, float] = pl_module.progress_metrics  # pyright: ignore[reportAssignmentType]
    shown = {"return": metrics.get(EPISODE_RETURN), "steps/s": metrics.get(STEPS_PER_SECOND)}
    texts = {"return": "return {:.1f}", "steps/s": "{:.0f} steps/s"}
    return [
        texts[key].format(value) for key, value in shown.items() if value is not None and math.isfinite(value)
    ]
