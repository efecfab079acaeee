"""Alice and Bob as a PettingZoo environment: a batch of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from lit_rl.arguments import check_arguments
from lit_rl.envs.alice_bob.grid import AGENTS, METRICS, AliceAndBob


class AliceAndBobParallel(ParallelEnv[str, np.ndarray, int]):
    """Gives one :class:`AliceAndBob` PettingZoo's interface; rules, observations and reward stand there.

    ``info`` of the last step of an episode holds ``battle_won``, ``key0``, ``key1`` and ``is_success``.

    Args:
        one_hot: Whether observations are zeros and ones instead of codes.
        render_mode: None, because nothing is drawn.

    Raises:
        ValueError: ``render_mode`` is given.
    """

    metadata: dict[str, Any] = {"name": "alice_and_bob_v0", "render_modes": []}  # noqa: RUF012  # PettingZoo's

    def __init__(self, one_hot: bool = False, render_mode: str | None = None) -> None:
        check_arguments(AliceAndBobParallel, locals())
        if render_mode is not None:
            raise ValueError(f"AliceAndBobParallel: render_mode must be None, got {render_mode!r}")
        self.render_mode = None
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self._env = AliceAndBob(1, one_hot, METRICS)
        features, state = (88, 130) if one_hot else (11, 100)
        high = 1.0 if one_hot else 8.0
        self.observation_spaces = {agent: spaces.Box(0.0, high, (features,)) for agent in AGENTS}
        self.action_spaces: dict[str, spaces.Space] = {agent: spaces.Discrete(5) for agent in AGENTS}
        self.state_space = spaces.Box(0.0, min(high, 7.0), (state,))
        self._obs: dict[str, np.ndarray] | None = None

    def observation_space(self, agent: str) -> spaces.Space:
        """Box of 11 codes and coordinates (one-hot: 88 zeros and ones)."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """``Discrete(5)``."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode; without a seed it is the next one of the stream (at first of a random seed)."""
        if seed is not None:
            self._env.reset(seed)
        elif self._obs is None:
            self._env.reset(int(np.random.SeedSequence().generate_state(1)[0]))
        elif self.agents:  # it is left before its end; after its end the next one has begun already
            self._env.restart(np.array([0]))
        self._obs = self._env.observe(slice(None))
        self.agents = list(AGENTS)
        return self._of_agents(self._obs), {agent: {} for agent in AGENTS}

    def step(self, actions: Mapping[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        """Apply one action per agent; both end together.

        Raises:
            ValueError: The episode is over, or an action is missing or not 0 to 4.
        """
        if set(actions) != set(self.agents) or not self.agents:
            raise ValueError(f"AliceAndBobParallel: step needs actions of {self.agents}, got {list(actions)}")
        step = self._env.step(np.array([[int(actions[agent]) for agent in AGENTS]]))
        is_over = step.final_obs is not None
        seen = step.obs if step.final_obs is None else step.final_obs
        self._obs = seen
        info = {name: bool(value[0]) for name, value in step.metrics.items()} if is_over else {}
        self.agents = [] if is_over else self.agents
        return (
            self._of_agents(seen),
            dict.fromkeys(AGENTS, float(step.reward[0])),
            dict.fromkeys(AGENTS, bool(step.terminated[0])),
            dict.fromkeys(AGENTS, bool(step.truncated[0])),
            {agent: dict(info) for agent in AGENTS},
        )

    def state(self) -> np.ndarray:
        """Return the global state: ``(100,)``, one-hot ``(130,)``."""
        if self._obs is None:
            raise ValueError("AliceAndBobParallel: call reset before state")
        return self._obs["state"][0].copy()

    def get_state(self) -> dict[str, Any]:
        """Return everything that is needed to continue exactly, as tensors."""
        import torch

        obs = {} if self._obs is None else {key: torch.from_numpy(leaf) for key, leaf in self._obs.items()}
        return {"env": self._env.get_state(), "agents": list(self.agents), "obs": obs}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned."""
        self._env.set_state(state["env"])
        self.agents = list(state["agents"])
        self._obs = {key: leaf.numpy().copy() for key, leaf in state["obs"].items()} or None

    @staticmethod
    def _of_agents(obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {agent: obs["observation"][0, a].copy() for a, agent in enumerate(AGENTS)}
