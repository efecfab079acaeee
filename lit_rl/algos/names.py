"""Names by which checkpoints know classes, wherever their files lie, and the only way back to a class.

A checkpoint is data, whoever wrote it: nothing is imported because a checkpoint names it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

import lit_rl

Named = Callable[..., Any]
"""What a checkpoint may name: a class, or a function that the caller named first."""


class UntrustedError(ValueError):
    """A checkpoint names a class, or holds a value, that it may not.

    Args:
        problem: What came, and what is allowed.
        remedy: What a reader may do to whom the class belongs.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: if it is yours, {remedy}")
        self.problem = problem


def public_name(learner: type) -> str:
    """Name a learner: ``lit_rl.PPO`` for one of lit_rl, module and class for one of a user."""
    name = learner.__qualname__
    is_ours = name in lit_rl.__all__ and getattr(lit_rl, name) is learner
    return f"lit_rl.{name}" if is_ours else import_name(learner)


def import_name(found: Named) -> str:
    """Name module and class: the path by which ``found`` is imported."""
    return f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', type(found).__name__)}"


def is_same(name: object, other: object) -> bool:
    """Tell whether two names mean one class, whose file may have moved between them.

    A class of lit_rl goes by its own name anywhere in lit_rl, and one of a user anywhere else, as in
    ``__main__`` of the script that trained it.
    """
    if not (isinstance(name, str) and isinstance(other, str)):
        return False
    return _is_ours(name) == _is_ours(other) and name.rpartition(".")[2] == other.rpartition(".")[2]


@dataclass(frozen=True)
class NamedClasses:
    """The classes that a checkpoint may name: those of lit_rl, and those that its reader named before.

    Args:
        checkpoint: The checkpoint, for messages.
        given: Classes (or functions) that the caller, or the configuration, named.
        alternative: What a reader may do about any class that is missing, for messages.
    """

    checkpoint: str | Path
    given: tuple[Named, ...] = ()
    alternative: str = ""

    def find(self, name: object, base: type, argument: str, remedy: str) -> Named:
        """Find what the checkpoint names; nothing of a user is imported.

        Args:
            name: The name in the checkpoint.
            base: What the class must be a subclass of.
            argument: The place in the checkpoint that names it, for the message.
            remedy: What to do if the class is the reader's own, for the message.

        Raises:
            UntrustedError: The name is of anything else.
            ValueError: It is of a class that is no ``base``.
        """
        known = [found for found in self.given if is_same(import_name(found), name)]
        known.sort(key=lambda found: import_name(found) != name)  # the very name before one that moved
        found = known[0] if known else _find_ours(name, base)
        if found is None:
            raise UntrustedError(
                f"checkpoint {self.checkpoint} names {shown(name)} as {argument}; a checkpoint is data, and "
                "may name nothing but classes of lit_rl and those that you name",
                remedy + self.alternative,
            )
        if isinstance(found, type) and not _is_subclass(found, base):
            raise ValueError(
                f"checkpoint {self.checkpoint} names {shown(name)} as {argument}, which is not a subclass of "
                f"{base.__name__}"
            )
        return found


def shown(value: object, length: int = 80) -> str:
    """Write a value out of a checkpoint in a message: escaped, and cut where it is long."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _find_ours(name: object, base: type) -> type | None:
    """Find a learner or an encoder of lit_rl; its other files are not imported because a checkpoint says so.

    Older checkpoints name the file of a learner (``lit_rl.algos.ppo.PPO``), which may have moved.
    """
    if not isinstance(name, str) or not _is_ours(name):
        return None
    module, _, attribute = name.rpartition(".")
    if _is_subclass(base, LightningModule):
        found = getattr(lit_rl, attribute) if attribute in lit_rl.__all__ else None
    elif _is_subclass(base, nn.Module) and _holds_encoders(module):
        try:
            found = vars(import_module(module)).get(attribute)
        except (ImportError, ValueError):
            return None
        if getattr(found, "__module__", None) != module:
            return None  # something that the file itself imported
    else:
        return None
    return found if isinstance(found, type) else None


def _holds_encoders(module: str) -> bool:
    return module == "lit_rl.nets" or module.rpartition(".")[0] == "lit_rl.encoders"


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "lit_rl"


def _is_subclass(found: type, base: type) -> bool:
    try:
        return issubclass(found, base)
    except TypeError:  # some protocols cannot be asked
        return False
