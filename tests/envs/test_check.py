"""Every mistake of a user's environment has its own sentence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation

from lit_rl.envs.check import check_env
from lit_rl.envs.vector import make_vector_env

ZEROS = np.zeros(2, np.float32)


class Custom(gymnasium.Env):
    """Does what it is told."""

    def __init__(self, space: spaces.Space | None = None, action_space: spaces.Space | None = None) -> None:
        self.observation_space = space or spaces.Box(-1.0, 1.0, (2,))
        self.action_space = action_space or spaces.Discrete(2)
        self.answer_reset: Callable[[], Any] = lambda: (self.obs(), {})
        self.answer_step: Callable[[], Any] = lambda: (self.obs(), 0.0, False, False, {})
        self.obs: Callable[[], Any] = ZEROS.copy
        self.closed = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        return self.answer_reset()

    def step(self, action: Any) -> Any:
        return self.answer_step()

    def close(self) -> None:
        self.closed += 1


def complaint(**changes: Any) -> str:
    """The message about a Custom environment with these attributes; "" if there is none."""
    env = Custom(changes.pop("space", None), changes.pop("action_space", None))
    for key, value in changes.items():
        setattr(env, key, value)
    message = ""
    try:
        check_env(lambda: env)
    except ValueError as error:
        message = str(error)
    assert env.closed == 1
    assert "\n" not in message
    return message


def step_with(index: int, value: Any) -> Callable[[], tuple]:
    answer: list[Any] = [ZEROS.copy(), 0.0, False, False, {}]
    answer[index] = value
    return lambda: (answer[0].copy() if index else answer[0], *answer[1:])


def test_good_environments_pass_in_silence() -> None:
    assert complaint() == ""
    assert complaint(answer_step=step_with(1, np.float32(1.0))) == ""
    assert complaint(answer_step=step_with(2, np.True_)) == ""
    for name in ("CartPole-v1", "Pendulum-v1", "FrozenLake-v1"):
        check_env(lambda name=name: gymnasium.make(name))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ZEROS, "Custom: reset must return (obs, info), got a numpy array of shape (2,)"),
        (None, "Custom: reset must return (obs, info), got None"),
        ((ZEROS, None), "Custom: reset must return (obs, info) with a dict info, its info is None"),
    ],
)
def test_reset(answer: Any, expected: str) -> None:
    assert complaint(answer_reset=lambda: answer) == expected


def test_reset_without_seed() -> None:
    class Old(Custom):
        def reset(self) -> Any:  # type: ignore[override]
            return ZEROS, {}

    with pytest.raises(ValueError, match=r"Old: reset must accept reset\(\*, seed=None, options=None\)"):
        check_env(Old)


@pytest.mark.parametrize(
    ("index", "value", "expected"),
    [
        (1, np.zeros(1), "reward of step is a numpy array of shape (1,), expected a float"),
        (1, "1", "reward of step is a str, expected a float"),
        (1, True, "reward of step is a bool, expected a float"),
        (1, float("nan"), "reward of step is nan, expected a finite number"),
        (2, 0, "terminated of step is a int, expected a bool"),
        (3, None, "truncated of step is None, expected a bool"),
        (4, [], "info of step is a list, expected a dict"),
    ],
)
def test_step_values(index: int, value: Any, expected: str) -> None:
    assert complaint(answer_step=step_with(index, value)) == f"Custom: {expected}"


def test_step_of_the_old_interface() -> None:
    expected = "Custom: step must return (obs, reward, terminated, truncated, info), got a tuple of 4 values"
    assert complaint(answer_step=lambda: (ZEROS, 0.0, False, {})) == expected


@pytest.mark.parametrize(
    ("obs", "expected"),
    [
        ([0.0, 0.0], "is a list, expected a numpy array of shape (2,)"),
        (np.zeros(3, np.float32), "has shape (3,), its space has (2,)"),
        (np.zeros(2), "has dtype float64, its space has float32; return obs.astype(...)"),
        (np.array([0, np.nan], np.float32), "has 1 values that are NaN or infinite"),
    ],
)
def test_observation(obs: Any, expected: str) -> None:
    assert complaint(obs=lambda: obs) == f"Custom: observation of reset {expected}"
    assert complaint(answer_step=step_with(0, obs)) == f"Custom: observation of step {expected}"


def test_dict_observation_names_the_key() -> None:
    space = spaces.Dict(arm=spaces.Dict(angle=spaces.Box(-1, 1, (2,))), kind=spaces.Discrete(3))
    good = {"arm": {"angle": ZEROS}, "kind": 1}
    assert complaint(space=space, obs=lambda: good) == ""
    wrong = {"arm": {"angle": ZEROS[:1]}, "kind": 1}
    assert "observation['arm']['angle'] of reset has shape (1,)" in complaint(space=space, obs=lambda: wrong)
    assert "observation['kind'] of reset is 3, expected 0 to 2" in complaint(
        space=space, obs=lambda: good | {"kind": 3}
    )
    assert "observation['kind'] of reset is a float" in complaint(
        space=space, obs=lambda: good | {"kind": 1.0}
    )
    assert "has keys ['kind'], its space has ['arm', 'kind']" in complaint(
        space=space, obs=lambda: {"kind": 1}
    )
    assert "is a int, expected a dict with keys" in complaint(space=space, obs=lambda: good | {"arm": 1})


class Reusing(Custom):
    """It returns one array for ever; or a new one from each step, which the reset after it fills."""

    def __init__(self, in_step: bool, nested: bool = False) -> None:
        super().__init__(spaces.Dict(x=spaces.Box(-1.0, 1.0, (2,))) if nested else None)
        self.in_step, self.nested, self.array = in_step, nested, np.zeros(2, np.float32)

    def _see(self, is_reused: bool) -> Any:
        array = self.array if is_reused else self.array.copy()
        return {"x": array} if self.nested else array

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        self.array[:] = -1
        return self._see(self.in_step), {}

    def step(self, action: Any) -> Any:
        if self.in_step:
            self.array[0] += 0.01
            return self._see(True), 0.0, False, False, {}
        self.array = np.zeros(2, np.float32)  # a new one in each step
        return self._see(True), 0.0, False, False, {}


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: FrameStackObservation(env, 2)])
@pytest.mark.parametrize(("nested", "path"), [(False, ""), (True, r"\['x'\]")])
@pytest.mark.parametrize(
    ("in_step", "what"),
    [
        (True, "step writes into the observation{} array that reset returned"),
        (False, "reset writes into the observation{} array that step returned"),
    ],
)
def test_arrays_written_into_after_they_were_returned(
    wrap: Any, nested: bool, path: str, in_step: bool, what: str
) -> None:
    """The library copies in time; a wrapper that stacks frames would see the newest one several times."""
    expected = what.format(path) + ".* such as FrameStackObservation, .* return a copy"
    with pytest.warns(UserWarning, match=expected):
        check_env(lambda: wrap(Reusing(in_step, nested)))


class Masked(Custom):
    """It allows choices 1 and 2 of four, and at the end of an episode none."""

    def __init__(
        self, mask: tuple[int, ...] = (0, 1, 1, 0), action_space: spaces.Space | None = None
    ) -> None:
        leaves = {"x": spaces.Box(-1.0, 1.0, (2,)), "action_mask": spaces.Box(0, 1, (4,), np.int8)}
        super().__init__(spaces.Dict(leaves), action_space or spaces.Discrete(4, start=10))
        self.mask, self.got = np.array(mask, np.int8), list[Any]()

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        return {"x": ZEROS, "action_mask": self.mask}, {}

    def step(self, action: Any) -> Any:
        self.got.append(action)
        is_over = len(self.got) % 3 == 0
        return {"x": ZEROS, "action_mask": self.mask * (not is_over)}, 0.0, is_over, False, {}


def test_actions_of_the_trial_are_allowed() -> None:
    env = Masked()
    check_env(lambda: env)
    assert set(env.got) == {11, 12}
    assert len(env.got) == 16
    assert all(type(action) is np.int64 for action in env.got)
    env = Masked((0, 1, 1, 0), spaces.MultiDiscrete([2, 2], start=[5, 7]))
    check_env(lambda: env)
    assert {tuple(action) for action in env.got} == {(6, 7)}


def test_a_mask_that_allows_nothing() -> None:
    expected = r"Masked: observation\['action_mask'\] of reset allows no action at all"
    with pytest.raises(ValueError, match=expected):
        check_env(lambda: Masked((0, 0, 0, 0)))
    with pytest.raises(ValueError, match=expected):  # in its second entry
        check_env(lambda: Masked((1, 1, 0, 0), spaces.MultiDiscrete([2, 2])))


@pytest.mark.parametrize("bound", [1e39, np.finfo(np.float64).max])
def test_bounds_that_no_span_fits(bound: float) -> None:
    assert complaint(action_space=spaces.Box(-bound, bound, (2,), np.float64)) == ""


def test_spaces() -> None:
    assert "must be Box" in complaint(space=spaces.Tuple([spaces.Discrete(2)]))
    env = Custom()
    del env.action_space
    with pytest.raises(ValueError, match=r"action_space is a NoneType, expected a gymnasium\.spaces\.Space"):
        check_env(lambda: env)
    with pytest.raises(ValueError, match=r"the environment is a builtins.dict, expected a gymnasium.Env"):
        check_env(dict)  # type: ignore[arg-type]


def test_what_is_only_unwise_is_a_warning_once() -> None:
    env = Custom(action_space=spaces.Box(-np.inf, np.inf, (1,)))
    env.obs = lambda: ZEROS + 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(lambda: env)
    assert [str(warning.message) for warning in caught] == [
        "Custom: the action space has infinite bounds; finite ones such as [-1, 1] learn better",
        "Custom: observation of reset leaves the bounds of its space; widen them or clip the values",
        "Custom: observation of step leaves the bounds of its space; widen them or clip the values",
    ]


@pytest.mark.parametrize(
    ("wrapper", "option"),
    [
        (gymnasium.wrappers.NormalizeObservation, "normalize_observation: true of the learner (PPO, SAC, "),
        (gymnasium.wrappers.NormalizeReward, "normalize_return: true of the learner (PPO, "),
    ],
)
def test_normalizing_wrappers_are_warned_of(wrapper: Any, option: str):
    """Wherever they are in the chain; in a batch of a user, too."""
    inner = partial(gymnasium.wrappers.TimeLimit, max_episode_steps=9)
    expected = (
        rf"^CartPole\S*: the wrapper {wrapper.__name__} has statistics of its own .*{re.escape(option)}"
    )
    with pytest.warns(UserWarning, match=expected) as caught:
        make_vector_env("CartPole-v1", 2, wrappers=[wrapper, inner], check=True).close()
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    of_batch = getattr(gymnasium.wrappers.vector, wrapper.__name__)

    def batch(num_envs: int) -> gymnasium.vector.VectorEnv:
        return of_batch(gymnasium.make_vec("CartPole-v1", num_envs))

    def copies(num_envs: int) -> gymnasium.vector.VectorEnv:
        return gymnasium.vector.SyncVectorEnv([lambda: wrapper(gymnasium.make("CartPole-v1"))] * num_envs)

    for env in (batch, copies):
        with pytest.warns(UserWarning, match=f"^{env.__name__}: the wrapper {wrapper.__name__} has "):
            make_vector_env(env, 2).close()
