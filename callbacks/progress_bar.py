"""Shows progress in environment steps, as a bar on a terminal and as a few lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from lit_rl import terminal
from lit_rl.arguments import Interval, check_arguments
from lit_rl.callbacks.trainer.attributes import total_env_steps
from lit_rl.metrics import EPISODE_RETURN, STEPS_PER_SECOND
from lit_rl.types import Learner, as_learner

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"


class EnvStepsProgressBar(ProgressBar):
    """Shows how many env steps are done, the return of recent training episodes, env steps/s, and time left.

    The total is ``total_env_steps`` of ``EnvStepBudget``, or the trainer's ``max_steps`` where that is less.
    On a terminal this is a bar, redrawn at most five times a second. Into a file or a pipe it writes one line
    each ten percent of the total or ``line_interval_s``, whichever comes first. The time left supposes the
    speed of about the last half of the time so far, so that a quick start (random actions) is soon forgotten.

    Args:
        line_interval_s: Longest time in seconds between two lines where there is no terminal.

    Raises:
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(self, line_interval_s: Interval = 30.0) -> None:
        check_arguments(EnvStepsProgressBar, locals())
        super().__init__()
        self.line_interval_s = line_interval_s
        self._is_enabled = True
        self._bar: tqdm[Any] | None = None
        self._total: int | None = None
        self._pace = _Pace(0, 0.0)
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
            with terminal.may_be_gone(sys.stderr):
                tqdm.write(sep.join(str(arg) for arg in args), file=sys.stderr)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "EnvStepsProgressBar")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar where a resumed run left off."""
        self._total = total_env_steps(trainer)
        initial, self._drawn_at = self._learner.env_steps, time.monotonic()
        self._pace = _Pace(initial, self._drawn_at)
        self._tenths = self._count_tenths(initial)
        if self._is_enabled and sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total, initial=initial, bar_format=_BAR, dynamic_ncols=True, mininterval=0.2
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
                self._redraw(self._bar)
        elif since >= self.line_interval_s or self._count_tenths(self._learner.env_steps) > self._tenths:
            self._write_line()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar with its final numbers."""
        if self._bar is not None:
            self._redraw(self._bar)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Free the line for the message that follows."""
        self._close()

    def _redraw(self, bar: tqdm[Any]) -> None:
        bar.n = self._learner.env_steps
        bar.set_postfix_str(", ".join(self._describe()), refresh=False)
        with terminal.may_be_gone(sys.stderr):
            bar.refresh()

    def _write_line(self) -> None:
        done = self._learner.env_steps
        share = f" of {self._total} ({done / self._total:.0%})" if self._total else ""
        terminal.write(sys.stderr, ", ".join([f"env steps {done}{share}", *self._describe()]) + "\n")
        self._tenths = self._count_tenths(done)

    def _describe(self) -> list[str]:
        """``["return 187.3", "5120 steps/s", "40 s left"]``; what is not known is left out."""
        done, self._drawn_at = self._learner.env_steps, time.monotonic()
        self._pace.update(done, self._drawn_at)
        missing, speed = (self._total or 0) - done, self._pace.steps_per_s
        left = [f"{duration(missing / speed)} left"] if missing > 0 and speed else []
        return [*_describe(self._learner.progress_metrics), *left]

    def _count_tenths(self, done: int) -> int:
        return 10 * done // self._total if self._total else 0

    def _close(self) -> None:
        if self._bar is not None:
            with terminal.may_be_gone(sys.stderr):
                self._bar.close()
            self._bar = None


class _Pace:
    """Env steps per second over the last half to three quarters of the time since ``now``.

    The window begins at the older of two marks; the younger one is set whenever the time has doubled.
    """

    def __init__(self, steps: int, now: float) -> None:
        self._start = now
        self._older = self._younger = (steps, now)
        self.steps_per_s = 0.0

    def update(self, steps: int, now: float) -> None:
        """``steps`` are done at the time ``now``."""
        if now - self._start >= 2 * (self._younger[1] - self._start):
            self._older, self._younger = self._younger, (steps, now)
        since, begin = self._older
        self.steps_per_s = (steps - since) / (now - begin) if now > begin else 0.0


def duration(seconds: float) -> str:
    """``45 s``, ``2 min 10 s`` or ``3 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _describe(metrics: Mapping[str, float]) -> list[str]:
    """Return ``["return 187.3", "5120 steps/s"]``; what was not measured yet is left out."""
    shown = {"return": metrics.get(EPISODE_RETURN), "steps/s": metrics.get(STEPS_PER_SECOND)}
    texts = {"return": "return {:.1f}", "steps/s": "{:.0f} steps/s"}
    return [
        texts[key].format(value) for key, value in shown.items() if value is not None and math.isfinite(value)
    ]
