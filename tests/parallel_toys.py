"""Tiny PettingZoo environments whose every number can be computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Leavers(ParallelEnv):
    """Agents a, b and c leave after 2, 3 and 4 steps.

    obs = [a number drawn at reset, t]; state = [t, agents that act]; reward = 10 * agent + t + action before
    the step counts.

    Args:
        ends: What happens to each agent: (t)erminated or tr(u)ncated.
        stay: No agent leaves before the fourth step.
        has_state: Whether ``state()`` is implemented.
        masks: Where action masks are given: ``observation``, ``info`` or nowhere. Choice t % 3 is forbidden.
    """

    metadata = {"name": "leavers_v0"}  # noqa: RUF012

    def __init__(
        self,
        ends: str = "ttt",
        stay: bool = False,
        has_state: bool = True,
        masks: str = "",
        render_mode: str | None = None,
    ) -> None:
        self.possible_agents = ["a", "b", "c"]
        self.ends, self.has_state, self.masks, self.render_mode = ends, has_state, masks, render_mode
        self.last = dict(zip(self.possible_agents, (4, 4, 4) if stay else (2, 3, 4), strict=True))
        self.got: list[dict[str, Any]] = []
        self.closed = 0
        inner = spaces.Box(-1e9, 1e9, (2,), np.float32)
        mask = spaces.Box(0, 1, (3,), np.int8)
        outer = spaces.Dict({"observation": inner, "action_mask": mask})
        space = outer if masks == "observation" else inner
        self.observation_spaces = dict.fromkeys(self.possible_agents, space)
        self.action_spaces = {agent: spaces.Discrete(3) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.action_spaces[agent]

    def _mask(self) -> np.ndarray:
        return (np.arange(3) != self.t % 3).astype(np.int8)

    def _see(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        obs: dict[str, Any] = {agent: np.array([self.number, self.t], np.float32) for agent in agents}
        if self.masks == "observation":
            obs = {a: {"observation": o, "action_mask": self._mask()} for a, o in obs.items()}
        is_masked = self.masks == "info" and self.t < 4
        return obs, {agent: {"action_mask": self._mask()} if is_masked else {} for agent in agents}

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.number = float(self.rng.integers(1000))
        self.t = 0
        self.agents = self.possible_agents[:]
        return self._see(self.agents)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        self.got.append(dict(actions))
        acting = self.agents
        assert set(actions) == set(acting)
        rewards = {a: 10.0 * self.possible_agents.index(a) + self.t + int(actions[a]) for a in acting}
        self.t += 1
        how = dict(zip(self.possible_agents, self.ends, strict=True))
        terminations = {a: self.last[a] == self.t and how[a] == "t" for a in acting}
        truncations = {a: self.last[a] == self.t and how[a] == "u" for a in acting}
        self.agents = [a for a in acting if self.last[a] > self.t]
        obs, infos = self._see(acting)
        for agent in acting:
            infos[agent]["height"] = 10.0 * self.possible_agents.index(agent)
        return obs, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        if not self.has_state:
            return super().state()
        return np.array([self.t, len(self.agents)])

    def render(self) -> np.ndarray:
        return np.full((4, 5, 3), self.t, np.uint8)

    def close(self) -> None:
        self.closed += 1


class Movers(ParallelEnv):
    """Two agents on a line move by a continuous action; one sees both, the other only itself."""

    def __init__(self, lengths: tuple[int, int] = (2, 1)) -> None:
        self.possible_agents = ["left", "right"]
        sizes = dict(zip(self.possible_agents, lengths, strict=True))
        self.observation_spaces = {a: spaces.Box(-99.0, 99.0, (size,)) for a, size in sizes.items()}
        self.action_spaces = {a: spaces.Box(-1.0, 2.0, (1,)) for a in self.possible_agents}

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.action_spaces[agent]

    def _see(self) -> dict[str, np.ndarray]:
        size = {agent: space.shape[0] for agent, space in self.observation_spaces.items()}
        return {"left": self.x[: size["left"]].copy(), "right": self.x[::-1][: size["right"]].copy()}

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.x, self.t = np.zeros(2, np.float32), 0
        self.agents = self.possible_agents[:]
        return self._see(), {"left": {}, "right": {}}

    def step(self, actions: dict[str, np.ndarray]) -> tuple[dict, dict, dict, dict, dict]:
        self.x += np.concatenate([actions["left"], actions["right"]])
        for action in actions.values():
            action[:] = 77  # an environment may do as it likes with its actions
        self.t += 1
        is_over = self.t == 3
        self.agents = [] if is_over else self.agents
        names = self.possible_agents
        rewards = {agent: float(x) for agent, x in zip(names, self.x, strict=True)}
        return (
            self._see(),
            rewards,
            dict.fromkeys(names, False),
            dict.fromkeys(names, is_over),
            {agent: {} for agent in names},
        )
