"""Networks that torch computes are those of numpy: decisions, values, random numbers, and states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.envs.class_path import factory
from lit_rl.envs.uav.measures import MEASURES, Outcome, measure
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.envs.uav.rewards import reward_terms, update_goal
from lit_rl.envs.uav.torch_arrays import TorchArrays
from lit_rl.envs.uav.world import advance, make_world
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import Step

SCENARIOS: dict[str, dict[str, Any]] = {
    "default": {},
    "sparse": {"sparse": True, "goal_coverage": 0.3, "goal_steps": 3},
    "hotspot": {"placement": "hotspot", "surroundings": "high_rise"},
    "walking": {"placement": "uniform", "mobility": "random_waypoint", "walking_speed_m_s": 30.0},
    "batteries": {"battery_j": 3000.0},
    "discrete": {"actions": "discrete", "gateways": [[0, 0, 25], [1000, 500, 60]]},
    "crowded": {"min_sinr_db": -6.0, "num_users": 90, "max_users_per_uav": 4},
    "alone": {"num_uavs": 1, "num_users": 3},
    "many": {"num_uavs": 9, "max_hops": 5},
}
RARE = 1e-3
"""Rounding may decide a user, or a grid point of the reward, otherwise: at most this share of all values."""


def actions(env: UAVNetwork, t: int) -> np.ndarray:
    rng, shape = np.random.default_rng(t), (env.num_envs, env.scenario.num_uavs)
    if env.scenario.actions == "discrete":
        return rng.integers(0, 7, shape)
    return rng.uniform(-1.5, 1.5, (*shape, 3)) + 0.3


def assert_alike(one: list[np.ndarray], other: list[np.ndarray], name: str) -> None:
    """They agree to 1e-5 of the value, absolutely below 1, but for rare decisions."""
    assert [leaf.dtype for leaf in one] == [leaf.dtype for leaf in other]
    assert [leaf.shape for leaf in one] == [leaf.shape for leaf in other]
    x, y = (np.concatenate([leaf.ravel() for leaf in leaves]).astype(float) for leaves in (one, other))
    is_close = np.isclose(x, y, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert (~is_close).mean() <= RARE, name


def assert_alike_steps(one: list[Step], other: list[Step]) -> None:
    for x, y in zip(one, other, strict=True):
        np.testing.assert_array_equal(x.terminated, y.terminated, strict=True)
        np.testing.assert_array_equal(x.truncated, y.truncated, strict=True)
        assert (x.final_obs is None) == (y.final_obs is None)
        assert all(leaf.dtype == np.float32 for leaf in (*y.obs.values(), *y.metrics.values(), y.reward))
    assert_alike([x.reward for x in one], [y.reward for y in other], "reward")
    for key in one[0].obs:
        assert_alike([x.obs[key] for x in one], [y.obs[key] for y in other], key)
        ends = [(x.final_obs[key], y.final_obs[key]) for x, y in zip(one, other, strict=True) if x.final_obs]
        assert_alike([x for x, _ in ends], [y for _, y in ends], f"final {key}")
    for key in one[0].metrics:
        assert_alike([x.metrics[key] for x in one], [y.metrics[key] for y in other], key)


def compare(settings: dict[str, Any], device: str) -> None:
    """Two episodes and the beginning of a third, and who serves and relays at some moments."""
    here = UAVNetwork(12, record=[*MEASURES], num_steps=30, **settings)
    there = UAVNetwork(12, record=[*MEASURES], num_steps=30, device=device, backend="torch", **settings)
    first = here.reset(3), there.reset(3)
    for key in first[0]:
        assert_alike([first[0][key]], [first[1][key]], key)
    steps: tuple[list[Step], list[Step]] = [], []
    decisions: dict[str, tuple[list, list]] = {}
    for t in range(65):
        for env, played in zip((here, there), steps, strict=True):
            played.append(env.step(actions(env, t)))
        if t % 8 == 0:
            for env, index in ((here, 0), (there, 1)):
                signals = env._to_host(env._evaluate(env._world))
                for name in ("serves", "is_connected", "is_linked"):
                    decisions.setdefault(name, ([], []))[index].append(getattr(signals, name))
                for name in ("hops", "relay"):
                    decisions.setdefault(name, ([], []))[index].append(getattr(signals.routes, name))
    assert_alike_steps(*steps)
    for name, (one, other) in decisions.items():
        if one[0].size:  # a UAV alone has no peers
            assert_alike(one, other, name)


@pytest.mark.parametrize("name", SCENARIOS)
def test_torch_equals_numpy(name: str) -> None:
    compare(SCENARIOS[name], "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("name", SCENARIOS)
def test_cuda_equals_numpy(name: str) -> None:
    compare(SCENARIOS[name], "cuda")


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_cuda_steps_do_not_wait_but_for_the_ends() -> None:
    env = UAVNetwork(4, device="cuda")
    env.reset_tensors(0)
    action = torch.zeros(4, 5, 3, device="cuda")
    env.step_tensors(action)  # fills the caches
    env._xp.flatnonzero = lambda ended: []
    torch.cuda.set_sync_debug_mode("error")
    try:
        env.step_tensors(action)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["default", "walking"])
@pytest.mark.parametrize(("before", "after"), [("numpy", "torch"), ("torch", "numpy"), ("torch", "torch")])
def test_states_can_be_exchanged(name: str, before: str, after: str) -> None:
    """The one goes on where the other was saved, within an episode; bit for bit if both are the same."""
    env, other = (
        UAVNetwork(5, num_steps=8, backend=backend, **SCENARIOS[name]) for backend in (before, after)
    )
    env.reset(0)
    for t in range(11):
        env.step(actions(env, t))
    state = env.get_state()
    other.reset(99)
    other.set_state(state)
    again = other.get_state()
    for part in ("world", "streams"):
        assert all(torch.equal(state[part][key], again[part][key]) for key in state[part])
    steps = [[network.step(actions(network, t)) for t in range(11, 30)] for network in (env, other)]
    assert_alike_steps(*steps)
    if before == after:
        for x, y in zip(*steps, strict=True):
            np.testing.assert_array_equal(x.obs["observation"], y.obs["observation"])
    assert all(leaf.device.type == "cpu" for leaf in state["world"].values())
    with pytest.raises(ValueError, match=r"position of shape \(3, 3, 5\), expected \(5, 3, 5\)"):
        other.set_state(UAVNetwork(3).get_state())


def test_tensors_without_a_transfer() -> None:
    """The numbers of ``step``; not written to later, whoever needs gradients or infers."""
    env, other = (UAVNetwork(3, num_steps=4, backend="torch", record=["coverage_ratio"]) for _ in range(2))
    with torch.inference_mode():
        first = env.reset_tensors(0)
    for key, leaf in other.reset(0).items():
        np.testing.assert_array_equal(first[key], leaf)
    kept: list[tuple[Step, Step]] = []
    for t in range(9):
        action = torch.tensor(actions(env, t), dtype=torch.float32, requires_grad=True)
        with torch.inference_mode(t % 2 == 1):
            kept.append((env.step_tensors(action), other.step(action.detach().numpy())))
    for step, same in kept:
        assert isinstance(step.reward, torch.Tensor)
        assert not step.reward.requires_grad
        np.testing.assert_array_equal(step.reward, same.reward)
        np.testing.assert_array_equal(step.truncated, same.truncated)
        np.testing.assert_array_equal(step.obs["state"], same.obs["state"])
        np.testing.assert_array_equal(step.metrics["coverage_ratio"], same.metrics["coverage_ratio"])
        assert (step.final_obs is None) == (same.final_obs is None)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_number_is_looked_at_within_a_step(name: str) -> None:
    """The device ``meta`` has shapes and no numbers: whatever waited for one would fail.

    Two places do so by design, the ends of episodes and asking again below 0 dB.
    """
    settings = SCENARIOS[name] | ({"min_sinr_db": 0.0} if name == "crowded" else {})
    env = UAVNetwork(4, backend="torch", record=[*MEASURES], **settings)
    xp: Any = TorchArrays("meta")
    scenario = env.scenario
    env.reset(0)
    play_on(env, xp)
    action = xp.asarray(actions(env, 0))
    used_j = advance(scenario, env._streams, env._world, action, xp)
    signals = env._evaluate(env._world)
    terms = reward_terms(scenario, env._world, signals, update_goal(scenario, env._world, signals), xp)
    metrics = measure(scenario, [*MEASURES], Outcome(env._world, signals, used_j.sum(1), xp), terms)
    obs = env._observer.observe(env._world, signals)
    assert {leaf.device.type for leaf in (*obs.values(), *metrics.values(), *env._ends())} == {"meta"}


def play_on(env: UAVNetwork, xp: Any) -> None:
    """Put a network on another device, whatever numbers it has there."""
    from lit_rl.envs.uav.network import make_streams
    from lit_rl.envs.uav.observations import Observer
    from lit_rl.envs.uav.radio import RadioModel

    env._xp, env._radio, env._observer = xp, RadioModel(env.scenario, xp), Observer(env.scenario, xp)
    env._world = make_world(env.scenario, env.num_envs, xp)
    env._streams = make_streams(0, env.num_envs, xp)


def test_looks_frames_and_pictures() -> None:
    here, there = (UAVNetwork(2, backend=backend) for backend in ("numpy", "torch"))
    for env in (here, there):
        env.reset(1)
        for t in range(10):
            env.step(actions(env, t))
    world, signals = there.look(1)
    assert isinstance(world.position, np.ndarray)
    assert isinstance(signals.routes.via[0], np.ndarray)
    assert there.picture(1) == here.picture(1)
    np.testing.assert_array_equal(there.frame(1), here.frame(1))


def test_by_class_path() -> None:
    """YAML says ``env: {class_path: ..., init_args: {device: ...}}``."""
    path = "lit_rl.envs.uav.network.UAVNetwork"
    env: Any = make_vector_env(
        factory({"class_path": path, "init_args": {"backend": "torch", "num_uavs": 2}}, "env"), 3
    )
    env.reset(0)
    assert env.step(np.zeros((3, 2, 3), np.float32)).reward.shape == (3,)
    assert env.step_tensors(torch.zeros(3, 2, 3)).reward.shape == (3,)
    make = factory({"class_path": path, "init_args": {"device": "tpu"}}, "env")
    with pytest.raises(ValueError, match="device must be cpu, cuda or cuda:<number>, got 'tpu'"):
        make_vector_env(make, 3)
    with pytest.raises(ValueError, match="uav_bs_v0 has no setting 'devise'"):
        UAVNetwork(1, devise="cpu")


def test_messages() -> None:
    env = UAVNetwork(2)
    for call in (lambda: env.reset_tensors(0), lambda: env.step_tensors(torch.zeros(2, 5, 3))):
        with pytest.raises(
            ValueError, match=r"_tensors needs tensors, but numpy computes .* give device=cuda, or"
        ):
            call()
    with pytest.raises(ValueError, match=r"action must have shape \(2, 5, 3\) .*, got \(2, 3\)$"):
        UAVNetwork(2, backend="torch").step_tensors(torch.zeros(2, 3))
