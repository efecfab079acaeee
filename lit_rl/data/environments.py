"""Training environments of one rank: their seeds, their experience, and how they resume."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lit_rl.collect.fleet.transport import RayTransport
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.random_state import get_rng_state, set_rng_state
from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.collect.workers.transport import LocalProcesses, Transport
from lit_rl.data.arguments import WORKERS, EnvironmentArguments
from lit_rl.data.playback import as_drawable
from lit_rl.envs.class_path import factory
from lit_rl.envs.factories import name_of
from lit_rl.envs.faults import no_exit
from lit_rl.envs.vector import batch_fn, make_vector_env
from lit_rl.ranks import gather_over_ranks
from lit_rl.seeds import derive
from lit_rl.types import Decision, EnvSpec, Learner, Nested, Policy, Rollout, VectorEnv, as_learner

log = logging.getLogger("lit_rl")


class Environments:
    """Training environments of one rank, made when first asked for; they know the trainer and its learner.

    Args:
        arguments: Which environments, how many, and their seeds.
        owner: Name of the data module that they belong to, for messages.

    Raises:
        ValueError: The environment or a wrapper names nothing that can be imported and called.
    """

    def __init__(self, arguments: EnvironmentArguments, owner: str) -> None:
        self._arguments, self._owner = arguments, owner
        self._checked: Any = None
        self._env = factory(arguments.env, "env")
        self._wrappers = [factory(wrapper, "wrappers") for wrapper in arguments.wrappers or ()]
        self.num_envs = arguments.num_envs
        self.trainer: Trainer | None = None
        self._spec: EnvSpec | None = None
        self._is_checked = not arguments.check
        self._collector: InlineCollector | WorkersCollector | None = None
        self._continues = True
        self._pending: dict[str, Any] | None = None
        self._changed: Sequence[str] = ()  # what makes other environments than those of a checkpoint
        self._left: dict[str, Any] = {"started": False}  # the collector, when the last fit was done with it
        self._resumed_seed: int | None = None
        self._last_learner: weakref.ref[Any] | None = None  # the learner of the last fit

    def bind(self, trainer: Trainer | None) -> bool:
        """Take rank, precision and learner from ``trainer``; called when it sets the data module up.

        Returns:
            Whether training goes on with the learner of the last fit. Another learner starts afresh: it must
            not inherit the episodes (or the replayed transitions) of the one before.
        """
        self.trainer = trainer
        if self._collector is None and not self._looks_at_state and self._spec and self._spec.state:
            self._spec = None  # what was made before the learner was known has a state that this one lacks
        if trainer is None or not self.is_fitting:
            return True
        is_same = self._last_learner is not None and self._last_learner() is trainer.lightning_module
        self._last_learner = weakref.ref(trainer.lightning_module)
        if not is_same:
            self._left = {"started": False}
        return is_same

    # The run they belong to

    @property
    def learner(self) -> Learner:
        """The learner that the trainer trains: unwrapped, so that no DDP hook fires while collecting.

        Raises:
            RuntimeError: There is no trainer yet.
            TypeError: The trainer trains a module that is no learner.
        """
        if self.trainer is None:
            raise RuntimeError(
                "experience is collected while a Trainer runs: call trainer.fit(module, datamodule=...)"
            )
        module = self.trainer.lightning_module
        if module is not self._checked:  # asked for in every batch, checked once
            self._checked = as_learner(module, self._owner)
        return self._checked

    @property
    def is_fitting(self) -> bool:
        """Whether the trainer trains, not only evaluates or predicts."""
        return self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING

    @property
    def rank(self) -> int:
        """Rank of this process; 0 without a trainer."""
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def world_size(self) -> int:
        """Number of ranks; 1 without a trainer."""
        return self.trainer.world_size if self.trainer is not None else 1

    def precision(self) -> AbstractContextManager[None]:
        """Return the trainer's precision context.

        A policy that acted without it would give another probability than in training under bf16-mixed.
        """
        return self.trainer.precision_plugin.forward_context() if self.trainer else nullcontext()

    @property
    def seed(self) -> int:
        """Seed of this rank's first training environment; those of all ranks follow each other."""
        return derive(self._base_seed, "training") + self.rank * self.num_envs

    def eval_seed(self, num_envs: int) -> int:
        """Return the seed of this rank's first evaluation environment, of so many on each rank."""
        return derive(self._base_seed, "evaluation") + self.rank * num_envs

    @property
    def _base_seed(self) -> int:
        """Seed of the run; a resumed run keeps its own, so that evaluation episodes stay the same."""
        if self._arguments.seed is not None:
            return self._arguments.seed
        if self._resumed_seed is not None:
            return self._resumed_seed
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))

    @property
    def _looks_at_state(self) -> bool:
        """Whether the learner looks at the global state of several agents, as far as it is known."""
        learner = self.trainer.lightning_module if self.trainer is not None else None
        return getattr(learner, "looks_at_state", True)

    # Environments

    def make(self, num_envs: int, *, render: bool = False) -> VectorEnv:
        """Make ``num_envs`` environments.

        Raises:
            ValueError: They do not keep to their interface, or a playback is asked for and they cannot be
                drawn.
        """
        check, self._is_checked = not self._is_checked, True  # once is enough
        with no_exit(name_of(self._env)):
            env = make_vector_env(self._env, num_envs, render=render, check=check, **self._batch(num_envs))
        if self._arguments.playback:
            as_drawable(env)
        self._spec = self._spec or env.spec
        return env

    def _batch(self, num_envs: int) -> dict[str, Any]:
        """Return further arguments of ``make_vector_env``."""
        arguments = self._arguments
        has_workers = arguments.vectorization == "async"
        return {
            "vectorization": arguments.vectorization,
            "env_kwargs": arguments.env_kwargs,
            "global_state": self._looks_at_state,
            "wrappers": self._wrappers,
            "record": arguments.record or (),
            "num_workers": arguments.num_workers and min(arguments.num_workers, num_envs)
            if has_workers
            else None,
            "step_timeout_s": arguments.step_timeout_s if has_workers else None,
        }

    @property
    def collector(self) -> InlineCollector | WorkersCollector:
        """The collector of the training environments."""
        if self._collector is None:
            self._collector = self._make_collector()
            self._continues = self._collector.set_state(self._left)
        return self._collector

    @property
    def workers(self) -> WorkersCollector:
        """The collector of the training environments, where it has workers.

        Raises:
            RuntimeError: It has none.
        """
        collector = self.collector
        if not isinstance(collector, WorkersCollector):
            raise RuntimeError(f"collector = {self._arguments.collector} has no workers")
        return collector

    def _make_collector(self) -> InlineCollector | WorkersCollector:
        arguments = self._arguments
        if arguments.collector == "inline":
            return InlineCollector(self.make(self.num_envs), self.seed)
        if not self._is_checked or arguments.playback:
            self.make(1).close()  # says in plain words what is wrong, before processes are started
        transport: Transport = LocalProcesses()
        if arguments.collector == "ray":
            transport = RayTransport(arguments.ray_address, arguments.num_workers, self.num_envs)
        try:
            collector = WorkersCollector(
                batch_fn(self._env, **self._batch(self.num_envs)),
                self.num_envs,
                self.seed,
                arguments.num_workers,
                arguments.step_timeout_s,
                arguments.max_policy_lag,
                arguments.update_interval,
                transport=transport,
            )
        except BaseException:
            transport.close()
            raise
        self._spec = self._spec or collector.spec
        return collector

    @property
    def spec(self) -> EnvSpec:
        """Observation and action of the environments."""
        return self._spec or self.collector.spec

    def close(self) -> None:
        """Close the environments; training again continues where they stopped."""
        if self._collector is not None:
            self._left = self._collector.get_state()
            self.abandon()

    def abandon(self) -> None:
        """Close the environments where something failed; their state, which may be broken, is not kept."""
        if self._collector is not None:
            self._collector.close()
            self._collector = None

    # Collection

    def begin(self, lost: str = "") -> bool:
        """Continue environments and random generators where a checkpoint left them; at the start of an epoch.

        Args:
            lost: What the data module could not keep of the experience of a checkpoint, for the log.

        Returns:
            False when the environments could not be restored, so that all episodes start anew.
        """
        if self._pending is None:
            _ = self.collector
            return self._continues
        state, self._pending = self._pending, None
        left, lost = state["collector"], f"; {lost}" if lost else ""
        exact = self.collector.set_state(left)
        set_rng_state(state["rng"])
        if exact and not lost:
            log.info("resumed: environments, random generators and data continue bit for bit")
        elif exact:
            log.info("resumed: environments and random generators continue%s", lost)
        else:
            why = self._why_not_exact(left)
            log.info("resumed: %s, so episodes start anew; random generators continue%s", why, lost)
        return exact

    def begin_elsewhere(self, lost: str = "") -> None:
        """Continue random generators where a checkpoint left them: the environments are somewhere else.

        Args:
            lost: What the data module could not keep of the experience of a checkpoint, for the log.
        """
        if self._pending is None:
            return
        state, self._pending = self._pending, None
        set_rng_state(state["rng"])
        log.info(
            "resumed: random generators and data continue; the environments of actors elsewhere go on by "
            "themselves%s", f"; {lost}" if lost else "",
        )  # fmt: skip

    def look(self) -> None:
        """Make one environment for a moment, to know its spec: others play."""
        if self._spec is None:
            self.make(1).close()

    def _why_not_exact(self, left: dict[str, Any]) -> str:
        """Say why the state ``left`` by a collector does not fit these environments."""
        if self._changed:
            names = ", ".join(self._changed)
            return f"the environment is not that of the checkpoint ({names})"
        before = len(left["reset"])
        if before != self.num_envs:
            return f"the checkpoint has num_envs = {before} and this run {self.num_envs}"
        streams = left.get("streams", [])
        if left["env"] is not None and (streams or self._arguments.collector in WORKERS):
            number = f"{len(streams)} workers" if streams else "one process"
            return f"the checkpoint is of {number}, whose random streams no other number has"
        name = self.collector.unknown_class
        return f"{self.spec.name} cannot save its state ({name})"

    def collect(self, policy: Policy, num_steps: int) -> Rollout:
        """Collect one rollout under the trainer's precision, without gradients.

        Raises:
            RuntimeError: The learner is in the middle of an update.
        """
        learner = self.learner
        if learner.is_updating:
            raise RuntimeError(
                "experience was asked for in the middle of an update, and would be of no one policy; "
                "iterate the dataloader between updates, in the trainer's thread"
            )
        self.collector.device = learner.device
        with torch.no_grad(), self.precision():
            return self.collector.collect(policy, num_steps, learner.policy_version)

    def collect_greedy(self, num_steps: int) -> Rollout:
        """Collect one rollout of the greedy policy."""
        return self.collect(_Greedy(self.learner), num_steps)

    # State

    def state_dict(self, own: dict[str, Any]) -> dict[str, Any]:
        """Return environments, generators and ``own`` (say, a replay ring) of all ranks."""
        collector = self._left if self._collector is None else self._collector.get_state()
        state = {"collector": collector, "rng": get_rng_state(), "seed": self._base_seed, "own": own}
        if self._pending is not None:  # saved again before the loaded state was used
            state |= self._pending
        return {"ranks": gather_over_ranks(state, self.world_size)}

    def load_state_dict(self, state: dict[str, Any], changed: Sequence[str] = ()) -> dict[str, Any]:
        """Keep this rank's state for :meth:`begin`, and return what was given as ``own``.

        An evaluation needs none of it and returns nothing: it may run on any number of ranks.

        Args:
            state: What :meth:`state_dict` returned.
            changed: Names of the arguments that make other environments than those of ``state``, in which
                episodes cannot go on.

        Raises:
            ValueError: The checkpoint was written by another number of ranks.
        """
        if self.trainer is not None and not self.is_fitting:
            return {}
        ranks = state["ranks"]
        if len(ranks) != self.world_size:
            raise ValueError(
                f"the checkpoint was written by {len(ranks)} ranks, this run has {self.world_size}; "
                "resume with the same trainer.devices"
            )
        own: dict[str, Any] = ranks[self.rank]
        if changed:  # also for a checkpoint that is saved before the next batch
            own = {**own, "collector": own["collector"] | {"env": None}, "own": {}}
        self._pending, self._resumed_seed, self._changed = own, own["seed"], changed
        return own["own"]


class _Greedy:
    """A policy that takes the most likely action of another one."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.initial_carry = policy.initial_carry

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        return self._policy.act(obs, carry, reset, greedy=True)
