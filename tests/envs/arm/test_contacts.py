from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.contacts import BASE, OBSTACLE, SELF, distance2_of_links, distance2_to_point, touched


def segments_apart(points: np.ndarray) -> float:
    """Smallest distance of densely sampled points of two segments ``(2 segments, 2 ends, 2)``."""
    along = np.linspace(0, 1, 401)[:, None]
    first, second = (start + along * (end - start) for start, end in points)
    return float(np.hypot(*np.moveaxis(first[:, None] - second, -1, 0)).min())


def test_distances_are_those_of_sampled_segments():
    rng = np.random.default_rng(0)
    for case in range(60):
        points = rng.uniform(-1, 1, (2, 2, 2))
        if case % 5 == 0:
            points[1] = points[0] + rng.uniform(-0.3, 0.3, 2)  # parallel
        frame = np.zeros((4, 7))
        frame[:2, 0], frame[:2, 1] = points[0]
        frame[:2, 3], frame[:2, 4] = points[1]
        assert np.sqrt(distance2_of_links(frame, 0, 3)) == pytest.approx(segments_apart(points), abs=6e-3)
        x, y = rng.uniform(-1, 1, 2)
        point = np.array([[[x, y], [x, y]], points[0]])
        got = np.sqrt(distance2_to_point(frame, 0, x, y))
        assert got == pytest.approx(segments_apart(point), abs=6e-3)


def frame_of(*angles: float) -> np.ndarray:
    """Places of links of 0.1 m with these joint angles."""
    phi = np.cumsum(angles)
    links = 0.1 * np.stack([np.cos(phi), np.sin(phi)])
    frame = np.zeros((4, 7))
    frame[:2, 1 : len(angles) + 1] = links.cumsum(1)
    return frame


def table_of() -> np.ndarray:
    table = np.zeros((1, 6, 6))
    table[:, :, 0], table[:, :, 2] = 0.1, 0.01
    return table


NONE = np.empty((0, 3))


@pytest.mark.parametrize(
    ("angles", "obstacles", "expected"),
    [
        ([0.0, 0.0, 0.0], [], 0),
        ([0.0, np.pi * 0.99, 0.0], [], BASE | SELF),  # folded back over its first link
        ([0.0, np.pi / 2, np.pi / 2], [], 0),  # three sides of a square
        ([0.0, np.pi / 2, np.pi / 2, np.pi / 2], [], BASE | SELF),  # closed over the base
        ([0.0, 0.0, 2.1, 2.1, 0.0], [], SELF),  # a triangle that crosses the second link, far from the base
        ([0.0, 0.0, 0.0], [[0.25, 0.03, 0.021]], OBSTACLE),
        ([0.0, 0.0, 0.0], [[0.25, 0.03, 0.019]], 0),
    ],
)
def test_what_is_touched(angles, obstacles, expected):
    obstacles = np.array(obstacles).reshape(-1, 3)
    assert touched(len(angles), 0, frame_of(*angles), table_of(), obstacles) == expected


def test_touching_costs_and_is_reported_and_seen():
    arms = PlanarArms(1, layout="seed", record=["is_touching", "reward_contact"], start_noise_rad=0.0)
    blind = PlanarArms(1, layout="seed", contacts=False, record=["is_touching"], start_noise_rad=0.0)
    for env in (arms, blind):
        env.state[0, 0, :3] = [0.0, 3.0, 0.1]
        env.state[0, 2, :3], env.state[0, 3, :3] = np.cos(env.state[0, 0, :3]), np.sin(env.state[0, 0, :3])
    step = arms.step(np.zeros((1, 3), np.float32))
    assert step.metrics["is_touching"] == 1
    assert step.metrics["reward_contact"] == pytest.approx(-0.1, abs=1e-6)
    assert step.obs[0, -3:].tolist() == [1, 1, 1]
    step = blind.step(np.zeros((1, 3), np.float32))
    assert step.metrics["is_touching"] == 0
    assert step.obs[0, -3:].tolist() == [0, 0, 0]
