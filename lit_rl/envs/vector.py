"""Make N environments that step together: copies here, in other processes, native batches or EnvPool."""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec as Registration
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import lit_rl.envs.arm
import lit_rl.envs.go2  # noqa: F401  # registers GO2-v0, as the line above PlanarArm-v0
from lit_rl.envs.check import check_env
from lit_rl.envs.factories import accepts, make_one, name_of, takes
from lit_rl.envs.gymnasium.normalizers import normalizer_hints
from lit_rl.envs.gymnasium.vector import GymnasiumVectorEnv
from lit_rl.envs.workers.vector import WorkerVectorEnv
from lit_rl.types import VectorEnv

Source: TypeAlias = str | Callable[..., Any]
Wrapper: TypeAlias = Callable[[gymnasium.Env], gymnasium.Env]
Vectorization: TypeAlias = Literal["auto", "native", "sync", "async", "envpool"]
Autoreset: TypeAlias = Literal["auto", "same_step", "next_step", "disabled"]

_AUTORESET = {
    "auto": AutoresetMode.SAME_STEP,
    "same_step": AutoresetMode.SAME_STEP,
    "next_step": AutoresetMode.NEXT_STEP,
    "disabled": AutoresetMode.DISABLED,
}
_JAX_ONLY = ("gymnasium.envs.phys2d.", "gymnasium.envs.tabular.")


def make_vector_env(
    env: Source,
    num_envs: int,
    *,
    vectorization: Vectorization = "auto",
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    record: Sequence[str] = (),
    render: bool = False,
    autoreset: Autoreset = "auto",
    check: bool = False,
    num_workers: int | None = None,
    step_timeout_s: float | None = None,
    global_state: bool = True,
) -> VectorEnv:
    """Make N environments that step together.

    Args:
        env: A Gymnasium id (``"package:Id-v0"`` imports ``package`` first), or a callable. One that takes
            ``num_envs`` makes the whole ``VectorEnv``; any other makes one ``gymnasium.Env`` or PettingZoo
            ``ParallelEnv`` (for ``ParallelVectorEnv``), called N times.
        num_envs: Number N of environments.
        vectorization: ``native`` is the batched class an id may be registered with (or what that class names
            as its attribute ``native``, a ``VectorEnv``), ``sync`` N copies in this process, ``envpool`` the
            pool of that name. ``async``, for slow environments, divides the copies, or the batch of a
            callable that takes ``num_envs``, over ``num_workers`` processes (``WorkerVectorEnv``). ``auto``
            takes native where it exists, needs no JAX and knows the arguments given, else sync. HalfCheetah,
            Hopper, Walker2d, Ant and Humanoid (v5) have native batches here, equal to Gymnasium's to the last
            bit of a float32; the other tasks of MuJoCo stay with Gymnasium.
        env_kwargs: Arguments of the environment.
        wrappers: Wrappers of each single environment, the first one innermost.
        record: Keys of ``info`` to return in ``Step.metrics``.
        render: Whether the environments are made with ``render_mode="rgb_array"``, for ``frame()``.
        autoreset: Way in which sync and async environments restart; ``auto`` is same-step.
        check: Whether a throw-away copy is tried first (``check_env``); native batches and EnvPool have none.
        num_workers: Processes of ``async``; None takes one per core that this process may use, at most N.
        step_timeout_s: Longest time in seconds that a process of ``async`` may take for a step or a reset of
            its environments, before they are taken to hang; None takes 600, infinity waits for ever. Steps in
            this process cannot be timed.
        global_state: Whether the global state of a PettingZoo ``ParallelEnv`` is observed.

    Raises:
        ValueError: Unknown id, missing package, contradicting or unsupported arguments. One line each.
        TypeError: ``env`` or what it returns is of another kind.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if vectorization not in get_args(Vectorization):
        *most, last = get_args(Vectorization)
        raise ValueError(f"vectorization must be {', '.join(most)} or {last}, got {vectorization!r}")
    for argument, value in (("num_workers", num_workers), ("step_timeout_s", step_timeout_s)):
        if value is not None and vectorization != "async":
            raise ValueError(
                f"{argument}={value:g} needs vectorization='async', got vectorization={vectorization!r}"
            )
    if not isinstance(env, str) and not callable(env):
        raise TypeError(f"env must be a Gymnasium id or a callable, got {type(env).__name__}")
    kwargs = dict(env_kwargs or {}) | ({"render_mode": "rgb_array"} if render else {})
    if render and not isinstance(env, str) and not accepts(env, ["render_mode"]):
        raise ValueError(
            f"render=True (a video, say) needs env={name_of(env)!r} to have an argument render_mode"
        )

    def placed(make: Callable[[int], VectorEnv]) -> VectorEnv:
        if vectorization == "async":
            return WorkerVectorEnv(make, num_envs, num_workers, step_timeout_s)
        return make(num_envs)

    is_plain = not wrappers and autoreset == "auto"
    if not isinstance(env, str) and takes(env, "num_envs"):
        if not is_plain or vectorization not in ("auto", "native", "async"):
            raise ValueError(
                f"env={name_of(env)!r} takes num_envs, so it makes its own batch: leave out wrappers and "
                "autoreset, and vectorization must be auto, native or async"
            )
        return placed(partial(_make_own_batch, env, kwargs=kwargs, record=record))
    try:
        how = vectorization if vectorization != "auto" else _choose(env, kwargs, is_plain)
        if how == "native" and isinstance(env, str) and is_plain and (batch := _native_of(env)):
            with _without_deprecations_of_mujoco(env):
                return _make_own_batch(batch, num_envs, {**_registration(env).kwargs, **kwargs}, record)
        if how in ("native", "envpool"):
            if not isinstance(env, str) or not is_plain:
                raise ValueError(
                    f"vectorization={how!r} takes a Gymnasium id without wrappers or autoreset; use 'sync'"
                )
            envs = (_make_envpool if how == "envpool" else _make_native)(env, num_envs, kwargs)
            return _as_vector_env(envs, name_of(env), record)
        env_fn = _single_env_fn(env, kwargs, wrappers)
        if check:
            check_env(env_fn, name=name_of(env))
        elif how == "async":
            env_fn().close()  # what is missing, and an environment of several agents, shows here
        mode = _AUTORESET[autoreset]
        return placed(partial(_make_copies, env_fn, mode=mode, name=name_of(env), record=record))
    except _MakesParallelEnv:
        pass
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        if type(error).__name__ == "DeprecatedEnv":  # PettingZoo's, which is an ImportError
            raise ValueError(f"env={name_of(env)!r}: {error}") from error
        raise ValueError(f"env={name_of(env)!r} needs a package that is not installed: {error}") from error
    if not is_plain or vectorization not in ("auto", "sync", "async"):
        raise ValueError(
            f"env={name_of(env)!r} makes a PettingZoo ParallelEnv: leave out wrappers and autoreset, and "
            "vectorization must be auto, sync or async"
        )
    return placed(_parallel_batch_fn(env, kwargs, record, check, global_state))


def batch_fn(env: Source, **arguments: Any) -> Callable[[int], VectorEnv]:
    """Return a function that calls :func:`make_vector_env` with these arguments, also in another process.

    Args:
        env: Gymnasium id, or a callable, as :func:`make_vector_env` takes it.
        **arguments: Its further arguments, without ``num_envs``.
    """
    registered = _registration(env) if isinstance(env, str) else None
    return partial(_make_batch, env, registered, arguments)


def _make_batch(
    env: Source, registered: Registration | None, arguments: dict[str, Any], num_envs: int
) -> VectorEnv:
    if isinstance(env, str):
        _register(env, registered)
    return make_vector_env(env, num_envs, **arguments)


def _as_vector_env(envs: gymnasium.vector.VectorEnv, name: str, record: Sequence[str]) -> VectorEnv:
    try:
        return GymnasiumVectorEnv(envs, name, record)
    except BaseException:
        envs.close()
        raise


def _make_own_batch(
    env: Callable[..., Any], num_envs: int, kwargs: dict[str, Any], record: Sequence[str]
) -> VectorEnv:
    """Call a factory of batches; it may return a ``VectorEnv`` or Gymnasium's."""
    accepts_record = takes(env, "record")
    made = env(num_envs=num_envs, **kwargs, **({"record": record} if record and accepts_record else {}))
    if isinstance(made, gymnasium.vector.VectorEnv):
        for hint in normalizer_hints(made):
            warnings.warn(f"{name_of(env)}: {hint}", stacklevel=2)
        return _as_vector_env(made, name_of(env), record)
    if record and not accepts_record:
        raise ValueError(
            f"env={name_of(env)!r} has no argument record; it cannot report record={list(record)}"
        )
    if not isinstance(made, VectorEnv):
        got = type(made).__name__
        raise TypeError(f"env={name_of(env)!r} takes num_envs, so it must return a VectorEnv, got {got}")
    return made


class _MakesParallelEnv(Exception):  # noqa: N818  # no error: found out by calling the factory
    """A factory makes a PettingZoo environment of several agents."""


def _parallel_batch_fn(
    env: Any, kwargs: dict[str, Any], record: Sequence[str], check: bool, global_state: bool
) -> Callable[[int], VectorEnv]:
    """Return what makes so many copies of a PettingZoo environment, tried once here where ``check``."""
    from lit_rl.envs.pettingzoo.check import check_parallel
    from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv

    if check:
        check_parallel(partial(env, **kwargs), global_state=global_state)
    settings: dict[str, Any] = {"check": False, "record": list(record), "global_state": global_state}
    return partial(ParallelVectorEnv, env, env_kwargs=kwargs, **settings)


def _single_env_fn(
    env: Source, kwargs: dict[str, Any], wrappers: Sequence[Wrapper]
) -> Callable[[], gymnasium.Env]:
    """Return a function that makes one environment with its wrappers, here or in another process."""
    registered = _registration(env) if isinstance(env, str) else None

    def make() -> gymnasium.Env:
        if isinstance(env, str):
            _register(env, registered)
            with _without_deprecations_of_mujoco(env):
                # check_env does once and in words what Gymnasium's checker does in each copy
                single = gymnasium.make(env, **{"disable_env_checker": True, **kwargs})
        else:
            single = make_one(env, kwargs)
        if not isinstance(single, gymnasium.Env):
            pettingzoo = sys.modules.get("pettingzoo")  # whoever made one of its environments imported it
            if pettingzoo and isinstance(single, pettingzoo.ParallelEnv):
                single.close()
                raise _MakesParallelEnv
            is_aec = pettingzoo and isinstance(single, pettingzoo.AECEnv)
            got = f"{type(single).__module__}.{type(single).__name__}"
            hint = "; give the function that makes a PettingZoo ParallelEnv" if is_aec else ""
            raise TypeError(f"env={name_of(env)!r} must return a gymnasium.Env, got {got}{hint}")
        for wrapper in wrappers:
            inner, single = single, wrapper(single)
            if not isinstance(single, gymnasium.Env):
                inner.close()
                got = f"{type(single).__module__}.{type(single).__name__}"
                raise TypeError(f"wrappers: {name_of(wrapper)} must return a gymnasium.Env, got {got}")
        return single

    return make


@contextmanager
def _without_deprecations_of_mujoco(env_id: str) -> Iterator[None]:
    """Keep MuJoCo 4 from printing what it deprecates in Gymnasium's models, and from logging it here."""
    entry = _registration(env_id).entry_point
    if not (isinstance(entry, str) and entry.startswith("gymnasium.envs.mujoco")):
        yield
        return
    import mujoco

    def pass_on(message: str) -> None:
        if "is deprecated" not in message:
            warnings.warn(f"MuJoCo: {message}", RuntimeWarning, stacklevel=2)

    before = mujoco.get_mju_user_warning()  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module
    mujoco.set_mju_user_warning(pass_on)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)  # pyright: ignore[reportAttributeAccessIssue]


def _registration(env_id: str) -> Registration:
    """Return what Gymnasium knows of an id."""
    module, _, name = env_id.rpartition(":")
    if module:
        importlib.import_module(module)
    try:
        return gymnasium.spec(name)
    except gymnasium.error.DeprecatedEnv as error:
        raise ValueError(f"env={env_id!r}: {error}") from None
    except gymnasium.error.Error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3, cutoff=0.5)
        raise ValueError(
            f"env={env_id!r} is not registered in Gymnasium; nearest: {', '.join(near) or 'none'}; "
            "ids of another package are written 'package:Id-v0'"
        ) from None


def _register(env_id: str, registered: Registration | None) -> None:
    """Let a worker process know an id that only the trainer's process has registered."""
    module, _, name = env_id.rpartition(":")
    if module:
        importlib.import_module(module)
    if registered is not None:
        gymnasium.registry.setdefault(name, registered)


def _choose(env: Source, kwargs: dict[str, Any], is_plain: bool) -> str:
    """Choose ``native`` where the id has a batched class that runs here with these arguments."""
    if not isinstance(env, str) or not is_plain:
        return "sync"
    if (batch := _batch_of_mujoco(env)) is not None:
        return "native" if accepts(batch, {**_registration(env).kwargs, **kwargs}) else "sync"
    entry = _registration(env).vector_entry_point
    if entry is None or (isinstance(entry, str) and entry.startswith(_JAX_ONLY)):
        return "sync"
    try:
        batch = _load(entry)
    except ImportError:
        return "sync"
    return "native" if accepts(batch, kwargs) else "sync"


def _load(entry: str | Callable[..., Any]) -> Callable[..., Any]:
    return load_env_creator(entry) if isinstance(entry, str) else entry


def _native_of(env_id: str) -> Callable[..., Any] | None:
    """Return the ``VectorEnv`` that the batched class of an id names as its ``native``, if it has one."""
    entry = _registration(env_id).vector_entry_point
    return _batch_of_mujoco(env_id) if entry is None else getattr(_load(entry), "native", None)


def _batch_of_mujoco(env_id: str) -> Callable[..., Any] | None:
    """Return the batch that plays what an id of Gymnasium's MuJoCo tasks plays, if there is one."""
    registered = _registration(env_id)
    entry = registered.entry_point
    if (
        not isinstance(entry, str)
        or not entry.startswith("gymnasium.envs.mujoco.")
        or registered.additional_wrappers
    ):
        return None
    try:
        from lit_rl.envs.gymnasium.batches import BATCHES
    except ImportError:  # MuJoCo is not installed
        return None
    if entry not in BATCHES:
        return None
    return partial(BATCHES[entry], name=env_id, max_episode_steps=registered.max_episode_steps)


def _make_native(env_id: str, num_envs: int, kwargs: dict[str, Any]) -> gymnasium.vector.VectorEnv:
    if _registration(env_id).vector_entry_point is None:
        raise ValueError(f"vectorization='native': {env_id} has no batched class; use 'auto' or 'sync'")
    return gymnasium.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def _make_copies(
    env_fn: Callable[[], gymnasium.Env],
    num_envs: int,
    *,
    mode: AutoresetMode,
    name: str,
    record: Sequence[str],
) -> VectorEnv:
    """Make copies that step one after the other in this process."""
    envs = SyncVectorEnv([env_fn] * num_envs, copy=False, autoreset_mode=mode)
    return _as_vector_env(envs, name, record)


class _EnvPool(gymnasium.vector.VectorEnv):
    """EnvPool takes its seed when it is made, so a seeded reset makes a new pool."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._start(seed=0)
        self.num_envs = self._pool.num_envs
        self.metadata = self._pool.metadata
        self.single_observation_space = self._pool.single_observation_space
        self.single_action_space = self._pool.single_action_space

    def _start(self, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # its bounds are float64, its observations float32
            self._pool = self._make(seed=seed)
            _ = self._pool.single_observation_space, self._pool.single_action_space  # made when first read

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._pool.close()
            self._start(seed)
        return self._pool.reset(options=options)

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        return self._pool.step(actions)

    def close_extras(self) -> None:
        self._pool.close()


def _make_envpool(env_id: str, num_envs: int, kwargs: dict[str, Any]) -> gymnasium.vector.VectorEnv:
    try:
        envpool = importlib.import_module("envpool")
    except ImportError as error:
        raise ValueError("vectorization='envpool' needs EnvPool: pip install 'lit-rl[envpool]'") from error
    if env_id not in envpool.list_all_envs():
        near = difflib.get_close_matches(env_id, envpool.list_all_envs(), n=3, cutoff=0.5)
        raise ValueError(f"env={env_id!r} is not in EnvPool; nearest: {', '.join(near) or 'none'}")
    return _EnvPool(partial(envpool.make, env_id, env_type="gymnasium", num_envs=num_envs, **kwargs))
