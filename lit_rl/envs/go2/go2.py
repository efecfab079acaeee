"""``GO2-v0`` by Gymnasium's interfaces: one quadruped, and a batch of them."""

from __future__ import annotations

from typing import Any

from lit_rl.envs.go2.batch import REPORTED, Go2Batch
from lit_rl.envs.native import NativeEnv, NativeVectorEnv


class Go2(NativeEnv):
    """One robot of :class:`Go2Batch`. Its arguments are ``render_mode`` and the fields of ``Go2Task``."""

    native, reported = Go2Batch, REPORTED

    def contract(self) -> dict[str, Any]:
        """Describe what :meth:`Go2Batch.contract` describes."""
        return self._batch.contract()

    def trials(self) -> dict[str, Any]:
        """Name the worlds that :meth:`Go2Batch.trials` names."""
        return self._batch.trials()


class Go2Vector(NativeVectorEnv):
    """A batch of robots for ``gymnasium.make_vec``; its arguments are the fields of ``Go2Task``."""

    native, reported = Go2Batch, REPORTED
