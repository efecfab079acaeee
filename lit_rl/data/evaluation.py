"""Episodes of the policy on environments of their own: the batch of the validation loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from lit_rl.collect.evaluate import MAX_STEPS, evaluate
from lit_rl.collect.random_state import seeded_apart
from lit_rl.data.arguments import EvalPolicy
from lit_rl.data.environments import Environments
from lit_rl.data.playback import PlaybackRecorder, as_drawable
from lit_rl.data.stopping import is_asked_to_stop
from lit_rl.data.video import VideoWriter
from lit_rl.types import Decision, Episodes, EvalEpisodes, Rollout, Step, VectorEnv


class Evaluation:
    """Evaluation episodes of one rank, on environments that are made for the first evaluation.

    All that is drawn at random meanwhile, by the policy or by environments, comes from a seed of its own:
    equal policies are evaluated equally, and training draws the same numbers as without evaluation.

    Args:
        environments: Training environments of the rank, which know the trainer, the seeds and how to make
            further environments.
        num_episodes: Episodes of one evaluation over all ranks.
        playback: Whether evaluations of a training run write their first episode into ``playback.json``.
        policy: ``greedy`` plays the most likely actions, ``sample`` draws actions as training does.
        max_steps: Steps after which an episode without an end is cut.
    """

    def __init__(
        self,
        environments: Environments,
        num_episodes: int,
        playback: bool,
        policy: EvalPolicy = "greedy",
        max_steps: int = MAX_STEPS,
    ) -> None:
        self._environments, self._num_episodes, self._playback = environments, num_episodes, playback
        self._max_steps = max_steps
        self.policy: EvalPolicy = policy
        self._env: VectorEnv | None = None

    def episodes(self, video: Path | None) -> Iterator[EvalEpisodes]:
        """Play one batch: this rank's share of the evaluation episodes, each from its own seed.

        Args:
            video: File for the film of one more episode, which rank 0 plays; None for no film.
        """
        start = time.perf_counter()
        environments = self._environments
        share = -(-self._num_episodes // environments.world_size)
        seed = environments.eval_seed(share)
        with torch.no_grad(), environments.precision(), seeded_apart(seed):
            if self._env is None:
                self._env = environments.make(share)
            recorder = self._recorder(self._env)
            if recorder is None:
                episodes = self._play(self._env, seed)
            else:
                episodes = self._play(self._env, seed, recorder.on_step, recorder.on_transition)
            is_broken_off = self._is_asked_to_stop()
            if recorder is not None and not is_broken_off:
                recorder.save()
            if video is not None and environments.rank == 0:
                self._film(video, seed)
        seconds = time.perf_counter() - start
        yield {"episodes": episodes, "is_broken_off": is_broken_off, "seconds": seconds}

    def _play(
        self,
        env: VectorEnv,
        seed: int,
        on_step: Callable[[bool], None] | None = None,
        on_transition: Callable[[Decision, Step], None] | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Episodes:
        """Play an episode in each environment, at most until ``is_over`` or until training is to stop."""
        learner = self._environments.learner
        return evaluate(
            learner,
            env,
            seed,
            learner.device,
            on_step,
            on_transition,
            self.policy == "greedy",
            self._max_steps,
            lambda: is_over() or self._is_asked_to_stop(),
        )

    def _is_asked_to_stop(self) -> bool:
        """Whether training is to stop; what only evaluates is ended by the signal itself."""
        environments = self._environments
        return is_asked_to_stop(environments.trainer) and environments.is_fitting

    def rollout(self, num_steps: int) -> Rollout:
        """Play the training environments for ``num_steps`` steps more, with the policy of evaluations."""
        environments = self._environments
        with seeded_apart(environments.eval_seed(environments.num_envs)):
            if self.policy == "greedy":
                return environments.collect_greedy(num_steps)
            return environments.collect(environments.learner, num_steps)

    def _recorder(self, env: VectorEnv) -> PlaybackRecorder | None:
        """Return what records the first episode while training goes on; None where nothing does."""
        environments, trainer = self._environments, self._environments.trainer
        if not self._playback or trainer is None or not environments.is_fitting or environments.rank:
            return None
        is_short = trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it later
        if trainer.sanity_checking or is_short:
            return None
        path = Path(trainer.default_root_dir) / "playback.json"
        return PlaybackRecorder(as_drawable(env), path, environments.learner.env_steps, self.policy)

    def _film(self, video: Path, seed: int) -> None:
        """Play one more episode, on a single environment that renders."""
        env = self._environments.make(1, render=True)
        try:
            writer = VideoWriter(env, video)
            self._play(env, seed, writer.on_step, is_over=lambda: writer.is_full)
            writer.save()
        finally:
            env.close()

    def close(self) -> None:
        """Close the environments; the next evaluation makes new ones."""
        if self._env is not None:
            self._env.close()
            self._env = None
