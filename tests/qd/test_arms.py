"""What is measured of planar arms, against numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lit_rl.envs.arm.body import ArmSpace, Bodies, bodies_from
from lit_rl.qd.arms import Goals, fixed_goals, fresh_goals, measure_arms
from lit_rl.qd.descriptors import arm_grid, arm_measures
from lit_rl.qd.diversity import cell_entropy, gene_distance, genes_in_use
from lit_rl.qd.fitness import arm_fitness, genetic_fitness

SHORT = {"lengths": [0.1, 0.1, 0.05], "gears": [0.1, 0.2, 0.1]}
LONG = {"lengths": [0.14, 0.14, 0.14, 0.14], "gears": [0.4, 0.0001, 0.0001, 0.0001]}
BODIES = bodies_from([SHORT, LONG])
SUCCESS, LEFT = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.01, 0.19], [0.01, 0.01]])


def test_measures_are_joints_length_and_torque_centroid():
    measures = arm_measures(BODIES)
    np.testing.assert_allclose(measures[0], [3, 0.25, (0.2 + 2 * 0.1) / (2 * 0.4)])
    np.testing.assert_allclose(measures[1], [4, 0.56, 6e-4 / (3 * 0.4003)])


def test_fitness_is_success_less_distance_and_strength():
    got = arm_fitness(BODIES, SUCCESS, LEFT, length_m=0.4)
    weak, strong = 0.4 / 3, 0.4003 / 4
    np.testing.assert_allclose(
        got, [0.5 - 0.5 * 0.1 / 0.4 - 0.2 * weak / 0.4, 1 - 0.5 * 0.01 / 0.4 - 0.2 * strong / 0.4]
    )


def test_genetic_fitness_has_tiers_by_reach():
    """0.85 x 0.25 m of 0.425 m is half of it; 0.85 x 0.56 m is 1.12 times as long."""
    got = genetic_fitness(BODIES, SUCCESS, LEFT, length_m=0.425)
    np.testing.assert_allclose(got, [0.25, 0.6 + 0.25 + 0.1 * 0.56 + 0.05 * (1 - 0.01 / 0.425)])


def test_every_arm_is_measured_on_the_same_goals_alone_or_with_others():
    space = ArmSpace()
    genes = space.draw(12, np.random.default_rng(0))
    together = measure_arms(space, genes, fixed_goals(4))
    alone = [measure_arms(space, genes[row : row + 1], fixed_goals(4)) for row in (0, 7)]
    assert [float(one.objective[0]) for one in alone] == [together.objective[0], together.objective[7]]
    assert together.problems == [""] * 12
    assert len(np.unique(together.objective)) == 12


def test_the_goals_are_reached_in_their_order():
    """Two goals, one out of reach: the arm stays as far from it as geometry says, at least."""
    space = ArmSpace(joints=(3,), length_m=(0.1, 0.1), gear=(0.4, 0.4))
    goals = Goals(np.array([[0.2, 0.1], [0.9, 0.0]]))
    left = []

    def fitness(bodies: Bodies, success: np.ndarray, distance_m: np.ndarray, length_m: float) -> np.ndarray:
        left.append(distance_m)
        return success.mean(1)

    measure_arms(space, np.full((1, 13), 0.5), goals, fitness=fitness)
    assert left[0].shape == (1, 2)
    assert left[0][0, 0] < 0.1
    assert 0.599 < left[0][0, 1] < 0.7
    assert goals.length_m == pytest.approx(0.9)


def test_genes_that_are_not_finite_are_a_failed_body():
    genes = np.full((2, 13), 0.5)
    genes[1, 4] = np.nan
    got = measure_arms(ArmSpace(), genes, fixed_goals(2))
    assert got.problems == ["", "genes are not finite"]
    assert np.isfinite(got.objective).tolist() == [True, False]


def test_fresh_goals_differ_by_seed_and_stay_in_the_disc():
    first, second = fresh_goals(1, 50), fresh_goals(2, 50)
    assert not np.array_equal(first.places, second.places)
    assert np.hypot(*first.places.T).max() <= 0.47
    assert fixed_goals().length_m == pytest.approx(math.sqrt(15.5 / 16) * 0.45 + 0.02)


def test_cells_follow_the_arms_that_may_be():
    grid = arm_grid(ArmSpace())
    assert grid.num_cells == 800
    assert grid.offset == -0.7
    np.testing.assert_allclose(grid.ranges, [(2.5, 6.5), (0.12, 0.84), (0.2, 0.8)], rtol=1e-8)
    few = arm_grid(ArmSpace(joints=(5, 4), length_m=(0.1, 0.2)), 7, 3)
    assert few.cells == (2, 7, 3)
    np.testing.assert_allclose(few.ranges[:2], [(3.5, 5.5), (0.4, 1.0)], rtol=1e-8)


def test_entropy_counts_cells():
    assert cell_entropy(np.array([4, 4, 4])) == 0.0
    assert cell_entropy(np.array([0, 1, 2, 2])) == pytest.approx(1.5 * math.log(2))


def test_gene_distance_is_over_the_genes_that_both_use():
    genes = np.array([[0.0, 0.0, 9.0], [0.3, 0.4, 0.0], [0.0, 1.0, 0.0]])
    used = np.array([[True, True, False], [True, True, True], [True, True, True]])
    pairs = [math.sqrt(0.25 / 2), math.sqrt(1 / 2), math.sqrt((0.09 + 0.36) / 3)]
    assert gene_distance(genes, used) == pytest.approx(sum(pairs) / 3)
    assert gene_distance(genes[:1], used[:1]) == 0.0


def test_genes_of_joints_that_an_arm_lacks_are_not_in_use():
    used = genes_in_use(np.array([3, 6]), 13, 6)
    assert used[0].tolist() == [
        True,
        True,
        True,
        True,
        False,
        False,
        False,
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert used[1].all()
