"""The base of all data modules: environments, evaluation, and what a checkpoint keeps of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch import LightningDataModule

from lit_rl.data.arguments import EnvironmentArguments, EvalPolicy
from lit_rl.data.environments import Environments
from lit_rl.data.evaluation import Evaluation
from lit_rl.data.loaders import Batches
from lit_rl.data.made_with import KEY, describe, differences
from lit_rl.env_units import ActionToEnv
from lit_rl.types import EnvSpec, EvalEpisodes, Rollout


class RLDataModule(LightningDataModule):
    """Environments and their episodes: subclasses write ``collect_steps`` and ``train_dataloader``.

    A subclass that remembers experience from batch to batch also writes ``local_state``, ``load_local_state``
    and ``forget``.

    Args:
        arguments: Which environments, how many, their seeds and their evaluation.
        given: All arguments of the subclass by their names, such as ``locals()`` of its constructor.
            Checkpoints carry them, so that a resumed run can tell what has changed. None gives those of
            ``arguments``.

    Raises:
        ValueError: The environment or a wrapper names nothing that can be imported and called.
    """

    def __init__(self, arguments: EnvironmentArguments, given: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.made_with = describe(type(self), vars(arguments) if given is None else given)
        self.environments = Environments(arguments, type(self).__name__)
        self.evaluation = Evaluation(
            self.environments,
            arguments.eval_episodes,
            arguments.playback,
            arguments.eval_policy,
            arguments.eval_max_steps,
        )
        self.video: Path | None = None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *_: Any, **__: Any) -> Self:
        """Refuse to load: a checkpoint is data, and environments are code, which it may not name.

        Raises:
            ValueError: It was called.
        """
        raise ValueError(
            f"{cls.__name__} is not loaded from a checkpoint, which is data and names no environments: make "
            f"{cls.__name__}(env=...), and give {checkpoint_path} to trainer.fit(..., ckpt_path=...)"
        )

    # What a data module implements

    @property
    def collect_steps(self) -> int:
        """Steps of every environment between two batches; also the length of a rollout for prediction."""
        raise TypeError(f"{type(self).__name__} must define collect_steps")

    def train_dataloader(self) -> Batches:
        """Return the batches of one epoch, each made when it is asked for."""
        raise TypeError(f"{type(self).__name__} must implement train_dataloader()")

    def local_state(self) -> dict[str, Any]:
        """Return what this rank remembers besides its environments, as tensors and plain types."""
        return {}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Keep a state that :meth:`local_state` returned, until the next batch.

        The state is ``{}`` in an evaluation, and where the checkpoint is of another environment.
        """

    def forget(self) -> None:
        """Drop the experience of the learner before: another one starts training."""

    # What all data modules share

    @property
    def spec(self) -> EnvSpec:
        """Observation and action of the environments."""
        return self.environments.spec

    @property
    def num_envs(self) -> int:
        """Number of training environments of each rank."""
        return self.environments.num_envs

    def env_steps_after(self, batches: int) -> int:
        """Return the env steps of this rank after so many batches of a new run."""
        return batches * self.collect_steps * self.num_envs

    @property
    def eval_policy(self) -> EvalPolicy:
        """Which policy evaluations play: ``greedy`` or ``sample``."""
        return self.evaluation.policy

    def setup(self, stage: str) -> None:
        """Bind the environments to the trainer, whose rank offsets their seeds."""
        if not self.environments.bind(self.trainer):
            self.forget()

    def teardown(self, stage: str) -> None:
        """Close the environments; nothing is left running."""
        self.environments.close()
        self.evaluation.close()

    def on_exception(self, exception: BaseException) -> None:
        """Close everything: Lightning calls ``teardown`` of neither data nor learner after an exception."""
        self.environments.abandon()
        self.evaluation.close()
        if self.trainer is not None:
            self.trainer.lightning_module.teardown("fit")

    def val_dataloader(self) -> Batches:
        """Return one batch of evaluation episodes."""
        return Batches(self._evaluations, 1)

    def test_dataloader(self) -> Batches:
        """Return one batch of evaluation episodes, as for validation."""
        return Batches(self._evaluations, 1)

    def predict_dataloader(self) -> Batches:
        """Return one rollout of ``collect_steps`` steps, of the policy that evaluations play.

        Its actions are those that the environments received: boxes are clipped, choices counted from the
        ``start`` of their space.
        """
        return Batches(self._predictions, 1)

    def _evaluations(self) -> Iterator[EvalEpisodes]:
        return self.evaluation.episodes(self.video)

    def _predictions(self) -> Iterator[Rollout]:
        rollout = self.evaluation.rollout(self.collect_steps)
        rollout["action"] = ActionToEnv(self.spec.action)(rollout["action"])
        yield rollout

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are made on the CPU: there is nothing to visit when the learner is there too."""
        on_cpu = device.type == "cpu"
        return batch if on_cpu else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        """Return environments, random generators, running episodes and :meth:`local_state` of every rank."""
        return {**self.environments.state_dict(self.local_state()), KEY: self.made_with}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict` at the next batch.

        What was experienced in another environment is dropped: its episodes, and :meth:`local_state`.
        """
        self.environments.trainer = self.trainer
        changes = differences(self.made_with, state_dict.get(KEY, {}))
        changed = [change.name for change in changes if change.is_of_environment]
        self.load_local_state(self.environments.load_state_dict(state_dict, changed))
