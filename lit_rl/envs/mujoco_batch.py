"""Many simulations of one MuJoCo model, stepped by the threads of one process (``mujoco.batch``).

Numbers are those of a loop over ``mj_step``, bit for bit, with any number of threads.

Axes: N environments (one simulation each), E chosen environments, U action dimensions (the actuators).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from mujoco.batch import Batch

from lit_rl.checks import nearest

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("lit_rl")
_WARNINGS = mujoco.mjtWarning  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module
_DIVERGED = [int(_WARNINGS.mjWARN_BADQPOS), int(_WARNINGS.mjWARN_BADQVEL), int(_WARNINGS.mjWARN_BADQACC)]
_CONTROL = mujoco.mjtState.mjSTATE_CTRL  # pyright: ignore[reportAttributeAccessIssue]


class Simulations:
    """N simulations of one model: their states as arrays, substeps of all of them in one call, exact states.

    Attributes:
        qpos: Positions, (N, nq) float64. Writing to them moves the simulations.
        qvel: Velocities, (N, nv) float64, which may be written to.
        ctrl: Controls, (N, U) float64, which may be written to.

    Args:
        model: What is simulated, an ``MjModel``.
        num: Number N of simulations.
        threads: Threads that share the simulations.
        name: Name of the environment, for messages.
        is_whole: Whether each simulation keeps all of its ``MjData``, also what only a later call computes,
            such as contact forces.
    """

    def __init__(self, model: Any, num: int, threads: int, name: str, is_whole: bool = False) -> None:
        model.vis.global_.bvactive = 0  # volumes that only a viewer draws; computing them costs time
        self.model, self.num, self.name = model, num, name
        self._batch = Batch(model, num, threads, is_whole)
        self.qpos, self.qvel, self.ctrl = map(self._batch.bind, ("qpos", "qvel", "ctrl"))
        self._fresh = self._batch.state[0].copy()
        self._renderer: Any = None
        self.num_diverged = 0

    def bind(self, field: str) -> np.ndarray:
        """Return a field of ``MjData`` of all simulations, (N, ...).

        After :meth:`advance` it describes the state before the last substep, as after ``mj_step``.
        """
        return self._batch.bind(field)

    def contact_forces(self) -> np.ndarray:
        """Compute forces and torques of contacts on each body (N, bodies, 6), as of the last substep.

        MuJoCo computes them on request only (``mj_rnePostConstraint``); the simulations must be whole.
        """
        forces = np.empty((self.num, self.model.nbody, 6))
        for row in range(self.num):
            data = self._batch.get_data(row, self._data)
            mujoco.mj_rnePostConstraint(self.model, data)  # pyright: ignore[reportAttributeAccessIssue]
            forces[row] = data.cfrc_ext
        return forces

    @cached_property
    def _data(self) -> Any:
        return mujoco.MjData(self.model)  # pyright: ignore[reportAttributeAccessIssue]

    def vary(self, field: str) -> np.ndarray:
        """Give each simulation its own values of a field of the model, and return them, (N, ...)."""
        return self._batch.expand(field)

    def update_constants(self, rows: np.ndarray) -> None:
        """Compute what follows from masses that were written to, in the simulations ``rows`` (E,)."""
        self._batch.set_const(rows)

    def clear(self, rows: np.ndarray | slice) -> None:
        """Put the simulations ``rows`` (E,) at the model's defaults, at rest and at time 0."""
        self._batch.state[rows] = self._fresh

    def forward(self, rows: np.ndarray | None = None) -> None:
        """Compute what follows from the states written to (``mj_forward``), in ``rows`` (E,) or in all."""
        self._batch.forward(rows)

    def advance(self, num_substeps: int) -> np.ndarray:
        """Take substeps with :attr:`ctrl`; return the numbers (E,) of the simulations that diverged.

        MuJoCo resets a simulation itself as soon as it holds NaN or huge values. Those numbers are returned,
        and the caller decides where they go on.

        Raises:
            FloatingPointError: All simulations diverged at once.
        """
        with _QuietWarnings():
            self._batch.step(None, num_substeps)
        return self._diverged()

    def advance_through(self, controls: np.ndarray) -> np.ndarray:
        """Take substeps with other controls (N, substeps, U) in each; return what :meth:`advance` returns.

        Raises:
            FloatingPointError: All simulations diverged at once.
        """
        with _QuietWarnings():
            self._batch.rollout(controls.shape[1], control=controls, control_spec=_CONTROL, record=[])
        return self._diverged()

    def _diverged(self) -> np.ndarray:
        counts = self._batch.warning[:, _DIVERGED, 1]
        if not counts.any():
            return np.empty(0, np.int64)
        rows = np.flatnonzero(counts.any(1))
        self._batch.warning[rows] = 0
        self.num_diverged += len(rows)
        if len(rows) == self.num and self.num > 1:
            raise FloatingPointError(
                f"{self.name}: all {self.num} simulations diverged (NaN or huge values in positions, "
                "velocities or accelerations); give a shorter timestep, weaker actuators or another model"
            )
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        _log.warning(
            "%s: %d of %d simulations diverged (NaN or huge values) and begin anew: %s; %d since the start",
            self.name, len(rows), self.num, shown, self.num_diverged,
        )  # fmt: skip
        return rows

    def image(self, row: int, camera: Any = -1, height: int = 240, width: int = 320) -> np.ndarray:
        """Draw one simulation: RGB (height, width, 3) uint8.

        Args:
            row: Number of the simulation.
            camera: Name or number of a camera of the model, or an ``MjvCamera``; -1 is the free camera.
            height: Pixels from top to bottom.
            width: Pixels from left to right.

        Raises:
            IndexError: There is no such simulation.
        """
        if not 0 <= row < self.num:
            raise IndexError(f"env must be from 0 to {self.num - 1}, got {row}")
        if self._renderer is None or (self._renderer.height, self._renderer.width) != (height, width):
            self.close()
            self._renderer = mujoco.Renderer(self.model, height, width)
        model, data = self._batch.get_model(row), self._batch.get_data(row)
        mujoco.mj_forward(model, data)  # pyright: ignore[reportAttributeAccessIssue]
        self._renderer.update_scene(data, camera)
        return self._renderer.render().copy()

    def get_state(self) -> dict[str, Tensor]:
        """Return the states of all simulations, exact, as a tensor (N, numbers)."""
        import torch

        return {"state": torch.from_numpy(self._batch.state.copy())}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what :meth:`get_state` returned, bit for bit.

        Raises:
            ValueError: The state is of another number of simulations, or of another model.
        """
        saved = state["state"].numpy()
        if saved.shape != self._batch.state.shape:
            raise ValueError(
                f"{self.name}: the state is of simulations {saved.shape} (number, numbers of each), expected "
                f"{self._batch.state.shape}; make as many environments, of the same settings, as were saved"
            )
        self._batch.state[:] = saved

    def close(self) -> None:
        """Release what draws; further calls do nothing."""
        if self._renderer is not None:
            with suppress(Exception):  # a context that is gone already
                self._renderer.close()
            self._renderer = None


class _QuietWarnings:
    """Keep MuJoCo from printing, and from writing to a file, what :meth:`Simulations.advance` reports."""

    def __enter__(self) -> None:
        self._before = mujoco.get_mju_user_warning()  # pyright: ignore[reportAttributeAccessIssue]
        mujoco.set_mju_user_warning(_say_nothing)  # pyright: ignore[reportAttributeAccessIssue]

    def __exit__(self, *_: object) -> None:
        mujoco.set_mju_user_warning(self._before)  # pyright: ignore[reportAttributeAccessIssue]


def _say_nothing(message: str) -> None:
    """Take a warning of MuJoCo; what it says is counted in ``Batch.warning``, too."""


def check_record(asked: Sequence[str], known: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the names of ``record`` that a batch shall report.

    Raises:
        ValueError: One of them is not known; the message names the nearest.
    """
    for each in asked:
        if each not in known:
            hint = nearest(each, known)
            raise ValueError(f"record={each!r} is not reported by {name}.{hint} Known: {', '.join(known)}")
    return tuple(asked)
