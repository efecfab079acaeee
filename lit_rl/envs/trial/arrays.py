"""Compare the arrays that a batch of environments returns with what its ``spec`` declares.

Axes: N environments, A agents, S state features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_rl.envs.trial.actions import per_entry
from lit_rl.types import ACTION_MASK, ALIVE, STATE, EnvSpec, LeafSpec, Step


class ArrayCheck:
    """Compares the arrays that a batch returns with its ``spec``.

    Args:
        name: Name of the environment, for messages.
        spec: Spec that the batch declares.
        num_envs: Number N of environments.
    """

    def __init__(self, name: str, spec: EnvSpec, num_envs: int) -> None:
        self._name, self._spec, self._num_envs = name, spec, num_envs
        self._agents = (len(spec.agents),) if spec.agents else ()
        self._reward_shape: tuple[int, ...] | None = None
        self._ended_before = np.zeros(num_envs, bool)

    def _refuse(self, what: str) -> ValueError:
        return ValueError(f"{self._name}: {what}")

    def step(self, t: int, step: Any) -> None:
        """Check what step ``t`` returned; steps are checked in their order.

        Raises:
            ValueError: An array has another shape, dtype or range than expected, or flags contradict.
        """
        if not isinstance(step, Step):
            raise self._refuse(f"step must return a lit_rl.types.Step, got a {type(step).__name__}")
        self.observation(f"obs of step {t}", step.obs, self._num_envs)
        self._reward(t, step.reward)
        for field in ("terminated", "truncated"):
            self._array(f"{field} of step {t}", getattr(step, field), (self._num_envs,), "bool")
        ended = step.terminated | step.truncated
        if step.valid is not None:
            self._array(f"valid of step {t}", step.valid, (self._num_envs,), "bool")
            if not np.array_equal(step.valid, ~self._ended_before):
                raise self._refuse(
                    f"valid of step {t} is {step.valid.tolist()}, expected False exactly where the step "
                    f"before ended an episode: {(~self._ended_before).tolist()}"
                )
            if (ended & ~step.valid).any():
                raise self._refuse(
                    f"step {t} ends an episode in a row that is not valid: it only reset itself"
                )
        self._ended_before = ended
        self._final_obs(t, step.final_obs, int(ended.sum()))
        for name, values in step.metrics.items():
            self._array(f"metrics[{name!r}] of step {t}", values, (self._num_envs,), "float32")

    def _final_obs(self, t: int, final_obs: Any, num_ended: int) -> None:
        if num_ended == 0:
            if final_obs is not None:
                raise self._refuse(f"final_obs of step {t} must be None where no episode ended")
        elif final_obs is None:
            raise self._refuse(
                f"final_obs of step {t} is None, expected the last observations of {num_ended} episodes that "
                "ended"
            )
        else:
            self.observation(f"final_obs of step {t}", final_obs, num_ended, acts=False)

    def _reward(self, t: int, reward: Any) -> None:
        lead = (self._num_envs,)
        allowed = [lead, lead + self._agents]
        shape = self._reward_shape or np.shape(reward)
        if shape not in allowed:
            expected = " or ".join(map(str, dict.fromkeys(allowed)))
            raise self._refuse(f"reward of step {t} has shape {shape}, expected {expected}")
        self._reward_shape = shape
        self._array(f"reward of step {t}", reward, shape, "float32")
        self._finite(f"reward of step {t}", reward)

    def observation(self, what: str, obs: Any, num_rows: int, acts: bool = True) -> None:
        """Check an observation.

        Args:
            what: Words for it, for messages.
            obs: Observation of some environments.
            num_rows: Number of these environments.
            acts: Whether actions follow, so that an action mask must allow some.

        Raises:
            ValueError: A leaf is missing, or has another shape, dtype or range than ``spec`` says.
        """
        spec = self._spec
        if not spec.state:
            self._leaves(what, spec.observation, obs, num_rows, acts)
            return
        if not isinstance(obs, dict) or STATE not in obs:
            raise self._refuse(f"{what} must be a dict with {STATE!r}, because spec.state is {spec.state}")
        self._array(f"{what}[{STATE!r}]", obs[STATE], (num_rows, spec.state), "float32")
        self._finite(f"{what}[{STATE!r}]", obs[STATE])
        others = {key: value for key, value in obs.items() if key != STATE}
        self._leaves(what, spec.observation, others, num_rows, acts)

    def _leaves(self, what: str, leaf: Any, obs: Any, num_rows: int, acts: bool) -> None:
        if isinstance(leaf, dict):
            if not isinstance(obs, dict) or obs.keys() != leaf.keys():
                got = f"the keys {sorted(obs)}" if isinstance(obs, dict) else f"a {type(obs).__name__}"
                raise self._refuse(f"{what} must be a dict with the keys {sorted(leaf)}, got {got}")
            for key, inner in leaf.items():
                self._leaves(f"{what}[{key!r}]", inner, obs[key], num_rows, acts)
                if key == ACTION_MASK and acts:
                    self._mask(f"{what}[{key!r}]", obs[key], obs.get(ALIVE))
            return
        self._array(what, obs, (num_rows, *self._agents, *leaf.shape), leaf.dtype)
        self._finite(what, obs)
        self._categories(what, leaf, obs)

    def _categories(self, what: str, leaf: LeafSpec, values: np.ndarray) -> None:
        if leaf.categories and values.size:
            flat = values.reshape(-1, len(leaf.categories))
            wrong = (flat < 0) | (flat >= np.array(leaf.categories))
            if wrong.any():
                row, entry = np.argwhere(wrong)[0]
                raise self._refuse(
                    f"{what} has {flat[row, entry]}, expected a category from 0 to "
                    f"{leaf.categories[entry] - 1}"
                )

    def _mask(self, what: str, mask: np.ndarray, alive: np.ndarray | None) -> None:
        acts = True if alive is None else alive != 0
        for part in per_entry(mask, self._spec.action.categories):
            if (acts & ~part.any(-1)).any():
                raise self._refuse(f"{what} allows no action at all in some row")

    def _array(self, what: str, array: Any, shape: tuple[int, ...], dtype: str) -> None:
        if not isinstance(array, np.ndarray):
            raise self._refuse(f"{what} is a {type(array).__name__}, expected a numpy array of shape {shape}")
        if array.shape != shape:
            raise self._refuse(f"{what} has shape {array.shape}, expected {shape}")
        if array.dtype != np.dtype(dtype):
            raise self._refuse(f"{what} has dtype {array.dtype}, expected {dtype}")

    def _finite(self, what: str, array: np.ndarray) -> None:
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise self._refuse(f"{what} has values that are NaN or infinite")
