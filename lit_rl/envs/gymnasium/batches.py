"""The native batches that play tasks of Gymnasium."""

from __future__ import annotations

from lit_rl.envs.gymnasium.contact_runners import Ants, Humanoids
from lit_rl.envs.gymnasium.runners import HalfCheetahs, Hoppers, Walkers

BATCHES = {
    ":".join(batch.copy.rsplit(".", 1)): batch for batch in (HalfCheetahs, Hoppers, Walkers, Ants, Humanoids)
}
"""Entry points of Gymnasium's registrations, and the batches that play the same."""
