"""Names by which checkpoints know the classes of learners, wherever in lit_rl their files lie."""

from __future__ import annotations

from importlib import import_module

import lit_rl


def public_name(learner: type) -> str:
    """Name a learner: ``lit_rl.PPO`` for one of lit_rl, module and class for one of a user."""
    name = learner.__qualname__
    is_ours = name in lit_rl.__all__ and getattr(lit_rl, name) is learner
    return f"lit_rl.{name}" if is_ours else f"{learner.__module__}.{name}"


def find_class(name: str) -> object:
    """Find the class that :func:`public_name` named; return None where there is no such class.

    Older checkpoints name the file of a learner of lit_rl (``lit_rl.algos.ppo.PPO``), which may have moved.
    """
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] == "lit_rl" and attribute in lit_rl.__all__:
        return getattr(lit_rl, attribute)
    try:
        return getattr(import_module(module), attribute, None)
    except (ImportError, ValueError):
        return None
