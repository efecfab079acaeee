"""The base of all data modules: environments, evaluation, and what a checkpoint keeps of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from lit_rl.data.arguments import EnvironmentArguments
from lit_rl.data.environments import Environments
from lit_rl.data.evaluation import Evaluation
from lit_rl.data.loaders import Batches
from lit_rl.env_units import ActionToEnv
from lit_rl.types import EnvSpec, EvalEpisodes, Rollout


class RLDataModule(LightningDataModule):
    """Environments and their episodes: subclasses write ``collect_steps`` and ``train_dataloader``.

    A subclass that remembers experience from batch to batch also writes ``local_state``, ``load_local_state``
    and ``forget``.

    Args:
        arguments: Which environments, how many, their seeds and their evaluation.

    Raises:
        ValueError: The environment or a wrapper names nothing that can be imported and called.
    """

    def __init__(self, arguments: EnvironmentArguments) -> None:
        super().__init__()
        self.environments = Environments(arguments, type(self).__name__)
        self.evaluation = Evaluation(self.environments, arguments.eval_episodes, arguments.playback)
        self.video: Path | None = None

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
        """Keep a state that :meth:`local_state` returned, until the next batch; ``{}`` in an evaluation."""

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

    def setup(self, stage: str) -> None:
        """Bind the environments to the trainer, whose rank offsets their seeds."""
        if not self.environments.bind(self.trainer):
            self.forget()

    def teardown(self, stage: str) -> None:
        """Close the environments; nothing is left running."""
        self.environments.close()
        self.evaluation.close()

    def val_dataloader(self) -> Batches:
        """Return one batch of evaluation episodes."""
        return Batches(self._evaluations, 1)

    def test_dataloader(self) -> Batches:
        """Return one batch of evaluation episodes, as for validation."""
        return Batches(self._evaluations, 1)

    def predict_dataloader(self) -> Batches:
        """Return one rollout of the greedy policy, of ``collect_steps`` steps.

        Its actions are those that the environments received: boxes are clipped, choices counted from the
        ``start`` of their space.
        """
        return Batches(self._greedy_rollout, 1)

    def _evaluations(self) -> Iterator[EvalEpisodes]:
        return self.evaluation.episodes(self.video)

    def _greedy_rollout(self) -> Iterator[Rollout]:
        rollout = self.environments.collect_greedy(self.collect_steps)
        rollout["action"] = ActionToEnv(self.spec.action)(rollout["action"])
        yield rollout

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches are made on the CPU: there is nothing to visit when the learner is there too."""
        on_cpu = device.type == "cpu"
        return batch if on_cpu else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        """Return environments, random generators, running episodes and :meth:`local_state` of every rank."""
        return self.environments.state_dict(self.local_state())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict` at the next batch."""
        self.environments.trainer = self.trainer
        self.load_local_state(self.environments.load_state_dict(state_dict))
