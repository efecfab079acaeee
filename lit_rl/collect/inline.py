"""Collection in this process: one policy call and one ``VectorEnv.step`` per time step."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.checks import check_finite
from lit_rl.collect.episodes import RunningEpisodes, action_norms
from lit_rl.collect.masks import check_masks
from lit_rl.nested import map_nested, named_leaves
from lit_rl.types import Episodes, Nested, NestedArray, Policy, Rollout, Step, VectorEnv


class InlineCollector:
    """Plays a policy in a ``VectorEnv`` and remembers where it stopped (a ``Collector`` of ``lit_rl.types``).

    Args:
        env: The environments. The collector closes them.
        seed: Environment i starts with ``seed + i``.
        device: Device of the policy; observations are sent there and actions fetched from there.
    """

    def __init__(self, env: VectorEnv, seed: int, device: torch.device | str = "cpu") -> None:
        self.env = env
        self.device = torch.device(device)
        self._seed = seed
        self._restarts = 0
        self._obs: NestedArray | None = None
        self._carry: Nested = {}
        self._reset = np.ones(env.num_envs, bool)
        self._running = RunningEpisodes(env.num_envs)

    def _start(self, policy: Policy) -> NestedArray:
        # after a resume that could not restore the environments the seed moves on, so that no episode is
        # replayed
        self._obs = self.env.reset(self._seed + 1_000_003 * self._restarts)
        self._carry = policy.initial_carry(self.env.num_envs)
        self._reset[:] = True
        self._running.restart()
        return self._obs

    @torch.no_grad()
    def collect(self, policy: Policy, num_steps: int, policy_version: int) -> Rollout:
        """Play ``num_steps`` steps in every environment, continuing where the last call stopped.

        Raises:
            FloatingPointError: An observation or a reward is not finite; the message names step and
                environment.
            ValueError: An action mask allowed nothing; the message names step, environment and agent.
        """
        start = time.perf_counter()
        obs = self._obs if self._obs is not None else self._start(policy)
        self._carry = map_nested(lambda leaf: leaf.to(self.device), self._carry)
        num_envs = self.env.num_envs
        storage = _Storage(num_steps, num_envs, obs)
        carry_before = self._carry
        storage.reset[0] = self._reset
        step: Step | None = None
        env_s = 0.0
        for t in range(num_steps):
            decision = policy.act(
                self._to_device(storage.obs_at(t)), self._carry, storage.reset_at(t, self.device)
            )
            action = decision.action.cpu().numpy()
            before = time.perf_counter()
            step = self.env.step(action)
            env_s += time.perf_counter() - before
            self._carry = decision.carry
            storage.write(t, action, decision.extras, step)
        self._obs = step.obs if step is not None else obs
        self._reset = storage.reset[num_steps].copy()
        rollout = storage.rollout(carry_before, policy_version)
        _check_rollout(rollout)
        if self.env.spec.has_action_mask:  # what the last observation allows is looked at when it is acted on
            seen = map_nested(lambda leaf: leaf[:-1], storage.obs)
            check_masks(self.env.spec, seen, storage.valid, "this rollout")
        rollout["episodes"] = self._finish_episodes(rollout)
        rollout["collect_s"], rollout["env_s"] = time.perf_counter() - start, env_s
        return rollout

    def _to_device(self, obs: Nested) -> Nested:
        if self.device.type == "cpu":
            return obs
        return map_nested(lambda leaf: leaf.to(self.device, non_blocking=True), obs)

    def _finish_episodes(self, rollout: Rollout) -> Episodes:
        valid = rollout["valid"]
        return self._running.finish(
            rollout["reward"].numpy(),
            None if valid is None else valid.numpy(),
            rollout["final_index"].numpy(),
            action_norms(rollout["action"].numpy(), self.env.spec),
            {name: value.numpy() for name, value in rollout["metrics"].items()},
        )

    def get_state(self) -> dict[str, Any]:
        """Return environments (None when they cannot say), observation, carry and running episodes."""
        if self._obs is None:
            return {"started": False}
        as_tensor = lambda leaf: torch.as_tensor(np.array(leaf))  # noqa: E731
        return {
            "started": True,
            "env": self.env.get_state(),
            "restarts": self._restarts,
            "obs": map_nested(as_tensor, self._obs),
            "carry": map_nested(lambda leaf: leaf.detach().cpu().clone(), self._carry),
            "reset": as_tensor(self._reset),
            "running": self._running.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> bool:
        """Continue from a state that :meth:`get_state` returned.

        It returns False when the environments could not save theirs, or when their number is another one: all
        episodes start anew.
        """
        if not state["started"]:
            return True
        self._restarts = state["restarts"]
        if state["env"] is None or len(state["reset"]) != self.env.num_envs:
            self._restarts += 1
            self._obs = None
            return False
        self.env.reset(self._seed)  # allocates what set_state writes into
        self.env.set_state(state["env"])
        self._obs = map_nested(lambda leaf: leaf.numpy().copy(), state["obs"])
        self._carry = map_nested(lambda leaf: leaf.to(self.device), state["carry"])
        self._reset = state["reset"].numpy().copy()
        self._running.set_state(state["running"])
        return True

    def restart(self, obs: NestedArray) -> None:
        """Go on from ``obs``, because somebody began new episodes everywhere; the running ones are left."""
        if self._obs is not None:
            self._obs = obs
            self._reset[:] = True
            self._running.restart()

    def close(self) -> None:
        """Close the environments."""
        self.env.close()


class _Storage:
    """Arrays of one rollout, written step by step; numpy and torch share the memory."""

    def __init__(self, num_steps: int, num_envs: int, obs: NestedArray) -> None:
        self.num_steps, self.num_envs = num_steps, num_envs
        self.obs = map_nested(lambda leaf: np.empty((num_steps + 1, *leaf.shape), leaf.dtype), obs)
        self._obs_tensors = map_nested(torch.from_numpy, self.obs)
        self._single = isinstance(self.obs, np.ndarray)
        self._obs_views = self._obs_tensors.unbind(0) if self._single else ()
        self.reset = np.empty((num_steps + 1, num_envs), bool)
        self._reset_views = torch.from_numpy(self.reset).unbind(0)
        self.terminated = np.empty((num_steps, num_envs), bool)
        self.truncated = np.empty((num_steps, num_envs), bool)
        self.valid: np.ndarray | None = None
        self.reward = np.empty(0, np.float32)
        self.action = np.empty(0)
        self.extras: dict[str, Tensor] = {}
        self.metrics: dict[str, np.ndarray] = {}
        self.final_index: list[np.ndarray] = []
        self.final_obs: list[NestedArray] = []
        self._write_obs(0, obs)

    def obs_at(self, t: int) -> Nested:
        return self._obs_views[t] if self._single else map_nested(lambda leaf: leaf[t], self._obs_tensors)

    def reset_at(self, t: int, device: torch.device) -> Tensor:
        view = self._reset_views[t]
        return view if device.type == "cpu" else view.to(device, non_blocking=True)

    def _write_obs(self, t: int, obs: NestedArray) -> None:
        if self._single:
            self.obs[t] = obs  # type: ignore[call-overload]  # an array, not a dict
        else:
            map_nested(lambda storage, leaf: storage.__setitem__(t, leaf), self.obs, obs)

    def write(self, t: int, action: np.ndarray, extras: dict[str, Tensor], step: Step) -> None:
        if t == 0:
            self._allocate(action, extras, step)
        self.action[t] = action
        for key, value in extras.items():
            self.extras[key][t] = value
        self.reward[t] = step.reward
        self.terminated[t], self.truncated[t] = step.terminated, step.truncated
        if step.valid is None:
            np.logical_or(step.terminated, step.truncated, out=self.reset[t + 1])
        else:
            self._valid()[t] = step.valid
            np.logical_not(step.valid, out=self.reset[t + 1])
        if step.final_obs is not None:
            ended = np.flatnonzero(step.terminated | step.truncated)
            self.final_index.append(ended + t * self.num_envs)
            self.final_obs.append(map_nested(np.array, step.final_obs))  # all else is copied by writing
        for key, value in step.metrics.items():
            self.metrics[key][t] = value
        self._write_obs(t + 1, step.obs)

    def _allocate(self, action: np.ndarray, extras: dict[str, Tensor], step: Step) -> None:
        steps = self.num_steps
        self.action = np.empty((steps, *action.shape), action.dtype)
        self.extras = {key: value.new_empty((steps, *value.shape)) for key, value in extras.items()}
        self.reward = np.empty((steps, *step.reward.shape), np.float32)
        self.metrics = {key: np.empty((steps, self.num_envs), np.float32) for key in step.metrics}

    def _valid(self) -> np.ndarray:
        if self.valid is None:
            self.valid = np.ones((self.num_steps, self.num_envs), bool)
        return self.valid

    def rollout(self, carry: Nested, policy_version: int) -> Rollout:
        tensor = torch.from_numpy
        if self.final_obs:
            final_obs = map_nested(lambda *parts: tensor(np.concatenate(parts)), *self.final_obs)
            final_index = tensor(np.concatenate(self.final_index))
        else:
            final_obs = map_nested(lambda leaf: leaf[0, :0], self._obs_tensors)  # (0, ...)
            final_index = torch.empty(0, dtype=torch.int64)
        return {
            "obs": self._obs_tensors,
            "reset": tensor(self.reset),
            "action": tensor(self.action),
            "reward": tensor(self.reward),
            "terminated": tensor(self.terminated),
            "truncated": tensor(self.truncated),
            "valid": None if self.valid is None else tensor(self.valid),
            "final_index": final_index,
            "final_obs": final_obs,
            "extras": self.extras,
            "carry": carry,
            "new_steps": self.terminated.size,
            "num_envs": self.num_envs,
            "metrics": {key: tensor(value) for key, value in self.metrics.items()},
            "episodes": {},  # type: ignore[typeddict-item]  # the collector adds them
            "policy_version": policy_version,
            "collect_s": 0.0,
            "env_s": 0.0,
        }


def _check_rollout(rollout: Rollout) -> None:
    """Refuse values that are not finite, naming step and environment; one reduction per array."""
    named = {"reward": rollout["reward"]}
    for field in ("obs", "final_obs"):
        named |= {f"{field}/{path}".rstrip("/"): leaf for path, leaf in named_leaves(rollout[field])}
    for name, leaf in named.items():
        # a finite sum proves every entry finite; only another sum is looked at entry by entry
        if leaf.is_floating_point() and not bool(torch.isfinite(leaf.sum())):
            if name.startswith("final"):  # put where they were seen, so that the message speaks of steps
                everywhere = leaf.new_zeros(rollout["terminated"].numel(), *leaf.shape[1:])
                everywhere[rollout["final_index"]] = leaf
                leaf = everywhere.unflatten(0, rollout["terminated"].shape)
            check_finite("the environment returned", **{f"{name}_{'TN':O<{leaf.ndim}}": leaf})
