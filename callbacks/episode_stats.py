"""Logs statistics of training episodes and of evaluations under the names of earlier systems."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lit_rl import metrics
from lit_rl.arguments import Count, check_arguments
from lit_rl.callbacks.skills.counter import SkillCounter
from lit_rl.types import IS_SUCCESS, Episodes, Learner, ReplayBatch, Rollout, as_learner

_log = logging.getLogger("lit_rl")

_SHORT, _LONG = 10, 100
"""Episodes in the two windows."""


class EpisodeStats(Callback):
    """Logs ``Training/*``, ``actor/*``, ``Performance/*``, and ``eval/*`` and ``Eval/*`` after evaluations.

    Each training episode of this rank is a point at the env step at which it ended; means over the last
    episodes follow every ``log_period`` env steps. What the environment reports (``record`` of the data
    module) is averaged over the episode: ``coverage_ratio`` becomes ``Performance/Episode_Coverage_Ratio``.
    The value ``is_success`` at the last step of an episode gives the success rate. Memory does not grow: 100
    episodes are kept.

    Args:
        log_period: Env steps between two points of the means; they follow batches, so never more often.
        max_points: Most episodes of one batch that get a point of their own; of more, evenly spaced ones are
            taken, and the end of training says how many were left out. The means contain all.

    Raises:
        MisconfigurationException: An argument is less than 1.
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(self, log_period: Count = 50, max_points: Count = 16) -> None:
        check_arguments(EpisodeStats, locals())
        self.log_period, self.max_points = log_period, max_points
        self.without_point = 0
        self._returns: deque[float] = deque(maxlen=_LONG)
        self._lengths: deque[int] = deque(maxlen=_SHORT)
        self._successes: deque[float] = deque(maxlen=_LONG)
        self._count = 0
        self._highest, self._lowest = -math.inf, math.inf
        self._skills = SkillCounter()
        self._shown_steps: int | None = None  # env steps at the last means
        self._clock_steps = 0  # env steps when the clock was last started
        self._clock_time = time.perf_counter()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "EpisodeStats")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the throughput; where a resumed run showed its means is in its state."""
        self._clock_steps, self._clock_time = self._learner.env_steps, time.perf_counter()
        if self._shown_steps is None or self._shown_steps > self._learner.env_steps:
            self._shown_steps = self._learner.env_steps

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Rollout | ReplayBatch,
        batch_idx: int,
    ) -> None:
        """Log points of the episodes that ended, then the means when they are due."""
        module = self._learner
        if "extras" in batch:
            self._skills.update(batch["extras"], batch["reset"], batch["valid"])
        points = self._points(batch, module.env_steps, trainer.world_size)
        self.without_point += max(0, len(points) - self.max_points)
        for env_steps, values in _thinned(points, self.max_points):
            module.log_point(values, env_steps)
        if module.env_steps - (self._shown_steps or 0) >= self.log_period:
            module.log_values(self._means(module, batch))

    def _points(
        self, batch: Rollout | ReplayBatch, env_steps: int, ranks: int
    ) -> list[tuple[int, dict[str, float]]]:
        """Env step and values of each episode that ended, in order."""
        episodes = batch["episodes"]
        returns = episodes["episode_return"].tolist()
        if not returns:
            return []
        random_steps = batch.get("random_steps", 0)
        before = env_steps - batch["new_steps"] * ranks
        lengths, ends = episodes["episode_length"].tolist(), episodes["end_step"].tolist()
        norms = episodes["action_norm"].tolist()
        reported = {
            metrics.PERFORMANCE_PREFIX.format(_titled(name)): value.tolist()
            for name, value in episodes["values"].items()
            if name != IS_SUCCESS
        }
        points = []
        for k, value in enumerate(returns):
            self._count += 1
            at = before + ends[k] * ranks
            point: dict[str, float] = {
                metrics.TRAINING_REWARD: value,
                metrics.TRAINING_LENGTH: lengths[k],
                metrics.ACTOR_REWARD: value,
                metrics.ACTOR_LENGTH: lengths[k],
                metrics.ACTOR_EPISODES: self._count,
                metrics.ACTOR_STEPS: at,
                metrics.ACTOR_EXPLORATION: float(ends[k] <= random_steps),
            }
            if math.isfinite(norms[k]):
                point[metrics.ACTOR_ACTION] = norms[k]
            point.update({name: values[k] for name, values in reported.items() if math.isfinite(values[k])})
            points.append((at, point))
        self._remember(returns, lengths, episodes)
        return points

    def _remember(self, returns: list[float], lengths: list[int], episodes: Episodes) -> None:
        self._returns.extend(returns)
        self._lengths.extend(lengths)
        self._highest = max(self._highest, *returns)
        self._lowest = min(self._lowest, *returns)
        success = episodes["last_values"].get(IS_SUCCESS)
        if success is not None:
            self._successes.extend(success.nan_to_num(0.0).tolist())  # not reported means not reached

    def _means(self, module: Learner, batch: Rollout | ReplayBatch) -> dict[str, float]:
        """Means over the last 10 and 100 episodes, and the throughput since the last such point."""
        now, steps = time.perf_counter(), module.env_steps
        per_second = (steps - self._clock_steps) / (now - self._clock_time)
        self._shown_steps = self._clock_steps = steps
        self._clock_time = now
        values: dict[str, float] = {
            metrics.TRAINING_EPISODES: module.num_episodes,
            metrics.TRAINING_STEPS_PER_SECOND: per_second,
            metrics.ACTOR_STEPS_PER_SECOND: per_second,
            metrics.ACTOR_STEPS: steps,
        }
        if "replay_size" in batch:
            values[metrics.ACTOR_REPLAY_SIZE] = batch["replay_size"]
        if self._skills.has_skills:
            values[metrics.TRAINING_SKILL_SWITCHES] = self._skills.switches
            if self._skills.diversity is not None:
                values[metrics.TRAINING_SKILL_DIVERSITY] = self._skills.diversity
        return values | self._windows() if self._returns else values

    def _windows(self) -> dict[str, float]:
        returns = list(self._returns)
        mean_10 = statistics.fmean(returns[-_SHORT:])
        mean_100 = statistics.fmean(returns)
        values = {
            metrics.TRAINING_REWARD_10: mean_10,
            metrics.TRAINING_REWARD_MEAN_100: mean_100,
            metrics.TRAINING_REWARD_MIN_100: min(returns),
            metrics.TRAINING_REWARD_MAX_100: max(returns),
            metrics.ACTOR_REWARD_10: mean_10,
            metrics.ACTOR_REWARD_MAX: self._highest,
            metrics.ACTOR_REWARD_MIN: self._lowest,
            metrics.ACTOR_LENGTH_10: statistics.fmean(self._lengths),
        }
        if len(returns) > 1:
            squares = sum((value - mean_100) ** 2 for value in returns)
            values[metrics.TRAINING_REWARD_STD_100] = math.sqrt(squares / (len(returns) - 1))
        if self._successes:
            values[metrics.TRAINING_SUCCESS_100] = statistics.fmean(self._successes)
        return values

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the evaluation of a training run under its other names."""
        if trainer.state.fn != TrainerFn.FITTING or self._learner.eval_result is None:
            return
        result = self._learner.eval_result
        self._learner.log_values(
            {
                metrics.EVAL_MEAN_REWARD: result["return_mean"],
                metrics.EVAL_MEAN_LENGTH: result["length_mean"],
                metrics.EVAL2_MEAN: result["return_mean"],
                metrics.EVAL2_STD: result["return_std"],
                metrics.EVAL2_MIN: result["return_min"],
                metrics.EVAL2_MAX: result["return_max"],
            }
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what got no point of its own."""
        if self.without_point and trainer.is_global_zero:
            _log.info(
                "EpisodeStats: %d of %d episodes have no point of their own (more than max_points = %d ended "
                "in a batch); the means contain them",
                self.without_point,
                self._count,
                self.max_points,
            )

    def state_dict(self) -> dict[str, Any]:
        """The windows and counts, as plain types."""
        return {
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "successes": list(self._successes),
            "count": self._count,
            "highest": self._highest,
            "lowest": self._lowest,
            "without_point": self.without_point,
            "shown_steps": self._shown_steps,
            "skills": self._skills.get_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._returns.extend(state_dict["returns"])
        self._lengths.extend(state_dict["lengths"])
        self._successes.extend(state_dict["successes"])
        self._count = state_dict["count"]
        self._highest, self._lowest = state_dict["highest"], state_dict["lowest"]
        self.without_point = state_dict["without_point"]
        self._shown_steps = state_dict.get("shown_steps")  # earlier versions began the period anew
        self._skills.set_state(state_dict["skills"])


def _thinned(points: list[Any], count: int) -> list[Any]:
    """Take at most ``count`` points, evenly spaced; the last one is always among them."""
    if len(points) <= count:
        return points
    return [points[(k + 1) * len(points) // count - 1] for k in range(count)]


def _titled(name: str) -> str:
    """``coverage_ratio`` to ``Coverage_Ratio``; letters that are upper case already stay."""
    return "_".join(word[:1].upper() + word[1:] for word in name.split("_"))
