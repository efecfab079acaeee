"""What the data modules share: environments, their seeds, evaluation, random generators, resuming."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.data.playback import PlaybackRecorder, check_drawable
from lit_rl.data.random_state import get_rng_state, set_rng_state
from lit_rl.data.video import VideoWriter
from lit_rl.envs.class_path import factory
from lit_rl.envs.vector import make_vector_env
from lit_rl.ranks import gather_over_ranks
from lit_rl.types import Decision, EnvSpec, EvalEpisodes, Nested, Policy, Rollout, VectorEnv

log = logging.getLogger("lit_rl")

EVAL_SEED_OFFSET = 500_009  # evaluation episodes never share a seed with training ones

EnvFactory: TypeAlias = dict[str, Any] | Callable[..., Any]
"""Makes a ``gymnasium.Env``, or (with the keyword ``num_envs``) a native ``VectorEnv``; a dict names a
callable by ``class_path`` and ``init_args``."""

Vectorization: TypeAlias = Literal["auto", "native", "sync", "async", "envpool"]


class Environments:
    """Training and evaluation environments of one rank, made when first asked for.

    Args:
        env: Gymnasium id, or a factory.
        num_envs: Training environments of this rank.
        vectorization: How Gymnasium environments are stepped together.
        env_kwargs: Keyword arguments of the environment.
        wrappers: Applied to every environment, in order.
        record: Names the environment reports in ``info`` that rollouts record as ``metrics``.
        eval_episodes: Episodes of one evaluation over all ranks.
        seed: Of the first environment of rank 0; None takes the run's seed (``seed_everything``), else 0.
        check: Try a user's environment once before it is used, and say in plain words what is wrong with it.
        playback: Write the first evaluation episode of a training run into ``playback.json``.
        num_workers: Processes of ``vectorization="async"``; None decides by the cores.

    Raises:
        ValueError: An argument is outside its range.
    """

    def __init__(
        self,
        env: str | EnvFactory,
        num_envs: int,
        vectorization: Vectorization,
        env_kwargs: dict[str, Any] | None,
        wrappers: Sequence[EnvFactory] | None,
        record: Sequence[str] | None,
        eval_episodes: int,
        seed: int | None,
        check: bool,
        playback: bool = False,
        num_workers: int | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}; set data.init_args.num_envs")
        if eval_episodes < 1:
            raise ValueError(
                f"eval_episodes must be at least 1, got {eval_episodes}; set data.init_args.eval_episodes"
            )
        if num_workers is not None and not 1 <= num_workers <= num_envs:
            raise ValueError(
                f"num_workers must be between 1 and num_envs={num_envs}, got {num_workers}; set "
                "data.init_args.num_workers"
            )
        self._env, self.num_envs, self._num_workers = factory(env, "env"), num_envs, num_workers
        self._vectorization: Vectorization = vectorization
        self._env_kwargs, self._wrappers = (
            dict(env_kwargs or {}),
            [factory(w, "wrappers") for w in wrappers or ()],
        )
        self._record = list(record or [])
        self._eval_episodes, self._seed, self._check, self._playback = eval_episodes, seed, check, playback
        self._collector: InlineCollector | None = None
        self._continues = True
        self._eval_env: VectorEnv | None = None
        self._pending: dict[str, Any] | None = None
        self._left: dict[str, Any] = {"started": False}  # the collector, when the last fit was done with it
        self._resumed_seed: int | None = None
        self.trainer: Trainer | None = None
        self._learner: weakref.ref[Any] | None = None  # of the last fit

    def bind(self, trainer: Trainer | None) -> bool:
        """Take rank, precision and learner from ``trainer``; called when it sets the data module up.

        Returns:
            Whether training goes on with the learner of the last fit. Another learner starts afresh: it must
            not inherit the episodes (or the replayed transitions) of the one before.
        """
        self.trainer = trainer
        if trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return True
        same = self._learner is not None and self._learner() is trainer.lightning_module
        self._learner = weakref.ref(trainer.lightning_module)
        if not same:
            self._left = {"started": False}
        return same

    # Environments

    @property
    def seed(self) -> int:
        """Seed of this rank's first training environment."""
        return self._base_seed + self.rank * self.num_envs

    @property
    def _base_seed(self) -> int:
        """Seed of rank 0; a resumed run keeps its own, so that evaluation episodes stay the same."""
        if self._seed is not None:
            return self._seed
        if self._resumed_seed is not None:
            return self._resumed_seed
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))

    @property
    def rank(self) -> int:
        """Rank of this process; 0 without a trainer."""
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _make(self, num_envs: int, *, render: bool = False) -> VectorEnv:
        check, self._check = self._check, False  # once is enough
        env = make_vector_env(
            self._env,
            num_envs,
            vectorization=self._vectorization,
            env_kwargs=self._env_kwargs,
            wrappers=self._wrappers,
            record=self._record,
            render=render,
            check=check,
            num_workers=self._num_workers and min(self._num_workers, num_envs),
        )
        if self._playback:
            check_drawable(env)
        return env

    @property
    def collector(self) -> InlineCollector:
        """The collector of the training environments."""
        if self._collector is None:
            self._collector = InlineCollector(self._make(self.num_envs), self.seed)
            self._continues = self._collector.set_state(self._left)
        return self._collector

    @property
    def spec(self) -> EnvSpec:
        """Observation and action of the environments."""
        if self._collector is None and self._eval_env is not None:
            return self._eval_env.spec
        return self.collector.env.spec

    def close(self) -> None:
        """Close all environments; training again continues where they stopped."""
        if self._collector is not None:
            self._left = self._collector.get_state()
            self._collector.close()
            self._collector = None
        if self._eval_env is not None:
            self._eval_env.close()
            self._eval_env = None

    # Collection

    def begin(self, ring_is_restored: bool = True) -> bool:
        """Continue environments and random generators where a checkpoint left them; at the start of an epoch.

        Returns:
            False when the environments could not be restored, so that all episodes start anew.
        """
        if self._pending is None:
            _ = self.collector
            return self._continues
        state, self._pending = self._pending, None
        exact = self.collector.set_state(state["collector"])
        set_rng_state(state["rng"])
        if exact and ring_is_restored:
            log.info("resumed: environments, random generators and data continue bit for bit")
        elif exact:
            log.info("resumed: environments and random generators continue; the replay ring starts empty")
        else:
            log.info(
                "resumed: %s cannot save its state (%s), so episodes start anew; random generators continue",
                self.spec.name,
                getattr(self.collector.env, "unknown_class", None) or type(self.collector.env).__name__,
            )
        return exact

    def collect(self, policy: Policy, num_steps: int) -> Rollout:
        """One rollout under the trainer's precision, without gradients.

        Raises:
            RuntimeError: The learner is in the middle of an update.
        """
        module = self.module
        if getattr(module, "is_updating", False):
            raise RuntimeError(
                "experience was asked for in the middle of an update, and would be of no one policy; "
                "iterate the dataloader between updates, in the trainer's thread"
            )
        self.collector.device = module.device
        with torch.no_grad(), self.precision():
            return self.collector.collect(policy, num_steps, module.policy_version)  # type: ignore[arg-type]

    def collect_greedy(self, num_steps: int) -> Rollout:
        """One rollout of the greedy policy."""
        return self.collect(_Greedy(self.module), num_steps)  # type: ignore[arg-type]

    def precision(self) -> Any:
        """The trainer's precision context: without it the probability ratio is wrong under bf16-mixed."""
        return self.trainer.precision_plugin.forward_context() if self.trainer else nullcontext()

    @property
    def module(self) -> LightningModule:
        """The learner: unwrapped, so that no DDP hook fires while collecting."""
        if self.trainer is None:
            raise RuntimeError(
                "experience is collected while a Trainer runs: call trainer.fit(module, datamodule=...)"
            )
        return self.trainer.lightning_module

    def evaluations(self, video: Path | None) -> Iterator[EvalEpisodes]:
        """One batch: this rank's share of the evaluation episodes, played by the greedy policy."""
        start = time.perf_counter()
        share = -(-self._eval_episodes // self._world_size)
        if self._eval_env is None:
            self._eval_env = self._make(share)
        seed = self.seed + EVAL_SEED_OFFSET + self.rank * share
        with torch.no_grad(), self.precision():
            recorder = self._playback_recorder(self._eval_env)
            policy, device = cast("Policy", self.module), self.module.device
            if recorder is None:
                episodes = evaluate(policy, self._eval_env, seed, device)
            else:
                on_step, on_transition = recorder.on_step, recorder.on_transition
                episodes = evaluate(policy, self._eval_env, seed, device, on_step, on_transition)
                recorder.save()
            if video is not None and self.rank == 0:
                self._film(video, seed)
        yield {"episodes": episodes, "seconds": time.perf_counter() - start}

    def _playback_recorder(self, env: VectorEnv) -> PlaybackRecorder | None:
        """What records the first episode of an evaluation while training goes on; None where nothing does."""
        trainer = self.trainer
        if not self._playback or trainer is None or trainer.state.fn != TrainerFn.FITTING or self.rank:
            return None
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        env_steps = cast("Any", self.module).env_steps
        return PlaybackRecorder(env, Path(trainer.default_root_dir) / "playback.json", env_steps)

    def _film(self, video: Path, seed: int) -> None:
        """One more greedy episode, on a single environment that renders."""
        env = self._make(1, render=True)
        try:
            writer = VideoWriter(env, video)
            evaluate(cast("Policy", self.module), env, seed, self.module.device, writer.on_step)
            writer.save()
        finally:
            env.close()

    # State

    def state_dict(self, own: dict[str, Any]) -> dict[str, Any]:
        """This rank's environments, generators and ``own`` (say, a replay ring), gathered over ranks."""
        collector = self._left if self._collector is None else self._collector.get_state()
        state = {"collector": collector, "rng": get_rng_state(), "seed": self._base_seed, "own": own}
        if self._pending is not None:  # saved again before the loaded state was used
            state |= self._pending
        return {"ranks": gather_over_ranks(state, self._world_size)}

    def load_state_dict(self, state: dict[str, Any]) -> dict[str, Any]:
        """Keep this rank's state for :meth:`begin`; returns what was given as ``own``.

        An evaluation needs none of it and returns nothing: it may run on any number of ranks.

        Raises:
            ValueError: The checkpoint was written by another number of ranks.
        """
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            return {}
        ranks = state["ranks"]
        if len(ranks) != self._world_size:
            raise ValueError(
                f"the checkpoint was written by {len(ranks)} ranks, this run has {self._world_size}; "
                "resume with the same trainer.devices"
            )
        own: dict[str, Any] = ranks[self.rank]
        self._pending, self._resumed_seed = own, own["seed"]
        return own["own"]


class _Greedy:
    """The same policy, always at its mode."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.initial_carry = policy.initial_carry

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        return self._policy.act(obs, carry, reset, greedy=True)
