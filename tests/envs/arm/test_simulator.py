"""What only MuJoCo knows: that links and obstacles push each other."""

from __future__ import annotations

import numpy as np

from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.body import standard_bodies
from lit_rl.envs.arm.dynamics import ANGLE
from lit_rl.envs.arm.simulator import build_model


def pushed(backend: str, obstacles: list, contacts: bool = True) -> tuple[PlanarArms, list[float]]:
    """Turn the first joint left for 1.2 s; returns what touching was reported."""
    settings = {"obstacles": obstacles, "contacts": contacts, "start_noise_rad": 0.0}
    arms = PlanarArms(1, backend=backend, record=["is_touching"], **settings)
    arms.reset(0)
    action = np.array([[0.2, 0, 0]], np.float32)
    return arms, [float(arms.step(action).metrics["is_touching"][0]) for _ in range(60)]


def test_an_obstacle_stops_an_arm_in_mujoco_only():
    wall = [[-0.05, 0.2, 0.05]]
    stopped, touching = pushed("mujoco", wall)
    passed, noticed = pushed("kernel", wall)
    free, never = pushed("mujoco", [])
    turned = [arms.state[0, ANGLE, 0] % (2 * np.pi) for arms in (stopped, passed)]
    assert turned[0] < turned[1] - 0.7
    assert max(touching) == max(noticed) == 1
    assert max(never) == 0
    tip, unhindered = stopped.joint_places(0)[-1], free.joint_places(0)[-1]
    assert np.hypot(*(tip - unhindered)) > 0.1
    np.testing.assert_allclose(passed.joint_places(0)[-1], unhindered, atol=1e-4)


def test_links_that_are_not_neighbours_collide():
    def folded(contacts: bool) -> float:
        arms = PlanarArms(1, backend="mujoco", contacts=contacts, start_noise_rad=0.0)
        arms.reset(0)
        for _ in range(100):
            arms.step(np.array([[0.0, 0.3, 0.3]], np.float32))
        return float(arms.state[0, ANGLE, 1:3].sum())

    assert abs(folded(True) - folded(False)) > 0.1


def test_models_hold_pairs_and_obstacles():
    model = build_model(standard_bodies([6]), 0, obstacles=[[0.2, 0.2, 0.05]], contacts=True)
    assert (model.nq, model.nu, model.npair, model.ngeom) == (6, 6, 10, 7)
    assert build_model(standard_bodies([3]), 0).npair == 1
