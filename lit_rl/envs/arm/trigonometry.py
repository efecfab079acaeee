"""Sine and cosine in one go, without calls of the C library, which would cost a third of a physics step.

Compiled code.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_S = (-1.0 / 6, 8.33333333332211858878e-3, -1.98412698295895385996e-4, 2.75573136213857245213e-6,
      -2.50507477628578072866e-8, 1.58962301576546568060e-10)  # fmt: skip
_C = (4.16666666666665929218e-2, -1.38888888888730564116e-3, 2.48015872888517179954e-5,
      -2.75573141792967388112e-7, 2.08757008419747316778e-9, -1.13585365213876817300e-11)  # fmt: skip


@njit(forceinline=True)
def sin_cos(x, kind):
    """Return sine and cosine of ``x`` as accurate as ``kind``, its dtype; for angles of some turns at most.

    ``x`` is reduced to [-pi/4, pi/4], where minimax polynomials (Moshier 1989, Cephes) give both.
    """
    quarter = np.floor(x * kind(2 / math.pi) + kind(0.5))
    r = x - quarter * kind(math.pi / 2)
    z = r * r
    s = r + r * z * (kind(_S[0]) + z * (kind(_S[1]) + z * (kind(_S[2]) + z * (
        kind(_S[3]) + z * (kind(_S[4]) + z * kind(_S[5]))))))  # fmt: skip
    c = kind(1) - kind(0.5) * z + z * z * (kind(_C[0]) + z * (kind(_C[1]) + z * (kind(_C[2]) + z * (
        kind(_C[3]) + z * (kind(_C[4]) + z * kind(_C[5]))))))  # fmt: skip
    turn = int(quarter) & 3
    sine, cosine = (s, c) if turn & 1 == 0 else (c, s)
    sine = -sine if turn & 2 else sine
    cosine = -cosine if (turn + 1) & 2 else cosine
    return sine, cosine
