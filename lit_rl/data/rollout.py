"""``RolloutDataModule``: one batch is one rollout, collected with exactly the policy to be trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from lit_rl.arguments import (
    Copies,
    Count,
    EpisodeCount,
    Range,
    Seconds,
    Seed,
    SmallCount,
    Steps,
    check_arguments,
)
from lit_rl.collect.evaluate import MAX_STEPS
from lit_rl.data.arguments import CollectorName, EnvFactory, EnvironmentArguments, EvalPolicy
from lit_rl.data.loaders import Batches
from lit_rl.data.module import RLDataModule
from lit_rl.envs.vector import Vectorization
from lit_rl.types import Rollout


class RolloutDataModule(RLDataModule):
    """Turns environments into rollouts ``[T, N, ...]``, for on-policy learners (PPO and its relatives).

    Args:
        env: Gymnasium id (``CartPole-v1``), or ``class_path`` of an environment class, or a Python callable.
        num_envs: Environments of each rank. More gives less correlated batches and better use of batched
            policies.
        rollout_steps: Steps T per environment and rollout.
        rollouts_per_epoch: Length of an epoch, equal on all ranks. Evaluation follows every epoch.
        vectorization: ``auto`` takes a native batched environment where Gymnasium has one, otherwise steps
            them one after the other; ``async`` divides them over processes (for slow environments).
        env_kwargs: Keyword arguments of the environment.
        wrappers: ``class_path`` of Gymnasium wrappers, applied in order.
        record: Names of values in ``info`` that rollouts record (reward terms, positions).
        eval_episodes: Episodes per evaluation, on environments of their own; over all ranks.
        eval_policy: ``greedy``: evaluations, predictions, videos and playbacks play the most likely actions.
            ``sample``: they draw actions (HMASD: skills, too) as training does, from a seed of their own, so
            that they can be repeated and training does not notice. A policy that must mix its actions is only
            seen so.
        seed: Seed of all environments; None takes the run's seed.
        check: Whether the environment is tried once, to say in plain words what is wrong with it.
        batch_env_steps: Env steps per rollout over all environments of a rank, in place of ``rollout_steps``;
            ``num_envs`` must divide it.
        playback: Write the first episode of each evaluation into ``playback.json`` of the run directory, for
            ``lit-rl report``. The environment must have ``picture`` (``Drawable`` of ``lit_rl.types``).
        num_workers: Processes over which ``async``, or ``collector: workers``, divides the environments, per
            rank. None takes one per core that this process may use, at most ``num_envs``; environments that
            wait more than they compute are faster with more.
        step_timeout_s: Longest time in seconds that such a process may take for a step or a reset of its
            environments. After that they are taken to hang: the run saves a checkpoint and ends with an
            error that says where. None takes 600, ``.inf`` waits for ever. Steps in the process of the
            trainer (any other ``vectorization``) cannot be timed: there a second Ctrl-C ends a hanging run.
        collector: ``inline``: this process acts. ``workers``: ``num_workers`` processes act and step their
            share of the environments, and write rollouts into shared memory. One that is killed or stopped is
            replaced, and its environments begin new episodes. They act on the CPU. ``ray``: the workers are
            actors of Ray, on this machine or on many, and give the same numbers (extra ``fleet``).
        max_policy_lag: Rollouts that workers collect ahead while this process trains; a rollout is then of a
            policy that is older by so many updates, for which the learner corrects. 0 is strictly on-policy.
        buffer_size: Transitions for which the shared buffer of ``workers`` has room; None has as much as is
            needed, which is ``max_policy_lag + 1`` rollouts.
        update_interval: With ``max_policy_lag``, env steps after which a worker looks for newer weights
            within a rollout; None keeps the weights for a rollout.
        ray_address: Address of the Ray cluster of ``collector: ray`` (``auto`` for one that runs on this
            machine); None starts one for this run, which listens on loopback only. Whoever reaches the ports
            of a cluster can run code on it.
        eval_max_steps: Steps after which an evaluation episode is cut, with a warning, where the policy does
            not come to its end: it counts with its return so far.
    """

    def __init__(
        self,
        env: str | EnvFactory,
        num_envs: Copies = 8,
        rollout_steps: Steps = 128,
        rollouts_per_epoch: Count = 10,
        vectorization: Vectorization = "auto",
        env_kwargs: dict[str, Any] | None = None,
        wrappers: list[EnvFactory] | None = None,
        record: list[str] | None = None,
        eval_episodes: EpisodeCount = 10,
        eval_policy: EvalPolicy = "greedy",
        seed: Seed | None = None,
        check: bool = True,
        batch_env_steps: Count | None = None,
        playback: bool = False,
        num_workers: SmallCount | None = None,
        step_timeout_s: Seconds | None = None,
        collector: CollectorName = "inline",
        max_policy_lag: Annotated[int, Range(at_least=0, at_most=1000)] = 0,
        buffer_size: Count | None = None,
        update_interval: Count | None = None,
        ray_address: str | None = None,
        eval_max_steps: Steps = MAX_STEPS,
    ) -> None:
        given = dict(locals())
        check_arguments(RolloutDataModule, given)
        if batch_env_steps is not None:
            rollout_steps = _steps_of_each(batch_env_steps, num_envs)
        if buffer_size is not None:
            _check_room(buffer_size, collector, rollout_steps * num_envs, max_policy_lag)
        super().__init__(EnvironmentArguments.among(given), given)
        self.max_policy_lag = max_policy_lag
        self.rollout_steps, self.rollouts_per_epoch = rollout_steps, rollouts_per_epoch

    @property
    def collect_steps(self) -> int:
        """Steps of every environment in one rollout."""
        return self.rollout_steps

    @property
    def rollout_rows(self) -> int:
        """Transitions in a rollout of a rank, those of each agent counted."""
        return self.rollout_steps * self.num_envs * max(1, len(self.spec.agents))

    def train_dataloader(self) -> Batches:
        """Return ``rollouts_per_epoch`` rollouts, each collected when it is asked for."""
        return Batches(self._rollouts, self.rollouts_per_epoch)

    def _rollouts(self) -> Iterator[Rollout]:
        self.environments.begin()
        for _ in range(self.rollouts_per_epoch):
            yield self.environments.collect(self.environments.learner, self.rollout_steps)


def _check_room(buffer_size: int, collector: str, transitions: int, max_policy_lag: int) -> None:
    """Refuse a buffer that has no room for all rollouts that are under way.

    Raises:
        ValueError: It is too small, or nobody shares it.
    """
    if collector != "workers":
        raise ValueError(
            f"RolloutDataModule: buffer_size = {buffer_size} needs collector = workers, got {collector}"
        )
    needed = (max_policy_lag + 1) * transitions
    if buffer_size < needed:
        raise ValueError(
            f"RolloutDataModule: buffer_size = {buffer_size} has no room for max_policy_lag + 1 = "
            f"{max_policy_lag + 1} rollouts of {transitions} transitions, which need {needed}; give a larger "
            "buffer_size, or fewer batch_env_steps"
        )


def _steps_of_each(batch_env_steps: int, num_envs: int) -> int:
    """Divide the env steps of a batch among its environments.

    Raises:
        ValueError: ``num_envs`` does not divide ``batch_env_steps``; the message names some that do.
    """
    if batch_env_steps % num_envs:
        fitting = [n for n in range(1, batch_env_steps + 1) if batch_env_steps % n == 0]
        near = [n for n in fitting if n < num_envs][-3:] + [n for n in fitting if n > num_envs][:3]
        raise ValueError(
            f"RolloutDataModule: batch_env_steps = {batch_env_steps} is not divisible by num_envs = "
            f"{num_envs}; num_envs that would fit: {', '.join(map(str, near)) or 'none'}"
        )
    return batch_env_steps // num_envs
