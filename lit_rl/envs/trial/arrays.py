"""Compare the arrays that a batch of environments returns with what its ``spec`` declares.

Axes: N environments, A agents, S state features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rl.envs.faults import EnvironmentFaultError
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

    def _refuse(self, what: str, row: int | None = None) -> EnvironmentFaultError:
        return EnvironmentFaultError(self._name, what, row)

    def step(self, t: int, step: Any) -> None:
        """Check what step ``t`` returned; steps are checked in their order.

        Raises:
            EnvironmentFaultError: An array has another shape, dtype or range, or flags contradict.
        """
        self._observation_and_flags("obs", t, step)
        self._finite(f"reward of step {t}", step.reward)
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
        self._final_obs("final_obs", t, step.final_obs, ended)
        for name, values in step.metrics.items():
            self._array(f"metrics[{name!r}] of step {t}", values, (self._num_envs,), "float32")

    def late(self, t: int, step: Any) -> None:
        """Say what of step ``t`` is no array of the shape, dtype and range that ``spec`` says.

        Raises:
            EnvironmentFaultError: Something is not.
        """
        self._observation_and_flags("observation", t, step, acts=False)
        self._final_obs("last observation", t, step.final_obs, step.terminated | step.truncated)

    def _observation_and_flags(self, path: str, t: int, step: Any, acts: bool = True) -> None:
        if not isinstance(step, Step):
            raise self._refuse(f"step must return a lit_rl.types.Step, got a {type(step).__name__}")
        self.observation(path, f"step {t}", step.obs, acts=acts)
        self._reward(t, step.reward)
        for field in ("terminated", "truncated"):
            self._array(f"{field} of step {t}", getattr(step, field), (self._num_envs,), "bool")

    def _final_obs(self, path: str, t: int, final_obs: Any, ended: np.ndarray) -> None:
        rows = np.flatnonzero(ended).tolist()
        if not rows:
            if final_obs is not None:
                raise self._refuse(f"{path} of step {t} must be None where no episode ended")
        elif final_obs is None:
            raise self._refuse(
                f"{path} of step {t} is None, expected the last observations of {len(rows)} episodes that "
                "ended"
            )
        else:
            self.observation(path, f"step {t}", final_obs, rows, acts=False)

    def _reward(self, t: int, reward: Any) -> None:
        lead = (self._num_envs,)
        allowed = [lead, lead + self._agents]
        shape = self._reward_shape or np.shape(reward)
        if shape not in allowed:
            expected = " or ".join(map(str, dict.fromkeys(allowed)))
            raise self._refuse(f"reward of step {t} has shape {shape}, expected {expected}")
        self._reward_shape = shape
        self._array(f"reward of step {t}", reward, shape, "float32")

    def observation(
        self, path: str, method: str, obs: Any, rows: Sequence[int] | None = None, acts: bool = True
    ) -> None:
        """Check an observation.

        Args:
            path: Words for it, for messages, before the keys that lead to an array.
            method: What returned it, for messages.
            obs: Observation of some environments.
            rows: Numbers of these environments; None: all.
            acts: Whether actions follow, so that an action mask must allow some.

        Raises:
            EnvironmentFaultError: A leaf is missing, or has another shape, dtype or range than ``spec`` says.
        """
        spec, rows = self._spec, range(self._num_envs) if rows is None else rows
        if spec.state:
            if not isinstance(obs, dict) or STATE not in obs:
                raise self._refuse(
                    f"{path} of {method} must be a dict with {STATE!r}, because spec.state is {spec.state}"
                )
            what = f"{path}[{STATE!r}] of {method}"
            self._array(what, obs[STATE], (len(rows), spec.state), spec.state_dtype)
            self._finite(what, obs[STATE])
            obs = {key: value for key, value in obs.items() if key != STATE}
        self._leaves(path, method, spec.observation, obs, rows, acts)

    def _leaves(self, path: str, method: str, leaf: Any, obs: Any, rows: Sequence[int], acts: bool) -> None:
        what = f"{path} of {method}"
        if isinstance(leaf, dict):
            if not isinstance(obs, dict) or obs.keys() != leaf.keys():
                got = f"the keys {sorted(obs)}" if isinstance(obs, dict) else f"a {type(obs).__name__}"
                raise self._refuse(f"{what} must be a dict with the keys {sorted(leaf)}, got {got}")
            for key, inner in leaf.items():
                self._leaves(f"{path}[{key!r}]", method, inner, obs[key], rows, acts)
                if key == ACTION_MASK and acts:
                    self._mask(f"{path}[{key!r}] of {method}", obs[key], obs.get(ALIVE))
            return
        self._array(what, obs, (len(rows), *self._agents, *leaf.shape), leaf.dtype)
        self._finite(what, obs)
        self._categories(path, method, leaf, obs, rows)

    def _categories(
        self, path: str, method: str, leaf: LeafSpec, values: np.ndarray, rows: Sequence[int]
    ) -> None:
        """Name the first category out of its range, in the numbers of the environment."""
        if not leaf.categories or not values.size:
            return
        flat = values.reshape(len(rows), -1, len(leaf.categories))  # an axis for agents
        wrong = (flat < 0) | (flat >= np.array(leaf.categories))
        if wrong.any():
            row, agent, entry = np.argwhere(wrong)[0].tolist()
            start = leaf.start[entry] if leaf.start else 0
            who = f" of agent {self._spec.agents[agent]}" if self._spec.agents else ""
            raise self._refuse(
                f"{path}{who} of {method} is {flat[row, agent, entry] + start}, expected {start} to "
                f"{start + leaf.categories[entry] - 1}",
                rows[row],
            )

    def _mask(self, what: str, mask: np.ndarray, alive: np.ndarray | None) -> None:
        acts = True if alive is None else alive > 0
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
