"""Motion against MuJoCo, step by step, and against conservation of energy."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.body import coupling
from lit_rl.envs.arm.dynamics import ANGLE, SPEED
from lit_rl.envs.arm.simulator import build_model

mujoco = pytest.importorskip("mujoco")
MIXED = {"joints": [3, 4, 5, 6], "num_bodies": 64, "radius_m": [0.005, 0.02], "body_seed": 1}


def mixed_arms(num_envs: int = 64, **settings) -> PlanarArms:
    """Different arms, environment i with arm i."""
    arms = PlanarArms(num_envs, **MIXED, **settings)
    arms.set_bodies(arms.bodies)
    return arms


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-10), ("float32", 1e-3)])
def test_arms_of_all_sizes_move_as_in_mujoco(precision: str, tolerance: float):
    arms = mixed_arms(precision=precision, contacts=False, num_steps=1000)
    models = [build_model(arms.bodies, row) for row in range(64)]
    simulators = [mujoco.MjData(model) for model in models]
    for row, data in enumerate(simulators):
        data.qpos[:] = arms.state[row, ANGLE, : models[row].nq]
    rng = np.random.default_rng(0)
    for _ in range(100):  # 200 physics steps
        action = rng.uniform(-1, 1, (64, 6)).astype(np.float32)
        arms.step(action)
        for row, (model, data) in enumerate(zip(models, simulators, strict=True)):
            data.ctrl[:] = action[row, : model.nq]
            mujoco.mj_step(model, data, 2)
    turns = []
    for row, (model, data) in enumerate(zip(models, simulators, strict=True)):
        n = model.nq
        error = data.qpos - arms.state[row, ANGLE, :n]
        np.testing.assert_allclose(np.sin(error / 2), 0, atol=tolerance)  # angles here are wrapped
        np.testing.assert_allclose(arms.state[row, SPEED, :n], data.qvel, atol=20 * tolerance)
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(arms.joint_places(row)[-1], data.site_xpos[0, :2], atol=tolerance)
        turns.append(np.abs(data.qpos).max())
    assert max(turns) > np.pi  # some arm has turned right around


def test_an_arm_as_a_batch_of_the_backend_mujoco_moves_the_same():
    settings = {"precision": "float64", "contacts": False, "num_steps": 30}
    ours, theirs = mixed_arms(8, **settings), mixed_arms(8, **settings, backend="mujoco")
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(ours.reset(3)["padded"], theirs.reset(3)["padded"])
    for _ in range(70):  # two episodes end on the way
        action = rng.uniform(-1.5, 1.5, (8, 6)).astype(np.float32)
        step, other = ours.step(action), theirs.step(action)
        np.testing.assert_allclose(step.obs["padded"], other.obs["padded"], atol=1e-6)
        np.testing.assert_allclose(step.reward, other.reward, atol=2e-6)
        np.testing.assert_array_equal(step.truncated, other.truncated)
    np.testing.assert_allclose(ours.state, theirs.state, atol=1e-10)


def test_motors_follow_speeds_alike_in_both_backends():
    settings = {"precision": "float64", "contacts": False, "control": "speed", "num_steps": 100}
    ours, theirs = mixed_arms(4, **settings), mixed_arms(4, **settings, backend="mujoco")
    action = np.full((4, 6), 0.25, np.float32)
    for _ in range(60):
        ours.step(action)
        theirs.step(action)
    np.testing.assert_allclose(ours.state[:, :4], theirs.state[:, :4], atol=1e-10)
    assert ours.state[0, SPEED, 0] == pytest.approx(2.0, abs=0.6)  # 0.25 of 8 rad/s, less friction


def test_energy_grows_by_no_more_than_the_integrator_adds():
    """Without torque and friction the kinetic energy stays, up to the error of the small steps."""
    arms = mixed_arms(8, precision="float64", contacts=False, step_s=1e-4, num_steps=10_000)
    counts, h, table, reach = arms.tables
    table[:, :, 3] = 0.0  # friction
    arms.tables = counts, h, table, reach
    arms.state[:, SPEED] = np.random.default_rng(2).uniform(-2, 2, (8, 6))
    before = kinetic_energy(arms)
    for _ in range(500):
        arms.step(np.zeros((8, 6), np.float32))
    np.testing.assert_allclose(kinetic_energy(arms), before, rtol=2e-3)


def kinetic_energy(arms: PlanarArms) -> np.ndarray:
    """Sum over pairs of links, written down anew."""
    energies = []
    for row in range(arms.num_envs):
        n = int(arms.bodies.num_joints[row])
        speed = arms.state[row, SPEED, :n]
        phi, w = arms.state[row, ANGLE, :n].cumsum(), speed.cumsum()
        h = coupling(arms.bodies)[row, :n, :n]
        chain = 0.5 * np.einsum("i,ij,ij,j", w, h, np.cos(phi[:, None] - phi), w)
        energies.append(chain + 0.5 * 0.002 * (speed**2).sum())
    return np.array(energies)
