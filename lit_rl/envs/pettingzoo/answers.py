"""Compare what a PettingZoo environment returns with what it should, in plain words.

``hints`` of the functions receives what is worth a warning; None allows what can be stored nevertheless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from lit_rl.envs.gymnasium.answers import check_flag, check_reward
from lit_rl.envs.gymnasium.observation import check_observation, describe
from lit_rl.envs.pettingzoo.spec import check_mask_size
from lit_rl.types import ACTION_MASK, ActionSpec


class AnswerCheck:
    """Compares what an environment returned with what it declares.

    Args:
        name: Name of the environment, for messages.
        observed: Space of the observation of each agent, with its action mask.
        action: Description of the action of an agent.
    """

    def __init__(self, name: str, observed: Mapping[Any, spaces.Space], action: ActionSpec) -> None:
        self._name, self._observed, self._action = name, observed, action

    def _refuse(self, what: str) -> ValueError:
        return ValueError(f"{self._name}: {what}")

    def reset(self, method: str, answer: Any) -> None:
        """Check that a reset, which messages call ``method``, returned observations and infos.

        Raises:
            ValueError: It did not.
        """
        if not _is_dicts(answer, 2):
            got = _describe(answer)
            raise self._refuse(f"{method} must return two dicts (observations, infos), got {got}")

    def step(self, method: str, acting: Iterable[Any], answer: Any, is_late: bool) -> None:
        """Check rewards and flags of the agents that acted.

        Raises:
            ValueError: Something is missing or of another kind.
        """
        if not _is_dicts(answer, 5):
            raise self._refuse(
                f"{method} must return five dicts (observations, rewards, terminations, truncations, infos), "
                f"got {_describe(answer)}"
            )
        _, rewards, terminations, truncations, _ = answer
        for agent in acting:
            reward = self.of("reward", agent, method, rewards)
            check_reward(f"{self._name}: reward of agent {agent} of {method}", reward, is_late)
            for what, flags in (("termination", terminations), ("truncation", truncations)):
                flag = self.of(what, agent, method, flags)
                check_flag(f"{self._name}: {what} of agent {agent} of {method}", flag, is_late)

    def seen(
        self,
        method: str,
        agents: Iterable[Any],
        observations: Mapping[Any, Any],
        infos: Mapping[Any, Any],
        hints: list[str] | None,
    ) -> None:
        """Check what ``agents`` observe, and the action masks that they are told.

        Raises:
            ValueError: Something is missing, or not of its space.
        """
        for agent in agents:
            if agent not in self._observed:
                raise self._refuse(f"agent {agent} is not among possible_agents {list(self._observed)}")
            obs, path = self.of("observation", agent, method, observations), f"observation of agent {agent}"
            check_observation(self._name, method, path, self._observed[agent], obs, hints)
            info = self.of("info", agent, method, infos)
            if not isinstance(info, dict):
                raise self._refuse(f"info of agent {agent} of {method} is {describe(info)}, expected a dict")
            if ACTION_MASK in info:
                what = f"{self._name}: info of agent {agent}[{ACTION_MASK!r}]"
                check_mask_size(what, np.shape(info[ACTION_MASK]), self._action)

    def of(self, what: str, agent: Any, method: str, values: Mapping[Any, Any]) -> Any:
        """Return the value of an agent.

        Raises:
            ValueError: It has none.
        """
        if agent not in values:
            given = ", ".join(map(str, values)) or "nobody"
            raise self._refuse(f"{what} of agent {agent} of {method} is missing; it is given for {given}")
        return values[agent]


def _is_dicts(answer: Any, number: int) -> bool:
    is_tuple = isinstance(answer, tuple) and len(answer) == number
    return is_tuple and all(isinstance(part, dict) for part in answer)


def _describe(answer: Any) -> str:
    if isinstance(answer, tuple):
        return f"a tuple of {', '.join(type(part).__name__ for part in answer)}"
    return describe(answer)
