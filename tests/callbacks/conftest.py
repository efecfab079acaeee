from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

STEPS_PER_BATCH = 10


class Counts(LightningModule):
    """Counts like an ``RLModule`` and learns nothing that matters: the weight is the number of batches."""

    def __init__(self, eval_returns: list[float] | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.spec, self.gamma = None, 1.0
        self.env_steps = self.policy_version = self.updates = self.num_episodes = 0
        self.is_updating = False
        self.eval_result, self.eval_seconds, self.reward_components = None, 0.0, None
        self.progress_metrics: dict[str, float] = {}
        self.eval_returns = eval_returns or []
        self.evaluated_at: list[int] = []
        self.trained: list[int] = []

    def training_step(self, batch: int, batch_idx: int) -> None:
        with torch.no_grad():
            self.weight += 1
        self.trained.append(int(batch))
        self.policy_version += 1
        self.env_steps += STEPS_PER_BATCH
        self.progress_metrics = {"episode/return_mean": 1.5, "time/env_steps_per_s": 2000.0}

    def validation_step(self, batch: int, batch_idx: int) -> None:
        value = self.eval_returns[len(self.evaluated_at)] if self.eval_returns else float(self.env_steps)
        self.evaluated_at.append(self.env_steps)
        self.log("eval/return_mean", value, logger=False, batch_size=1)

    def initial_carry(self, num_envs: int) -> Any:
        return {}

    def act(self, obs: Any, carry: Any, reset: Any, *, greedy: bool = False) -> Any:
        raise AssertionError("nothing is collected here")

    def log_values(self, values: dict[str, float]) -> None:
        pass

    def log_point(self, values: dict[str, float], env_steps: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def get_extra_state(self) -> dict[str, int]:
        return {"env_steps": self.env_steps, "policy_version": self.policy_version}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.env_steps, self.policy_version = state["env_steps"], state["policy_version"]


class Batches:
    def __init__(self, datamodule: "Stream", length: int) -> None:
        self.datamodule, self.length = datamodule, length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.length):
            self.datamodule.next += 1
            yield self.datamodule.next


class Stream(LightningDataModule):
    """Batches 1, 2, 3 ... in epochs; goes on after a resume as environments do."""

    def __init__(self, batches_per_epoch: int = 4) -> None:
        super().__init__()
        self.batches_per_epoch = batches_per_epoch
        self.next = 0
        self.save_replay = True

    def train_dataloader(self) -> Batches:
        return Batches(self, self.batches_per_epoch)

    def val_dataloader(self) -> list[int]:
        return [0]

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next, "replay": [1, 2, 3] if self.save_replay else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.next = state_dict["next"]


class Fit:
    """Trains ``Counts`` in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(
        self,
        *callbacks: Callback,
        ckpt_path: Path | None = None,
        eval_returns: list[float] | None = None,
        batches_per_epoch: int = 4,
        **trainer_kwargs: Any,
    ) -> tuple[Counts, Trainer]:
        module = Counts(eval_returns)
        trainer = Trainer(
            **{
                "accelerator": "cpu",
                "logger": False,
                "callbacks": list(callbacks),
                "default_root_dir": self.directory,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "max_epochs": -1,
                "max_steps": -1,
                **trainer_kwargs,
            }
        )
        trainer.fit(module, Stream(batches_per_epoch), ckpt_path=ckpt_path)
        return module, trainer

    @property
    def saved(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "checkpoints").glob("*"))

    def load(self, name: str) -> dict[str, Any]:
        return torch.load(self.directory / "checkpoints" / name, weights_only=True)


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    return Fit(tmp_path)
