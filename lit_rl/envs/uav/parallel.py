"""``uav_bs_v0`` as a PettingZoo ``ParallelEnv``: one network, dicts by the names of the UAVs.

Axes: S state features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from lit_rl.arguments import RenderMode, check_arguments
from lit_rl.envs.uav.measures import MEASURES, REWARD_PREFIX
from lit_rl.envs.uav.network import NAME, UAVNetwork
from lit_rl.envs.uav.rewards import term_names
from lit_rl.envs.uav.scenario import make_scenario


class UAVParallelEnv(ParallelEnv[str, np.ndarray, Any]):
    """Gives one :class:`UAVNetwork` PettingZoo's interface; its numbers are the same, bit for bit.

    ``info`` of every agent holds the measures of the step, each reward term as ``reward_<term>``, and all
    terms once more in ``reward_info``; they sum to the reward exactly.

    Args:
        render_mode: ``rgb_array`` or None; what ``render`` returns.
        **settings: Fields of ``Scenario`` (``scenario.py``).

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    def __init__(self, render_mode: RenderMode = "rgb_array", **settings: Any) -> None:
        check_arguments(UAVParallelEnv, locals())
        self.metadata = {
            "name": NAME,
            "render_modes": ["rgb_array"],
            "render_fps": 10,
            "is_parallelizable": True,
        }
        self.render_mode = render_mode
        scenario = make_scenario(settings)
        terms = [REWARD_PREFIX + name for name in term_names(scenario)]
        self._network = UAVNetwork(1, render_mode=render_mode, record=[*MEASURES, *terms], **settings)
        self.possible_agents = scenario.agents
        self.agents = []
        self.state_space = spaces.Box(-1.0, 1.0, (scenario.num_state,), np.float32)
        self.observation_spaces = {
            agent: spaces.Box(-1.0, 1.0, (scenario.num_observed,), np.float32)
            for agent in self.possible_agents
        }
        is_box = scenario.actions == "box"
        self.action_spaces = {
            agent: spaces.Box(-1.0, 1.0, (3,), np.float32) if is_box else spaces.Discrete(7)
            for agent in self.possible_agents
        }
        self._is_seeded = self._is_fresh = False
        self._obs: dict[str, np.ndarray] = {}
        self._next_obs: dict[str, np.ndarray] = {}

    def observation_space(self, agent: str) -> spaces.Space:
        """Return the space of the features of one UAV (``observations.py``)."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """Return the space of an action: a velocity, or one of seven moves."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode; without ``seed`` the next one of the running stream (a random one at first)."""
        if seed is None and not self._is_seeded:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if seed is not None:
            self._obs = self._network.reset(seed)
            self._is_seeded = True
        elif not self._is_fresh:  # the running episode is left before its end
            self._obs = self._network.begin_episodes(np.array([0]))
        else:
            self._obs = self._next_obs
        self._is_fresh = False
        self.agents = list(self.possible_agents)
        return self._by_agent(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
    ]:
        """Fly one step; at the end of the episode there are no agents left.

        Raises:
            ValueError: The episode is over, or an action is missing.
        """
        if not self.agents:
            raise ValueError(f"{NAME}: the episode is over; call reset() before step()")
        missing = [agent for agent in self.agents if agent not in actions]
        if missing:
            raise ValueError(f"{NAME}: step needs an action of every agent, missing: {', '.join(missing)}")
        agents = self.agents
        step = self._network.step(np.array([[actions[agent] for agent in agents]]))
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._obs = step.obs if step.final_obs is None else step.final_obs
        if terminated or truncated:
            self._next_obs, self._is_fresh, self.agents = step.obs, True, []
        return (
            self._by_agent(),
            dict.fromkeys(agents, float(step.reward[0])),
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            {agent: _info(step.metrics) for agent in agents},
        )

    def _by_agent(self) -> dict[str, np.ndarray]:
        rows = self._obs["observation"][0].copy()
        return dict(zip(self.possible_agents, rows, strict=True))

    def state(self) -> np.ndarray:
        """Return the global state ``(S,)``."""
        return self._obs["state"][0].copy()

    def render(self) -> np.ndarray | None:
        """RGB image ``(height, width, 3)`` uint8; after the last step already of the next episode."""
        return None if self.render_mode is None else self._network.frame()

    def get_state(self) -> dict[str, Any]:
        """Return everything that is needed to continue exactly, as tensors and plain types."""
        import torch

        obs, next_obs = (
            {key: torch.from_numpy(leaf.copy()) for key, leaf in leaves.items()}
            for leaves in (self._obs, self._next_obs)
        )
        flags = {"agents": list(self.agents), "is_seeded": self._is_seeded, "is_fresh": self._is_fresh}
        return {"network": self._network.get_state(), "obs": obs, "next_obs": next_obs, **flags}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit.

        Raises:
            ValueError: The state is of another number of UAVs or users.
        """
        self._network.set_state(state["network"])
        self._obs, self._next_obs = (
            {key: leaf.numpy().copy() for key, leaf in state[name].items()} for name in ("obs", "next_obs")
        )
        self.agents = list(state["agents"])
        self._is_seeded, self._is_fresh = state["is_seeded"], state["is_fresh"]

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _info(metrics: dict[str, np.ndarray]) -> dict[str, Any]:
    """Plain numbers; what was not reported (NaN) is left out."""
    values = {name: float(value[0]) for name, value in metrics.items() if not np.isnan(value[0])}
    terms = {
        name.removeprefix(REWARD_PREFIX): value
        for name, value in values.items()
        if name.startswith(REWARD_PREFIX)
    }
    return {**values, "reward_info": terms}


def parallel_env(**settings: Any) -> UAVParallelEnv:
    """The environment under the name PettingZoo expects in a module."""
    return UAVParallelEnv(**settings)


def raw_env(**settings: Any) -> AECEnv:
    """The environment with the UAVs taking turns, for code that needs PettingZoo's AEC interface."""
    from pettingzoo.utils.conversions import parallel_to_aec

    return parallel_to_aec(UAVParallelEnv(**settings))


def env(**settings: Any) -> AECEnv:
    """:func:`raw_env`, which checks the order of calls already."""
    return raw_env(**settings)
