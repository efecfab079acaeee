"""Small cases of all that is shipped: the contract, resume, DDP and metrics tests run over these lists.

A new learner or data module needs a case in ``CASES``, a new collector an entry in ``COLLECTORS``;
``tests/test_cases.py`` fails until it has one, and from then on all those tests try it.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

import lit_rl
import lit_rl.algos
import lit_rl.collect
import lit_rl.data
import lit_rl.encoders
from lit_rl import (
    HMASD,
    PPO,
    SAC,
    TD3,
    MorphologyDataModule,
    PopulationPPO,
    PredictivePPO,
    Predictor,
    RemoteReplayDataModule,
    ReplayDataModule,
    RolloutDataModule,
)
from lit_rl.algos.module import RLModule
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.encoders.attention import AttentionEncoder
from lit_rl.encoders.embodiment import EmbodimentEncoder
from lit_rl.encoders.gnn import GNNEncoder
from lit_rl.encoders.graph_attention import GraphAttentionEncoder
from lit_rl.envs.vector import batch_fn, make_vector_env
from lit_rl.types import Collector
from tests.token_toys import Joints

PENDULUM = Path(__file__).parent / "data" / "pendulum.safetensors"
"""64 transitions of Pendulum-v1, which ``lit-rl predict`` wrote."""

Make = Callable[[int], tuple[RLModule, LightningDataModule]]
"""Takes the number of batches in an epoch."""


def ppo_cartpole(batches: int) -> tuple[RLModule, LightningDataModule]:
    """The plain algorithm."""
    return (
        PPO(hidden=(16, 16), batch_size=64, update_epochs=2, learning_rate=1e-3),
        RolloutDataModule("CartPole-v1", 4, 32, batches, eval_episodes=4, seed=1, check=False),
    )


def ppo_pendulum(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Continuous actions, every normalizer, clipped values, an early end of the epochs, annealing."""
    return (
        PPO(
            hidden=(16,), activation="relu", batch_size=80, update_epochs=4, learning_rate=3e-3,
            clip_value=0.2, entropy_coef=0.01, value_norm=True, huber_delta=1.0, target_kl=0.02,
            anneal_env_steps=4000, normalize_observation=True, normalize_return=True,
        ),
        RolloutDataModule("Pendulum-v1", 2, 80, batches, eval_episodes=2, seed=2, check=False),
    )  # fmt: skip


def ppo_memory(batches: int) -> tuple[RLModule, LightningDataModule]:
    """A recurrent policy."""
    return (
        PPO(hidden=(8,), batch_size=64, update_epochs=2, gru=8, chunk_length=8, learning_rate=1e-3),
        RolloutDataModule("CartPole-v1", 4, 32, batches, eval_episodes=4, seed=3, check=False),
    )


def ppo_annealed(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Learning rate and clip are annealed, and the environments take the run's seed."""
    return (
        PPO(hidden=(8,), batch_size=32, update_epochs=2, anneal_env_steps=1000),
        RolloutDataModule("CartPole-v1", 4, 16, batches, eval_episodes=4),
    )


def ppo_halfcheetah(batches: int) -> tuple[RLModule, LightningDataModule]:
    """A simulator whose solver starts warm, and running statistics of what it returns."""
    normalizers = {"normalize_observation": True, "normalize_return": True}
    return (
        PPO(hidden=(8,), batch_size=16, update_epochs=2, **normalizers),
        RolloutDataModule("HalfCheetah-v5", 2, 16, batches, eval_episodes=2),
    )


def ppo_arm(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Compiled environments of different bodies, whose episodes end in the middle of a batch."""
    arms = {"joints": [3, 4, 5, 6], "num_bodies": 10, "num_steps": 20}
    return (
        PPO(hidden=(8,), batch_size=32, update_epochs=2),
        RolloutDataModule("PlanarArm-v0", 4, 16, batches, env_kwargs=arms, eval_episodes=2),
    )


def ppo_bodies(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Bodies that change after every other rollout, in the middle of episodes."""
    arms = {"num_bodies": 8, "num_steps": 20}
    return (
        PPO(hidden=(8,), batch_size=32, update_epochs=2),
        MorphologyDataModule(
            4, 16, batches, rollouts_per_bodies=2, env_kwargs=arms, num_goals=2, eval_episodes=2
        ),
    )


def population(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Three policies, each for robots with its number, with every normalizer."""
    return (
        PopulationPPO(
            hidden=(8,), batch_size=16, update_epochs=2, learning_rate=1e-3, entropy_coef=0.01,
            clip_value=0.2, value_norm=True, normalize_observation=True, normalize_return=True,
            anneal_env_steps=4000,
        ),
        RolloutDataModule(
            Joints, 6, 16, batches, env_kwargs={"numbers": 3}, eval_episodes=6, seed=12, check=False
        ),
    )  # fmt: skip


def ppo_workers(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Two processes that act and step, with a policy that has memory and normalises what it sees."""
    return (
        PPO(
            hidden=(8,), batch_size=64, update_epochs=2, gru=8, chunk_length=8, learning_rate=1e-3,
            normalize_observation=True,
        ),
        RolloutDataModule(
            "CartPole-v1", 4, 32, batches, eval_episodes=4, seed=12, check=False, collector="workers",
            num_workers=2,
        ),
    )  # fmt: skip


def ppo_ahead(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Rollouts are collected ahead, by weights that are renewed on the way."""
    return (
        PPO(hidden=(8,), batch_size=64, update_epochs=2, learning_rate=1e-3),
        RolloutDataModule(
            "Pendulum-v1", 4, 32, batches, eval_episodes=4, seed=13, check=False, collector="workers",
            num_workers=2, max_policy_lag=1, update_interval=16, buffer_size=256,
        ),
    )  # fmt: skip


def mappo(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Several agents with a central critic."""
    return (
        PPO(
            hidden=(16,), batch_size=160, update_epochs=3, learning_rate=1e-3, value_norm=True,
            huber_delta=10.0, central_critic=True, agent_ids="actor", normalize_observation=True,
        ),
        RolloutDataModule(_alice_bob(), 8, 20, batches, eval_episodes=4, seed=4, check=False),
    )  # fmt: skip


def sac_pendulum(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Windows of two steps, and a ring that is overwritten from the fourth batch on."""
    return (
        SAC(hidden=(16, 16), learning_rate=1e-3, max_grad_norm=5.0),
        ReplayDataModule(
            "Pendulum-v1", 2, steps_per_batch=16, batch_size=16, warmup_steps=50, capacity=150, n_step=2,
            batches_per_epoch=batches, eval_episodes=2, seed=5, check=False,
        ),
    )  # fmt: skip


def sac_legged(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Every option for robots, and fewer updates than env steps, which batches of 3 updates part unevenly."""
    return (
        SAC(
            hidden=(16, 16), learning_rate=1e-3, critic_layer_norm=True, critic_actor_ratio=2,
            initial_std=0.3, normalize_observation=True, action_low=(-1.5,), action_high=(1.0,),
        ),
        ReplayDataModule(
            "Pendulum-v1", 3, steps_per_batch=4, updates_per_step=0.25, batch_size=16, warmup_steps=30,
            training_starts=45, capacity=150, n_step=3, batches_per_epoch=batches, eval_episodes=3, seed=14,
            check=False,
        ),
    )  # fmt: skip


def sac_redq(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Subsets of critics, which ranks must agree on, and a policy that moves at every 20th update."""
    return (
        SAC(
            hidden=(8, 8), learning_rate=1e-3, num_critics=5, target_subset=2, policy_q="mean",
            critic_actor_ratio=20, entropy_backup=False,
        ),
        ReplayDataModule(
            "Pendulum-v1", 2, steps_per_batch=3, updates_per_step=5, batch_size=8, warmup_steps=20,
            capacity=60, batches_per_epoch=batches, eval_episodes=2, seed=18, check=False,
        ),
    )  # fmt: skip


def sac_droq(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Critics that leave units out at random."""
    return (
        SAC(
            hidden=(8, 8), learning_rate=1e-3, critic_layer_norm=True, critic_dropout=0.1, policy_q="mean",
            critic_actor_ratio=20,
        ),
        ReplayDataModule(
            "Pendulum-v1", 2, steps_per_batch=3, updates_per_step=5, batch_size=8, warmup_steps=20,
            capacity=60, batches_per_epoch=batches, eval_episodes=2, seed=19, check=False,
        ),
    )  # fmt: skip


def sac_rlpd(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Half of each minibatch comes from a file, in windows of two steps."""
    return (
        SAC(
            hidden=(8, 8), learning_rate=1e-3, num_critics=4, target_subset=2, policy_q="mean",
            critic_layer_norm=True, critic_actor_ratio=20,
        ),
        ReplayDataModule(
            "Pendulum-v1", 2, steps_per_batch=3, updates_per_step=5, batch_size=8, warmup_steps=20,
            capacity=60, n_step=2, batches_per_epoch=batches, eval_episodes=2, seed=20, check=False,
            demonstrations=str(PENDULUM), demonstration_share=0.5,
        ),
    )  # fmt: skip


GO2 = {"critic": True, "max_traj_length": 15, "timestep_s": 0.01}


def ppo_legs(batches: int) -> tuple[RLModule, LightningDataModule]:
    """A critic that sees what only a simulator knows, mirror images, and a rate that follows KL."""
    return (
        PPO(
            hidden=(8,), batch_size=32, update_epochs=2, central_critic=True, normalize_observation=True,
            initial_std=0.3, adaptive_kl=0.001, symmetry_augmentation=True,
        ),
        RolloutDataModule("GO2-v0", 4, 16, batches, env_kwargs=GO2, eval_episodes=2, seed=15),
    )  # fmt: skip


def sac_central_critic(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Critics that see what only a simulator knows."""
    return (
        SAC(hidden=(16, 16), learning_rate=1e-3, central_critic=True, normalize_observation=True),
        ReplayDataModule(
            "GO2-v0", 3, steps_per_batch=6, updates_per_step=0.5, batch_size=16, warmup_steps=30,
            capacity=150, n_step=2, batches_per_epoch=batches, env_kwargs=GO2, eval_episodes=2, seed=16,
        ),
    )  # fmt: skip


def sac_remote(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Transitions go through the encoding of the wire; actors in other processes have tests of their own."""
    return (
        SAC(hidden=(16, 16), learning_rate=1e-3),
        RemoteReplayDataModule(
            "Pendulum-v1", 2, transport="in_process", steps_per_batch=16, batch_size=16, warmup_steps=50,
            capacity=150, batches_per_epoch=batches, eval_episodes=2, seed=17, check=False,
        ),
    )  # fmt: skip


def td3_pendulum(batches: int) -> tuple[RLModule, LightningDataModule]:
    """A policy that moves at every third update, which batches of 16 updates do not divide."""
    return (
        TD3(hidden=(16, 16), learning_rate=1e-3, policy_delay=3, max_grad_norm=5.0),
        ReplayDataModule(
            "Pendulum-v1", 2, steps_per_batch=16, batch_size=16, warmup_steps=50, capacity=150,
            batches_per_epoch=batches, eval_episodes=2, seed=8, check=False,
        ),
    )  # fmt: skip


def ppo_joints(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Robots of several sizes: actions whose entries do not always exist."""
    return (
        PPO(
            hidden=(16,), batch_size=64, update_epochs=2, learning_rate=1e-3, entropy_coef=0.01,
            normalize_observation=True,
        ),
        RolloutDataModule(Joints, 4, 32, batches, eval_episodes=4, seed=9, check=False),
    )  # fmt: skip


def sac_joints(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Robots of several sizes, whose entropy is that of a joint."""
    return (
        SAC(hidden=(16, 16), learning_rate=1e-3),
        ReplayDataModule(
            Joints, 4, steps_per_batch=8, batch_size=16, warmup_steps=52, capacity=150,
            batches_per_epoch=batches, eval_episodes=4, seed=10, check=False,
        ),
    )  # fmt: skip


def predictor(batches: int) -> tuple[RLModule, LightningDataModule]:
    """What follows is predicted, of robots that are played at random."""
    return (
        Predictor(hidden=(16,), batch_size=60, update_epochs=2),
        RolloutDataModule(Joints, 4, 32, batches, eval_episodes=4, seed=11, check=False),
    )


def predictive_ppo(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Robots of several sizes; encoders beside the policy are tried in its own tests."""
    return (
        PredictivePPO(predict_hidden=(8,), hidden=(16,), batch_size=64, update_epochs=2),
        RolloutDataModule(Joints, 4, 32, batches, eval_episodes=4, seed=12, check=False),
    )


def hmasd(batches: int) -> tuple[RLModule, LightningDataModule]:
    """Memory, skills beside the observations, both levels normalised."""
    return (
        HMASD(
            n_Z=2, n_z=3, k=5, hidden=(16,), embedding=16, heads=2, gru=8, chunk_length=5, update_epochs=2,
            discriminator_epochs=2, minibatches=2, learning_rate=1e-3, anneal_env_steps=100_000,
            agent_ids=True, normalize_observation=True,
        ),
        RolloutDataModule(_alice_bob(), 8, 20, batches, eval_episodes=4, seed=6, check=False),
    )  # fmt: skip


def hmasd_last_layer(batches: int) -> tuple[RLModule, LightningDataModule]:
    """No memory, skills that join late, blocks that are cut, losses that are summed."""
    return (
        HMASD(
            n_Z=3, n_z=2, k=7, hidden=(16,), embedding=16, gru=None, update_epochs=2, discriminator_epochs=2,
            skill_last_layer=True, skill_sync="truncate", token_reduction="sum", skill_baseline=True,
            clip_value=None, huber_delta=None, value_norm=False,
        ),
        RolloutDataModule(_alice_bob(), 8, 20, batches, eval_episodes=4, seed=7, check=False),
    )  # fmt: skip


def _alice_bob() -> dict[str, Any]:
    return {"class_path": "lit_rl.envs.alice_bob.AliceAndBob"}


CASES: dict[str, Make] = {
    make.__name__: make
    for make in (
        ppo_cartpole,
        ppo_pendulum,
        ppo_memory,
        ppo_annealed,
        ppo_halfcheetah,
        ppo_arm,
        ppo_bodies,
        population,
        ppo_workers,
        ppo_legs,
        mappo,
        sac_pendulum,
        sac_legged,
        sac_redq,
        sac_droq,
        sac_rlpd,
        sac_central_critic,
        sac_remote,
        td3_pendulum,
        ppo_joints,
        sac_joints,
        predictor,
        predictive_ppo,
        hmasd,
        hmasd_last_layer,
    )
}

FEW = ("ppo_memory", "sac_pendulum", "hmasd")
"""Cases of all kinds of learning, for tests that take long; the others run with ``-m wide``."""


def few(names: Iterable[str], *kept: str) -> list[Any]:
    """Mark as ``wide`` all names but those of ``FEW`` and those that are ``kept``."""
    chosen = {*FEW, *kept}
    return [name if name in chosen else pytest.param(name, marks=pytest.mark.wide) for name in names]


NOT_GOLDEN = (
    "ppo_annealed", "ppo_halfcheetah", "ppo_arm", "ppo_bodies", "ppo_workers", "ppo_joints", "sac_joints",
    "sac_legged", "sac_redq", "sac_droq", "sac_rlpd", "ppo_legs", "sac_central_critic", "sac_remote",
)  # fmt: skip
"""Cases without numbers in ``tests/golden/``: their seed is that of the run, the version of MuJoCo or of the
compiler matters, or their learner has other numbers there."""

TOKEN_ENCODERS: dict[str, partial[Any]] = {
    "attention": partial(AttentionEncoder, width=16, feedforward=24),
    "gnn": partial(GNNEncoder, width=16),
    "graph_attention": partial(GraphAttentionEncoder, width=16, feedforward=24),
    "embodiment": partial(EmbodimentEncoder, width=16, description=(3, 4, 5)),
}
"""Encoders of parts, 16 features wide; what all of them must keep to runs over this list."""


def inline(env: Any, num_envs: int, seed: int) -> Collector:
    """Collection in this process."""
    return InlineCollector(make_vector_env(env, num_envs), seed)


def one_worker(env: Any, num_envs: int, seed: int) -> Collector:
    """Collection in another process."""
    return WorkersCollector(batch_fn(env), num_envs, seed, 1)


def two_workers(env: Any, num_envs: int, seed: int) -> Collector:
    """Collection in two other processes where there are two environments."""
    return WorkersCollector(batch_fn(env), num_envs, seed, min(2, num_envs))


COLLECTORS: dict[str, Callable[[Any, int, int], Collector]] = {
    make.__name__: make for make in (inline, one_worker, two_workers)
}
"""Each makes a collector of ``num_envs`` environments; ``env`` is what ``make_vector_env`` takes."""


def covered_learners() -> set[type[RLModule]]:
    """Classes of the learners that have a case."""
    return {type(make(1)[0]) for make in CASES.values()}


def covered_data_modules() -> set[type[LightningDataModule]]:
    """Classes of the data modules that have a case."""
    return {type(make(1)[1]) for make in CASES.values()}


def shipped_learners() -> set[type[RLModule]]:
    """Find every learner of lit_rl, exported or not."""
    return set(_shipped(lit_rl.algos, RLModule))


def shipped_data_modules() -> set[type[LightningDataModule]]:
    """Find every data module of lit_rl, exported or not."""
    return set(_shipped(lit_rl.data, LightningDataModule))


def shipped_collectors() -> set[type]:
    """Find every class of ``lit_rl/collect`` that has all methods of ``Collector``."""
    return {cls for cls in defined_in(lit_rl.collect) if issubclass(cls, Collector)}


def shipped_token_encoders() -> set[type]:
    """Find every encoder of ``lit_rl/encoders`` that tells parts apart."""
    return {cls for cls in defined_in(lit_rl.encoders) if hasattr(cls, "loss_name")}


def is_exported(cls: type) -> bool:
    """Whether ``lit_rl`` offers a class by its name."""
    return cls.__name__ in lit_rl.__all__ and getattr(lit_rl, cls.__name__) is cls


def _shipped(package: ModuleType, base: type) -> Iterator[type]:
    """Subclasses of ``base`` that lit_rl exports or that ``package`` defines, without its bases."""
    exported = (getattr(lit_rl, name) for name in lit_rl.__all__)
    for cls in (*exported, *defined_in(package)):
        is_base = cls is base or getattr(cls, "__module__", "") == f"{package.__name__}.module"
        if inspect.isclass(cls) and issubclass(cls, base) and not is_base:
            yield cls


def defined_in(package: ModuleType) -> Iterable[type]:
    """Every class that a file of ``package`` defines."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for _, cls in inspect.getmembers(import_module(found.name), inspect.isclass):
            if cls.__module__ == found.name:
                yield cls
