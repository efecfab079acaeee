"""The classes that a configuration can name, by kind; finding them imports neither them nor torch."""

from __future__ import annotations

import lit_rl
import lit_rl.callbacks
from lit_rl.cli.sources import Source

ENCODERS = {
    "AttentionEncoder": "attention",
    "EmbodimentEncoder": "embodiment",
    "EntityReader": "entities",
    "ExpertsEncoder": "experts",
    "GNNEncoder": "gnn",
    "GraphAttentionEncoder": "graph_attention",
    "ImageEncoder": "image",
    "PerceptronEncoder": "perceptron",
    "TokenReader": "tokens.reader",
}
"""Modules of ``lit_rl.encoders`` by the name of the class."""

ENVIRONMENTS = {
    "AliceAndBob": "alice_bob.grid",
    "AliceAndBobParallel": "alice_bob.parallel",
    "Ants": "gymnasium.contact_runners",
    "ArmSpace": "arm.body",
    "ArmTask": "arm.task",
    "Go2": "go2.go2",
    "Go2Batch": "go2.batch",
    "Go2Task": "go2.task",
    "HalfCheetahs": "gymnasium.runners",
    "Hoppers": "gymnasium.runners",
    "Humanoids": "gymnasium.contact_runners",
    "NativeEnv": "native",
    "ParallelVectorEnv": "pettingzoo.vector",
    "PlanarArm": "arm.arm",
    "PlanarArms": "arm.batch",
    "Scenario": "uav.scenario",
    "UAVNetwork": "uav.network",
    "UAVParallelEnv": "uav.parallel",
    "Walkers": "gymnasium.runners",
}
"""Modules of ``lit_rl.envs`` by the name of an environment, or of the settings of one."""


def kinds() -> dict[str, dict[str, Source]]:
    """List the classes by kind and name."""
    homes = {name: f"lit_rl.{home}" for name, home in lit_rl._HOME.items()}
    return {
        "learners": _classes(homes, "lit_rl.algos."),
        "data modules": _classes(homes, "lit_rl.data."),
        "callbacks": _classes({name: f"lit_rl.callbacks.{home}" for name, home in _callbacks().items()}),
        "encoders": _classes({name: f"lit_rl.encoders.{home}" for name, home in ENCODERS.items()}),
        "environments and their settings": _classes(
            {name: f"lit_rl.envs.{home}" for name, home in ENVIRONMENTS.items()}
        ),
    }


def _callbacks() -> dict[str, str]:
    return lit_rl.callbacks._HOME


def _classes(homes: dict[str, str], within: str = "lit_rl.") -> dict[str, Source]:
    """Return what is a class, and not a function, of the names whose module begins with ``within``."""
    found = {name: Source.find(name, home) for name, home in homes.items() if home.startswith(within)}
    return {name: source for name, source in found.items() if source is not None}
