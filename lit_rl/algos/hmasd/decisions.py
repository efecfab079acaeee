"""Decisions of a rollout with their advantages and targets, from which the skill coordinator learns.

A decision has a token for the team's skill and one for the skill of each agent. Axes: T steps, N
environments, A agents, D decisions (of an environment), J = A + 1 tokens, K finished episodes, B samples
(decisions of all environments), S state features, O observation features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_rl.algos.hmasd.blocks import Blocks, cut_blocks, high_level_advantages
from lit_rl.algos.ppo.samples import normalize_advantages
from lit_rl.normalize import SumOverRanks, ValueNorm
from lit_rl.types import AGENT_SKILLS, SKILL_START, TEAM_SKILL, Nested, Rollout

SKILL_LOG_PROB = "skill_log_prob"
"""Key of ``extras`` for the log-probabilities (N, J) of the decision that each step follows."""


class Seen(NamedTuple):
    """States and observations of a rollout as vectors.

    Attributes:
        state: States, (T+1, N, S).
        obs: Observations of the agents, (T+1, N, A, O).
        final_state: True last states of the episodes that ended, (K, S).
        final_obs: True last observations in these episodes, (K, A, O).
        final_index: ``t * N + n`` for each end, at step t in environment n, (K,).
    """

    state: Tensor
    obs: Tensor
    final_state: Tensor
    final_obs: Tensor
    final_index: Tensor

    def following(self, paper_compat: bool = False) -> tuple[Tensor, Tensor]:
        """Return the states and observations that follow each step, (T, N, ...).

        They are the true ones, also at the end of an episode, where ``paper_compat`` takes the first of the
        next.
        """
        if paper_compat:
            return self.state[1:], self.obs[1:]
        state, obs = self.state[1:].clone(), self.obs[1:].clone()
        state.flatten(0, 1)[self.final_index] = self.final_state
        obs.flatten(0, 1)[self.final_index] = self.final_obs
        return state, obs


class Decisions(NamedTuple):
    """Decisions of a rollout and what came of them.

    Attributes:
        state: States at the decisions, (B, S).
        obs: Observations of the agents, (B, A, O).
        skills: Skill of the team, then the skills of the agents, (B, J) int64.
        log_prob: Log-probability of each skill when it was decided, (B, J).
        value: Outputs of the value heads before the update, (B, J).
        advantage: Normalised advantages, (B, J).
        target: Targets of the value heads, (B, J).
        weight: 1 for tokens that count, 0 for those of agents that had left, (B, J).
    """

    state: Tensor
    obs: Tensor
    skills: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    target: Tensor
    weight: Tensor


def as_in_the_paper(rollout: Rollout) -> Rollout:
    """Return the rollout with time limits as ends of the task, which is how the authors' code sees it."""
    done_TN = rollout["terminated"] | rollout["truncated"]
    changed: Any = {"terminated": done_TN, "truncated": torch.zeros_like(done_TN)}
    return rollout | changed


def with_skills(rollout: Rollout, reward_TNA: Tensor, carry: Nested) -> Rollout:
    """Return the rollout as the skill discoverer sees it: skills in the observations, the reward of Eq. 4.

    What is seen after the last step of a rollout or an episode is valued under the skills that led there.

    Args:
        rollout: The rollout as it was collected.
        reward_TNA: Rewards of the skill discoverer.
        carry: The discoverer's part of the carry.
    """
    held = {key: rollout["extras"][key] for key in (TEAM_SKILL, AGENT_SKILLS)}
    after = {key: torch.cat([skill, skill[-1:]]) for key, skill in held.items()}  # (T+1, N, ...)
    at_end = {key: skill.flatten(0, 1)[rollout["final_index"]] for key, skill in held.items()}
    changed: Any = {
        "obs": rollout["obs"] | after,
        "final_obs": rollout["final_obs"] | at_end,
        "reward": reward_TNA,
        "carry": carry,
    }
    return rollout | changed


def blocks_of(rollout: Rollout, paper_compat: bool = False) -> Blocks:
    """Cut a rollout into blocks; where agents are rewarded separately, the reward is their mean.

    Args:
        rollout: A rollout with what ``HMASD`` records in ``extras``.
        paper_compat: Whether blocks go on through the ends of episodes, as in the authors' code.
    """
    reward = rollout["reward"]
    return cut_blocks(
        rollout["extras"][SKILL_START],
        reward.mean(-1) if reward.ndim == 3 else reward,
        rollout["terminated"],
        rollout["truncated"],
        rollout["valid"],
        paper_compat,
    )


def rows_to_value(seen: Seen, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """Return the states and observations whose values :func:`gather` needs.

    They are those of D * N decisions, of N environments after the rollout, and of K ends of episodes.
    """
    return tuple(
        torch.cat([_at(blocks, leaf).flatten(0, 1), leaf[-1], final])
        for leaf, final in ((seen.state, seen.final_state), (seen.obs, seen.final_obs))
    )  # type: ignore[return-value]


@torch.no_grad()
def gather(
    rollout: Rollout,
    seen: Seen,
    blocks: Blocks,
    output_BJ: Tensor,
    alive: Tensor | None,
    k: int,
    gamma: float,
    gae_lambda: float,
    value_norm: ValueNorm | None,
    sum_over_ranks: SumOverRanks,
) -> Decisions:
    """Gather all decisions that at least one transition followed.

    Args:
        rollout: A rollout with what ``HMASD`` records in ``extras``.
        seen: States and observations of the rollout.
        blocks: Blocks of the rollout.
        output_BJ: Outputs of the value heads for what :func:`rows_to_value` returned.
        alive: Bool (T+1, N, A), False for agents that left; None when they can never leave.
        k: Number of steps in a whole block.
        gamma: Discount per decision.
        gae_lambda: Decay of the estimator, 0 to 1, which ``gae`` explains.
        value_norm: Normalises the outputs of the value heads; updated here, as in ``estimate``.
        sum_over_ranks: Given this rank's tensor, the sum over all ranks.
    """
    shape, extras = blocks.first.shape, rollout["extras"]
    all_value_BJ = output_BJ if value_norm is None else value_norm.denormalize(output_BJ)
    value_BJ, end_value_NJ, final_value_KJ = all_value_BJ.split(
        [shape.numel(), shape[1], len(seen.final_index)]
    )
    value_DNJ = value_BJ.unflatten(0, shape)
    advantage_DNJ = high_level_advantages(
        blocks, value_DNJ, end_value_NJ, final_value_KJ, seen.final_index, k, gamma, gae_lambda
    )
    acted_DNJ = (blocks.length > 0).unsqueeze(-1).expand_as(value_DNJ)
    if alive is not None:
        acted_DNJ = acted_DNJ & torch.cat([acted_DNJ[..., :1], _at(blocks, alive)], -1)
    target_DNJ = advantage_DNJ + value_DNJ
    if value_norm is not None:
        value_norm.update(target_DNJ, valid=acted_DNJ, sum_over_ranks=sum_over_ranks)
        target_DNJ = value_norm(target_DNJ)
    samples = {"advantage": advantage_DNJ, "weight": acted_DNJ.to(value_DNJ)}
    (samples,) = normalize_advantages([samples], sum_over_ranks)
    skills = torch.cat([extras[TEAM_SKILL].unsqueeze(-1), extras[AGENT_SKILLS]], -1)
    everything = Decisions(
        state=_at(blocks, seen.state),
        obs=_at(blocks, seen.obs),
        skills=_at(blocks, skills),
        log_prob=_at(blocks, extras[SKILL_LOG_PROB]),
        value=output_BJ[: shape.numel()].unflatten(0, shape),
        advantage=samples["advantage"],
        target=target_DNJ,
        weight=samples["weight"],
    )
    exists_DN = blocks.length > 0
    return Decisions(*(leaf[exists_DN] for leaf in everything))


def _at(blocks: Blocks, leaf: Tensor) -> Tensor:
    """Pick from ``leaf`` (T, N, ...) what it holds at the decisions, (D, N, ...)."""
    envs = torch.arange(blocks.first.shape[1], device=leaf.device).expand_as(blocks.first)
    return leaf[blocks.first, envs]
