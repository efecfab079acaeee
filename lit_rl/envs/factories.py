"""Factories of environments: what they are called, which arguments they take, and what they make."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import gymnasium

from lit_rl.types import VectorEnv


def takes(fn: Callable[..., Any], name: str) -> bool:
    """Tell whether ``fn`` names the argument; a class with ``**kwargs`` also has the names of its bases."""
    return any(name in parameters for parameters in _signatures(fn))


def accepts(fn: Callable[..., Any], names: Iterable[str]) -> bool:
    """Tell whether ``fn`` can be called with these keyword arguments; ``**kwargs`` may take any."""
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(fn).values())
    return takes_any or all(takes(fn, name) for name in names)


def make_one(env: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Call a factory of single environments; one that makes batches must name ``num_envs`` to be known.

    Raises:
        TypeError: It makes batches.
    """
    write = f"write num_envs as a parameter of {name_of(env)}, as in (num_envs, **kwargs), to be given it"
    try:
        single = env(**kwargs)
    except TypeError as error:
        if "num_envs" not in str(error) and not _is_class_of_batches(env):
            raise
        raise TypeError(f"env={name_of(env)!r} was called for one environment: {error}; {write}") from error
    if isinstance(single, VectorEnv | gymnasium.vector.VectorEnv):
        single.close()
        raise TypeError(f"env={name_of(env)!r} makes a batch of environments, but takes no num_envs: {write}")
    return single


def _is_class_of_batches(env: Any) -> bool:
    env = env.func if isinstance(env, partial) else env
    return isinstance(env, type) and issubclass(env, gymnasium.vector.VectorEnv)


def name_of(env: Any) -> str:
    """Return the id, or the name of the callable, for messages."""
    if isinstance(env, str):
        return env
    env = env.func if isinstance(env, partial) else env
    return getattr(env, "__name__", type(env).__name__)


def _signatures(fn: Callable[..., Any]) -> Iterable[Iterable[str]]:
    """Yield the parameters of ``fn``, and those of each base to whose constructor ``**kwargs`` may go on."""
    yield _parameters(fn)
    cls = fn
    while isinstance(cls, partial):
        cls = cls.func
    if not isinstance(cls, type):
        return
    for base in cls.__mro__:
        if (init := vars(base).get("__init__")) is None:
            continue
        parameters = _parameters(init)
        yield parameters
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return


def _parameters(fn: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(fn).parameters)
    except ValueError:  # some builtins have no signature
        return {}
