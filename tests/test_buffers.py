from __future__ import annotations

import shutil
from collections import namedtuple
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lit_rl.buffers import ReplayRing
from lit_rl.nested import leaves, map_nested
from lit_rl.normalize import ObservationNorm
from lit_rl.types import LeafSpec

NUM_ENVS = 2


def steps(start: int, number: int, **changes: Any) -> dict[str, Any]:
    """Steps from ``start`` on, of two environments: obs = 10 * t + n, next_obs = obs + 10, reward = t."""
    t = torch.arange(start, start + number, dtype=torch.float32).unsqueeze(1).expand(number, NUM_ENVS)
    n = torch.arange(NUM_ENVS, dtype=torch.float32)
    never = torch.zeros(number, NUM_ENVS, dtype=torch.bool)
    fields = {
        "obs": {
            "low": (10 * t + n).unsqueeze(-1),
            "high": {"map": (10 * t + n)[..., None, None].repeat(1, 1, 2, 3)},
        },
        "action": (10 * t + n).long(),
        "reward": t.clone(),
        "terminated": never.clone(),
        "truncated": never.clone(),
        "valid": ~never,
    }
    fields["next_obs"] = {
        "low": fields["obs"]["low"] + 10,
        "high": {"map": fields["obs"]["high"]["map"] + 10},
    }
    return fields | changes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["memory", "mapped"])
def ring(request, tmp_path):
    ring = ReplayRing(11, NUM_ENVS, None if request.param == "memory" else str(tmp_path))  # 5 rows
    yield ring
    ring.close()


def test_batches_hold_whole_transitions(ring: ReplayRing):
    ring.add(steps(0, 3))
    batch = ring.sample(4, 6, gamma=0.9, generator=generator())
    low = batch["obs"]["low"]
    assert low.shape == (4, 6, 1)
    assert batch["obs"]["high"]["map"].shape == (4, 6, 2, 3)
    assert batch["action"].dtype == torch.int64
    assert_close(batch["action"], low.squeeze(-1).long())
    assert_close(batch["next_obs"]["low"], low + 10)
    assert_close(batch["next_obs"]["high"]["map"], batch["obs"]["high"]["map"] + 10)
    assert_close(batch["reward"], low.squeeze(-1).div(10).floor())
    assert_close(batch["discount"], torch.full((4, 6), 0.9))


def test_the_newest_rows_stay(ring: ReplayRing):
    assert len(ring) == 0
    for start in range(0, 12, 3):  # rows 0-11, chunks that wrap around the 5 rows
        ring.add(steps(start, 3))
    assert len(ring) == 10
    seen = set(ring.sample(1, 500, 0.9, generator=generator())["action"].flatten().tolist())
    assert seen == {10 * t + n for t in range(7, 12) for n in range(NUM_ENVS)}


def test_every_transition_is_equally_likely(ring: ReplayRing):
    valid = torch.ones(5, NUM_ENVS, dtype=torch.bool)
    valid[1, 0] = valid[4, 1] = False
    ring.add(steps(0, 5, valid=valid))
    assert len(ring) == 8
    action = ring.sample(1, 16_000, 0.9, generator=generator())["action"].flatten()
    count = action.bincount(minlength=42)
    assert count[10] == count[41] == 0
    assert_close(count[count > 0] / 16_000, torch.full((8,), 1 / 8), atol=0.01, rtol=0)


def test_rows_that_are_not_valid_are_forgotten_when_overwritten(ring: ReplayRing):
    ring.add(steps(0, 4, valid=torch.zeros(4, NUM_ENVS, dtype=torch.bool)))
    assert len(ring) == 0
    with pytest.raises(ValueError, match="holds no transition yet"):
        ring.sample(1, 1, 0.9)
    ring.add(steps(4, 3))  # overwrites rows 0 and 1
    assert len(ring) == 6
    ring.add(steps(7, 5))
    assert len(ring) == 10


def test_discount_is_zero_where_terminated(ring: ReplayRing):
    end = torch.tensor([[True, False], [False, False]])
    ring.add(steps(0, 2, terminated=end, truncated=end.flip(1)))
    batch = ring.sample(1, 50, 0.9, generator=generator())
    assert_close(batch["discount"], torch.where(batch["action"] == 0, 0.0, 0.9))


def n_step_by_walking(history: list[tuple[bool, bool]], t: int, n_step: int, gamma: float):
    """Reward t at step t; walk to an end or the last step. Returns sum, discount, step of the next obs."""
    total, factor = 0.0, 1.0
    for k in range(t, min(t + n_step, len(history))):
        total += factor * k
        factor *= gamma
        terminated, truncated = history[k]
        if terminated or truncated:
            return total, 0.0 if terminated else factor, k + 1
    return total, factor, min(t + n_step, len(history))


@pytest.mark.parametrize("n_step", [1, 2, 3, 5])
@pytest.mark.parametrize("num_steps", [4, 5, 13])
def test_n_step_stops_at_ends_and_at_the_newest_row(ring: ReplayRing, n_step: int, num_steps: int):
    ends = torch.rand(num_steps, NUM_ENVS, 2, generator=generator(1)) < 0.25
    for t in range(num_steps):
        ring.add(steps(t, 1, terminated=ends[t : t + 1, :, 0], truncated=ends[t : t + 1, :, 1]))
    batch = ring.sample(2, 100, 0.5, n_step, generator())
    for i in range(200):
        t, n = divmod(int(batch["action"].flatten()[i]), 10)
        history = [(bool(a), bool(b)) for a, b in ends[:, n]]
        total, discount, following = n_step_by_walking(history, t, n_step, 0.5)
        assert batch["reward"].flatten()[i] == total
        assert batch["discount"].flatten()[i] == discount
        assert batch["next_obs"]["low"].flatten()[i] == 10 * following + n


def test_one_step_of_the_general_path_equals_the_fast_path(ring: ReplayRing):
    ring.add(steps(0, 5, terminated=torch.rand(5, NUM_ENVS, generator=generator()) < 0.5))
    index = torch.arange(10)
    reward, discount, last = ring._window(index, 1, 0.9)
    assert_close(last, index)
    batch = ring.sample(1, 50, 0.9, generator=generator())
    where = (batch["action"] // 10 * NUM_ENVS + batch["action"] % 10).flatten()
    assert_close(batch["reward"].flatten(), reward[where])
    assert_close(batch["discount"].flatten(), discount[where])


@pytest.mark.parametrize("num_steps", [3, 7])
def test_a_resumed_ring_continues_bit_for_bit(ring: ReplayRing, num_steps: int, tmp_path):
    valid = torch.rand(4, NUM_ENVS, generator=generator()) > 0.3
    for t in range(num_steps):
        ring.add(steps(t, 1))
    ring.add(steps(num_steps, 4, valid=valid))
    file = tmp_path / "state.pt"
    torch.save(ring.get_state(), file)
    resumed = ReplayRing(11, NUM_ENVS)
    resumed.set_state(torch.load(file, weights_only=True))
    for start in (20, 23):
        assert len(resumed) == len(ring)
        a = ring.sample(2, 8, 0.9, 2, generator(start))
        b = resumed.sample(2, 8, 0.9, 2, generator(start))
        assert torch.equal(a["obs"]["high"]["map"], b["obs"]["high"]["map"])
        assert all(torch.equal(a[name], b[name]) for name in ("action", "reward", "discount"))
        ring.add(steps(start, 3))
        resumed.add(steps(start, 3))


def test_a_state_is_a_snapshot(ring: ReplayRing):
    ring.add(steps(0, 5))
    state = ring.get_state()
    ring.add(steps(50, 5))
    ring.set_state(state)
    assert ring.sample(1, 100, 0.9)["action"].max() < 50


def test_an_empty_state_empties(ring: ReplayRing):
    state = ring.get_state()
    ring.add(steps(0, 2))
    ring.set_state(state)
    assert len(ring) == 0


def held(ring: ReplayRing) -> list[list[int]]:
    """Actions in each column of a ring, the oldest first."""
    state = ring.get_state()
    return state["fields"]["action"].roll(-state["cursor"], 0).T.tolist() if state["fields"] else []


@pytest.mark.parametrize("capacity", [4, 10, 11, 20])
@pytest.mark.parametrize("number", [3, 7])
def test_a_ring_of_another_size_keeps_the_newest(capacity: int, number: int):
    """Of 5 rows in the saved ring, filled in part or written over."""
    saved = ReplayRing(10, NUM_ENVS)
    for t in range(number):
        saved.add(steps(t, 1))
    ring = ReplayRing(capacity, NUM_ENVS)
    ring.set_state(saved.get_state())
    kept = range(number)[-min(5, capacity // 2) :]
    assert held(ring) == [[10 * t + n for t in kept] for n in range(NUM_ENVS)]
    ring.add(steps(number, 1))  # the oldest go first, and windows run on
    assert [column[-1] for column in held(ring)] == [10 * number, 10 * number + 1]
    batch = ring.sample(1, 200, 0.5, 2, generator())
    two_steps = batch["discount"] == 0.25
    assert two_steps.any()
    start = batch["obs"]["low"].squeeze(-1)
    assert torch.equal(batch["next_obs"]["low"].squeeze(-1)[two_steps], start[two_steps] + 20)


@pytest.mark.parametrize(
    ("num_envs", "capacity", "columns"),
    [
        (1, 20, [[0, 10, 20, 30, 1, 11, 21, 31]]),
        (1, 6, [[10, 20, 30, 11, 21, 31]]),
        (3, 20, [[20, 30], [1, 11], [21, 31]]),
        (4, 8, [[0, 10], [20, 30], [1, 11], [21, 31]]),
        (8, 8, [[0], [10], [20], [30], [1], [11], [21], [31]]),
        (9, 9, []),  # less than a row
        (5, 5, [[20], [30], [11], [21], [31]]),
    ],
)
def test_a_ring_of_another_number_of_environments_deals_them_out(
    num_envs: int, capacity: int, columns: list[list[int]]
):
    """Two columns of 4 steps; no window joins transitions that did not follow each other."""
    saved = ReplayRing(8, NUM_ENVS)
    saved.add(steps(0, 4))
    state = saved.get_state()
    ring = ReplayRing(capacity, num_envs)
    ring.set_state(state)
    assert held(ring) == columns
    assert len(ring) == sum(map(len, columns))
    assert not state["fields"]["truncated"].any()  # the state is left as it was
    if columns and len(columns[0]) > 1:
        batch = ring.sample(1, 200, 0.5, 2, generator())
        start, end = (batch[name]["low"].squeeze(-1) for name in ("obs", "next_obs"))
        for discount, length in ((0.25, 20), (0.5, 10)):
            used = batch["discount"] == discount
            assert used.any()
            assert torch.equal(end[used], start[used] + length)


def test_refuses_what_does_not_fit(ring: ReplayRing):
    with pytest.raises(ValueError, match=r"chunk of 6 steps x 2 .* raise capacity to at least 12"):
        ring.add(steps(0, 6))
    ring.add(steps(0, 1))
    with pytest.raises(
        ValueError, match=r"Field action must be torch.int64 of shape \(1, 2\); got .* \(1, 2, 1\)"
    ):
        ring.add(steps(1, 1, action=torch.zeros(1, 2, 1, dtype=torch.int64)))
    with pytest.raises(ValueError, match=r"Field action must be torch.int64 .* got torch.float32"):
        ring.add(steps(1, 1, action=torch.zeros(1, 2)))
    with pytest.raises(ValueError, match=r"Field reward .* \(1, 2\); got torch.float32 of shape \(2, 2\)"):
        ring.add(steps(1, 1, reward=torch.zeros(2, 2)))
    with pytest.raises(ValueError, match="missing or new: obs, obs/high/map, obs/low"):
        ring.add(steps(1, 1, obs=torch.zeros(1, 2)))
    assert len(ring) == 2


def test_refuses_what_is_no_transition():
    ring = ReplayRing(10, NUM_ENVS)
    with pytest.raises(ValueError, match="missing: valid"):
        ring.add({name: value for name, value in steps(0, 1).items() if name != "valid"})
    with pytest.raises(ValueError, match=r"Unknown field rewards in a transition\. Did you mean reward\?"):
        ring.add(steps(0, 1) | {"rewards": torch.zeros(1, 2)})
    with pytest.raises(
        ValueError, match=r"Field reward must have shape \(T, 2, ...\) for num_envs=2; got \(1, 3\)"
    ):
        ring.add(steps(0, 1, reward=torch.zeros(1, 3)))


@pytest.mark.parametrize("n_step", [0, 6])
def test_refuses_windows_longer_than_the_ring(ring: ReplayRing, n_step: int):
    ring.add(steps(0, 1))
    with pytest.raises(
        ValueError, match=f"n_step must be between 1 and the 5 rows of the ring, got {n_step}"
    ):
        ring.sample(1, 1, 0.9, n_step)


def test_refuses_a_capacity_below_one_row():
    with pytest.raises(ValueError, match="at least one step of num_envs=8 environments, got 7"):
        ReplayRing(7, 8)


def test_mapped_files_are_removed_unless_kept(tmp_path):
    ring = ReplayRing(10, NUM_ENVS, str(tmp_path / "new"))
    ring.add(steps(0, 2))
    assert ring.folder is not None
    assert {file.name for file in ring.folder.iterdir()} >= {"obs%2Fhigh%2Fmap.bin", "reward.bin"}
    ring.close()
    ring.close()
    assert not ring.folder.exists()
    assert len(ring) == 0

    kept = ReplayRing(10, NUM_ENVS, str(tmp_path))
    kept.add(steps(0, 2))
    kept.close(keep=True)
    assert kept.folder is not None
    reward = torch.from_file(str(kept.folder / "reward.bin"), size=10)
    assert reward.tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]


def test_rings_in_one_folder_do_not_share_files(tmp_path):
    first, second = (ReplayRing(10, NUM_ENVS, str(tmp_path)) for _ in range(2))
    first.add(steps(0, 1))
    second.add(steps(5, 1))
    assert first.sample(1, 20, 0.9)["action"].max() < 10
    first.close()
    second.close()


def test_a_path_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"replay path .*file/replay cannot be written: Not a directory"):
        ReplayRing(10, NUM_ENVS, str(file / "replay"))


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100))
    ring = ReplayRing(10, NUM_ENVS, str(tmp_path))
    with pytest.raises(ValueError, match=r"10 transitions needs .* lower capacity or choose another path"):
        ring.add(steps(0, 1))
    ring.close()


@pytest.mark.parametrize("is_mapped", [False, True])
def test_keys_with_slashes_dots_and_colons(tmp_path: Any, is_mapped: bool):
    """No two of them share memory, a file or a name."""
    seen = {"a/b": 1.0, "a": {"b": 2.0}, "a.b": 3.0, "a:b": 4.0, "../b": 5.0}
    obs = map_nested(lambda value: torch.full((2, NUM_ENVS), value), seen)
    ring = ReplayRing(10, NUM_ENVS, str(tmp_path) if is_mapped else None)
    ring.add(steps(0, 2, obs=obs, next_obs=obs))
    drawn = ring.sample(1, 3, 0.9)["obs"]
    assert map_nested(lambda leaf: leaf[0, 0].item(), drawn) == seen
    ring.close()


def test_normalisation_of_keys_with_slashes_dots_and_colons():
    spec = {"a/b": LeafSpec([1]), "a": {"b": LeafSpec([2])}, "a.b": LeafSpec([3]), "a:b": LeafSpec([4])}
    norm = ObservationNorm(spec)
    assert len(norm.norms) == 4
    obs = map_nested(lambda leaf: torch.randn(5, *leaf.shape) + 7, spec)
    norm.update(obs)
    seen: Any = norm(obs)
    assert all(abs(leaf.mean().item()) < 1e-4 for leaf in leaves(seen))
