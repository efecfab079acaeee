"""Layouts: their sizes, what they hold against a slow twin, and that padding changes no number."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.dynamics import ACTION, ANGLE, SPEED
from lit_rl.types import LeafSpec


@pytest.mark.parametrize(("layout", "sizes"), [("trig", [14, 17, 20, 23]), ("seed", [14, 16, 18, 20])])
def test_sizes_are_those_of_the_documents(layout: str, sizes: list[int]):
    for joints, size in zip([3, 4, 5, 6], sizes, strict=True):
        arms = PlanarArms(2, joints=joints, layout=layout)
        assert arms.spec.observation == LeafSpec([size])
        assert arms.spec.action.shape == [joints]
        assert arms.reset(0).shape == (2, size)


def test_morph_adds_three_numbers_per_joint():
    arms = PlanarArms(1, joints=4, morph=True)
    np.testing.assert_allclose(arms.reset(0)[0, 17:], 1.0)  # a standard arm
    assert arms.spec.observation == LeafSpec([17 + 12])


def moved(num_steps: int = 7, **settings) -> tuple[PlanarArms, np.ndarray]:
    """Arms that were moved, and what they see then."""
    arms = PlanarArms(4, **settings)
    arms.reset(5)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (num_steps, 4, arms.width)).astype(np.float32)
    return arms, [arms.step(action).obs for action in actions][-1]


@pytest.mark.parametrize("goals", ["reach", "spiral"])
def test_trig_and_seed_hold_what_they_say(goals: str):
    arms, trig = moved(joints=5, goals=goals)
    twin, seed = moved(joints=5, goals=goals, layout="seed")
    np.testing.assert_array_equal(arms.state, twin.state)
    for e in range(4):
        q, speed = arms.state[e, ANGLE, :5], arms.state[e, SPEED, :5]
        tip, goal, length = arms.joint_places(e)[-1], arms.goal[e], arms.scale[e]
        assert length == pytest.approx(0.5 if goals == "reach" else 0.46647, abs=1e-5)
        gap = goal - tip
        far = np.hypot(*gap)
        expected = [np.cos(q), np.sin(q), 0.1 * speed, goal / length, gap / length, [far / length]]
        np.testing.assert_allclose(trig[e], np.concatenate(expected), atol=1e-5)
        expected = [q / np.pi, speed, tip, goal, [far], [0, 0, 0]]
        np.testing.assert_allclose(seed[e], np.concatenate(expected), atol=1e-5)


def test_tokens_hold_what_they_say():
    obstacles = [[0.2, 0.3, 0.05]]
    settings = {"joints": [3, 6], "num_bodies": 4, "radius_m": [0.005, 0.02], "layout": "tokens"}
    arms, obs = moved(**settings, obstacles=obstacles, num_steps=9)
    assert {key: leaf.shape for key, leaf in obs.items()} == {
        "joint_tokens": (4, 6, 16),
        "global_token": (4, 9),
        "joint_mask": (4, 6),
        "obstacle_tokens": (4, 1, 4),
    }
    for e in range(4):
        body, places, goal = int(arms.body[e]), arms.joint_places(e), arms.goal[e]
        n, length = int(arms.bodies.num_joints[body]), arms.bodies.reach_m[body]
        assert obs["joint_mask"][e].tolist() == [1] * n + [0] * (6 - n)
        assert not obs["joint_tokens"][e, n:].any()
        q = arms.state[e, ANGLE, :n]
        mass = arms.bodies.mass_kg[body, :n] / (1000 * np.pi * 1e-4 * (0.1 + 4 / 3 * 0.01))
        expected = np.stack(
            [
                np.sin(q),
                np.cos(q),
                0.1 * arms.state[e, SPEED, :n],
                np.cos(q.cumsum()),
                np.sin(q.cumsum()),
                *((places[n] - places[:n]) / length).T,
                *((goal - places[:n]) / length).T,
                arms.bodies.length_m[body, :n] / 0.1,
                np.log(mass),
                arms.bodies.gear[body, :n] / 0.2,
                np.ones(n),
                np.linspace(0, 1, n),
                np.full(n, n / 6),
                arms.state[e, ACTION, :n],
            ],
            1,
        )
        np.testing.assert_allclose(obs["joint_tokens"][e, :n], expected, atol=2e-5)
        tip, far = places[n], np.hypot(*(goal - places[n]))
        expected = [*goal, *tip, *(goal - tip), far]
        np.testing.assert_allclose(obs["global_token"][e, :7], np.array(expected) / length, atol=1e-5)
        np.testing.assert_allclose(obs["global_token"][e, 7:], [1.0, 1 - 9 / 200], atol=1e-6)
        seen = obs["obstacle_tokens"][e, 0]
        np.testing.assert_allclose(seen[:3], np.array(obstacles[0]) / length, atol=1e-6)
        along = np.linspace(0, 1, 200)[:, None]
        gaps = [
            np.hypot(*(places[i] + along * (places[i + 1] - places[i]) - obstacles[0][:2]).T).min()
            - arms.bodies.radius_m[body, i]
            for i in range(n)
        ]
        assert seen[3] * length == pytest.approx(min(gaps) - 0.05, abs=1e-4)


@pytest.mark.parametrize("layout", ["trig", "seed"])
def test_padding_puts_blocks_at_fixed_places_and_changes_no_number(layout: str):
    _, plain = moved(joints=4, layout=layout)
    arms = PlanarArms(4, joints=4, max_joints=6, layout=layout)
    arms.reset(5)
    action = np.zeros((7, 4, 6), np.float32)
    action[..., :4] = np.random.default_rng(0).uniform(-1, 1, (7, 4, 4))
    padded = [arms.step(of_step).obs for of_step in action][-1]
    blocks = 3 if layout == "trig" else 2
    places = [6 * block + joint for block in range(blocks) for joint in range(4)]
    rest = range(6 * blocks, padded["padded"].shape[1])
    np.testing.assert_array_equal(padded["padded"][:, [*places, *rest]], plain)
    hidden = [6 * block + joint for block in range(blocks) for joint in (4, 5)]
    assert not padded["padded"][:, hidden].any()
    assert (padded["joint_mask"] == [1, 1, 1, 1, 0, 0]).all()


def test_rewards_and_observations_do_not_depend_on_where_the_arm_stands_in_the_batch():
    settings = {"joints": [3, 4, 5, 6], "num_bodies": 8, "layout": "tokens"}
    arms, mirrored = PlanarArms(8, **settings), PlanarArms(8, **settings)
    arms.set_bodies(arms.bodies)
    mirrored.set_bodies(arms.bodies, np.arange(8)[::-1])
    for name in ("goal", "state", "scale"):
        getattr(mirrored, name)[:] = getattr(arms, name)[::-1]
    action = np.random.default_rng(0).uniform(-1, 1, (8, 6)).astype(np.float32)
    step, other = arms.step(action), mirrored.step(action[::-1])
    np.testing.assert_array_equal(step.reward, other.reward[::-1])
    for key, leaf in step.obs.items():
        np.testing.assert_array_equal(leaf, other.obs[key][::-1])
