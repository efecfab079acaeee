from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.arm.body import ArmSpace, Bodies, bodies_from, coupling, standard_bodies


def test_genes_choose_count_lengths_and_gears():
    space = ArmSpace()
    assert space.num_genes == 13
    genes = np.array([[0.0] + [0.0] * 6 + [1.0] * 6, [0.49] + [0.5] * 12, [1.0] + [1.0] * 6 + [0.0] * 6])
    bodies = space.decode(genes)
    assert bodies.num_joints.tolist() == [3, 4, 6]
    np.testing.assert_allclose(bodies.length_m[0], [0.04] * 3 + [0] * 3)
    np.testing.assert_allclose(bodies.gear[0], [0.40] * 3 + [0] * 3)
    np.testing.assert_allclose(bodies.length_m[1], [0.09] * 4 + [0] * 2)
    np.testing.assert_allclose(bodies.gear[2], [0.05] * 6)
    np.testing.assert_allclose(bodies.reach_m, [0.12, 0.36, 0.84])
    np.testing.assert_allclose(bodies.radius_m[2], 0.01)


def test_genes_outside_count_as_the_bound_and_radii_are_six_more():
    space = ArmSpace(joints=[5], radius_m=[0.005, 0.02])
    assert space.num_genes == 19
    bodies = space.decode(np.concatenate([np.full(13, -3.0), np.full(6, 7.0)]))
    assert bodies.num_joints.tolist() == [5]
    np.testing.assert_allclose(bodies.length_m[0, :5], 0.04)
    np.testing.assert_allclose(bodies.radius_m[0], [0.02] * 5 + [0])


def test_random_genes_are_valid_and_use_every_count():
    space = ArmSpace()
    bodies = space.decode(space.draw(500, np.random.default_rng(0)))
    assert set(bodies.num_joints) == {3, 4, 5, 6}
    assert bodies.length_m[bodies.has_joint].min() >= 0.04
    assert not bodies.length_m[~bodies.has_joint].any()


def test_equal_arms_have_equal_names_whatever_their_neutral_genes():
    genes = np.full((3, 13), 0.1)
    genes[1, 6] = genes[1, 12] = 0.9  # the sixth link and motor, of an arm with three
    genes[2, 2] = 0.9
    bodies = ArmSpace().decode(genes)
    assert bodies.digest(0) == bodies.digest(1) != bodies.digest(2)


def test_described_arms_are_built_again():
    bodies = bodies_from([{"lengths": [0.1, 0.2, 0.3], "gears": [1, 2, 3]}])
    again = bodies_from([bodies.describe(0)])
    assert again.describe(0) == {"lengths": [0.1, 0.2, 0.3], "gears": [1, 2, 3], "radii": [0.01] * 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"joints": [2]}, r"joints\[0\] = 2, expected 3 <= joints\[0\] <= 6"),
        ({"joints": [3, 7]}, r"joints\[1\] = 7, expected 3 <= joints\[1\] <= 6"),
        ({"joints": [3.5]}, r"joints\[0\] = 3.5, expected a whole number with 3 <= joints\[0\] <= 6"),
        ({"joints": []}, "joints must name at least one joint count, got none"),
        (
            {"length_m": [0.14, 0.04]},
            r"length_m must be \(low, high\) with 0 < low <= high, got \(0.14, 0.04\); .* reversed",
        ),
        ({"gear": [0.4, 0.05]}, "gear must be .*; the bounds are reversed"),
        (
            {"radius_m": [0.0, 0.05]},
            r"radius_m\[0\] = 0.0, expected radius_m\[0\] > 0",
        ),
        ({"gear": [0.1, float("nan")]}, r"gear\[1\] = nan, expected gear\[1\] > 0"),
    ],
)
def test_spaces_that_make_no_arm_are_refused_in_one_line(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        ArmSpace(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ([], "at least one arm"),
        ([{"lengths": [0.1] * 3}], "each of bodies must have lengths, gears"),
        ([{"lengths": [0.1] * 2, "gears": [1] * 2}], "from 3 to 6, got 2"),
        (
            [{"lengths": [0.1] * 3, "gears": [1] * 4}],
            "arm 0 in bodies has 3 lengths, so it must have 3 finite numbers as gears",
        ),
        (
            [{"lengths": [0.1, 0.1, -1], "gears": [1] * 3}],
            "length_m must be finite and above 0",
        ),
    ],
)
def test_arms_that_cannot_be_are_refused(arms, message):
    with pytest.raises(ValueError, match=message):
        bodies_from(arms)


def test_genotypes_of_another_space_are_refused():
    with pytest.raises(ValueError, match="a genotype has 13 genes here, got 19"):
        ArmSpace().decode(np.zeros((2, 19)))
    with pytest.raises(ValueError, match="genes must be finite, got nan"):
        ArmSpace().decode(np.full((2, 13), np.nan))


def test_masses_and_coupling_are_those_of_capsules():
    bodies = standard_bodies([3])
    mass = 1000 * (np.pi * 0.01**2 * 0.1 + 4 / 3 * np.pi * 0.01**3)
    np.testing.assert_allclose(bodies.mass_kg, [[mass] * 3 + [0] * 3])
    h = coupling(bodies)[0]
    np.testing.assert_array_equal(h, h.T)
    assert not h[3:].any()
    # The last link alone, and the first one with the masses of two others at its end.
    np.testing.assert_allclose(h[1, 2], 0.1 * mass * 0.05)
    np.testing.assert_allclose(h[0, 1], 0.1 * (mass * 0.05 + 0.1 * mass))
    np.testing.assert_allclose(h[0, 0] - h[2, 2], 0.1**2 * 2 * mass)


def test_take_returns_rows():
    bodies = standard_bodies([3, 4, 5])
    assert isinstance(bodies.take([2, 0]), Bodies)
    assert bodies.take([2, 0]).num_joints.tolist() == [5, 3]
