"""Tensors are converted as the adapters convert arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_rl.env_units import ActionToEnv, input_dtype, observation_from_env
from lit_rl.envs.gymnasium.spec import action_caster, action_spec, observation_caster, observation_spec
from lit_rl.types import ActionSpec, LeafSpec

BIG = float(np.finfo(np.float64).max)
BOXES = {
    "plain": spaces.Box(-1, 2, (3,)),
    "scalar": spaces.Box(-0.3, 0.7, ()),
    "matrix": spaces.Box(np.array([[-1.0, -2.0], [0.1, 0.3]], np.float32), 5 * np.ones((2, 2), np.float32)),
    "one bound": spaces.Box(np.array([-np.inf, 0.0], np.float32), np.array([1.0, np.inf], np.float32)),
    "no bound": spaces.Box(-np.inf, np.inf, (2,)),
    "float64": spaces.Box(0.1, 0.3, (2,), np.float64),
    "beyond float32": spaces.Box(np.array([-1e39, -BIG]), np.array([1e39, BIG]), dtype=np.float64),
    "float16": spaces.Box(-0.1, 0.1, (2,), np.float16),
    "one value": spaces.Box(np.array([0.5, -1.0], np.float32), np.array([0.5, 1.0], np.float32)),
}
VALUES = [
    0.0,
    0.1,
    0.2,
    0.3,
    -0.1,
    0.5,
    0.7,
    -5.0,
    7.0,
    3e38,
    -3e38,
    float("inf"),
    float("-inf"),
    float("nan"),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BOXES)
def test_boxes_are_clipped_bit_for_bit(name: str, dtype: type) -> None:
    space = BOXES[name]
    shape = (len(VALUES), *space.shape)
    action = np.broadcast_to(np.array(VALUES, dtype).reshape(-1, *[1] * len(space.shape)), shape).copy()
    with np.errstate(over="ignore"):  # infinity is finite in no dtype
        expected = action_caster(space)(action)
    got = ActionToEnv(action_spec("env", space))(torch.from_numpy(action)).numpy()
    assert got.dtype == expected.dtype == space.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Discrete(3, start=5),
        spaces.Discrete(3, start=-7, dtype=np.int32),
        spaces.MultiDiscrete([2, 3], start=[5, -1]),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary(2),
    ],
)
def test_choices_are_counted_as_the_space_does(space: Any) -> None:
    spec = action_spec("env", space)
    action = np.stack([np.arange(n) for n in [2] * len(spec.categories)], -1).reshape(2, *space.shape)
    expected = action_caster(space)(action)
    assert all(space.contains(row) for row in expected)
    got = ActionToEnv(spec)(torch.from_numpy(action)).numpy()
    assert got.dtype == expected.dtype == space.dtype
    np.testing.assert_array_equal(got, expected)


def test_a_native_batch_gets_what_the_policy_gives() -> None:
    assert ActionToEnv(ActionSpec("discrete", categories=[3]))(torch.tensor([0, 2])).tolist() == [0, 2]
    box = ActionToEnv(ActionSpec("box", [1], low=[-1.0], high=[1.0]))
    assert torch.equal(box(torch.tensor([[-3.0], [0.5]])), torch.tensor([[-1.0], [0.5]]))


OBSERVED = spaces.Dict(
    image=spaces.Box(0, 255, (2, 2), np.uint8),
    count=spaces.Box(-9, 9, (2,), np.int32),
    flag=spaces.Box(0, 1, (1,), bool),
    kind=spaces.Discrete(3, start=5),
    kinds=spaces.MultiDiscrete([2, 3], start=[1, -1]),
    bits=spaces.MultiBinary(3),
    real=spaces.Box(-1, 1, (2,), np.float64),
    action_mask=spaces.Box(0, 1, (4,), np.int8),
)
DTYPES = {
    "image": torch.uint8,
    "count": torch.int32,
    "flag": torch.bool,
    "kind": torch.int64,
    "kinds": torch.int64,
    "bits": torch.int8,
    "real": torch.float32,
    "action_mask": torch.int8,
}


def test_observations_come_in_the_dtype_of_their_space() -> None:
    spec: Any = observation_spec("env", OBSERVED)
    assert {key: input_dtype(leaf) for key, leaf in spec.items()} == DTYPES
    OBSERVED.seed(0)
    rows = [OBSERVED.sample() for _ in range(5)]
    batch = {key: np.stack([row[key] for row in rows]) for key in OBSERVED}
    expected = observation_caster(OBSERVED)(batch)
    given = {key: torch.from_numpy(leaf).to(DTYPES[key]) for key, leaf in batch.items()}
    got = observation_from_env(spec, given | {"state": torch.zeros(5, 1)})
    assert got.keys() == {*OBSERVED, "state"}
    for key, leaf in expected.items():
        assert got[key].numpy().dtype == leaf.dtype, key
        np.testing.assert_array_equal(got[key].numpy(), leaf)


def test_a_native_batch_declares_its_dtypes() -> None:
    assert input_dtype(LeafSpec([2], "int16")) == torch.int16
    assert input_dtype(LeafSpec([2], "float64")) == torch.float32  # policies receive float32
