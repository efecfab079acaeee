"""Exact state of Gymnasium environments, so that a resumed run continues in the middle of an episode.

Only classes known here (or with their own ``get_state`` and ``set_state``) are saved, by their exact type: a
subclass may hold more than its parent. One unknown class and there is no state at all, never a wrong one.

A state is made of tensors and plain types only, because checkpoints are read with ``weights_only=True``
(``lit_rl.envs.packed``).
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import SyncVectorEnv

from lit_rl.envs.packed import pack, packed_or_none, unpack

_CLASSIC = "gymnasium.envs.classic_control."
_TOY_TEXT = "gymnasium.envs.toy_text."
_MUJOCO_TASKS = (
    "ant",
    "half_cheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "swimmer",
    "walker2d",
)
_MUJOCO_MODULES = {
    f"gymnasium.envs.mujoco.{task}_{version}" for task in _MUJOCO_TASKS for version in ("v4", "v5")
}

_WRAPPER_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gymnasium.wrappers.common.OrderEnforcing": ("_has_reset",),
    "gymnasium.wrappers.common.PassiveEnvChecker": (),  # it only warns
    "gymnasium.wrappers.common.RecordEpisodeStatistics": (
        "episode_count",
        "episode_returns",
        "episode_lengths",
        "time_queue",
        "return_queue",
        "length_queue",
    ),
    "gymnasium.wrappers.common.TimeLimit": ("_elapsed_steps",),
    "gymnasium.wrappers.stateful_observation.TimeAwareObservation": ("timesteps",),
    "gymnasium.wrappers.transform_action.ClipAction": (),
    "gymnasium.wrappers.transform_action.RescaleAction": (),
    "gymnasium.wrappers.transform_observation.DtypeObservation": (),
    "gymnasium.wrappers.transform_observation.FilterObservation": (),
    "gymnasium.wrappers.transform_observation.FlattenObservation": (),
    "gymnasium.wrappers.transform_observation.RescaleObservation": (),
    "gymnasium.wrappers.transform_observation.ReshapeObservation": (),
    "gymnasium.wrappers.transform_reward.ClipReward": (),
}

_ENV_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    f"{_CLASSIC}acrobot.AcrobotEnv": ("state",),
    f"{_CLASSIC}cartpole.CartPoleEnv": ("state", "steps_beyond_terminated"),
    f"{_CLASSIC}cartpole.CartPoleVectorEnv": ("state", "steps", "prev_done", "low", "high"),
    f"{_CLASSIC}continuous_mountain_car.Continuous_MountainCarEnv": ("state",),
    f"{_CLASSIC}mountain_car.MountainCarEnv": ("state",),
    f"{_CLASSIC}pendulum.PendulumEnv": ("state", "last_u"),
    f"{_TOY_TEXT}cliffwalking.CliffWalkingEnv": ("s", "lastaction"),
    f"{_TOY_TEXT}frozen_lake.FrozenLakeEnv": ("s", "lastaction"),
    f"{_TOY_TEXT}taxi.TaxiEnv": ("s", "lastaction", "fickle_step", "taxi_orientation"),
}

# mj_step leaves these one physics step behind qpos and qvel, and the rewards of Ant and Humanoid read some
# before the next step: mj_forward would give other rewards, so they are copied. Contacts are not copied:
# mj_step begins with finding them.
_MUJOCO_DERIVED = (
    *("xpos", "xquat", "xmat", "xipos", "ximat", "xanchor", "xaxis", "geom_xpos", "geom_xmat"),
    *("site_xpos", "site_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir"),
    *("subtree_com", "subtree_linvel", "cdof", "cinert", "cvel", "cacc", "cfrc_int", "cfrc_ext"),
    *("ten_length", "ten_velocity", "actuator_length", "actuator_velocity", "actuator_force", "act_dot"),
    *("qacc", "qfrc_bias", "qfrc_passive", "qfrc_actuator", "qfrc_constraint", "qfrc_smooth", "sensordata"),
)

_MUJOCO_TASK = ("goal", "goal_pos", "cylinder_pos")


def unknown_class(envs: gymnasium.vector.VectorEnv) -> str | None:
    """Name the first class among the environments and wrappers whose state cannot be saved, if any."""
    if type(envs) is not SyncVectorEnv:
        return None if _is_known(envs) else _name(envs)
    for env in envs.envs:
        for layer in _layers(env):
            if not _is_known(layer):
                return _name(layer)
    return None


def get_state(envs: gymnasium.vector.VectorEnv) -> list[dict[str, Any]] | dict[str, Any] | None:
    """Return the state of a batch as tensors and plain types; None when a class is unknown.

    Returns:
        A list with the state of each copy where they step one after the other; a dict for a native batch.
    """
    if unknown_class(envs) is not None:
        return None
    if type(envs) is not SyncVectorEnv:
        return {"num_envs": envs.num_envs, "batch": _get_layer(envs)}
    restarts = envs._autoreset_envs.tolist()
    return [
        {"layers": [_get_layer(layer) for layer in _layers(env)], "autoreset": restart}
        for env, restart in zip(envs.envs, restarts, strict=True)
    ]


def set_state(envs: gymnasium.vector.VectorEnv, state: list[dict[str, Any]] | dict[str, Any]) -> None:
    """Continue from a state that :func:`get_state` returned.

    ``envs`` must be made with the same arguments as the saved ones.

    Raises:
        ValueError: The number of environments, their classes or their wrappers differ.
    """
    saved = len(state) if isinstance(state, list) else state["num_envs"]
    if saved != envs.num_envs:
        raise ValueError(f"the state is of num_envs={saved}, there are num_envs={envs.num_envs}")
    if (type(envs) is SyncVectorEnv) != isinstance(state, list):
        raise ValueError(f"the state is of another vectorization than {_name(envs)}; make them alike")
    envs.reset(seed=0)  # allocates what is filled below
    if isinstance(state, list):
        _set_copies(envs, state)
    else:
        _set_layer(envs, state["batch"])


def _set_copies(envs: Any, state: list[dict[str, Any]]) -> None:
    for env, saved in zip(envs.envs, state, strict=True):
        layers = list(_layers(env))
        if len(layers) != len(saved["layers"]):
            raise ValueError(
                f"the state has {len(saved['layers']) - 1} wrappers, the environment {len(layers) - 1}: {env}"
            )
        for layer, layer_state in zip(layers, saved["layers"], strict=True):
            _set_layer(layer, layer_state)
    envs._autoreset_envs = np.array([saved["autoreset"] for saved in state], bool)


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """Yield the wrappers from outside to inside, then the environment."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _name(layer: Any) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def _is_mujoco(layer: Any) -> bool:
    return type(layer).__module__ in _MUJOCO_MODULES


def _saves_itself(layer: Any) -> bool:
    """Say whether it has ``get_state()`` and ``set_state(state)``; MuJoCo's takes ``(qpos, qvel)``."""
    try:
        inspect.signature(layer.get_state).bind()
        inspect.signature(layer.set_state).bind({})
    except (AttributeError, TypeError):
        return False
    return True


def _is_known(layer: Any) -> bool:
    if _saves_itself(layer):
        return packed_or_none(layer.get_state(), _name(layer)) is not None
    return _is_mujoco(layer) or _name(layer) in _WRAPPER_ATTRIBUTES | _ENV_ATTRIBUTES


def _get_layer(layer: Any) -> dict[str, Any]:
    state: dict[str, Any] = {"class": _name(layer)}
    if _saves_itself(layer):
        state["own"] = packed_or_none(layer.get_state(), _name(layer))
    elif _is_mujoco(layer):
        state["mujoco"] = _get_mujoco(layer)
    else:
        state["attributes"] = {key: pack(getattr(layer, key, None)) for key in _attributes(layer)}
    if not isinstance(layer, gymnasium.Wrapper):
        state["random"] = get_random(layer)
    return state


def _set_layer(layer: Any, state: dict[str, Any]) -> None:
    if state["class"] != _name(layer):
        raise ValueError(f"the state is of {state['class']}, the environment has {_name(layer)} in its place")
    if "own" in state:
        layer.set_state(unpack(state["own"]))
    elif "mujoco" in state:
        _set_mujoco(layer, state["mujoco"])
    else:
        for key in _attributes(layer):
            setattr(layer, key, _like(getattr(layer, key, None), unpack(state["attributes"][key])))
    if "random" in state:
        set_random(layer, state["random"])


def _attributes(layer: Any) -> tuple[str, ...]:
    return (_WRAPPER_ATTRIBUTES | _ENV_ATTRIBUTES)[_name(layer)]


def _like(old: Any, new: Any) -> Any:
    return deque(new, maxlen=old.maxlen) if isinstance(old, deque) else new


def get_random(env: Any) -> dict[str, Any] | None:
    """Return the state of a generator; its 128 bit integers survive ``weights_only=True`` (tested)."""
    generator = getattr(env, "_np_random", None)
    if generator is None:
        return None
    return {"generator": pack(generator.bit_generator.state), "seed": getattr(env, "_np_random_seed", None)}


def set_random(env: Any, state: dict[str, Any] | None) -> None:
    """Give a generator the state that :func:`get_random` returned.

    Raises:
        ValueError: The state names no bit generator of numpy.
    """
    if state is None:
        env._np_random = env._np_random_seed = None
        return
    generator_state = unpack(state["generator"])
    name = generator_state["bit_generator"]
    kind = vars(np.random).get(name)
    if not (isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)):
        raise ValueError(f"the state names {name!r}, expected a bit generator of numpy")
    env._np_random = seeding.RandomNumberGenerator(kind())
    env._np_random.bit_generator.state = generator_state
    env._np_random_seed = state["seed"]


def _get_mujoco(env: Any) -> dict[str, Any]:
    """Return what ``mj_step`` starts from (with the warm start of its solver), and what it derived last."""
    mujoco: Any = import_module("mujoco")

    full = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(env.model, full))
    mujoco.mj_getState(env.model, env.data, integration, full)
    derived = {key: pack(getattr(env.data, key)) for key in _MUJOCO_DERIVED if hasattr(env.data, key)}
    own = {key: pack(getattr(env, key)) for key in _MUJOCO_TASK if hasattr(env, key)}
    return {"integration": pack(integration), "derived": derived, "attributes": own}


def _set_mujoco(env: Any, state: dict[str, Any]) -> None:
    mujoco: Any = import_module("mujoco")

    full = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = unpack(state["integration"])
    size = mujoco.mj_stateSize(env.model, full)
    if integration.size != size:
        has = f"the state has {integration.size} numbers, this model {size}"
        raise ValueError(f"{_name(env)}: {has}; use the same model")
    mujoco.mj_setState(env.model, env.data, integration, full)
    for key in state["derived"].keys() & set(_MUJOCO_DERIVED):
        getattr(env.data, key)[:] = unpack(state["derived"][key])
    for key in state["attributes"].keys() & set(_MUJOCO_TASK):
        setattr(env, key, unpack(state["attributes"][key]))
