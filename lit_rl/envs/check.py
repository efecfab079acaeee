"""Try one copy of a user's environment before training and say in plain words what is wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.envs.gymnasium.answers import check_reset, check_step
from lit_rl.envs.gymnasium.normalizers import normalizer_hints
from lit_rl.envs.gymnasium.spec import env_spec
from lit_rl.envs.trial.actions import per_entry, random_action
from lit_rl.envs.trial.reuse import ReuseWatch
from lit_rl.types import ACTION_MASK, EnvSpec


def check_env(
    make: Callable[[], gymnasium.Env], *, name: str | None = None, num_steps: int = 16, seed: int = 0
) -> None:
    """Reset and step one throw-away copy and check everything the library relies on.

    An environment that writes into observations which it returned before is warned of: what the library keeps
    it copies in time, wrappers may not.

    Args:
        make: Makes the copy; it is closed afterwards.
        name: Name for messages; by default the class of the environment.
        num_steps: Number of random actions to try; an action mask is respected.
        seed: Seed of the reset and of the actions.

    Raises:
        ValueError: The environment breaks Gymnasium's contract, or a space is not supported. One line.
    """
    hints: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's own warnings say the same less clearly
        env = make()
        if not isinstance(env, gymnasium.Env):
            got = f"{type(env).__module__}.{type(env).__name__}"
            raise ValueError(f"{name or 'the environment'} is a {got}, expected a gymnasium.Env")
        name = name or type(env.unwrapped).__name__
        try:
            _Trial(name, env, _check_spaces(name, env, hints), hints).play(num_steps, seed)
        finally:
            env.close()
    for hint in dict.fromkeys(hints):
        warnings.warn(f"{name}: {hint}", stacklevel=2)


def _check_spaces(name: str, env: gymnasium.Env, hints: list[str]) -> EnvSpec:
    for kind in ("observation_space", "action_space"):
        space = getattr(env, kind, None)
        if not isinstance(space, spaces.Space):
            raise ValueError(f"{name}: {kind} is a {type(space).__name__}, expected a gymnasium.spaces.Space")
    spec = env_spec(name, env.observation_space, env.action_space)
    hints += normalizer_hints(env)
    if isinstance(env.action_space, spaces.Box) and not env.action_space.is_bounded():
        hints.append("the action space has infinite bounds; finite ones such as [-1, 1] learn better")
    return spec


class _Trial:
    """Plays one environment, and looks at all that it returns."""

    def __init__(self, name: str, env: gymnasium.Env, spec: EnvSpec, hints: list[str]) -> None:
        self.name, self.env, self.spec, self.hints = name, env, spec, hints
        self.mask: np.ndarray | None = None
        self.watch = ReuseWatch("observation", hints)
        _listen_inside(env, ReuseWatch("observation", hints))

    def play(self, num_steps: int, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.env.action_space.seed(seed)
        self._reset(seed)
        for step in range(num_steps):
            if self._step() or step == num_steps - 1:  # so that every environment is reset after a step
                self._reset(None)

    def _refuse(self, what: str) -> ValueError:
        return ValueError(f"{self.name}: {what}")

    def _reset(self, seed: int | None) -> None:
        try:
            answer = self.env.reset(seed=seed)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise self._refuse(f"reset must accept reset(*, seed=None, options=None); {error}") from error
        check_reset(self.name, "reset", self.env.observation_space, answer, self.hints)
        self._look("reset", answer[0])

    def _step(self) -> bool:
        """Take an allowed action; returns whether it ended the episode."""
        action = random_action(self.env.action_space, self.spec.action, self.mask, self.generator)
        answer = self.env.step(action)
        check_step(self.name, "step", self.env.observation_space, answer, self.hints)
        obs, _, terminated, truncated, _ = answer
        is_over = bool(terminated or truncated)
        self._look("step", obs, is_over)
        return is_over

    def _look(self, method: str, obs: Any, is_over: bool = False) -> None:
        """Keep an observation for the next call, and its mask for the action that follows, if one does."""
        self.watch.see(method, obs)
        if self.spec.has_action_mask and not is_over:
            self.mask = np.asarray(obs[ACTION_MASK], bool)
            if not all(part.any() for part in per_entry(self.mask, self.spec.action.categories)):
                raise self._refuse(f"observation[{ACTION_MASK!r}] of {method} allows no action at all")


def _listen_inside(env: gymnasium.Env, watch: ReuseWatch) -> None:
    """Let ``watch`` see what the innermost environment returns to its wrappers, which may keep it."""
    while isinstance(env, gymnasium.Wrapper):
        if not isinstance(env.env, gymnasium.Wrapper):
            env.env = _Listener(env.env, watch)
            return
        env = env.env


class _Listener(gymnasium.Wrapper):
    """Shows every observation to a ``ReuseWatch``."""

    def __init__(self, env: gymnasium.Env, watch: ReuseWatch) -> None:
        super().__init__(env)
        self._watch = watch

    def reset(self, **kwargs: Any) -> Any:
        answer = self.env.reset(**kwargs)
        self._see("reset", answer)
        return answer

    def step(self, action: Any) -> Any:
        answer = self.env.step(action)
        self._see("step", answer)
        return answer

    def _see(self, method: str, answer: Any) -> None:
        if isinstance(answer, tuple) and answer:
            self._watch.see(method, answer[0])
