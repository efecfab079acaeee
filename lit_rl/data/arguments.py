"""What a data module is told about its environments, as one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias

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
from lit_rl.collect.fleet.session import check_installed
from lit_rl.envs.vector import Vectorization

EnvFactory: TypeAlias = dict[str, Any] | Callable[..., Any]
"""Makes a ``gymnasium.Env``, or (with the keyword ``num_envs``) a native ``VectorEnv``; a dict names a
callable by ``class_path`` and ``init_args``."""
EvalPolicy: TypeAlias = Literal["greedy", "sample"]
"""Evaluations play ``greedy`` (the most likely actions) or ``sample`` (actions drawn as in training)."""
CollectorName: TypeAlias = Literal["inline", "workers", "ray"]
"""Training environments are played by the trainer's process, worker processes, or actors of Ray."""
WORKERS = ("workers", "ray")
"""Collectors that have workers."""


@dataclass(frozen=True)
class EnvironmentArguments:
    """Arguments of a data module that concern its environments.

    Args:
        env: Gymnasium id, or a factory.
        num_envs: Training environments of each rank.
        vectorization: Way in which environments are stepped together, an argument of ``make_vector_env``.
        env_kwargs: Keyword arguments of the environment.
        wrappers: Wrappers that are applied to every Gymnasium environment, in order.
        record: Names of values in ``info`` that batches hold as ``metrics``.
        num_workers: Processes of ``vectorization="async"`` or ``collector="workers"``, actors of
            ``collector="ray"``; None decides by the cores.
        step_timeout_s: Longest time in seconds that one of these processes may take for a step; None takes
            600.
        collector: Who acts in the training environments.
        max_policy_lag: Rollouts that workers collect ahead.
        update_interval: Env steps of a worker after which it looks for newer weights while it collects ahead;
            None keeps the weights for a rollout.
        ray_address: Address of the Ray cluster of ``collector="ray"``, or ``auto``; None starts one on this
            machine.
        seed: Seed of all environments; None takes that of ``seed_everything``, else 0.
        check: Whether a user's environment is tried once before it is used, to say in plain words what is
            wrong with it.
        eval_episodes: Episodes of one evaluation over all ranks.
        eval_policy: What evaluations, predictions, videos and playbacks play.
        playback: Whether evaluations of a training run write their first episode into ``playback.json``.
        eval_max_steps: Steps after which an evaluation episode without an end is cut.

    Raises:
        ValueError: More workers are asked for than there are environments, an argument is
            outside its range, steps are to be timed that are done in this process, workers are to
            have workers, or Ray is not installed.
    """

    env: str | EnvFactory
    num_envs: Copies = 1
    vectorization: Vectorization = "auto"
    env_kwargs: dict[str, Any] | None = None
    wrappers: Sequence[EnvFactory] | None = None
    record: Sequence[str] | None = None
    num_workers: SmallCount | None = None
    step_timeout_s: Seconds | None = None
    collector: CollectorName = "inline"
    max_policy_lag: Annotated[int, Range(at_least=0, at_most=1000)] = 0
    update_interval: Count | None = None
    ray_address: str | None = None
    seed: Seed | None = None
    check: bool = True
    eval_episodes: EpisodeCount = 10
    eval_policy: EvalPolicy = "greedy"
    playback: bool = False
    eval_max_steps: Steps = MAX_STEPS

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> EnvironmentArguments:
        """Take those arguments of a data module that concern its environments, such as from ``locals()``."""
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})

    def __post_init__(self) -> None:
        check_arguments(EnvironmentArguments, vars(self))
        if self.num_workers is not None and self.num_workers > self.num_envs:
            raise ValueError(
                f"num_workers = {self.num_workers} is more than num_envs = {self.num_envs}; each needs "
                "an environment"
            )
        if self.collector == "ray":
            check_installed()
        elif self.ray_address is not None:
            raise ValueError(
                f"ray_address = {self.ray_address!r} needs collector = ray, got collector = {self.collector}"
            )
        has_processes = self.vectorization == "async" or self.collector in WORKERS
        if self.step_timeout_s is not None and not has_processes:
            raise ValueError(
                f"step_timeout_s = {self.step_timeout_s:g} needs vectorization = async or "
                f"collector = workers or ray, got {self.vectorization} and {self.collector}: no step of this "
                "process can be broken off"
            )
        if self.vectorization == "async" and self.collector in WORKERS:
            raise ValueError(
                f"collector = {self.collector} contradicts vectorization = async: its processes step "
                "environments already; leave vectorization at auto"
            )
        if self.max_policy_lag and self.collector not in WORKERS:
            raise ValueError(
                f"max_policy_lag = {self.max_policy_lag} needs collector = workers or ray, got collector "
                f"= {self.collector}: only other processes collect while this one trains"
            )
        if self.update_interval is not None and not self.max_policy_lag:
            raise ValueError(
                f"update_interval = {self.update_interval} needs max_policy_lag of at least 1: a rollout "
                "that is strictly on-policy is of one policy"
            )
