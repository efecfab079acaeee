"""What a data module is told about its environments, as one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from lit_rl.checks import nearest
from lit_rl.envs.vector import Vectorization

EnvFactory: TypeAlias = dict[str, Any] | Callable[..., Any]
"""Makes a ``gymnasium.Env``, or (with the keyword ``num_envs``) a native ``VectorEnv``; a dict names a
callable by ``class_path`` and ``init_args``."""
EvalPolicy: TypeAlias = Literal["greedy", "sample"]
"""Evaluations play ``greedy`` (the most likely actions) or ``sample`` (actions drawn as in training)."""


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
        num_workers: Processes of ``vectorization="async"``; None decides by the cores.
        step_timeout_s: Longest time in seconds that one of these processes may take for a step; None takes
            600.
        seed: Seed of the first environment of rank 0; None takes that of ``seed_everything``, else 0.
        check: Whether a user's environment is tried once before it is used, to say in plain words what is
            wrong with it.
        eval_episodes: Episodes of one evaluation over all ranks.
        eval_policy: What evaluations, predictions, videos and playbacks play.
        playback: Whether evaluations of a training run write their first episode into ``playback.json``.

    Raises:
        ValueError: More workers are asked for than there are environments, ``eval_policy`` is neither, or
            steps are to be timed that are done in this process.
    """

    env: str | EnvFactory
    num_envs: int = 1
    vectorization: Vectorization = "auto"
    env_kwargs: dict[str, Any] | None = None
    wrappers: Sequence[EnvFactory] | None = None
    record: Sequence[str] | None = None
    num_workers: int | None = None
    step_timeout_s: float | None = None
    seed: int | None = None
    check: bool = True
    eval_episodes: int = 10
    eval_policy: EvalPolicy = "greedy"
    playback: bool = False

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> EnvironmentArguments:
        """Take those arguments of a data module that concern its environments, such as from ``locals()``."""
        return cls(**{field.name: given[field.name] for field in fields(cls)})

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers > self.num_envs:
            raise ValueError(
                f"num_workers = {self.num_workers} is more than num_envs = {self.num_envs}; each needs "
                "an environment"
            )
        if self.eval_policy not in get_args(EvalPolicy):
            known = get_args(EvalPolicy)
            raise ValueError(
                f"eval_policy = {self.eval_policy!r}, expected {' or '.join(known)}: evaluations play the "
                f"most likely actions, or draw them as in training.{nearest(str(self.eval_policy), known)}"
            )
        if self.step_timeout_s is not None and self.vectorization != "async":
            raise ValueError(
                f"step_timeout_s = {self.step_timeout_s:g} needs vectorization = async, got vectorization = "
                f"{self.vectorization}: a step in this process cannot be broken off"
            )
