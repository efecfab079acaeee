"""``ReplayDataModule``: one batch is a block of minibatches, sampled after the matching env steps.

Axes: T steps, N environments.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.arguments import (
    Copies,
    Count,
    EpisodeCount,
    Number,
    Range,
    Seconds,
    Seed,
    SmallCount,
    Steps,
    check_arguments,
)
from lit_rl.buffers import ReplayRing
from lit_rl.collect.evaluate import MAX_STEPS
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.data.arguments import CollectorName, EnvFactory, EnvironmentArguments, EvalPolicy
from lit_rl.data.demonstrations import SHARE, mix, read_demonstrations
from lit_rl.data.loaders import Batches
from lit_rl.data.module import RLDataModule
from lit_rl.envs.vector import Vectorization
from lit_rl.nested import map_nested
from lit_rl.types import Episodes, Nested, Policy, ReplayBatch, Rollout


class ReplayDataModule(RLDataModule):
    """Turns environments into minibatches ``[M, B, ...]`` of replayed transitions, for off-policy learners.

    Each batch first plays ``steps_per_batch`` steps in every environment, then samples
    M = ``steps_per_batch * num_envs * updates_per_step`` minibatches, so the ratio of updates to env steps is
    exact.

    Args:
        env: Gymnasium id, ``class_path`` of an environment class, or a Python callable.
        num_envs: Environments of each rank.
        steps_per_batch: Steps per environment between two batches. More amortises Lightning's loop; the
            policy that collects is up to so many steps old.
        updates_per_step: Minibatches per env step (replay ratio; ``utd_ratio`` elsewhere), also below 1 where
            that makes whole minibatches of a batch. More learns from fewer env steps, at more compute.
        batch_size: Transitions B per minibatch.
        capacity: Transitions the ring keeps, per rank; the oldest are overwritten.
        warmup_steps: Env steps of uniformly random actions before the first batch, per rank
            (``random_steps`` elsewhere).
        training_starts: Env steps before the first batch, per rank: ``warmup_steps`` at random, then the
            policy plays. None starts after the warm-up. More fills the ring before anything is learned.
        n_step: Steps of reward summed before the bootstrap. More propagates rewards faster, with off-policy
            bias.
        batches_per_epoch: Length of an epoch, equal on all ranks. Evaluation follows every epoch.
        memmap: Folder for a memory-mapped ring, for more transitions than memory holds; None keeps it in
            memory.
        vectorization: Way in which environments are stepped together, as of ``RolloutDataModule``.
        env_kwargs: Keyword arguments of the environment.
        wrappers: ``class_path`` of Gymnasium wrappers, applied in order.
        record: Names of values in ``info`` to record.
        eval_episodes: Episodes per evaluation, over all ranks.
        eval_policy: ``greedy`` plays the most likely actions in evaluations; ``sample`` draws them (SAC), or
            adds the noise of exploration (TD3), as of ``RolloutDataModule``.
        seed: Seed of all environments; None takes the run's seed.
        check: Whether the environment is tried once, to say in plain words what is wrong with it.
        playback: Write the first episode of each evaluation into ``playback.json`` of the run directory, for
            ``lit-rl report``. The environment must have ``picture`` (``Drawable`` of ``lit_rl.types``).
        num_workers: Processes of ``vectorization="async"`` or of ``collector: workers``, actors of ``ray``,
            as of ``RolloutDataModule``.
        step_timeout_s: Longest time in seconds that one of them may take for a step, as of
            ``RolloutDataModule``.
        collector: ``inline``, ``workers`` or ``ray``, as of ``RolloutDataModule``. Workers collect while the
            learner waits, so that the ratio of updates to env steps stays exact.
        ray_address: Address of the Ray cluster of ``collector: ray``, as of ``RolloutDataModule``.
        eval_max_steps: Steps after which an evaluation episode without an end is cut, as of
            ``RolloutDataModule``.
        demonstrations: File of transitions of this environment, as ``lit-rl predict`` writes it, of which
            each minibatch holds a share (RLPD, Ball 2023, arXiv:2302.02948). They stay in no ring, and for
            good.
        demonstration_share: That share; None is a half. More learns longer from what was shown.
    """

    def __init__(
        self,
        env: str | EnvFactory,
        num_envs: Copies = 1,
        steps_per_batch: Steps = 64,
        updates_per_step: Annotated[float, Range(above=0, at_most=10_000)] = 1.0,
        batch_size: Count = 256,
        capacity: Annotated[int, Range(at_least=1, at_most=10**10)] = 1_000_000,
        warmup_steps: Number = 1_000,
        n_step: Annotated[int, Range(at_least=1, at_most=1000)] = 1,
        batches_per_epoch: Count = 100,
        memmap: str | None = None,
        vectorization: Vectorization = "auto",
        env_kwargs: dict[str, Any] | None = None,
        wrappers: list[EnvFactory] | None = None,
        record: list[str] | None = None,
        eval_episodes: EpisodeCount = 10,
        eval_policy: EvalPolicy = "greedy",
        seed: Seed | None = None,
        check: bool = True,
        playback: bool = False,
        num_workers: SmallCount | None = None,
        step_timeout_s: Seconds | None = None,
        training_starts: Number | None = None,
        eval_max_steps: Steps = MAX_STEPS,
        collector: CollectorName = "inline",
        ray_address: str | None = None,
        demonstrations: str | None = None,
        demonstration_share: Annotated[float, Range(above=0, below=1)] | None = None,
    ) -> None:
        given = dict(locals())
        check_arguments(ReplayDataModule, given)
        super().__init__(EnvironmentArguments.among(given), given)
        self.steps_per_batch, self.batch_size = steps_per_batch, batch_size
        self.capacity, self.warmup_steps, self.n_step = capacity, warmup_steps, n_step
        self.training_starts = warmup_steps if training_starts is None else training_starts
        self.batches_per_epoch, self.memmap = batches_per_epoch, memmap
        self.save_replay = True
        self._check_sizes(updates_per_step)
        self.minibatches = round(steps_per_batch * num_envs * updates_per_step)
        self._num_shown = self._shown_of_minibatch(demonstrations, demonstration_share)
        self.demonstrations = demonstrations
        self._shown: ReplayRing | None = None
        self._ring: ReplayRing | None = None
        self._pending_ring: dict[str, Any] | None = None

    def _check_sizes(self, updates_per_step: float) -> None:
        exact = self.steps_per_batch * self.num_envs * updates_per_step
        if exact < 1 or abs(exact - round(exact)) > 1e-9:
            raise ValueError(
                "ReplayDataModule: steps_per_batch * num_envs * updates_per_step must be whole minibatches, "
                f"got {self.steps_per_batch} * {self.num_envs} * {updates_per_step} = {exact:g}; "
                f"updates_per_step = {max(1, round(exact))} / {self.steps_per_batch * self.num_envs} would be"
            )
        if self.capacity < self.steps_per_batch * self.num_envs or self.warmup_steps > self.capacity:
            raise ValueError(
                f"ReplayDataModule: capacity = {self.capacity} must hold steps_per_batch * num_envs = "
                f"{self.steps_per_batch * self.num_envs} and warmup_steps = {self.warmup_steps}; raise it"
            )
        if not self.warmup_steps <= self.training_starts <= self.capacity:
            raise ValueError(
                f"ReplayDataModule: training_starts = {self.training_starts} must be between warmup_steps = "
                f"{self.warmup_steps}, which are part of it, and capacity = {self.capacity}"
            )

    def _shown_of_minibatch(self, demonstrations: str | None, share: float | None) -> int:
        """Return how many transitions of each minibatch are demonstrations."""
        if demonstrations is None:
            if share is None:
                return 0
            raise ValueError(
                f"ReplayDataModule: demonstration_share = {share:g} needs a file: give demonstrations, such "
                "as demonstrations.safetensors of a run, which `lit-rl predict` writes"
            )
        exact = self.batch_size * (SHARE if share is None else share)
        if exact < 1 or abs(exact - round(exact)) > 1e-9:
            raise ValueError(
                "ReplayDataModule: batch_size * demonstration_share must be whole transitions, got "
                f"{self.batch_size} * {SHARE if share is None else share:g} = {exact:g}; "
                f"demonstration_share = {max(1, round(exact))} / {self.batch_size} would be"
            )
        return round(exact)

    @property
    def collect_steps(self) -> int:
        """Steps of every environment between two batches."""
        return self.steps_per_batch

    def env_steps_after(self, batches: int) -> int:
        """Return the env steps of this rank after so many batches of a new run, and what is played before."""
        return super().env_steps_after(batches) + sum(self._before_updates) * self.num_envs

    @property
    def _before_updates(self) -> tuple[int, int]:
        """Steps of each environment before the first batch, at random and by the policy."""
        at_random, all_steps = (-(-n // self.num_envs) for n in (self.warmup_steps, self.training_starts))
        return at_random, all_steps - at_random

    @property
    def ring(self) -> ReplayRing:
        """The replay ring of this rank."""
        if self._ring is None:
            path = None if self.memmap is None else str(Path(self.memmap) / f"rank{self.environments.rank}")
            self._ring = ReplayRing(self.capacity, self.num_envs, path)
        return self._ring

    def train_dataloader(self) -> Batches:
        """Return ``batches_per_epoch`` blocks of minibatches, each made when it is asked for."""
        return Batches(self._blocks, self.batches_per_epoch)

    def _blocks(self) -> Iterator[ReplayBatch]:
        saved, self._pending_ring = self._pending_ring, None
        if saved is not None:
            self.ring.set_state(saved)
        if not self._begin(_lost(self.ring, saved)):
            self.ring.end_episodes()  # n-step windows must not run from the old episodes into the new ones
        for _ in range(self.batches_per_epoch):
            yield self._block(self.environments.learner.gamma)

    def _begin(self, lost: str) -> bool:
        """Continue where a checkpoint left, and tell whether episodes go on."""
        return self.environments.begin(lost)

    def _block(self, gamma: float) -> ReplayBatch:
        """Play, store, sample."""
        played, random_steps = self._play()
        start = time.perf_counter()
        sampled = self._sample(gamma)
        sample_s = time.perf_counter() - start
        sizes = [rollout["terminated"].numel() for rollout in played]
        batch: Any = {
            **sampled,
            "new_obs": _seen(played),
            "new_steps": sum(sizes),
            "num_envs": self.num_envs,
            "random_steps": random_steps,
            "replay_size": len(self.ring),
            "metrics": played[-1]["metrics"],
            "episodes": _joined([rollout["episodes"] for rollout in played], sizes),
            "policy_version": played[-1]["policy_version"],
            "collect_s": sum(rollout["collect_s"] for rollout in played),
            "collector": played[-1]["collector"] | self._share(),
            "env_s": sum(rollout["env_s"] for rollout in played),
            "sample_s": sample_s,
        }
        return batch

    def _sample(self, gamma: float) -> dict[str, Any]:
        """Draw minibatches from the ring, and their demonstrations from the file."""
        number = self.batch_size - self._num_shown
        own = self.ring.sample(self.minibatches, number, gamma, self.n_step)
        if not self._num_shown:
            return own
        return mix(own, self.shown.sample(self.minibatches, self._num_shown, gamma, self.n_step))

    def _share(self) -> dict[str, float]:
        is_mixed = self._num_shown > 0
        return {metrics.DEMONSTRATION_SHARE: self._num_shown / self.batch_size} if is_mixed else {}

    @property
    def shown(self) -> ReplayRing:
        """The demonstrations, read from their file at the first time."""
        if self._shown is None:
            if self.demonstrations is None:
                raise ValueError("ReplayDataModule was given no demonstrations")
            self._shown = read_demonstrations(self.demonstrations, self.spec)
        return self._shown

    def setup(self, stage: str) -> None:
        """Bind the environments to the trainer; demonstrations are read before anything is played."""
        super().setup(stage)
        if self._num_shown and stage == "fit":
            _ = self.shown

    def _play(self) -> tuple[list[Rollout], int]:
        """Play the steps of one block into the ring; the first one of a run plays ``training_starts`` before.

        Returns:
            The rollouts, and how many of their env steps, the first ones, were played at random.
        """
        learner = self.environments.learner
        at_random, by_policy = self._before_updates if len(self.ring) == 0 else (0, 0)
        parts: list[tuple[Policy, int]] = [(learner, by_policy), (learner, self.steps_per_batch)]
        if at_random:
            bounds = getattr(learner, "action_bounds", None)  # of learners of lit_rl, when they have own ones
            spec = self.spec if bounds is None else self.spec.within(*bounds)
            parts.insert(0, (UniformPolicy(spec), at_random))
        played = []
        for policy, num_steps in parts:
            if num_steps:
                played.append(self._collect(policy, num_steps))
                self.ring.add(transitions(played[-1]))
        return played, at_random * self.num_envs

    def _collect(self, policy: Policy, num_steps: int) -> Rollout:
        return self.environments.collect(policy, num_steps)

    def local_state(self) -> dict[str, Any]:
        """Return the filled ring, if ``save_replay``."""
        if not self.save_replay:
            return {"ring": None}
        if self._pending_ring is not None:
            return {"ring": self._pending_ring}
        is_filled = self._ring is not None and len(self._ring) > 0
        return {"ring": self.ring.get_state() if is_filled else None}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Keep the ring of a checkpoint until the next batch."""
        self._pending_ring = state.get("ring")

    def forget(self) -> None:
        """Drop the ring: its transitions are of another learner."""
        self._ring = None

    def teardown(self, stage: str) -> None:
        """Close the environments, and a memory-mapped ring; a ring in memory stays for further training."""
        super().teardown(stage)
        self._close_memory_map()

    def on_exception(self, exception: BaseException) -> None:
        """Close everything, a memory-mapped ring included: no file of it stays behind."""
        super().on_exception(exception)
        self._close_memory_map()

    def _close_memory_map(self) -> None:
        if self._ring is not None and self.memmap is not None:
            self._ring.close()
            self._ring = None


def _lost(ring: ReplayRing, saved: dict[str, Any] | None) -> str:
    """Say what a ring does not hold of the state that it was set to, if anything."""
    if len(ring) == 0:
        return "the replay ring starts empty"
    before = int(saved["fields"]["valid"].count_nonzero()) if saved is not None else 0
    return (
        f"the replay ring keeps the newest {len(ring)} of {before} transitions" if len(ring) < before else ""
    )


def _joined(parts: list[Episodes], sizes: list[int]) -> Episodes:
    """Join the episodes of successive rollouts of ``sizes`` env steps into those of one batch."""
    if len(parts) == 1:
        return parts[0]
    before = [0, *accumulate(sizes)]  # env steps of earlier rollouts
    shifted: list[Any] = [
        {**part, "end_step": part["end_step"] + steps} for part, steps in zip(parts, before, strict=False)
    ]
    return map_nested(lambda *leaves: torch.cat(leaves), *shifted)


def transitions(rollout: Rollout) -> dict[str, Nested]:
    """Turn a rollout into transitions ``(T, N, ...)``, each with its true next observation."""
    next_obs = map_nested(_after_first, rollout["obs"])
    if len(rollout["final_index"]):

        def put(leaf: Tensor, final: Tensor) -> Tensor:
            leaf = leaf.clone()
            leaf.view(-1, *leaf.shape[2:])[rollout["final_index"]] = final
            return leaf

        next_obs = map_nested(put, next_obs, rollout["final_obs"])
    valid = rollout["valid"]
    return {
        "obs": map_nested(lambda leaf: leaf[:-1], rollout["obs"]),
        "action": rollout["action"],
        "reward": rollout["reward"],
        "terminated": rollout["terminated"],
        "truncated": rollout["truncated"],
        "next_obs": next_obs,
        "valid": torch.ones_like(rollout["terminated"]) if valid is None else valid,
    }


def _after_first(leaf: Tensor) -> Tensor:
    return leaf[1:]


def _seen(rollouts: list[Rollout]) -> Nested:
    """Return what was seen before each transition of successive rollouts, step after step."""
    parts = []
    for rollout in rollouts:
        obs = map_nested(lambda leaf: leaf[:-1].flatten(0, 1), rollout["obs"])
        valid = rollout["valid"]
        if valid is not None:
            kept = valid.flatten().nonzero().squeeze(1)
            obs = map_nested(lambda leaf, kept=kept: leaf.index_select(0, kept), obs)
        parts.append(obs)
    return parts[0] if len(parts) == 1 else map_nested(lambda *leaves: torch.cat(leaves), *parts)
