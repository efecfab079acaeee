"""The playback of a run, ``playback.json``: one evaluation episode, step by step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_rl.data.arguments import EvalPolicy
from lit_rl.files import write_json
from lit_rl.types import AGENT_SKILLS, SKILL_START, TEAM_SKILL, Decision, Drawable, Step, VectorEnv

_log = logging.getLogger("lit_rl")

MAX_FRAMES = 1000
"""Steps of an episode that are kept."""


def as_drawable(env: VectorEnv) -> Drawable:
    """Return ``env``, if it can be drawn; else close it.

    Raises:
        ValueError: It has no method ``picture``.
    """
    if isinstance(env, Drawable):
        return env
    env.close()
    raise ValueError(
        f"playback=True needs an environment with picture(env) -> dict, {env.spec.name} has none: set "
        "data.init_args.playback to false, or give the environment that method (Drawable of lit_rl.types)"
    )


class PlaybackRecorder:
    """Records the first episode of environment 0, frame by frame, and writes it.

    Frame t is what the environment looked like before step t; with it go the skills under which step t was
    done, and its reward (mean over agents that are rewarded separately). What never changes in a picture is
    written once, as ``fixed``.

    Args:
        env: Environments with a method ``picture``.
        path: File to write; the newest episode replaces the one before.
        env_steps: Env steps of the training so far.
        policy: What is played, ``greedy`` or ``sample``.
    """

    def __init__(self, env: Drawable, path: Path, env_steps: int, policy: EvalPolicy) -> None:
        self._env, self._path = env, path
        self._about = {
            "env": env.spec.name,
            "agents": list(env.spec.agents),
            "env_steps": env_steps,
            "eval_policy": policy,
        }
        self._now: dict[str, Any] | None = None  # the frame of the step that comes next
        self._pictures: list[dict[str, Any]] = []
        self._of_steps: dict[str, list[Any]] = {"reward": []}
        self._end = "cut"

    def on_step(self, is_running: bool) -> None:
        """Look at the environment before its next step."""
        is_kept = is_running and len(self._pictures) < MAX_FRAMES
        self._now = self._env.picture(0) if is_kept else None

    def on_transition(self, decision: Decision, step: Step) -> None:
        """Keep what was decided in the frame, and what came of it."""
        if self._now is None:
            return
        self._pictures.append(self._now)
        self._of_steps["reward"].append(round(float(step.reward[0].mean()), 6))
        for name in (TEAM_SKILL, AGENT_SKILLS, SKILL_START):
            if name in decision.extras:
                self._of_steps.setdefault(name, []).append(decision.extras[name][0].tolist())
        if step.terminated[0] or step.truncated[0]:
            self._end = "terminated" if step.terminated[0] else "truncated"

    def save(self) -> None:
        """Write the file; one that cannot be written is warned of."""
        fixed, frames = split_fixed(self._pictures)
        content = {**self._about, "end": self._end, **self._of_steps, "fixed": fixed, "frames": frames}
        try:
            write_json(self._path, content, indent=None)
        except OSError as error:
            _log.warning("%s cannot be written (%s)", self._path, error.strerror or error)


def split_fixed(pictures: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Split pictures into what is equal in all of them, and the rest of each."""
    first = pictures[0]
    fixed = {key: value for key, value in first.items() if all(s.get(key) == value for s in pictures)}
    return fixed, [{key: value for key, value in s.items() if key not in fixed} for s in pictures]
