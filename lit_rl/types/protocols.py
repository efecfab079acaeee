"""The protocols by which environments, policies, learners, collectors and callbacks know each other.

Axes: T steps, N environments, A agents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from lit_rl.types.experience import Decision, Nested, NestedArray, Rollout, Step
from lit_rl.types.spec import EnvSpec

if TYPE_CHECKING:  # processes that step environments do without the second and the 180 MB of torch
    import torch
    from torch import Tensor


@runtime_checkable
class VectorEnv(Protocol):
    """N environments stepped together.

    Episodes restart by themselves; ``final_obs`` keeps what was seen last. ``lit_rl.check_vector_env`` tries
    whether a batch keeps to all this.
    """

    num_envs: int
    spec: EnvSpec

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i``. Returns obs ``(N, ...)``."""
        ...

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` ``(N, ...)`` (``(N, A, ...)`` with agents).

        Boxes are clipped to their bounds here. The arrays that come back are new: no later call writes into
        them, nor into ``action``.
        """
        ...

    def get_state(self) -> dict[str, Any] | None:
        """Return what is needed to continue exactly, as tensors and plain types; None when unknown."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned."""
        ...

    def close(self) -> None:
        """Release processes, windows and shared memory; further calls do nothing."""
        ...


@runtime_checkable
class Drawable(Protocol):
    """A ``VectorEnv`` that says what one of its environments looks like, so that reports can draw it."""

    spec: EnvSpec

    def picture(self, env: int) -> dict[str, Any]:
        """Describe environment ``env`` now as plain types for JSON; its ``kind`` says how to draw it."""
        ...


@runtime_checkable
class Deployable(Protocol):
    """A ``VectorEnv`` of a machine that exists: its policies may leave the simulator (``lit-rl export``)."""

    def contract(self) -> dict[str, Any]:
        """Describe in plain types for JSON how the machine runs a policy: order of joints, units, timing."""
        ...

    def trials(self) -> dict[str, Any]:
        """Name the worlds in which a policy is tried before.

        Returns:
            ``settings`` holds, by the name of each world, the arguments of the environment that differ there;
            ``limits`` holds, by names that ``record`` may ask for, ``{"of": "last step" or "all steps",
            "at_most": number}``.
        """
        ...


@runtime_checkable
class Policy(Protocol):
    """Anything that acts. Learners are policies; so are scripts and random baselines."""

    def initial_carry(self, num_envs: int) -> Nested:
        """Return the carry before the first step, leaves ``(N, ...)``; ``{}`` for policies without memory."""
        ...

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Decide for N environments; ``reset`` ``(N,)`` is True where ``obs`` is the first of an episode."""
        ...


@runtime_checkable
class Learner(Policy, Protocol):
    """A policy that is trained: what callbacks and data modules may ask of it."""

    spec: EnvSpec | None
    """Observation and action that the networks were built for; None before."""
    gamma: float
    """Discount per env step."""
    env_steps: int
    """Env steps of all ranks trained on so far."""
    policy_version: int
    """Number of batches trained on so far."""
    updates: int
    """Number of gradient steps so far."""
    num_episodes: int
    """Episodes of all ranks that ended so far."""
    is_updating: bool
    """Whether an update is going on; experience collected now would belong to no single version of the
    policy."""
    progress_metrics: dict[str, float]
    """Values that the last batch logged, by their names in ``metrics.py``."""
    eval_result: dict[str, float | int] | None
    """Statistics of the last evaluation; None before the first, and after one that a signal broke off."""
    eval_seconds: float
    """Wall seconds of the last evaluation."""
    reward_components: dict[str, Tensor] | None
    """Parts of the reward of the batch just trained, each ``(T, N)``; None where a learner has none."""

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        ...

    def log_values(self, values: dict[str, float]) -> None:
        """Log ``values`` over env steps; while a batch ends they become part of its row."""
        ...

    def log_point(self, values: dict[str, float], env_steps: int) -> None:
        """Log ``values`` at a step inside the batch."""
        ...


def as_learner(module: object, asked_by: str) -> Learner:
    """Return ``module`` if it is a learner, and refuse it otherwise.

    Args:
        module: The object that the trainer trains.
        asked_by: Name of the callback or data module that needs a learner, for the message.

    Raises:
        TypeError: ``module`` lacks something that ``Learner`` names; the message says what.
    """
    if isinstance(module, Learner):
        return module
    methods = ["device", "log_values", "log_point", "initial_carry", "act"]
    names = [*Learner.__annotations__, *methods]
    missing = [name for name in names if not hasattr(module, name)]
    raise TypeError(
        f"{asked_by} needs a learner (a subclass of lit_rl's RLModule, such as PPO), got "
        f"{type(module).__name__}, which has no {', '.join(missing)}"
    )


@runtime_checkable
class Collector(Protocol):
    """Plays a policy in a ``VectorEnv``, wherever that runs: in this process, in workers, or elsewhere."""

    def collect(self, policy: Policy, num_steps: int, policy_version: int) -> Rollout:
        """Play ``num_steps`` steps in every environment, continuing where the last call stopped."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Return the state of environments, carries and running episodes, as tensors and plain types."""
        ...

    def set_state(self, state: dict[str, Any]) -> bool:
        """Continue from a saved state.

        Returns False when the environments could not be restored and were reset.
        """
        ...

    def close(self) -> None:
        """Release everything; further calls do nothing."""
        ...


@runtime_checkable
class ExactState(Protocol):
    """Anything whose state can be saved exactly, as tensors and plain types."""

    def get_state(self) -> dict[str, Any]:
        """Return the state as a dict that ``torch.load(weights_only=True)`` accepts."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        ...
