"""Gymnasium spaces to EnvSpec, and arrays between both sides."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from lit_rl.envs.gymnasium.spec import (
    action_caster,
    action_spec,
    env_spec,
    observation_caster,
    stack_rows,
    take_rows,
)
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec

BOX = spaces.Box(-1.0, 1.0, (3,), np.float64)


def test_spec_of_cartpole_written_by_hand() -> None:
    env = gymnasium.make("CartPole-v1")
    spec = env_spec("CartPole-v1", env.observation_space, env.action_space)
    assert spec == EnvSpec("CartPole-v1", LeafSpec([4]), ActionSpec("discrete", [], [2]))
    assert EnvSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (BOX, LeafSpec([3], "float32")),
        (spaces.Box(0, 255, (4, 4, 1), np.uint8), LeafSpec([4, 4, 1], "uint8")),
        (spaces.Box(0, 9, (1,), np.int32), LeafSpec([1], "float32")),
        (spaces.Discrete(5), LeafSpec([], "int64", [5])),
        (spaces.MultiDiscrete([2, 3]), LeafSpec([2], "int64", [2, 3])),
        (spaces.MultiBinary(3), LeafSpec([3], "int64", [2, 2, 2])),
        (spaces.Dict(a=spaces.Dict(b=BOX)), {"a": {"b": LeafSpec([3], "float32")}}),
    ],
)
def test_observation_spec(space: spaces.Space, expected: object) -> None:
    assert env_spec("env", space, spaces.Discrete(2)).observation == expected


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Discrete(3, start=1), ActionSpec("discrete", [], [3])),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), ActionSpec("multi_discrete", [2, 2], [2, 3, 4, 5])),
        (spaces.MultiBinary(2), ActionSpec("multi_discrete", [2], [2, 2])),
        (
            spaces.Box(np.array([-1.0, -np.inf]), np.array([2.0, np.inf]), dtype=np.float64),
            ActionSpec("box", [2], [], [-1.0, -np.inf], [2.0, np.inf]),
        ),
    ],
)
def test_action_spec(space: spaces.Space, expected: ActionSpec) -> None:
    assert action_spec("env", space) == expected


def test_action_mask_is_binary_and_must_fit_the_actions() -> None:
    mask = spaces.Box(0, 1, (4,), np.int8)
    observation = spaces.Dict(action_mask=mask, x=BOX)
    spec = env_spec("env", observation, spaces.Discrete(4))
    assert spec.has_action_mask
    assert spec.observation["action_mask"] == LeafSpec([4], "int64", [2] * 4)
    cast = observation_caster(observation)({"action_mask": np.ones((2, 4), np.int8), "x": np.zeros((2, 3))})
    assert (cast["action_mask"].dtype, cast["x"].dtype) == (np.int64, np.float32)
    assert env_spec("env", observation, spaces.MultiDiscrete([1, 3])).has_action_mask
    with pytest.raises(
        ValueError, match=r"action_mask'\] must have one entry per choice .* \[3\].* is \[4\]"
    ):
        env_spec("env", observation, spaces.Discrete(3))
    with pytest.raises(ValueError, match="choice of a discrete action"):
        env_spec("env", observation, BOX)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (spaces.Tuple([BOX]), spaces.Discrete(2), r"env: observation space must be Box.* got Tuple\(Box"),
        (spaces.Dict(a=spaces.Text(3)), spaces.Discrete(2), r"env: observation\['a'\] space .* got Text"),
        (spaces.Dict(), spaces.Discrete(2), r"env: observation space .* got Dict\(\)"),
        (BOX, spaces.Sequence(BOX), "env: action space must be float Box.* got Sequence"),
        (BOX, spaces.Dict(a=BOX), "env: action space must be .* got Dict.*; convert it with a wrapper"),
        (BOX, spaces.Box(0, 5, (2,), np.int64), "env: action space must be float Box.* int64"),
    ],
)
def test_unsupported_spaces_are_named(observation: spaces.Space, action: spaces.Space, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        env_spec("env", observation, action)
    assert "\n" not in str(error.value)


def test_observations_are_new_arrays_counted_from_zero() -> None:
    source = np.zeros((2, 3), np.float32, order="F")
    cast = observation_caster(spaces.Box(-1.0, 1.0, (3,)))(source)
    assert not np.shares_memory(cast, source)
    assert cast.flags.c_contiguous
    np.testing.assert_array_equal(observation_caster(spaces.Discrete(3, start=5))(np.array([5, 7])), [0, 2])


def test_actions_reach_the_environment_clipped_shifted_and_in_its_dtype() -> None:
    half_bounded = spaces.Box(np.array([-1.0, -np.inf]), np.array([2.0, np.inf]), dtype=np.float64)
    action = action_caster(half_bounded)(np.array([[-5.0, -5.0], [5.0, 5.0]], np.float32))
    np.testing.assert_array_equal(action, [[-1.0, -5.0], [2.0, 5.0]])
    assert action.dtype == np.float64
    unbounded = action_caster(spaces.Box(-np.inf, np.inf, (1,)))
    given = np.array([[1e9]], np.float32)
    np.testing.assert_array_equal(unbounded(given), given)
    np.testing.assert_array_equal(action_caster(spaces.Discrete(2, start=-1))(np.array([0, 1])), [-1, 0])
    assert action_caster(spaces.MultiBinary(2))(np.array([[0, 1]])).dtype == np.int8


def test_rows() -> None:
    obs = {"a": {"b": np.arange(6).reshape(3, 2)}}
    taken = take_rows(obs, np.array([True, False, True]))
    np.testing.assert_array_equal(taken["a"]["b"], [[0, 1], [4, 5]])
    rows = [{"a": {"b": np.array([0, 1])}}, {"a": {"b": np.array([4, 5])}}]
    np.testing.assert_array_equal(np.array(stack_rows(rows)["a"]["b"]), taken["a"]["b"])
