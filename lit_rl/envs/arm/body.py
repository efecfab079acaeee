"""Bodies of planar arms: joint counts, lengths, gears and radii, and the genes they have."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from lit_rl.arguments import Positive, Range, check_arguments

MIN_JOINTS, MAX_JOINTS = 3, 6
Joints = Annotated[int, Range(at_least=MIN_JOINTS, at_most=MAX_JOINTS)]
DENSITY, DAMPING, ARMATURE = 1000.0, 0.01, 0.002
"""Density of all links (kg/m3), and friction (Nm s/rad) and rotor inertia (kg m2) of all joints."""
LENGTH_M, GEAR_NM, RADIUS_M = 0.1, 0.2, 0.01
"""The links and motors of the standard arms."""


@dataclass(frozen=True)
class Bodies:
    """Several arms, one a row; what lies behind an arm's last joint is zero.

    Args:
        num_joints: ``(bodies,)`` int64, each from 3 to 6.
        length_m: ``(bodies, 6)`` float64, lengths of the links between the centres of their round ends.
        gear: ``(bodies, 6)``, torques of the motors at an action of 1.
        radius_m: ``(bodies, 6)``, half the thickness of the links, which decides their masses.

    Raises:
        ValueError: A joint count is not 3 to 6, a shape differs, or a value is not finite and above zero.
    """

    num_joints: np.ndarray
    length_m: np.ndarray
    gear: np.ndarray
    radius_m: np.ndarray

    def __post_init__(self) -> None:
        counts = np.asarray(self.num_joints)
        if counts.ndim != 1 or not len(counts):
            raise ValueError(f"num_joints must hold one count per arm, got shape {counts.shape}")
        for count in np.unique(counts):
            check_count(int(count), "num_joints")
        has_joint = self.has_joint
        for name in ("length_m", "gear", "radius_m"):
            values = getattr(self, name)
            if values.shape != has_joint.shape:
                raise ValueError(f"{name} must have shape {has_joint.shape}, got {values.shape}")
            bad = has_joint & ~((values > 0) & np.isfinite(values))
            if bad.any():
                row, joint = np.argwhere(bad)[0]
                raise ValueError(
                    f"{name} must be finite and above 0 at every joint, got {values[row, joint]} at joint "
                    f"{joint} of arm {row}"
                )

    def __len__(self) -> int:
        return len(self.num_joints)

    @property
    def has_joint(self) -> np.ndarray:
        """``(bodies, 6)`` bool, True for the joints that an arm has."""
        return np.arange(MAX_JOINTS) < np.asarray(self.num_joints)[:, None]

    @property
    def reach_m(self) -> np.ndarray:
        """``(bodies,)``, the lengths of all links together."""
        return (self.length_m * self.has_joint).sum(1)

    @property
    def mass_kg(self) -> np.ndarray:
        """``(bodies, 6)``, masses of the links: a cylinder and two half balls."""
        cylinder, balls = _masses(self)
        return cylinder + balls

    def take(self, rows: Any) -> Bodies:
        """Return the arms ``rows``."""
        return Bodies(self.num_joints[rows], self.length_m[rows], self.gear[rows], self.radius_m[rows])

    def describe(self, row: int) -> dict[str, list[float]]:
        """Return one arm as :func:`bodies_from` takes it."""
        n = int(self.num_joints[row])
        return {
            "lengths": self.length_m[row, :n].tolist(),
            "gears": self.gear[row, :n].tolist(),
            "radii": self.radius_m[row, :n].tolist(),
        }

    def digest(self, row: int) -> str:
        """Name one arm by what it is made of; equal arms have equal names."""
        return hashlib.sha256(repr(self.describe(row)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ArmSpace:
    """The arms that genes can describe.

    A genotype has numbers in [0, 1]: the first one chooses the joint count, six give the lengths, six the
    gears, and six more the radii where ``radius_m`` is a range. Genes of joints that an arm does not have
    are kept, but do nothing.

    Args:
        joints: Joint counts to choose from, each from 3 to 6.
        length_m: Shortest and longest link.
        gear: Weakest and strongest motor.
        radius_m: Thinnest and thickest link; two equal numbers fix it.

    Raises:
        ValueError: A joint count is not 3 to 6, or the bounds of a gene are reversed or not above zero.
    """

    joints: Sequence[Joints] = (3, 4, 5, 6)
    length_m: Sequence[Positive] = (0.04, 0.14)
    gear: Sequence[Positive] = (0.05, 0.40)
    radius_m: Sequence[Positive] = (RADIUS_M, RADIUS_M)

    def __post_init__(self) -> None:
        check_arguments(ArmSpace, vars(self))
        if not self.joints:
            raise ValueError("joints must name at least one joint count, got none")
        for name in ("length_m", "gear", "radius_m"):
            bounds: Sequence[float] = getattr(self, name)
            is_pair = are_numbers(bounds, 2)
            if not is_pair or not 0 < bounds[0] <= bounds[1]:
                raise ValueError(
                    f"{name} must be (low, high) with 0 < low <= high, got "
                    + repr(tuple(bounds) if is_pair else bounds)
                    + ("; the bounds are reversed" if is_pair and bounds[0] > bounds[1] else "")
                )

    @property
    def num_genes(self) -> int:
        """Numbers in a genotype: 13, or 19 with radii."""
        return 1 + 2 * MAX_JOINTS + MAX_JOINTS * (self.radius_m[0] < self.radius_m[1])

    def decode(self, genes: np.ndarray) -> Bodies:
        """Build the arms of genotypes ``(bodies, genes)``; numbers outside [0, 1] count as the nearest bound.

        Raises:
            ValueError: The genotypes have another length, or a gene is not finite.
        """
        genes = np.atleast_2d(np.asarray(genes, np.float64))
        if genes.shape[1] != self.num_genes:
            raise ValueError(f"a genotype has {self.num_genes} genes here, got {genes.shape[1]}")
        if not np.isfinite(genes).all():
            raise ValueError(f"genes must be finite, got {genes[~np.isfinite(genes)][0]}")
        genes = genes.clip(0.0, 1.0)
        counts = np.asarray(self.joints, np.int64)
        num_joints = counts[np.minimum((genes[:, 0] * len(counts)).astype(np.int64), len(counts) - 1)]
        has_joint = np.arange(MAX_JOINTS) < num_joints[:, None]
        parts = []
        for k, (low, high) in enumerate((self.length_m, self.gear, self.radius_m)):
            of_part = genes[:, 1 + MAX_JOINTS * k : 1 + MAX_JOINTS * (k + 1)]
            values = low + of_part * (high - low) if of_part.shape[1] else np.full(has_joint.shape, low)
            parts.append(values * has_joint)
        return Bodies(num_joints, *parts)

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ``num`` genotypes uniformly: ``(bodies, genes)``."""
        return rng.random((num, self.num_genes))


def check_count(count: Any, name: str) -> None:
    """Refuse a joint count that is not from 3 to 6."""
    is_whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not is_whole or not MIN_JOINTS <= count <= MAX_JOINTS:
        raise ValueError(f"{name} must be whole numbers from {MIN_JOINTS} to {MAX_JOINTS}, got {count!r}")


def are_numbers(values: Any, length: int) -> bool:
    """Tell whether ``values`` is a list, tuple or array of so many finite numbers."""
    try:
        return len(values) == length and all(math.isfinite(value) for value in values)
    except TypeError:
        return False


def standard_bodies(joints: Sequence[int]) -> Bodies:
    """Build one arm with equal links and motors for each of the joint counts."""
    arms = [{"lengths": [LENGTH_M] * count, "gears": [GEAR_NM] * count} for count in joints]
    return bodies_from(arms)


def bodies_from(arms: Sequence[Mapping[str, Sequence[float]]]) -> Bodies:
    """Build arms from ``{"lengths": [...], "gears": [...], "radii": [...]}`` each; radii may be left out.

    Raises:
        ValueError: A key is missing or unknown, or lists of one arm differ in length.
    """
    if isinstance(arms, str | Mapping) or not len(arms) or not all(isinstance(arm, Mapping) for arm in arms):
        got = "none" if isinstance(arms, list | tuple) and not arms else f"{arms!r:.80}"
        raise ValueError(f"bodies must be a list that describes at least one arm, got {got}")
    rows: dict[str, list[np.ndarray]] = {"lengths": [], "gears": [], "radii": []}
    counts = []
    for number, arm in enumerate(arms):
        if not {"lengths", "gears"} <= set(arm) <= set(rows):
            raise ValueError(
                f"each of bodies must have lengths, gears and perhaps radii; arm {number} has {sorted(arm)}"
            )
        count = len(arm["lengths"])
        check_count(count, f"the lengths of arm {number} in bodies: their number")
        counts.append(count)
        for name, of_arms in rows.items():
            values = arm.get(name, [RADIUS_M] * count)
            if not are_numbers(values, count):
                raise ValueError(
                    f"arm {number} in bodies has {count} lengths, so it must have {count} finite numbers as "
                    f"{name}, got {values!r:.80}"
                )
            of_arms.append(np.pad(np.asarray(values, np.float64), (0, MAX_JOINTS - count)))
    return Bodies(np.array(counts, np.int64), *(np.stack(of_arms) for of_arms in rows.values()))


def _masses(bodies: Bodies) -> tuple[np.ndarray, np.ndarray]:
    """Masses of the cylinders of all links, and of their round ends: ``(bodies, 6)`` each."""
    radius = bodies.radius_m * bodies.has_joint
    cylinder = DENSITY * np.pi * radius**2 * bodies.length_m
    return cylinder, DENSITY * 4 / 3 * np.pi * radius**3


def coupling(bodies: Bodies) -> np.ndarray:
    """Inertia ``h`` of each pair of links, ``(bodies, 6, 6)`` in kg m2.

    With ``m_i`` the mass of link i, ``l_i`` its length, ``I_i`` its inertia about its centre of mass, which
    lies at ``c_i = l_i / 2``, and ``m_>i`` the mass of all links behind it::

        h_ii = I_i + m_i c_i^2 + l_i^2 m_>i        h_ij = h_ji = l_i (m_j c_j + l_j m_>j)   for i < j

    The mass matrix in the absolute angles ``phi`` of the links is then ``h_ij cos(phi_i - phi_j)``.
    """
    cylinder, balls = _masses(bodies)
    length, radius = bodies.length_m * bodies.has_joint, bodies.radius_m * bodies.has_joint
    mass = cylinder + balls
    inertia = cylinder * (length**2 / 12 + radius**2 / 4)
    inertia += balls * (2 / 5 * radius**2 + length**2 / 4 + 3 / 8 * radius * length)
    behind = mass[:, ::-1].cumsum(1)[:, ::-1] - mass
    moment = mass * length / 2 + length * behind
    pairs = np.triu(length[:, :, None] * moment[:, None, :], 1)
    diagonal = inertia + mass * length**2 / 4 + length**2 * behind
    return pairs + pairs.transpose(0, 2, 1) + diagonal[:, :, None] * np.eye(MAX_JOINTS)
