"""The contract between all parts of lit_rl: environments, experience, and the protocols they meet by."""

from __future__ import annotations

from lit_rl.types.experience import (
    Batch,
    Decision,
    Episodes,
    EvalEpisodes,
    Nested,
    NestedArray,
    ReplayBatch,
    Rollout,
    Step,
)
from lit_rl.types.protocols import (
    Collector,
    Drawable,
    ExactState,
    Learner,
    Policy,
    VectorEnv,
    as_learner,
)
from lit_rl.types.spec import (
    ACTION_MASK,
    AGENT_SKILLS,
    ALIVE,
    IS_SUCCESS,
    OBSERVATION,
    SKILL_START,
    STATE,
    TEAM_SKILL,
    ActionSpec,
    EnvSpec,
    LeafSpec,
)

__all__ = [
    "ACTION_MASK",
    "AGENT_SKILLS",
    "ALIVE",
    "IS_SUCCESS",
    "OBSERVATION",
    "SKILL_START",
    "STATE",
    "TEAM_SKILL",
    "ActionSpec",
    "Batch",
    "Collector",
    "Decision",
    "Drawable",
    "EnvSpec",
    "Episodes",
    "EvalEpisodes",
    "ExactState",
    "LeafSpec",
    "Learner",
    "Nested",
    "NestedArray",
    "Policy",
    "ReplayBatch",
    "Rollout",
    "Step",
    "VectorEnv",
    "as_learner",
]
