"""Torch under numpy's names, the one transfer to the host, and the same random numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from lit_rl.envs.uav.arrays import NUMPY, make_arrays
from lit_rl.envs.uav.association import associate
from lit_rl.envs.uav.backhaul import peers, widest_paths
from lit_rl.envs.uav.network import make_streams
from lit_rl.envs.uav.ranking import rank_down, rank_up, smallest
from lit_rl.envs.uav.streams import Streams
from lit_rl.envs.uav.torch_arrays import TorchArrays, to_host

XP: Any = TorchArrays("cpu")


def test_has_every_name_of_numpy() -> None:
    missing = [name for name in dir(NUMPY) if not name.startswith("_") and not hasattr(XP, name)]
    assert not missing


@pytest.mark.parametrize(
    "pattern", ["N A G, N A G -> N G", "N A G, N G -> N A", "N A G, N A -> N G", "N A, N A -> N"]
)
def test_einsum(pattern: str) -> None:
    size = {"N": 2, "A": 3, "G": 4}
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=[size[letter] for letter in name.split()])
        for name in pattern.split(" -> ")[0].split(", ")
    )
    expected = np.einsum(pattern, x, y)
    np.testing.assert_allclose(XP.einsum(pattern, XP.asarray(x), XP.asarray(y)), expected)


def test_take_maximum_and_clip() -> None:
    x = np.arange(12.0).reshape(2, 3, 2)
    index = np.array([[2, 0], [1, 1]])
    for axis, at in ((1, index), (None, 3 * index)):
        np.testing.assert_array_equal(
            XP.take(XP.asarray(x), XP.asarray(at), axis), x.take(at, axis), strict=True
        )
    out = XP.asarray(x)
    assert XP.maximum(out, 3.0, out=out) is out
    np.testing.assert_array_equal(out, np.maximum(x, 3.0))
    np.testing.assert_array_equal(XP.minimum(out, 3.0 + 0 * out), np.full_like(x, 3.0))
    assert XP.clip(XP.asarray(x), 1.0, 2.0, dtype=torch.float32).dtype == torch.float32


def test_smallest_is_that_of_numpy_with_equals() -> None:
    values = np.random.default_rng(0).exponential(1e4, (7, 5, 50)).astype(np.float32)
    values[..., 20:30] = values[..., 10:20]
    values[0, 0, :3] = 0.0
    for rank in (rank_up, rank_down):
        expected = smallest(rank(values), 10)
        np.testing.assert_array_equal(smallest(rank(XP.asarray(values), XP), 10, XP), expected)


@pytest.mark.parametrize("min_sinr_db", [-10.0, 3.0])
def test_association_is_that_of_numpy(min_sinr_db: float) -> None:
    """Equal SINR gives equal decisions, ties included, also where users ask again."""
    sinr_db = np.random.default_rng(0).normal(5, 8, (20, 5, 40))
    sinr_db[10:] = np.round(sinr_db[10:] / 4) * 4
    sinr = (10 ** (sinr_db / 10)).astype(np.float32)
    for capacity in (1, 5, 60):
        serves = associate(sinr, 10 ** (min_sinr_db / 10), capacity)
        same = associate(XP.asarray(sinr), 10 ** (min_sinr_db / 10), capacity, XP)
        np.testing.assert_array_equal(same, serves)


@pytest.mark.parametrize(("uavs", "max_hops"), [(1, 3), (2, 3), (5, 1), (5, 5)])
def test_routes_are_those_of_numpy(uavs: int, max_hops: int) -> None:
    rng = np.random.default_rng(uavs)
    direct = rng.uniform(0, 100, (40, uavs)) * (rng.random((40, uavs)) < 0.4)
    links = rng.uniform(0, 300, (40, uavs, uavs)) * (rng.random((40, uavs, uavs)) < 0.6)
    links = np.take_along_axis(links, peers(uavs)[None], 2)
    routes = widest_paths(direct, links, max_hops)
    same = to_host(widest_paths(XP.asarray(direct), XP.asarray(links), max_hops, XP))
    for name in ("capacity", "hops", "relay"):
        np.testing.assert_array_equal(getattr(same, name), getattr(routes, name), strict=True)
    np.testing.assert_array_equal(same.via, routes.via)


class _Pair(NamedTuple):
    flags: Any
    inner: Any


def test_to_host_keeps_trees_shapes_and_dtypes() -> None:
    tree = _Pair(
        torch.tensor([True, False, True]),
        {
            "float": torch.arange(6.0).reshape(2, 3).T,
            "none": None,
            "many": (torch.arange(2), torch.zeros(0, 4), torch.tensor(2.5, dtype=torch.float64)),
        },
    )
    host = to_host(tree)
    assert type(host) is _Pair
    np.testing.assert_array_equal(host.flags, np.array([True, False, True]), strict=True)
    np.testing.assert_array_equal(
        host.inner["float"], np.array([[0, 3], [1, 4], [2, 5]], np.float32), strict=True
    )
    assert host.inner["none"] is None
    np.testing.assert_array_equal(host.inner["many"][0], np.arange(2), strict=True)
    assert host.inner["many"][1].shape == (0, 4)
    assert host.inner["many"][2] == np.float64(2.5)
    assert all(leaf.flags.aligned for leaf in (host.flags, host.inner["float"], *host.inner["many"]))
    assert host.inner["float"].base is not None  # parts of one buffer


@pytest.mark.parametrize("seed", [0, 5, 2**64 - 2])
def test_streams_give_the_same_numbers_bit_for_bit(seed: int) -> None:
    here, there = Streams(seed, 6), make_streams(seed, 6, XP)
    rows = np.array([0, 2, 5])
    for num in (1, 13, 4):
        np.testing.assert_array_equal(
            there.uniform(XP.asarray(rows), num), here.uniform(rows, num), strict=True
        )
    has = np.array([True, False, False, True, True, False])
    chosen, numbers = here.uniform_where(has, 5)
    np.testing.assert_array_equal(chosen, [0, 3, 4])
    np.testing.assert_array_equal(there.uniform_where(XP.asarray(has), 5)[1][has], numbers, strict=True)
    np.testing.assert_allclose(there.normal(XP.asarray(rows), 7), here.normal(rows, 7), rtol=1e-12)
    for name, leaf in here.get_state().items():
        assert torch.equal(there.get_state()[name], leaf)
    there.set_state(Streams(9, 6).get_state())
    np.testing.assert_array_equal(
        there.uniform(XP.arange(6), 2), Streams(9, 6).uniform(np.arange(6), 2), strict=True
    )


def test_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"^device must be cpu, cuda or cuda:<number>, got 'gpu'; give one of"
    ):
        make_arrays("gpu", "auto")
    with pytest.raises(
        ValueError, match=r"^backend must be auto, numpy, torch, got 'jax'; give one of these$"
    ):
        make_arrays("cpu", "jax")
    with pytest.raises(
        ValueError, match=r"^backend='numpy' computes on the CPU only, got device='cuda'; leave"
    ):
        make_arrays("cuda", "numpy")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ValueError, match=r"^device='cuda' needs a GPU with CUDA, torch .* finds none; give dev"
    ):
        make_arrays("cuda", "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        ValueError, match=r"^device='cuda:2' is not there, torch finds 2 GPU\(s\); give cuda:0"
    ):
        make_arrays("cuda:2", "auto")
    assert make_arrays(torch.device("cpu"), "auto") is make_arrays("cpu", "numpy") is NUMPY
