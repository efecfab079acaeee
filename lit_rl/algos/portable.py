"""The policy of an off-policy learner as plain numbers, for actors without torch."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from torch import Tensor, nn

from lit_rl.algos.action_box import ActionBox
from lit_rl.algos.actor import Actor
from lit_rl.nets import Flatten, NumpyMLP
from lit_rl.normalize import ObservationNorm, RunningNorm
from lit_rl.remote.policy import Description


class Portable(NamedTuple):
    """A policy for actors elsewhere: what its arrays mean, and the arrays (``policy_frame`` packs them)."""

    description: Description
    arrays: dict[str, np.ndarray]


def portable(
    learner: str, actor: Actor, box: ActionBox, head: str, *, noise: float = 0.0,
    norm: ObservationNorm | None = None, norm_of: str = "",
) -> Portable:  # fmt: skip
    """Take the numbers of an actor network.

    Args:
        learner: Name of the learner, for messages.
        actor: The actor network.
        box: Bounds of the actions.
        head: One of ``lit_rl.remote.policy.HEADS``.
        noise: Deviation of the noise of exploration, of ``squashed``.
        norm: Normalisation of observations; None where there is none.
        norm_of: Key under which the actor's part stands in what ``norm`` normalises.

    Raises:
        ValueError: The actor has an encoder, which only torch can evaluate.
    """
    if not isinstance(actor.encoder, Flatten) or not NumpyMLP.supports(actor.network):
        raise ValueError(
            f"{learner} has encoder = {type(actor.encoder).__name__}, which actors elsewhere cannot "
            "evaluate: they have no torch; leave encoder out, or train with ReplayDataModule"
        )
    layers = [layer for layer in actor.network if isinstance(layer, nn.Linear)]
    activations = {type(layer) for layer in actor.network if not isinstance(layer, nn.Linear)}
    arrays: dict[str, np.ndarray] = {}
    for number, layer in enumerate(layers):
        arrays[f"weight/{number}"], arrays[f"bias/{number}"] = _numbers(layer.weight).T, _numbers(layer.bias)
    arrays |= {"middle": _numbers(box.middle), "scale": _numbers(box.scale)}
    constants = _constants(norm, norm_of) if norm is not None else {}
    for path, (shift, factor) in constants.items():
        arrays |= {f"shift/{path}": _numbers(shift), f"factor/{path}": _numbers(factor)}
    activation = "tanh" if activations == {nn.Tanh} else "relu"
    clip = (
        next((cast("RunningNorm", of_leaf).clip for of_leaf in norm.norms.values()), 10.0) if norm else 10.0
    )
    return Portable(Description(head, activation, noise, clip, box.has_joints), arrays)


def _constants(norm: ObservationNorm, part: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what is subtracted from each leaf, and what it is multiplied with, by the path of the leaf.

    Args:
        norm: Normalisation of observations.
        part: Key of the part of the observation that is asked for, whose paths then begin below it; an empty
            one means the whole.
    """
    found = {}
    for name, of_leaf in norm.norms.items():
        path = name.removeprefix("leaf:")
        if path == part:
            path = "obs"
        elif part and not path.startswith(f"{part}/"):
            continue
        running = cast("RunningNorm", of_leaf)
        found[path.removeprefix(f"{part}/")] = running.shift, running.scale
    return found


def _numbers(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().float().cpu().numpy())
