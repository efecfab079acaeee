"""What a learner takes from a checkpoint, which is data: nothing in it is unpickled, imported or called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

import fsspec
import torch
from lightning.fabric.utilities.types import _MAP_LOCATION_TYPE
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from torch import Tensor

from lit_rl.algos.argument_types import argument_hints
from lit_rl.algos.hyper_parameters import SavedValues, saved_hyper_parameters
from lit_rl.algos.names import Named, NamedClasses
from lit_rl.algos.recent_episodes import RecentEpisodes
from lit_rl.algos.weights import Weights


class FromCheckpoint(LightningModule):
    """A module that counts its training, and is loaded from a checkpoint without trust in it.

    Attributes:
        env_steps: Env steps of all ranks trained on so far.
        policy_version: Number of batches trained on so far.
        updates: Number of gradient steps so far.
        num_episodes: Episodes of all ranks that ended so far.
        recent_episodes: The latest of them, of this rank.
        action_bounds: Lower and upper bounds of actions that belong to the policy, in place of those of the
            environment; None where it takes the environment's.
        acts_by_state: Whether actions depend on the global state of several agents, not the critic alone.
    """

    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    acts_by_state = False

    def __init__(self) -> None:
        super().__init__()
        self.env_steps = 0
        self.policy_version = 0
        self.updates = 0
        self.num_episodes = 0
        self.recent_episodes = RecentEpisodes()
        self._built = False
        self._weights: Weights | None = None  # with which a new run is to begin

    @_restricted_classmethod
    def load_from_checkpoint(
        cls,  # noqa: N805  # Lightning's own kind of class method
        checkpoint_path: str | Path | IO[bytes],
        map_location: _MAP_LOCATION_TYPE = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        classes: Sequence[Named] = (),
        **kwargs: Any,
    ) -> Self:
        """Load a learner, as Lightning does, with the arguments it was trained with.

        Args:
            checkpoint_path: A checkpoint, as a path, URL or open file.
            map_location: Device of the weights, as in ``torch.load``; None takes the one they were on, and
                the CPU where this machine lacks it.
            hparams_file: Not taken; give the arguments themselves.
            strict: Whether the weights must be exactly those of the networks; None asks the learner.
            weights_only: None and True unpickle plain data only. False lets the file run any code.
            classes: Classes of yours that the checkpoint may name: its learner, encoders. Those of lit_rl,
                and the class that this is called on, need not be given.
            **kwargs: Arguments that replace those in the checkpoint, such as an encoder.

        Raises:
            ValueError: The file is no checkpoint of lit_rl, holds another learner, or names a class that is
                neither of lit_rl nor given.
            RuntimeError: The weights do not fit.
        """
        if hparams_file is not None:
            raise ValueError(
                f"hparams_file={str(hparams_file)!r}: give the arguments themselves, as keywords"
            )
        content = read(checkpoint_path, map_location, weights_only is not False)
        is_path = isinstance(checkpoint_path, str | Path)
        where = checkpoint_path if is_path else getattr(checkpoint_path, "name", "in memory")
        named = NamedClasses(str(where), (cls, *classes), ", or classes=[...]")
        remedy = "load with that class itself"
        learner_class: Any = named.find(content["lit_rl"].get("class_path"), cls, "its learner", remedy)
        learner = learner_class(**_arguments(learner_class, content, named, kwargs))
        learner.configure_model()
        learner.on_load_checkpoint(content)
        weights = content["state_dict"]
        learner.load_state_dict(weights, strict=learner.strict_loading if strict is None else strict)
        devices = (value.device for value in weights.values() if isinstance(value, Tensor))
        return learner.to(next(devices, torch.device("cpu")))

    def init_from(self, checkpoint: str | Path, *, partial: bool = False) -> Self:
        """Begin a new run with the weights and normalizers of ``checkpoint``, and return this learner.

        Counters start at 0, optimizers and episodes afresh. ``Weights`` explains which files are refused;
        ``partial`` leaves out tensors that do not fit, and lists them in the log.
        """
        self._weights = Weights.read(checkpoint, type(self), partial)
        if self._built:
            self.configure_model()
        return self.reset_counters()

    def reset_counters(self) -> Self:
        """Count env steps, updates and episodes from 0 again, and return this learner.

        After ``load_from_checkpoint`` counters go on from the checkpoint, and so does ``EnvStepBudget``.
        """
        self.set_extra_state(dict.fromkeys(self.get_extra_state(), 0))
        self.recent_episodes.clear()
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """Return the counters, as plain integers: reading a buffer on a GPU would synchronise."""
        return {
            "env_steps": self.env_steps,
            "policy_version": self.policy_version,
            "updates": self.updates,
            "num_episodes": self.num_episodes,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`get_extra_state` returned; a checkpoint sets nothing else."""
        for name in self.get_extra_state().keys() & state.keys():
            setattr(self, name, state[name])

    def accept_moved_parts(self, into: str, *parts: str) -> None:
        """Let older checkpoints load, which hold parts of the learner elsewhere.

        Args:
            into: What the names of these parts begin with now, such as ``policy.``.
            *parts: What they began with before.
        """
        self.register_load_state_dict_pre_hook(partial(_move_parts, into, parts))


def read(
    checkpoint: str | Path | IO[bytes], map_location: _MAP_LOCATION_TYPE = None, weights_only: bool = True
) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no checkpoint of lit_rl, or damaged.
    """
    where: Any = _where_there_is if map_location is None else map_location
    try:
        if isinstance(checkpoint, str | Path):
            opened: Any = fsspec.open(str(checkpoint), "rb")
            with opened as file:
                content = torch.load(file, map_location=where, weights_only=weights_only)
        else:
            content = torch.load(checkpoint, map_location=where, weights_only=weights_only)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{checkpoint} is not a checkpoint of lit_rl, or it is truncated ({type(error).__name__})"
        ) from error
    if not is_checkpoint(content):
        raise ValueError(
            f"{checkpoint} is not a checkpoint of lit_rl: it has no state_dict, or no entry 'lit_rl'"
        )
    return content


def _move_parts(
    into: str, parts: tuple[str, ...], _: object, state_dict: dict[str, Any], prefix: str, *__: object
) -> None:
    for name in list(state_dict):
        part = name.removeprefix(prefix)
        if part.startswith(parts):
            state_dict[f"{prefix}{into}{part}"] = state_dict.pop(name)


def is_checkpoint(content: object) -> bool:
    """Tell whether this is what a checkpoint of lit_rl holds."""
    return isinstance(content, dict) and all(
        isinstance(content.get(name), Mapping) for name in ("state_dict", "lit_rl")
    )


def _where_there_is(storage: Any, location: str) -> Any:
    """Put weights on the CPU where this machine lacks the device they were on."""
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    backend = backends.get(location.partition(":")[0])
    return storage if backend is not None and not backend.is_available() else None


def _arguments(
    learner_class: type, content: dict[str, Any], named: NamedClasses, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments that a learner is made with: those given, and of those saved what it takes."""
    saved = saved_hyper_parameters(content, named.checkpoint)
    values = SavedValues(named, "give {argument}=...")
    hints = argument_hints(learner_class)
    parameters = inspect.signature(learner_class).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if (group := content.get("hparams_name")) in parameters and group != "kwargs":
        saved = {str(group): saved}  # a learner that takes all of them as one argument
    arguments = {
        name: values.argument(value, hints.get(name, Any), name)
        for name, value in saved.items()
        if name not in given and (takes_any or name in parameters)
    }
    return arguments | dict(given)
