"""Collects what one rank exports: rows that wait for the next file, and the numbers of the summary.

Axes: T steps, N environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from lit_rl.callbacks.paper.files import COMPONENTS, EPISODES, HEADERS, SYNC
from lit_rl.callbacks.paper.reward_components import (
    ENV,
    EpisodeComponents,
    component_arrays,
    environment_reward,
)
from lit_rl.callbacks.paper.running_statistics import RunningStatistics
from lit_rl.callbacks.skills.counter import SkillCounter
from lit_rl.types import Episodes, ReplayBatch, Rollout

_CLOCK_S = 1e-9
"""Resolution of the clock: no update is shorter."""


class PaperRows:
    """Turns batches into rows. Memory does not grow beyond the rows since the last :meth:`take`.

    Args:
        detailed: Whether to keep rows of reward components.

    Attributes:
        rewards: Total rewards of the episodes so far.
        efficiency: Efficiencies of the updates so far.
        rows_lost: Rows that could not be written.
    """

    def __init__(self, detailed: bool = False) -> None:
        self.detailed = detailed
        self.rewards = RunningStatistics()
        self.efficiency = RunningStatistics()
        self.skills = SkillCounter()
        self.components = EpisodeComponents()
        self.rows_lost = 0
        self._waiting: dict[str, list[str]] = {kind: [] for kind in HEADERS}

    def add_update(self, version: int, samples: int, collect_s: float, update_s: float) -> None:
        """Add the row of one update; its times are not rounded.

        Args:
            version: Version of the policy after the update.
            samples: Env steps of all ranks collected for it.
            collect_s: Seconds of the collection.
            update_s: Seconds of the update.
        """
        efficiency = samples / max(collect_s + update_s, _CLOCK_S)
        self.efficiency.add(efficiency)
        self._waiting[SYNC].append(f"{version},{samples},{collect_s!r},{update_s!r},{efficiency!r}")

    def add_batch(
        self,
        batch: Rollout | ReplayBatch,
        components: Mapping[str, Tensor] | None,
        step: int,
        first_env: int,
        timestamp: float,
    ) -> None:
        """Add the rows of the episodes that ended, and of the components if they are wanted.

        Args:
            batch: What was trained on; of replayed minibatches only the episodes are used.
            components: Parts of the reward of a rollout, each ``(T, N)``; None where the reward of the
                environment is the only part.
            step: Env steps after the batch.
            first_env: ``env_id`` of this rank's environment 0.
            timestamp: Unix seconds.
        """
        episodes = batch["episodes"]
        sums = None
        if "extras" in batch:
            self.skills.update(batch["extras"], batch["reset"], batch["valid"])
            sums = self._add_components(batch, components, step, first_env)
        if len(episodes["episode_return"]):
            self._add_episodes(episodes, sums, first_env, timestamp)

    def _add_components(
        self, rollout: Rollout, components: Mapping[str, Tensor] | None, step: int, first_env: int
    ) -> tuple[list[float], list[float], list[float]] | None:
        """Add the detailed rows; returns sums over episodes if the learner gives components."""
        if not components and not self.detailed:
            return None
        arrays = component_arrays(rollout, components or {ENV: environment_reward(rollout)})
        if self.detailed:
            for name, values in arrays.items():
                self._waiting[COMPONENTS] += [
                    f"{step},{env},{name},{value!r}"
                    for env, value in enumerate(values.sum(0).tolist(), first_env)
                ]
        return self.components.update(rollout, arrays) if components else None

    def _add_episodes(
        self,
        episodes: Episodes,
        sums: tuple[list[float], list[float], list[float]] | None,
        first_env: int,
        timestamp: float,
    ) -> None:
        envs, lengths = episodes["env_index"].tolist(), episodes["episode_length"].tolist()
        if sums is None:
            nothing = [0.0] * len(envs)
            sums = episodes["episode_return"].tolist(), nothing, nothing
        rows = self._waiting[EPISODES]
        for env_index, length, env, team, individual in zip(envs, lengths, *sums, strict=True):
            total = env + team + individual
            self.rewards.add(total)
            rows.append(
                f"{self.rewards.count},{env_index + first_env},{total!r},{length},{timestamp:.3f},"
                f"{env!r},{team!r},{individual!r}"
            )

    def take(self) -> dict[str, list[str]]:
        """Give away the rows since the last call, by kind of file."""
        rows, self._waiting = self._waiting, {kind: [] for kind in HEADERS}
        return rows

    def add(self, other: PaperRows) -> None:
        """Add the episodes, skills and faults of another rank; its rows and its updates stay its own."""
        self.rewards.merge(other.rewards)
        self.skills.add(other.skills)
        self.components.mismatches += other.components.mismatches
        self.rows_lost += other.rows_lost

    def summary(self, env_steps: int, policy_version: int) -> dict[str, Any]:
        """Content of ``sync_training_summary.json``; null where there is nothing yet."""
        rewards, efficiency = self.rewards, self.efficiency
        return {
            "total_episodes": rewards.count,
            "total_steps": env_steps,
            "skill_switches": self.skills.switches,
            "sync_updates": efficiency.count,
            "reward_mean": rewards.mean if rewards.count else None,
            "reward_std": rewards.std if rewards.count else None,
            "reward_min": rewards.lowest if rewards.count else None,
            "reward_max": rewards.highest if rewards.count else None,
            "avg_sync_efficiency": efficiency.mean if efficiency.count else None,
            "final_policy_version": policy_version,
            "component_mismatches": self.components.mismatches,
            "rows_lost": self.rows_lost,
        }

    def skill_usage(self, env_steps: int) -> dict[str, Any]:
        """Content of ``skill_usage_step_*.json``: numbers of assignments so far."""
        skills = self.skills
        return {
            "team_skills": {str(skill): skills.team_counts[skill] for skill in sorted(skills.team_counts)},
            "agent_skills": {str(skill): skills.agent_counts[skill] for skill in sorted(skills.agent_counts)},
            "skill_switches": skills.switches,
            "total_steps": env_steps,
            "sync_updates": self.efficiency.count,
            "policy_has_skills": skills.has_skills,
        }

    def get_state(self) -> dict[str, Any]:
        """Everything counted so far and the rows that wait, as plain types."""
        return {
            "rewards": asdict(self.rewards),
            "efficiency": asdict(self.efficiency),
            "skills": self.skills.get_state(),
            "components": self.components.get_state(),
            "rows_lost": self.rows_lost,
            "waiting": {kind: list(rows) for kind, rows in self._waiting.items()},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        self.rewards = RunningStatistics(**state["rewards"])
        self.efficiency = RunningStatistics(**state["efficiency"])
        self.skills.set_state(state["skills"])
        self.components.set_state(state["components"])
        self.rows_lost = state["rows_lost"]
        self._waiting = {kind: list(state["waiting"].get(kind, ())) for kind in HEADERS}
