"""Episodes of a policy on environments of their own, one in each."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch

from lit_rl.collect.episodes import action_norms
from lit_rl.collect.masks import check_masks
from lit_rl.envs.stepper import Stepper
from lit_rl.nested import map_nested
from lit_rl.types import Decision, Episodes, Policy, Step, VectorEnv

_log = logging.getLogger("lit_rl")

MAX_STEPS = 100_000
"""Steps after which an episode without an end is cut, unless the caller says otherwise."""


@torch.no_grad()
def evaluate(
    policy: Policy,
    env: VectorEnv,
    seed: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[bool], None] | None = None,
    on_transition: Callable[[Decision, Step], None] | None = None,
    greedy: bool = True,
    max_steps: int = MAX_STEPS,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
) -> Episodes:
    """Play exactly one episode in each of the N environments: no episode is preferred for being short.

    A policy may never end its episodes, as a greedy one that walks in circles. They are cut after
    ``max_steps``, with a warning, and count with what they have earned so far.

    Args:
        policy: Policy that acts.
        env: Evaluation environments; N is the number of episodes.
        seed: Environment i is seeded with ``seed + i``, so equal policies meet equal episodes.
        device: Device of the policy.
        on_step: Function that is called before the first step and after every step with whether the first
            episode still runs (for video).
        on_transition: Function that is called after every step, before ``on_step``, with what the policy
            decided and what came of it (for playbacks).
        greedy: Whether the policy takes its most likely actions; otherwise it draws them, from the global
            generators, as it does to explore.
        max_steps: Steps after which the episodes that still run are cut, at least 1.
        is_asked_to_stop: Function that is asked after every step; the episodes that still run are broken off
            in silence where it returns True, and whoever asked to stop must not use them.

    Returns:
        Episodes in the order of the environments.

    Raises:
        ValueError: An action mask allows nothing; the message names step, environment and agent.
        EnvironmentFaultError: An array is not as ``spec`` says; the message names it and the environment.
    """
    send = lambda leaf: torch.as_tensor(leaf).to(device)  # noqa: E731
    stepper = Stepper(env)
    obs = stepper.reset(seed)
    num_envs = env.num_envs
    carry = policy.initial_carry(num_envs)
    reset = np.ones(num_envs, bool)
    running = np.ones(num_envs, bool)
    total, norm, length = np.zeros(num_envs), np.zeros(num_envs), np.zeros(num_envs, np.int64)
    reported = _Reported(num_envs)
    if on_step:
        on_step(True)
    while running.any():
        if env.spec.has_action_mask:
            seen = map_nested(lambda leaf: leaf[None], obs)
            check_masks(env.spec, seen, running[None], "the evaluation", int(length.max()))
        decision = policy.act(map_nested(send, obs), carry, send(reset), greedy=greedy)
        carry = decision.carry
        action = decision.action.cpu().numpy()
        step = stepper.step(action)
        reward = step.reward.mean(-1) if step.reward.ndim == 2 else step.reward
        total += np.where(running, reward, 0.0)
        norms = action_norms(action, env.spec)
        norm += np.nan if norms is None else np.where(running, norms, 0.0)
        length += running
        reported.add(step.metrics, running)
        over = step.terminated | step.truncated
        reset = over if step.valid is None else ~step.valid
        running &= ~over
        obs = step.obs
        if on_transition:
            on_transition(decision, step)
        if on_step:
            on_step(bool(running[0]))
        if is_asked_to_stop():
            break
        if running.any() and length.max() >= max_steps:
            _warn_of_cut(env.spec.name, int(running.sum()), num_envs, max_steps)
            break
    return {
        "episode_return": torch.from_numpy(total),
        "episode_length": torch.from_numpy(length),
        "env_index": torch.arange(num_envs),
        "end_step": torch.from_numpy(length * num_envs),
        "action_norm": torch.from_numpy(norm / length),
        "values": {name: torch.from_numpy(value) for name, value in reported.means().items()},
        "last_values": {name: torch.from_numpy(value) for name, value in reported.last.items()},
    }


def _warn_of_cut(name: str, num_cut: int, num_envs: int, max_steps: int) -> None:
    """Say which episodes were cut, and what ends episodes."""
    _log.warning(
        "%s: %d of %d evaluation episodes had no end after %d steps (eval_max_steps) and were cut there, "
        "with the return so far; give the environment a time limit (gymnasium.wrappers.TimeLimit among its "
        "wrappers, or its own max_episode_steps), or change eval_max_steps",
        name, num_cut, num_envs, max_steps,
    )  # fmt: skip


class _Reported:
    """Collects mean and last of the values that the environments report in their one episode each."""

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}
        self.last: dict[str, np.ndarray] = {}

    def add(self, values: dict[str, np.ndarray], running: np.ndarray) -> None:
        for name, value in values.items():
            seen = running & np.isfinite(value)
            self._sums.setdefault(name, np.zeros(self._num_envs))[seen] += value[seen]
            self._counts.setdefault(name, np.zeros(self._num_envs))[seen] += 1
            self.last.setdefault(name, np.full(self._num_envs, np.nan))[running] = value[running]

    def means(self) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            return {name: total / self._counts[name] for name, total in self._sums.items()}
