"""What the skill coordinator learns from: the decisions of a rollout, their advantages and targets.

Axes: T time, N environments, A agents, K blocks, L = A + 1 tokens of a decision, F episode ends, B decisions.
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
"""Key of ``extras``: log-probabilities (N, L) of the decision that each step follows."""


class Seen(NamedTuple):
    """States and observations of a rollout as vectors.

    Attributes:
        state: States, (T+1, N, S).
        obs: Observations of the agents, (T+1, N, A, O).
        final_state: True last states of the episodes that ended, (F, S).
        final_obs: True last observations of these episodes, (F, A, O).
        final_index: ``t * N + n`` of those ends, (F,).
    """

    state: Tensor
    obs: Tensor
    final_state: Tensor
    final_obs: Tensor
    final_index: Tensor

    def following(self, paper_compat: bool = False) -> tuple[Tensor, Tensor]:
        """What truly follows each step, (T, N, ...); for ``paper_compat`` what the policy sees next."""
        if paper_compat:
            return self.state[1:], self.obs[1:]
        state, obs = self.state[1:].clone(), self.obs[1:].clone()
        state.flatten(0, 1)[self.final_index] = self.final_state
        obs.flatten(0, 1)[self.final_index] = self.final_obs
        return state, obs


class Decisions(NamedTuple):
    """Decisions of a rollout and what came of them; one row per decision, one column per token.

    Attributes:
        state: States at the decisions, (B, S).
        obs: Observations of the agents, (B, A, O).
        skills: Team skill, then agent skills, (B, L) int64.
        log_prob: Log-probability of each skill when it was decided, (B, L).
        value: Output of the value heads before the update, (B, L).
        advantage: Normalised advantages, (B, L).
        target: What the value heads shall put out, (B, L).
        weight: 1 where a token counts, 0 for agents that had left, (B, L).
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
    """The rollout with time limits as ends of the task."""
    ended = rollout["terminated"] | rollout["truncated"]
    changed: Any = {"terminated": ended, "truncated": torch.zeros_like(ended)}
    return rollout | changed


def with_skills(rollout: Rollout, reward: Tensor, carry: Nested) -> Rollout:
    """The rollout as the skill discoverer sees it: skills in the observations, the reward of Eq. 4.

    What is seen after the last step is valued under the skill that led there.

    Args:
        rollout: As it was collected.
        reward: (T, N, A).
        carry: The discoverer's part of the carry.
    """
    held = {key: rollout["extras"][key] for key in (TEAM_SKILL, AGENT_SKILLS)}
    after = {key: torch.cat([skill, skill[-1:]]) for key, skill in held.items()}  # (T+1, N, ...)
    at_end = {key: skill.flatten(0, 1)[rollout["final_index"]] for key, skill in held.items()}
    changed: Any = {
        "obs": rollout["obs"] | after,
        "final_obs": rollout["final_obs"] | at_end,
        "reward": reward,
        "carry": carry,
    }
    return rollout | changed


def blocks_of(rollout: Rollout, paper_compat: bool = False) -> Blocks:
    """Its blocks; the reward is that of the team, or the mean over agents rewarded separately."""
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
    """States and observations whose values :func:`gather` wants: K * N decisions, N ends, F last ones."""
    return tuple(
        torch.cat([_at(blocks, leaf).flatten(0, 1), leaf[-1], final])
        for leaf, final in ((seen.state, seen.final_state), (seen.obs, seen.final_obs))
    )  # type: ignore[return-value]


@torch.no_grad()
def gather(
    rollout: Rollout,
    seen: Seen,
    blocks: Blocks,
    output: Tensor,
    alive: Tensor | None,
    k: int,
    gamma: float,
    gae_lambda: float,
    value_norm: ValueNorm | None,
    sum_over_ranks: SumOverRanks,
) -> Decisions:
    """All decisions that at least one transition followed.

    Args:
        rollout: With what ``HMASD`` records in ``extras``.
        seen: Its states and observations.
        blocks: Its blocks.
        output: Of the value heads, for :func:`rows_to_value`, (K * N + N + F, L).
        alive: Which agents act, (T+1, N, A); None: all.
        k: Steps of a whole block.
        gamma: Discount per decision.
        gae_lambda: See ``gae``.
        value_norm: What ``output`` is normalised by; updated here, as in ``estimate``.
        sum_over_ranks: Given this rank's tensor, the sum over all ranks.
    """
    shape, extras = blocks.first.shape, rollout["extras"]
    value = output if value_norm is None else value_norm.denormalize(output)
    own, after, final = value.split([shape.numel(), shape[1], len(seen.final_index)])
    own = own.unflatten(0, shape)  # (K, N, L)
    advantage = high_level_advantages(blocks, own, after, final, seen.final_index, k, gamma, gae_lambda)
    weight = (blocks.length > 0).unsqueeze(-1).expand_as(own)
    if alive is not None:
        weight = weight & torch.cat([weight[..., :1], _at(blocks, alive)], -1)
    target = advantage + own
    if value_norm is not None:
        value_norm.update(target, valid=weight, sum_over_ranks=sum_over_ranks)
        target = value_norm(target)
    counted = {"advantage": advantage, "weight": weight.to(own)}
    (counted,) = normalize_advantages([counted], sum_over_ranks)
    skills = torch.cat([extras[TEAM_SKILL].unsqueeze(-1), extras[AGENT_SKILLS]], -1)
    everything = Decisions(
        state=_at(blocks, seen.state),
        obs=_at(blocks, seen.obs),
        skills=_at(blocks, skills),
        log_prob=_at(blocks, extras[SKILL_LOG_PROB]),
        value=output[: shape.numel()].unflatten(0, shape),
        advantage=counted["advantage"],
        target=target,
        weight=counted["weight"],
    )
    exists = blocks.length > 0
    return Decisions(*(leaf[exists] for leaf in everything))


def _at(blocks: Blocks, leaf: Tensor) -> Tensor:
    """Rows of ``leaf`` (T, N, ...) at the decisions, (K, N, ...)."""
    envs = torch.arange(blocks.first.shape[1], device=leaf.device).expand_as(blocks.first)
    return leaf[blocks.first, envs]
