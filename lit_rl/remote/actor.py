"""The loop of an actor: sees, acts, records, sends; it never waits for the learner in real time.

Axes: N environments.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np

from lit_rl import metrics
from lit_rl.envs.stepper import Stepper
from lit_rl.remote.link import Link
from lit_rl.remote.policy import NumpyPolicy
from lit_rl.remote.recording import Recording
from lit_rl.seeds import derive
from lit_rl.types import Step, VectorEnv

_log = logging.getLogger("lit_rl")

STALE_S = 60.0
"""Age of weights at which an actor says so, and says so again."""

Swap = Literal["step", "episode"]
"""Newer weights are used from the next step on, or when the first environment's episode ends."""


class Actor:
    """Plays environments for a learner elsewhere.

    Args:
        env: The environments.
        link: Connection to the learner, started.
        seed: Seed of the run; each start of an actor has episodes of its own.
        rate_hz: Steps per second, of a robot; None plays as fast as the learner allows.
        swap: When newer weights are used.
        tell: Is given what is known after every episode, by the names of ``metrics.py``.
    """

    def __init__(
        self,
        env: VectorEnv,
        link: Link,
        seed: int = 0,
        rate_hz: float | None = None,
        swap: Swap = "step",
        tell: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._env, self._link, self._seed = env, link, seed
        self._rate_hz, self._swap, self._tell = rate_hz, swap, tell
        self._stats = ActorStats(env.num_envs)
        self.num_late = 0
        self._told_of_age = 0.0

    def run(self, max_steps: int | None = None, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Play until the learner ends, ``max_steps`` env steps are played, or ``should_stop``.

        Raises:
            Refused: The learner does not take this actor.
        """
        link, env, stepper = self._link, self._env, Stepper(self._env)
        while link.turn(0.2) is None:
            if should_stop() or link.learner_has_ended:
                return
        rng = np.random.default_rng([self._seed, link.number])
        obs = stepper.reset(derive(self._seed, "actor", link.number))
        reset = np.ones(env.num_envs, bool)
        policy: NumpyPolicy | None = None
        run, due = "", time.monotonic()
        while max_steps is None or link.produced_steps < max_steps:
            while (turn := link.turn(0.2)) is None:
                due = time.monotonic()
                if should_stop() or link.learner_has_ended:
                    return
            if should_stop() or link.learner_has_ended:
                return
            if policy is None or turn.run != run:  # never act for one run by the policy of another
                policy, run = turn.policy, turn.run
            recording = Recording(obs, reset)
            for _ in range(turn.steps):
                if self._swap == "step" or reset[0]:
                    policy = link.policy or policy
                began = time.perf_counter()
                action = policy.draw(obs, rng) if turn.at_random else policy.act(obs, rng)
                acted = time.perf_counter()
                step = stepper.step(action)
                stepped = time.perf_counter()
                recording.add(action, step)
                obs, reset = step.obs, step.terminated | step.truncated
                if step.valid is not None:
                    reset = ~step.valid
                for values in self._stats.add(action, step, turn.at_random, acted - began, stepped - acted):
                    if self._tell is not None:
                        self._tell(values | self._of_link(policy))
                due = self._pace(due)
            self._warn_of_age()
            link.send(recording.arrays(), 0 if turn.at_random else policy.version, turn)

    def _warn_of_age(self) -> None:
        """Say that no newer weights come; a robot acts on."""
        now = time.monotonic()
        if now - max(self._link.policy_at, self._told_of_age) > STALE_S:
            self._told_of_age = now
            age = now - self._link.policy_at
            _log.warning("the weights are %.0f s old, and no newer ones come; look at the learner", age)

    def _pace(self, due: float) -> float:
        """Wait for the next step of a robot; a step that comes late is counted, and moves those after it."""
        if self._rate_hz is None:
            return due
        due += 1 / self._rate_hz
        now = time.monotonic()
        if now > due:
            self.num_late += now - due > 0.5 / self._rate_hz
            return now
        time.sleep(due - now)
        return due

    def _of_link(self, policy: NumpyPolicy) -> dict[str, float]:
        link = self._link
        return {
            metrics.ACTOR_POLICY_VERSION: float(policy.version),
            metrics.ACTOR_WAITING: float(link.num_waiting),
            metrics.ACTOR_DROPPED: float(link.dropped_steps),
            metrics.ACTOR_LATE: float(self.num_late),
            metrics.ACTOR_CONNECTIONS: float(link.connections),
        }


class ActorStats:
    """Statistics of an actor's episodes, by the names of ``metrics.py``.

    Args:
        num_envs: Number N of environments.
    """

    def __init__(self, num_envs: int) -> None:
        self._returns, self._norms = np.zeros(num_envs), np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._recent: deque[tuple[float, int]] = deque(maxlen=10)
        self._num_steps = self._num_episodes = 0
        self._best, self._worst = -np.inf, np.inf
        self._act_s = self._env_s = 0.0
        self._began = time.perf_counter()
        self._steps_before, self._calls = 0, 0

    def add(
        self, action: np.ndarray, step: Step, at_random: bool, act_s: float, env_s: float
    ) -> list[dict[str, float]]:
        """Add one step, and return one dict for each episode that it ended."""
        counts = np.ones(len(self._returns), bool) if step.valid is None else step.valid
        reward = step.reward.mean(-1) if step.reward.ndim == 2 else step.reward
        self._returns += reward * counts
        self._norms += np.sqrt(np.square(action.reshape(len(counts), -1)).sum(-1)) * counts
        self._lengths += counts
        self._num_steps += len(counts)
        self._act_s, self._env_s, self._calls = self._act_s + act_s, self._env_s + env_s, self._calls + 1
        return [self._ended(int(n), at_random) for n in np.flatnonzero(step.terminated | step.truncated)]

    def _ended(self, n: int, at_random: bool) -> dict[str, float]:
        self._num_episodes += 1
        total, length = float(self._returns[n]), int(self._lengths[n])
        self._recent.append((total, length))
        self._best, self._worst = max(self._best, total), min(self._worst, total)
        now = time.perf_counter()
        seconds = max(now - self._began, 1e-9)
        values = {
            metrics.ACTOR_REWARD: total,
            metrics.ACTOR_LENGTH: float(length),
            metrics.ACTOR_EPISODES: float(self._num_episodes),
            metrics.ACTOR_STEPS: float(self._num_steps),
            metrics.ACTOR_ACTION: float(self._norms[n] / max(length, 1)),
            metrics.ACTOR_EXPLORATION: float(at_random),
            metrics.ACTOR_REWARD_10: float(np.mean([r for r, _ in self._recent])),
            metrics.ACTOR_REWARD_MAX: self._best,
            metrics.ACTOR_REWARD_MIN: self._worst,
            metrics.ACTOR_LENGTH_10: float(np.mean([length for _, length in self._recent])),
            metrics.ACTOR_STEPS_PER_SECOND: (self._num_steps - self._steps_before) / seconds,
            metrics.TIMER_ACT: self._act_s / max(self._calls, 1),
            metrics.TIMER_ENV: self._env_s / max(self._calls, 1),
            metrics.TIMER_TOTAL: seconds / max(self._calls, 1),
        }
        self._began, self._steps_before = now, self._num_steps
        self._calls, self._act_s, self._env_s = 0, 0.0, 0.0
        self._returns[n] = self._norms[n] = 0
        self._lengths[n] = 0
        return values
