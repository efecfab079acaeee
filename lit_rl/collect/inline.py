"""Collection in this process: one policy call and one ``VectorEnv.step`` per time step."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from lit_rl import metrics
from lit_rl.collect.episodes import RunningEpisodes, action_norms
from lit_rl.collect.storage import Memory, PrivateMemory, Storage, check_rollout
from lit_rl.envs.packed import plain_or_none
from lit_rl.envs.stepper import Stepper
from lit_rl.nested import map_nested
from lit_rl.types import EnvSpec, Episodes, Nested, NestedArray, Policy, Rollout, Step, VectorEnv

SHARES = "shares"
"""Key of the state of a batch that worker processes divide among them, which fits no batch in one process."""


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
        self._stepper = Stepper(env)

    @property
    def spec(self) -> EnvSpec:
        """Observation and action of the environments."""
        return self.env.spec

    @property
    def unknown_class(self) -> str | None:
        """Name of what keeps the state of the environments from being saved, where that is known."""
        return getattr(self.env, "unknown_class", None) or type(self.env).__name__

    def start_anew(self, restarts: int) -> None:
        """Begin new episodes at the next call, other ones than after any smaller number of restarts."""
        self._restarts, self._obs = restarts, None

    def _start(self, policy: Policy) -> NestedArray:
        # after a resume that could not restore the environments the seed moves on, so that no episode is
        # replayed
        self._obs = self._stepper.reset(self._seed + 1_000_003 * self._restarts)
        self._carry = policy.initial_carry(self.env.num_envs)
        self._reset[:] = True
        self._running.restart()
        return self._obs

    def collect(self, policy: Policy, num_steps: int, policy_version: int) -> Rollout:
        """Play ``num_steps`` steps in every environment, continuing where the last call stopped.

        Raises:
            FloatingPointError: An observation or a reward is not finite; the message names step and
                environment.
            ValueError: An action mask allowed nothing; the message names step, environment and agent.
            EnvironmentFaultError: An array is not as ``spec`` says; the message names it and the environment.
        """
        start = time.perf_counter()
        rollout = self.play(policy, num_steps, policy_version, PrivateMemory())
        rollout["collect_s"] = time.perf_counter() - start
        return rollout

    @torch.no_grad()
    def play(
        self, policy: Policy, num_steps: int, policy_version: int, memory: Memory, is_checked: bool = True
    ) -> Rollout:
        """Collect a rollout into ``memory`` as :meth:`collect` does, but do not time it.

        Whoever joins several rollouts into one checks that, and has none of them checked.
        """
        obs = self._obs if self._obs is not None else self._start(policy)
        self._carry = map_nested(lambda leaf: leaf.to(self.device), self._carry)
        storage = Storage(num_steps, self.env.num_envs, obs, memory)
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
            step = self._stepper.step(action)
            env_s += time.perf_counter() - before
            self._carry = decision.carry
            storage.write(t, action, decision.extras, step)
        self._obs = step.obs if step is not None else obs
        self._reset = storage.reset[num_steps].copy()
        rollout = storage.rollout(carry_before, policy_version)
        if is_checked:
            check_rollout(self.spec, rollout)
        rollout["episodes"], rollout["env_s"] = self._finish_episodes(rollout), env_s
        if (num_lost := getattr(self.env, "num_lost", None)) is not None:
            rollout["collector"] = {metrics.COLLECTOR_RESTARTS: float(num_lost)}
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
            "env": plain_or_none(self.env.get_state(), type(self.env).__name__),
            "restarts": self._restarts,
            "obs": map_nested(as_tensor, self._obs),
            "carry": map_nested(lambda leaf: leaf.detach().cpu().clone(), self._carry),
            "reset": as_tensor(self._reset),
            "running": self._running.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> bool:
        """Continue from a state that :meth:`get_state` returned.

        It returns False when the environments could not save theirs, were divided among processes, or when
        their number is another one: all episodes start anew.
        """
        if not state["started"]:
            return True
        self._restarts = state["restarts"]
        env = state["env"]
        if env is None or SHARES in env or len(state["reset"]) != self.env.num_envs:
            self.start_anew(state["restarts"] + 1)
            return False
        seen = self._stepper.reset(self._seed)  # allocates what set_state writes into
        self.env.set_state(env)
        # a state that no learner looks at is left out, also of checkpoints from before
        self._obs = map_nested(lambda _, saved: saved.numpy().copy(), seen, state["obs"])
        self._carry = map_nested(lambda leaf: leaf.to(self.device), state["carry"])
        self._reset = state["reset"].numpy().copy()
        self._running.set_state(state["running"])
        return True

    def restart_with(self, method: str, rows: Any) -> None:
        """Begin new episodes by ``env.method(rows)``, which returns observations; running ones are left.

        Args:
            method: Name of a method of the environments.
            rows: What it is given; it has ``take(slice)``, so that it can be divided over processes.
        """
        obs = getattr(self.env, method)(rows)
        if self._obs is not None:
            self._obs = obs
            self._reset[:] = True
            self._running.restart()

    def close(self) -> None:
        """Close the environments."""
        self.env.close()
