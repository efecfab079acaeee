"""Try a batch of environments and say in plain words where it breaks the ``VectorEnv`` protocol.

Axes: T steps, N environments, A agents, K finished episodes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from lit_rl.envs.trial.actions import allowed_action
from lit_rl.envs.trial.arrays import ArrayCheck
from lit_rl.envs.trial.story import (
    Story,
    copied,
    environment_of,
    is_constant,
    is_same,
    row_of,
    step_difference,
    story_difference,
)
from lit_rl.nested import leaves, map_nested
from lit_rl.types import EnvSpec, NestedArray, Step, VectorEnv

_OTHER_SEED = 1009  # it is prime, so that environments which use seed % k start otherwise, too


def check_vector_env(
    make: Callable[[int], VectorEnv],
    *,
    num_envs: int = 3,
    num_steps: int = 200,
    seed: int = 0,
    own_streams: bool = True,
    is_random: bool = True,
) -> None:
    """Play random (allowed) actions in batches that ``make`` returns, and check what the library relies on.

    Checked are: arrays against ``spec`` (shapes, dtypes, finite values, discrete values within their number);
    flags, ``valid`` and ``metrics``; that ``final_obs`` holds the last observations of the episodes that
    ended; that nothing returned is written to later, nor the actions; that equal seeds give equal episodes
    and others do not; that environment i does not depend on the other environments; that ``get_state`` and
    ``set_state`` continue exactly, through a checkpoint; and that ``close`` may be called twice.

    Args:
        make: Makes a batch of so many environments. It is called three times; every batch is closed.
        num_envs: Number N of environments, at least 2.
        num_steps: Number T of steps; at least one episode must end within them.
        seed: Seed of the reset and of the actions.
        own_streams: Whether environment i depends on ``seed + i`` and its own actions only. False for batches
            whose environments draw from one stream, as those of Gymnasium do.
        is_random: Whether anything in an episode is random, so that another seed gives other episodes.

    Raises:
        ValueError: The batch breaks the protocol. One line says what was expected and what came.
    """
    if num_envs < 2:
        raise ValueError(f"check_vector_env: num_envs must be at least 2, got {num_envs}")
    trial = _Trial(make, num_envs, num_steps, seed)
    try:
        batch = trial.made(num_envs)
        trial.draw_actions(batch.spec)
        story = trial.play_and_look(batch)
        trial.check_ends(story)
        twin = trial.made(num_envs)
        trial.check_seeds(story, batch, twin, is_random)
        if own_streams:
            trial.check_independence(story, trial.made(1))
        trial.check_exact_state(batch, twin)
        trial.check_close(batch)
    finally:
        trial.close()


class _Trial:
    """Batches that are tried with the same actions.

    Args:
        make: Makes a batch.
        num_envs: Number N of environments.
        num_steps: Number T of steps.
        seed: Seed of the reset and of the actions.
    """

    def __init__(self, make: Callable[[int], VectorEnv], num_envs: int, num_steps: int, seed: int) -> None:
        self._make, self.num_envs, self.num_steps, self.seed = make, num_envs, num_steps, seed
        self.name = "the environment"
        self._batches: list[Any] = []

    def draw_actions(self, spec: EnvSpec) -> None:
        """Draw the numbers from which actions are made, ``(T, N, [A,] entries)``."""
        self.spec = spec
        agents = [len(spec.agents)] if spec.agents else []
        entries = max(1, len(spec.action.categories), spec.action.size)
        rng = np.random.default_rng(self.seed)
        self._chance = rng.random((self.num_steps, self.num_envs, *agents, entries))

    def close(self) -> None:
        """Close all batches, whatever is wrong with them."""
        for env in self._batches:
            with suppress(Exception):
                env.close()

    def refuse(self, what: str) -> ValueError:
        return ValueError(f"{self.name}: {what}")

    def made(self, num_envs: int) -> VectorEnv:
        env = self._make(num_envs)
        self._batches.append(env)
        if not isinstance(env, VectorEnv):
            needed = ("num_envs", "spec", "reset", "step", "get_state", "set_state", "close")
            missing = [name for name in needed if not hasattr(env, name)]
            raise self.refuse(f"a VectorEnv has {', '.join(missing)}, which {type(env).__name__} has not")
        if not isinstance(env.spec, EnvSpec):
            raise self.refuse(f"spec must be a lit_rl.EnvSpec, got a {type(env.spec).__name__}")
        self.name = env.spec.name
        if env.num_envs != num_envs:
            raise self.refuse(
                f"make({num_envs}) must make {num_envs} environments, num_envs is {env.num_envs}"
            )
        return env

    # Playing

    def play(self, env: VectorEnv, obs: NestedArray, rows: slice, start: int = 0) -> list[Step]:
        """Return copies of what ``env`` answers to the actions of ``rows`` from step ``start`` on."""
        steps = []
        for t in range(start, self.num_steps):
            step = env.step(allowed_action(self.spec, obs, self._chance[t, rows]))
            steps.append(copied(step))
            obs = step.obs
        return steps

    def story(self, env: VectorEnv, seed: int, rows: slice = slice(None)) -> Story:
        first = map_nested(np.array, env.reset(seed))
        return Story(first, self.play(env, first, rows))

    def play_and_look(self, env: VectorEnv) -> Story:
        """Play once and check every array; after another reset, that none of them was written to."""
        obs = env.reset(self.seed)
        arrays = ArrayCheck(self.name, self.spec, self.num_envs)
        arrays.observation("obs", "reset", obs)
        held, story = [obs], Story(map_nested(np.array, obs), [])
        for t in range(self.num_steps):
            action = allowed_action(self.spec, obs, self._chance[t])
            given = action.copy()
            step = env.step(action)
            if not np.array_equal(action, given):
                raise self.refuse(f"step {t} writes into the action it is given; it must copy it first")
            arrays.step(t, step)
            held.append(step)
            story.steps.append(copied(step))
            obs = step.obs
        env.reset(self.seed + _OTHER_SEED)
        for t, (before, now) in enumerate(zip([story.first, *story.steps], held, strict=True)):
            field = step_difference(before, now) if t else None if is_same(before, now) else "obs"
            if field:
                what = f"{field} of step {t - 1}" if t else "obs of reset"
                raise self.refuse(f"{what} is written to by a later step or reset; return new arrays")
        return story

    # Checks of stories

    def check_ends(self, story: Story) -> None:
        """``final_obs`` must be what was seen last, not what came before it nor after the reset."""
        at_reset, stale, changed = [], [], []
        before = story.first
        for t, step in enumerate(story.steps):
            ended = step.terminated | step.truncated
            for k, i in enumerate(np.flatnonzero(ended).tolist()):
                last, after = row_of(step.final_obs, k), row_of(step.obs, i)
                if step.valid is not None and not is_same(last, after):
                    raise self.refuse(
                        f"step {t} comes with valid, so that the next step resets: final_obs must hold the "
                        f"rows of obs whose episodes ended, but that of environment {i} differs"
                    )
                at_reset.append(step.valid is None and is_same(last, after))
                stale.append(is_same(last, row_of(before, i)))
            going = ~ended if step.valid is None else ~ended & step.valid
            rows = np.flatnonzero(going).tolist()
            changed += [not is_same(row_of(before, i), row_of(step.obs, i)) for i in rows]
            before = step.obs
        if not at_reset:
            raise self.refuse(
                f"no episode ended within {self.num_steps} steps, so final_obs cannot be checked; give "
                "num_steps the length of an episode or more"
            )
        if all(at_reset) and not is_constant(story):
            raise self.refuse(
                f"final_obs equals the observation after the reset in all {len(at_reset)} episodes that "
                "ended; it must be the last observation before it"
            )
        if all(stale) and changed and np.mean(changed) > 0.9:
            raise self.refuse(
                f"final_obs equals the observation before the last step in all {len(stale)} episodes that "
                "ended; it must be the one after it"
            )

    def check_seeds(self, story: Story, batch: VectorEnv, twin: VectorEnv, is_random: bool) -> None:
        """Equal seeds must give equal episodes, in the same batch and in another one; others must not."""
        seed, other_seed = self.seed, self.seed + _OTHER_SEED
        other = self.story(batch, other_seed)
        for what, env in (("the same batch", batch), ("another batch", twin)):
            if field := story_difference(story, self.story(env, seed)):
                raise self.refuse(
                    f"a second reset({seed}), of {what}, gives other episodes, first in {field}"
                )
        if is_random and not story_difference(story, other):
            raise self.refuse(
                f"reset({seed}) and reset({other_seed}) give equal episodes; use the seed, or give "
                "is_random=False where nothing is random"
            )

    def check_independence(self, story: Story, single: VectorEnv) -> None:
        """Environment i of N must be environment 0 of 1 with the seed ``seed + i``."""
        for i in range(self.num_envs):
            seed = self.seed
            alone = self.story(single, seed + i, slice(i, i + 1))
            field = story_difference(environment_of(story, i), alone)
            if field is None:
                continue
            if field.startswith("final_obs") and self._is_reordered(story, alone, field):
                raise self.refuse(f"{field} has its rows in another order than the environments that ended")
            raise self.refuse(
                f"environment {i} after reset({seed}) differs from a single one after reset({seed + i}), "
                f"first in {field}; it must depend on seed + i and its own actions only (or give "
                "own_streams=False)"
            )

    def _is_reordered(self, story: Story, alone: Story, field: str) -> bool:
        t = int(field.rpartition(" ")[2])
        batch, expected = story.steps[t].final_obs, alone.steps[t].final_obs
        if batch is None or expected is None:
            return False
        return any(is_same(row_of(batch, k), row_of(expected, 0)) for k in range(len(next(leaves(batch)))))

    def check_exact_state(self, batch: VectorEnv, twin: VectorEnv) -> None:
        """A batch that was used otherwise must continue from a checkpoint as the saved one goes on."""
        middle = self.num_steps // 2
        obs = batch.reset(self.seed)
        for t in range(middle):
            obs = batch.step(allowed_action(self.spec, obs, self._chance[t])).obs
        state = batch.get_state()
        if state is None:
            return
        kept, obs = self._through_a_checkpoint(state), map_nested(np.array, obs)
        expected = Story(obs, self.play(batch, obs, slice(None), middle))
        if not is_same(state, kept):
            raise self.refuse("what get_state() returned is written to by later steps; it must hold copies")
        twin.reset(self.seed + _OTHER_SEED)
        twin.set_state(kept)
        got = Story(obs, self.play(twin, obs, slice(None), middle))
        if field := story_difference(expected, got, middle):
            raise self.refuse(
                f"after set_state(get_state()) before step {middle} episodes continue otherwise, first in "
                f"{field}; the state must hold all that they depend on, random generators too"
            )

    def _through_a_checkpoint(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return ``state`` as a run finds it that resumes."""
        import torch

        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        try:
            return torch.load(file, weights_only=True)
        except pickle.UnpicklingError as error:
            reason = str(error).splitlines()[-1].strip()
            raise self.refuse(
                "get_state() must hold tensors and plain types, so that checkpoints load with "
                f"weights_only=True ({reason:.200})"
            ) from None

    def check_close(self, batch: VectorEnv) -> None:
        """A batch may be closed twice."""
        batch.close()
        try:
            batch.close()
        except Exception as error:
            raise self.refuse(f"close() may be called twice, but its second call raises {error!r}") from error
