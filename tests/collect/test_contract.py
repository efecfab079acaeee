"""Every collector that is listed in ``tests/cases.py`` keeps to the ``Collector`` protocol."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl.nested import map_nested, named_leaves
from lit_rl.types import Collector, Decision, Episodes, Nested, Rollout
from tests.cases import COLLECTORS
from tests.toys import ContinuousEpisodes57, Episodes57, Mixed

CONTINUOUS = {"Pendulum-v1": 1, ContinuousEpisodes57: 2}
"""Number of reals of an action, where it is not one of two choices."""


class Counting:
    """Acts by how long the episode runs, which it remembers, so that nothing depends on random numbers."""

    def __init__(self, env: Any) -> None:
        self.size = CONTINUOUS.get(env, 0)

    def initial_carry(self, num_envs: int) -> Nested:
        return {"t": torch.zeros(num_envs, dtype=torch.int64)}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        t = torch.where(reset, 0, carry["t"])
        action = t % 3 % 2  # 0 1 0 0 1 0
        if self.size:
            action = torch.stack([torch.sin(t + i).float() for i in range(self.size)], -1)
        return Decision(action, {"t": t + 1}, {"step_of_episode": t})


@pytest.fixture(params=COLLECTORS)
def make(request: pytest.FixtureRequest) -> Any:
    """``make(env, num_envs, seed)`` is a collector, with a policy for it; all are closed after the test."""
    made: list[Collector] = []

    def collector(env: Any, num_envs: int = 3, seed: int = 0) -> tuple[Collector, Counting]:
        made.append(COLLECTORS[request.param](env, num_envs, seed))
        return made[-1], Counting(env)

    yield collector
    for one in made:
        one.close()
        one.close()  # may be called twice


Make = Callable[..., tuple[Collector, Counting]]
OVER_TIME = ("action", "reward", "terminated", "truncated")


def assert_equal(ours: Nested, theirs: Nested, where: str) -> None:
    left, right = dict(named_leaves(ours)), dict(named_leaves(theirs))
    assert left.keys() == right.keys(), where
    for path, leaf in left.items():
        assert leaf.dtype == right[path].dtype, f"{where}/{path}"
        assert torch.equal(leaf, right[path]), f"{where}/{path}"


def assert_equal_rollouts(ours: Rollout, theirs: Rollout) -> None:
    """All but the seconds they took, and what collectors report of themselves."""
    assert ours.keys() == theirs.keys()
    for key in ours:
        if key in ("collect_s", "env_s", "collector"):
            continue
        if key == "episodes":
            assert_equal_episodes(ours[key], theirs[key])
        elif isinstance(ours[key], Tensor | dict):
            assert_equal(ours[key], theirs[key], key)
        else:
            assert ours[key] == theirs[key], key


def assert_equal_episodes(ours: Episodes, theirs: Episodes) -> None:
    for key in ("episode_return", "episode_length", "env_index", "end_step", "values", "last_values"):
        assert_equal(ours[key], theirs[key], f"episodes/{key}")
    torch.testing.assert_close(ours["action_norm"], theirs["action_norm"], equal_nan=True)


def joined(parts: list[Rollout]) -> dict[str, Any]:
    """Rollouts one after the other, as the fields of one."""
    num_envs = parts[0]["num_envs"]
    sizes = [len(part["reward"]) for part in parts]
    starts = [sum(sizes[:i]) * num_envs for i in range(len(sizes))]
    cat = lambda *leaves: torch.cat(leaves)  # noqa: E731

    def over_time(key: str) -> Nested:
        """Entries 0 to T - 1 of each part, and the last of all."""
        heads = [map_nested(lambda leaf: leaf[:-1], part[key]) for part in parts]  # type: ignore[literal-required]
        return map_nested(cat, *heads, map_nested(lambda leaf: leaf[-1:], parts[-1][key]))  # type: ignore[literal-required]

    episodes = {
        key: map_nested(cat, *(part["episodes"][key] for part in parts)) for key in parts[0]["episodes"]
    }
    ends = [part["episodes"]["end_step"] + start for part, start in zip(parts, starts, strict=True)]
    return {
        **{key: over_time(key) for key in ("obs", "reset")},
        **{key: torch.cat([part[key] for part in parts]) for key in OVER_TIME},  # type: ignore[literal-required]
        "extras": map_nested(cat, *(part["extras"] for part in parts)),
        "final_obs": map_nested(cat, *(part["final_obs"] for part in parts)),
        "final_index": torch.cat(
            [part["final_index"] + start for part, start in zip(parts, starts, strict=True)]
        ),
        "episodes": episodes | {"end_step": torch.cat(ends)},
        "new_steps": sum(part["new_steps"] for part in parts),
        "carry": parts[0]["carry"],
    }


ENVS = ["CartPole-v1", "Pendulum-v1", Episodes57, ContinuousEpisodes57]


@pytest.mark.parametrize("env", ENVS)
def test_calls_continue_where_the_last_one_stopped(make: Make, env: Any):
    """Several short rollouts are one long one, at the borders too."""
    collector, policy = make(env)
    whole = collector.collect(policy, 232, 0)
    collector, policy = make(env)
    parts = [collector.collect(policy, steps, 0) for steps in (1, 3, 4, 1, 20, 2, 201)]
    found = joined(parts)
    for key in OVER_TIME:
        assert_equal(found[key], whole[key], key)  # type: ignore[literal-required]
    for key in ("obs", "reset", "extras", "final_obs", "final_index", "carry"):
        assert_equal(found[key], whole[key], key)  # type: ignore[literal-required]
    assert_equal_episodes(found["episodes"], whole["episodes"])
    assert len(whole["episodes"]["end_step"]) >= 3
    assert found["new_steps"] == whole["new_steps"] == 232 * 3
    for before, after in pairwise(parts):
        assert_equal(
            {"t": before["extras"]["step_of_episode"][-1] + 1}, after["carry"], "carry"
        )  # what the policy remembers goes on as well


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("num_steps", [1, 12])
def test_a_rollout_says_how_much_it_holds(make: Make, num_envs: int, num_steps: int):
    collector, policy = make(Episodes57, num_envs)
    assert isinstance(collector, Collector)
    rollout = collector.collect(policy, num_steps, policy_version=7)
    assert set(Rollout.__annotations__) == set(rollout)
    assert rollout["new_steps"] == num_steps * num_envs
    assert rollout["num_envs"] == num_envs
    assert rollout["policy_version"] == 7
    assert rollout["obs"].shape == (num_steps + 1, num_envs, 3)
    assert rollout["reset"].shape == (num_steps + 1, num_envs)
    assert all(rollout[key].shape[:2] == (num_steps, num_envs) for key in OVER_TIME)  # type: ignore[literal-required]
    assert rollout["carry"]["t"].tolist() == [0] * num_envs
    assert 0 < rollout["env_s"] < rollout["collect_s"]


def test_episodes_across_borders_are_told_once(make: Make):
    """Lengths of 5 and 7 in turn, returns by the formula of the environment, ends by counting."""
    collector, policy = make(Episodes57)
    found: dict[int, list[tuple[float, int, int]]] = {0: [], 1: [], 2: []}
    before = 0
    for num_steps in (1, 3, 4, 1, 20, 2, 5, 11):
        episodes = collector.collect(policy, num_steps, 0)["episodes"]
        for i, n in enumerate(episodes["env_index"].tolist()):
            end = before + episodes["end_step"][i].item()
            found[n].append((episodes["episode_return"][i].item(), episodes["episode_length"][i].item(), end))
        before += num_steps * 3
    for n, told in found.items():  # environment n begins with episode n
        expected, step, k = [], 0, n
        while (step := step + (length := 7 if k % 2 else 5)) <= 47:
            expected.append((length * (length - 1) / 2 + 10 * k * length, length, step * 3))
            k += 1
        assert told == expected
        assert len(told) >= 7


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_a_saved_collector_continues_equally(make: Make, env: str, tmp_path: Path):
    """From a file that is loaded with ``weights_only=True``, in the middle of episodes; twice."""
    collector, policy = make(env)
    collector.collect(policy, 13, 0)
    torch.save(collector.get_state(), tmp_path / "state.pt")
    expected = [collector.collect(policy, steps, 1) for steps in (110, 100)]
    assert sum(len(rollout["episodes"]["end_step"]) for rollout in expected) >= 3
    for seed in (0, 99):
        again, policy = make(env, seed=seed)
        assert again.set_state(torch.load(tmp_path / "state.pt", weights_only=True)) is True
        for rollout in expected:
            assert_equal_rollouts(again.collect(policy, len(rollout["reward"]), 1), rollout)


def test_a_state_before_the_first_call_changes_nothing(make: Make):
    (collector, policy), (other, _) = make("CartPole-v1"), make("CartPole-v1")
    assert other.set_state(collector.get_state()) is True
    assert_equal_rollouts(other.collect(policy, 30, 0), collector.collect(policy, 30, 0))


def test_environments_without_a_state_start_new_episodes(make: Make):
    """Others than those of the first run, and their sums begin at nothing."""
    collector, policy = make(Mixed)
    first = collector.collect(policy, 9, 0)  # in the middle of the second episode of six steps
    again, _ = make(Mixed)
    assert again.set_state(collector.get_state()) is False
    second = again.collect(policy, 9, 0)
    assert second["reset"][0].all()
    assert second["carry"]["t"].tolist() == [0, 0, 0]
    assert second["episodes"]["episode_length"].tolist() == [6, 6, 6]
    assert second["episodes"]["end_step"].tolist() == [18, 18, 18]
    assert not torch.equal(second["obs"]["real"], first["obs"]["real"])


def test_another_number_of_environments_starts_new_episodes(make: Make):
    """Also where each could go on exactly."""
    collector, policy = make("CartPole-v1", 3)
    first = collector.collect(policy, 9, 0)
    wider, _ = make("CartPole-v1", 5)
    assert wider.set_state(collector.get_state()) is False
    second = wider.collect(policy, 9, 0)
    assert second["num_envs"] == 5
    assert second["reset"][0].all()
    assert not torch.equal(
        second["obs"][0, :3], first["obs"][0]
    )  # other episodes than those of the first run


def test_seeds_of_environments_follow_each_other(make: Make):
    """Environment i is seeded with ``seed + i``."""
    (shifted, policy), (whole, _) = make("Pendulum-v1", 2, seed=1), make("Pendulum-v1", 3, seed=0)
    assert_equal(
        {"obs": shifted.collect(policy, 5, 0)["obs"]},
        {"obs": whole.collect(policy, 5, 0)["obs"][:, 1:]},
        "Pendulum",
    )
