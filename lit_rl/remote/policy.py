"""The policy that an actor acts by: plain numbers from the learner, evaluated in numpy, without torch.

It is a perceptron in front of a squashed normal (SAC) or of tanh with added noise (TD3), with the running
normalisation of observations where the learner has one, and the bounds of the actions.

Axes: N environments, F features, U action dimensions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np

from lit_rl.nested import leaves, named_leaves, without_dots
from lit_rl.remote.wire import Frame, WireError
from lit_rl.types import ACTION_MASK, JOINT_MASK, EnvSpec, LeafSpec, NestedArray
from lit_rl.types.spec import without_critic

HEADS = ("squashed_normal", "squashed")
LOG_STD_RANGE = (-20.0, 2.0)


@dataclass(frozen=True)
class Description:
    """The meaning of the numbers of a policy.

    Args:
        head: ``squashed_normal``: the last layer gives means and logarithms of deviations; ``squashed``: it
            gives actions before tanh.
        activation: ``relu`` or ``tanh``, between the layers.
        noise: Deviation of the normal that ``squashed`` adds to actions in [-1, 1] while it explores.
        clip: Normalised observations are kept within plus and minus this.
        has_joints: Whether ``joint_mask`` of the observation says which entries of an action exist.
    """

    head: str
    activation: str
    noise: float = 0.0
    clip: float = 10.0
    has_joints: bool = False


class Unfit(ValueError):  # noqa: N818  # no fault of this program
    """The learner's policy is none for the environment here, however often it is sent."""


def policy_frame(version: int, description: Description, arrays: Mapping[str, np.ndarray]) -> Frame:
    """Pack a policy; the frame holds copies, so that no later update changes it.

    Args:
        version: Number of batches that the policy was trained on.
        description: Meaning of the arrays.
        arrays: ``weight/0`` ``(F, outputs)``, ``bias/0``, ``weight/1`` ..., ``middle`` and ``scale`` of the
            actions ``(U,)``, and ``shift/PATH``, ``factor/PATH`` of each leaf that is normalised.
    """
    copies = {name: np.array(array) for name, array in arrays.items()}
    header = {"version": version, "digest": digest(copies), "description": asdict(description)}
    return Frame("policy", header, copies)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of names, shapes and bytes."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        state.update(array.tobytes())
    return state.hexdigest()


class NumpyPolicy:
    """A policy that was received.

    Args:
        spec: Observation and action of the actor's environment.
        frame: Frame from :func:`policy_frame`.

    Raises:
        WireError: It was damaged on its way.
        Unfit: It does not fit the environment, or this version of ``lit_rl``.
    """

    def __init__(self, spec: EnvSpec, frame: Frame) -> None:
        self._spec, arrays = spec, dict(frame.arrays)
        self.version = int(frame.header["version"])
        self.digest = frame.header["digest"]
        if digest(arrays) != self.digest:
            raise WireError(f"policy {self.version} was damaged on its way: its checksum is another one")
        try:
            self._description = Description(**frame.header["description"])
        except TypeError as error:
            raise Unfit(f"the learner describes a policy that this actor does not know ({error})") from error
        self._seen = without_critic(spec.observation)
        self._leaves = dict(named_leaves(self._seen, "" if isinstance(self._seen, dict) else "obs"))
        self._norms = {
            path: (arrays[f"shift/{name}"], arrays[f"factor/{name}"])
            for path in self._leaves
            if f"shift/{(name := without_dots(path))}" in arrays and f"factor/{name}" in arrays
        }
        self._layers = list(_layers(arrays))
        self._check(arrays)
        self._middle, self._scale = arrays["middle"], arrays["scale"]

    def _check(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Refuse what would fail, or mean something else, at the first action."""
        known, size = self._description, self._spec.action.size
        if known.head not in HEADS or known.activation not in ("relu", "tanh"):
            raise Unfit(f"the learner's policy {known} is none that this actor knows; update lit_rl here")
        width = features(self._seen)
        for weight, bias in self._layers:
            if weight.ndim != 2 or weight.shape[0] != width or bias.shape != (weight.shape[1],):
                raise Unfit(
                    f"a layer of shape {weight.shape} takes no {width} features; give the same --config"
                )
            width = weight.shape[1]
        outputs = 2 * size if known.head == HEADS[0] else size
        if not self._layers or width != outputs:
            raise Unfit(f"the policy has {width} outputs, {outputs} were expected; give the same --config")
        for name in ("middle", "scale"):
            if name not in arrays or arrays[name].shape != (size,):
                raise Unfit(f"the policy lacks {name} of {size} action dimensions")
        if len(self._norms) != sum(name.startswith("shift/") for name in arrays):
            raise Unfit("the policy normalises observations that this environment does not have")
        if not all(bool(np.isfinite(array).all()) for array in arrays.values()):
            raise Unfit(
                f"policy {self.version} holds numbers that are not finite; look at the learner's losses"
            )

    def act(self, obs: NestedArray, rng: np.random.Generator, *, greedy: bool = False) -> np.ndarray:
        """Decide for N environments.

        Args:
            obs: Observations, leaves ``(N, ...)``.
            rng: Source of the noise.
            greedy: Take the most likely action.

        Returns:
            Actions ``(N, *shape)`` in the units of the environment, float32.
        """
        own = without_critic(obs)
        x = self._features(own)
        for number, (weight, bias) in enumerate(self._layers):
            x = x @ weight
            x += bias
            if number < len(self._layers) - 1:
                x = np.maximum(x, 0.0) if self._description.activation == "relu" else np.tanh(x)
        if self._description.head == HEADS[0]:
            mean, log_std = np.split(x, 2, -1)
            if not greedy:
                noise = rng.standard_normal(mean.shape, np.float32)
                mean = mean + np.exp(np.clip(log_std, *LOG_STD_RANGE)) * noise
            unit = np.tanh(mean)
        else:
            unit = np.tanh(x)
            if not greedy:
                noise = rng.standard_normal(unit.shape, np.float32)
                unit = np.clip(unit + np.float32(self._description.noise) * noise, -1.0, 1.0)
        return self._in_units(unit, own)

    def draw(self, obs: NestedArray, rng: np.random.Generator) -> np.ndarray:
        """Draw actions uniformly from the learner's bounds; joints that do not exist get the middle.

        Args:
            obs: Observations, leaves ``(N, ...)``.
            rng: Source of the actions.

        Returns:
            Actions ``(N, *shape)`` in the units of the environment, float32.
        """
        unit = 2 * rng.random((len(next(leaves(obs))), len(self._middle)), np.float32) - 1
        return self._in_units(unit, without_critic(obs))

    def _in_units(self, unit: np.ndarray, own: NestedArray) -> np.ndarray:
        if self._description.has_joints:
            unit = unit * (own[JOINT_MASK] != 0)
        return np.asarray(self._spec.action.shaped(self._middle + unit * self._scale), np.float32)

    def _features(self, obs: NestedArray) -> np.ndarray:
        """Return one vector for each environment, ``(N, F)``, as the learner's ``Flatten`` makes it."""
        parts = []
        values = dict(named_leaves(obs, "" if isinstance(obs, dict) else "obs"))
        for path, leaf in self._leaves.items():
            if path == ACTION_MASK:
                continue
            value = values[path]
            if path in self._norms:
                shift, factor = self._norms[path]
                value = np.clip((value - shift) * factor, -self._description.clip, self._description.clip)
            parts.append(_flat(leaf, value))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, -1)


def _layers(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in count():
        weight, bias = arrays.get(f"weight/{number}"), arrays.get(f"bias/{number}")
        if weight is None or bias is None:
            return
        yield weight, bias


def features(observation: LeafSpec | dict[str, Any]) -> int:
    """Count the numbers that an observation is flattened to; a discrete entry is one-hot."""
    seen = observation
    if isinstance(seen, dict):
        seen = {key: leaf for key, leaf in seen.items() if key != ACTION_MASK}
    return sum(sum(leaf.categories) if leaf.categories else math.prod(leaf.shape) for leaf in leaves(seen))


def _flat(leaf: LeafSpec, value: np.ndarray) -> np.ndarray:
    flat = value.reshape(len(value), -1)
    if not leaf.categories:
        return flat.astype(np.float32, copy=False)
    hot = [np.eye(n, dtype=np.float32)[flat[:, i]] for i, n in enumerate(leaf.categories)]
    return np.concatenate(hot, -1)
