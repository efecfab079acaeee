"""Every way in which an environment disagrees with what it declares has its own sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo import ParallelEnv

from lit_rl.envs.pettingzoo.check import check_parallel
from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from tests.parallel_toys import Leavers, Movers
from tests.reuse_toys import OneArrayTeam

ZEROS = np.zeros(2, np.float32)
MASK = np.ones(3, np.int8)


class Custom(ParallelEnv):
    """Three agents; ``answers`` of step in PettingZoo's order, and what ``after`` does to the environment."""

    metadata = {"name": "custom"}  # noqa: RUF012

    def __init__(self) -> None:
        self.possible_agents: Any = ["uav_1", "uav_2", "uav_3"]
        self.observation: Any = spaces.Box(-1.0, 1.0, (2,))
        self.action: Any = spaces.Discrete(3)
        self.answers: list[Any] = [
            self.all(ZEROS),
            self.all(0.5),
            self.all(False),
            self.all(False),
            self.all({}),
        ]
        self.first: Any = (self.all(ZEROS), self.all({}))
        self.after: Callable[[], None] = lambda: None
        self.got: list[Any] = []
        self.closed = 0

    @staticmethod
    def all(value: Any, **others: Any) -> dict[str, Any]:
        return dict.fromkeys(("uav_1", "uav_2", "uav_3"), value) | others

    def observation_space(self, agent: str) -> Any:
        return self.observation

    def action_space(self, agent: str) -> Any:
        return self.action

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.agents = list(self.possible_agents)
        return self.first

    def step(self, actions: dict[str, Any]) -> Any:
        self.got.append(actions)
        self.after()
        return tuple(self.answers)

    def close(self) -> None:
        self.closed += 1


def complaint(change: Callable[[Custom], Any]) -> str:
    """The message about a Custom environment that ``change`` altered; "" if there is none."""
    env = Custom()
    change(env)
    message = ""
    try:
        check_parallel(lambda: env)
    except ValueError as error:
        message = str(error)
    assert env.closed == 1
    assert "\n" not in message
    return message.removeprefix("custom: ")


def step_with(index: int, **others: Any) -> Callable[[Custom], None]:
    """Other values of some agents in one of the answers of ``step``."""

    def change(env: Custom) -> None:
        env.answers[index] = env.answers[index] | others

    return change


def with_spaces(**changes: Any) -> Callable[[Custom], None]:
    return lambda env: vars(env).update(changes)


def test_good_environments_pass_in_silence() -> None:
    assert complaint(lambda env: None) == ""
    for masks in ("", "observation", "info"):
        check_parallel(lambda masks=masks: Leavers(masks=masks))
    check_parallel(Movers, pad=True)


def test_arrays_written_into_after_they_were_returned() -> None:
    with pytest.warns(
        UserWarning, match=r"^one_array_v0: step writes into the observations\['a'\] array that"
    ):
        check_parallel(OneArrayTeam)


def test_actions_of_the_trial_are_allowed() -> None:
    env = Custom()
    env.action = spaces.MultiDiscrete([2, 3])
    mask = np.array([0, 1, 1, 0, 1], np.int8)
    env.first = (env.all(ZEROS), env.all({"action_mask": mask}))
    env.answers[4] = env.all({"action_mask": mask})
    check_parallel(lambda: env)
    actions = np.array([list(actions.values()) for actions in env.got])
    assert actions.shape == (32, 3, 2)
    assert set(actions[..., 0].ravel()) == {1}
    assert set(actions[..., 1].ravel()) == {0, 2}


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (np.zeros(1), "a numpy array of shape (1,), expected a float"),
        (None, "None, expected a float"),
        (True, "a bool, expected a float"),
        (float("inf"), "inf, expected a finite number"),
    ],
)
def test_reward(reward: Any, expected: str) -> None:
    assert complaint(step_with(1, uav_3=reward)) == f"reward of agent uav_3 of step is {expected}"


def test_values_that_are_missing_or_of_another_kind() -> None:
    assert complaint(step_with(2, uav_2=0)) == "termination of agent uav_2 of step is a int, expected a bool"
    assert complaint(step_with(3, uav_2=None)) == "truncation of agent uav_2 of step is None, expected a bool"
    assert complaint(step_with(4, uav_2=[])) == "info of agent uav_2 of step is a list, expected a dict"

    def forget(env: Custom) -> None:
        env.answers[1] = {"uav_1": 0.0, "uav_3": 0.0}

    assert complaint(forget) == "reward of agent uav_2 of step is missing; it is given for uav_1, uav_3"


@pytest.mark.parametrize(
    ("obs", "expected"),
    [
        (np.zeros(124, np.float32), "has shape (124,), its space has (2,)"),
        (np.zeros(2), "has dtype float64, its space has float32; return obs.astype(...)"),
        ([0.0, 0.0], "is a list, expected a numpy array of shape (2,)"),
        (np.array([np.nan, 0], np.float32), "has 1 values that are NaN or infinite"),
    ],
)
def test_observation(obs: Any, expected: str) -> None:
    assert complaint(step_with(0, uav_2=obs)) == f"observation of agent uav_2 of step {expected}"


def test_an_observation_out_of_bounds_is_only_a_hint() -> None:
    env = Custom()
    env.answers[0] = env.all(ZEROS + 2)
    with pytest.warns(UserWarning, match="custom: observation of agent uav_1 of step leaves the bounds"):
        check_parallel(lambda: env)


def test_what_reset_and_step_return() -> None:
    expected = "reset must return two dicts (observations, infos), got a dict"
    assert complaint(with_spaces(first={"uav_1": ZEROS})) == expected
    expected = "step must return five dicts (observations, rewards, terminations, truncations, infos), got a "
    assert complaint(lambda env: env.answers.pop()) == f"{expected}tuple of dict, dict, dict, dict"
    assert "got a tuple of dict, float, dict" in complaint(lambda env: env.answers.__setitem__(1, 0.5))

    class WithoutSeed(Leavers):
        def reset(self) -> Any:  # type: ignore[override]
            return super().reset()

    with pytest.raises(ValueError, match=r"leavers_v0: reset must accept reset\(seed=None, options=None\)"):
        check_parallel(WithoutSeed)


def test_agents() -> None:
    assert complaint(with_spaces(possible_agents=[])).startswith("possible_agents must list all agents")
    assert complaint(with_spaces(possible_agents=["a", "a"])).startswith(
        "possible_agents must have different"
    )
    ended = "agent uav_2 has ended but is still in agents; remove it there"
    assert complaint(step_with(2, uav_2=True)) == ended

    def leave(env: Custom) -> None:
        env.after = lambda: env.agents.remove("uav_3")

    assert complaint(leave) == "agent uav_3 is no longer in agents, but neither terminated nor truncated"

    def join(env: Custom) -> None:
        env.after = lambda: env.agents.append("uav_9")

    assert complaint(join) == "agent uav_9 is not among possible_agents ['uav_1', 'uav_2', 'uav_3']"

    class Nobody(Leavers):
        def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
            super().reset(seed)
            self.agents = []
            return {}, {}

    with pytest.raises(ValueError, match="reset leaves agents empty; an episode needs at least one"):
        check_parallel(Nobody)


def test_spaces() -> None:
    missing = "observation_space of agent uav_1 is a NoneType, expected a gymnasium.spaces.Space"
    assert complaint(with_spaces(observation=None)) == missing
    assert "must be float Box, Discrete" in complaint(with_spaces(action=spaces.Text(3)))
    two = spaces.Dict({"position": spaces.Box(0, 1, (2,)), "speed": spaces.Box(0, 1, (2,))})
    assert "is a Dict with ['position', 'speed'], expected one space or" in complaint(
        with_spaces(observation=two)
    )

    class Different(Custom):
        def action_space(self, agent: str) -> Any:
            return spaces.Discrete(3 if agent == "uav_1" else 4)

    expected = r"custom: action space of agent uav_2 is Discrete\(4\), that of agent uav_1 is Discrete\(3\); "
    with pytest.raises(ValueError, match=expected):
        check_parallel(Different)
    no_space = "custom: observation_space of agent uav_1 is missing"
    with pytest.raises(ValueError, match=no_space):
        check_parallel(type("NoSpace", (Custom,), {"observation_space": ParallelEnv.observation_space}))


def test_masks() -> None:
    short = np.ones(2, np.int8)
    outer = spaces.Dict(
        {"observation": spaces.Box(-1, 1, (2,)), "action_mask": spaces.Box(0, 1, (2,), np.int8)}
    )
    size = "must have one entry per choice, here shape (3,); it has (2,)"
    assert complaint(with_spaces(observation=outer)) == f"action mask of agent uav_1 {size}"
    of_info = with_spaces(first=(Custom.all(ZEROS), Custom.all({"action_mask": short})))
    assert complaint(of_info) == f"info of agent uav_1['action_mask'] {size}"
    of_info = with_spaces(first=(Custom.all(ZEROS), Custom.all({"action_mask": 0 * MASK})))
    assert complaint(of_info) == "info of agent uav_1['action_mask'] allows no action at all"
    of_info = with_spaces(first=(Custom.all(ZEROS), Custom.all({"action_mask": MASK})))
    assert complaint(of_info) == "info of agent uav_1 has no 'action_mask' in step, as others had"
    boxes = {
        "action": spaces.Box(-1, 1, (3,)),
        "first": (Custom.all(ZEROS), Custom.all({"action_mask": MASK})),
    }
    assert "needs discrete actions, this environment's are boxes" in complaint(with_spaces(**boxes))


def test_state() -> None:
    def grows(env: Custom) -> None:
        env.state = lambda: np.zeros(5 + len(env.got))

    assert complaint(grows) == "state() after step has 6 features, after reset it had 5"
    declared = {"state": lambda: ZEROS, "state_space": spaces.Box(0, 1, (3,))}
    assert complaint(with_spaces(**declared)) == "state() after reset has shape (2,), state_space has (3,)"
    assert complaint(with_spaces(state=dict)) == "state() after reset is a dict, expected an array of numbers"
    assert complaint(with_spaces(state=lambda: ZEROS / 0.1 + np.nan)).endswith(
        "values that are NaN or infinite"
    )


def test_the_adapter_looks_before_the_first_rollout() -> None:
    made: list[Any] = []

    class Wrong(Custom):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)
            self.answers[1] = self.all(0.0, uav_3=np.zeros(1))

    with pytest.raises(
        ValueError, match=r"custom: reward of agent uav_3 of step is a numpy array of shape \(1,\), expected"
    ):
        ParallelVectorEnv(Wrong, 8)
    assert len(made) == 1


def test_something_else() -> None:
    with pytest.raises(
        ValueError, match=r"the environment is a builtins.dict, expected a pettingzoo.ParallelEnv"
    ):
        check_parallel(dict)
