"""Experience: what one step returns, what one decision holds, and the batches that learners train on.

Axes: T steps, N environments, A agents, M minibatches, B samples (the transitions of a minibatch),
K finished episodes.

An *observation* is a tensor or a (nested) dict of tensors. Without agents it is ``(N, ...)``; with agents
``(N, A, ...)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypeAlias, TypedDict

import numpy as np

if TYPE_CHECKING:  # processes that step environments do without the second and the 180 MB of torch
    from torch import Tensor

Nested: TypeAlias = Any
"""A tensor, or a (nested) dict of tensors: recursive aliases make type checkers refuse every honest use."""
NestedArray: TypeAlias = Any
"""A numpy array, or a (nested) dict of arrays, as environments take and return them."""


class Step(NamedTuple):
    """What one call of ``VectorEnv.step`` returns, as numpy arrays.

    Attributes:
        obs: ``(N, ...)``, the observations that the policy acts on next.
        reward: ``(N,)``, or ``(N, A)`` when agents are rewarded separately; float32.
        terminated: ``(N,)`` bool, the episode ended by the rules of the task: no value after it.
        truncated: ``(N,)`` bool, the episode was cut (time limit): its last observation has a value.
        final_obs: ``(K, ...)`` true last observations of the K environments where ``terminated | truncated``,
            in the order of the environment axis; None when no episode ended.
        valid: ``(N,)`` bool, False where this call only reset the environment (next-step autoreset) and no
            transition took place; None when every row is a transition.
        metrics: Named values the environment reports, each ``(N,)`` float32; only the names asked for.
    """

    obs: NestedArray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_obs: NestedArray | None
    valid: np.ndarray | None
    metrics: dict[str, np.ndarray]


class Decision(NamedTuple):
    """What a policy decides for N environments.

    Attributes:
        action: ``(N, ...)`` or ``(N, A, ...)``, in the units of the environment: boxes need not be clipped,
            choices count from 0.
        carry: What the policy must be given at the next step (hidden states, skills and their clocks), each
            leaf ``(N, ...)``.
        extras: What the rollout must record of this step for the learner, each ``(N, ...)``.
    """

    action: Tensor
    carry: Nested
    extras: dict[str, Tensor]


class Episodes(TypedDict):
    """Episodes that ended within one batch, in the order of their end. Tensors of shape ``(K,)``.

    They may have begun in an earlier batch.
    """

    episode_return: Tensor
    """Undiscounted sum of rewards (mean over agents when they are rewarded separately), float64."""
    episode_length: Tensor
    """Number of transitions, int64."""
    env_index: Tensor
    """Number of the environment that played the episode, int64."""
    end_step: Tensor
    """Env steps of this rank from the start of the batch to the episode's end, int64."""
    action_norm: Tensor
    """Mean over the episode (and the agents) of the Euclidean norm of the action, float64; NaN where actions
    are not a box."""
    values: dict[str, Tensor]
    """What the environment reported, float64: means over the steps that report it; NaN where none did."""
    last_values: dict[str, Tensor]
    """What the environment reported at the last step of the episode, float64."""


class Batch(TypedDict):
    """What every batch of training experience says, whatever else it holds."""

    new_steps: int
    """Env steps of this rank taken since the last batch."""
    num_envs: int
    """Environments N of this rank."""
    metrics: dict[str, Tensor]
    """What the environment reported in the newest steps, each ``(T, N)`` float32."""
    episodes: Episodes
    """The episodes that ended within these steps."""
    policy_version: int
    """The learner's number of trained batches when this was collected."""
    collect_s: float
    """Wall seconds of the collection."""
    env_s: float
    """Wall seconds of the collection that were spent inside ``VectorEnv.step``."""
    collector: dict[str, float]
    """What the collector reports of itself, by the names of ``metrics.py``; empty where it is this
    process."""


class Rollout(Batch):
    """T steps of N environments, collected with one version of the policy.

    One Lightning batch of on-policy learning.
    """

    obs: Nested
    """``(T+1, N, ...)``: entry t is what the policy saw at step t, entry T what it will see next."""
    reset: Tensor
    """``(T+1, N)`` bool: entry t of ``obs`` is the first of an episode."""
    action: Tensor
    """``(T, N, ...)``."""
    reward: Tensor
    """``(T, N)`` or ``(T, N, A)`` float32."""
    terminated: Tensor
    """``(T, N)`` bool."""
    truncated: Tensor
    """``(T, N)`` bool."""
    valid: Tensor | None
    """``(T, N)`` bool: False where the environment only reset itself, which is nothing to train on; None
    where all steps are transitions."""
    final_index: Tensor
    """``(K,)`` int64: ``t * N + n`` of each episode end, ascending."""
    final_obs: Nested
    """``(K, ...)``: the true last observation of those episodes (never the one after the reset)."""
    extras: dict[str, Tensor]
    """What the policy recorded as ``Decision.extras``, each ``(T, N, ...)``."""
    carry: Nested
    """``(N, ...)``: the policy's carry before step 0."""


class ReplayBatch(Batch):
    """M minibatches of B transitions, sampled after the matching number of env steps.

    One batch of off-policy learning.
    """

    obs: Nested
    """``(M, B, ...)``."""
    action: Tensor
    """``(M, B, ...)`` in the units of the environment."""
    reward: Tensor
    """``(M, B)``: discounted sum over the n steps of the transition."""
    next_obs: Nested
    """``(M, B, ...)``: the observation n steps later (the last one of the episode if it ended before)."""
    discount: Tensor
    """``(M, B)``: factor of the value of ``next_obs``; gamma^steps, or 0 where the episode terminated."""
    new_obs: Nested
    """``(new_steps, ...)``: what was seen before each transition since the last batch; rows where an
    environment only reset itself are left out."""
    random_steps: int
    """How many of ``new_steps``, the first ones, were played with uniformly random actions (warm-up)."""
    replay_size: int
    """Number of transitions in the replay ring of this rank."""
    sample_s: float
    """Wall seconds of sampling the minibatches."""


class EvalEpisodes(TypedDict):
    """Episodes that the policy played on the evaluation environments, greedily or as it explores.

    One batch of the validation loop.
    """

    episodes: Episodes
    is_broken_off: NotRequired[bool]
    """Whether a signal to stop training ended the evaluation before its episodes: then they say nothing."""
    seconds: float
