"""The policy of an off-policy learner as plain numbers, for actors without torch."""

from __future__ import annotations

from collections.abc import Iterator
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
    clip = 10.0
    for path, of_leaf in _norms(norm, norm_of):
        arrays |= {f"shift/{path}": _numbers(of_leaf.shift), f"factor/{path}": _numbers(of_leaf.scale)}
        clip = of_leaf.clip
    activation = "tanh" if activations == {nn.Tanh} else "relu"
    return Portable(Description(head, activation, noise, clip, box.has_joints), arrays)


def _norms(norm: ObservationNorm | None, part: str) -> Iterator[tuple[str, RunningNorm]]:
    """Yield paths and normalisations of what the actor sees, at the key ``part`` if there is one."""
    for name, of_leaf in ({} if norm is None else norm.norms).items():
        path = name.removeprefix("leaf:")
        if not part or path.startswith(f"{part}/"):
            yield path.removeprefix(f"{part}/"), cast("RunningNorm", of_leaf)
        elif path == part:
            yield "obs", cast("RunningNorm", of_leaf)


def _numbers(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().float().cpu().numpy())
