"""What all data modules share, with the smallest data module there can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lit_rl import PPO, ReplayDataModule, RolloutDataModule
from lit_rl.data.arguments import EnvironmentArguments
from lit_rl.data.loaders import Batches
from lit_rl.data.module import RLDataModule
from lit_rl.types import Rollout
from tests.toys import Episodes57, fit, make_trainer

ARGUMENTS = EnvironmentArguments(Episodes57, 2, seed=0, eval_episodes=3)


class Pairs(RLDataModule):
    """Batches of two steps; it counts them, as what it remembers."""

    def __init__(self) -> None:
        super().__init__(ARGUMENTS)
        self.count = 0

    @property
    def collect_steps(self) -> int:
        return 2

    def train_dataloader(self) -> Batches:
        return Batches(self._pairs, 3)

    def _pairs(self) -> Iterator[Rollout]:
        self.environments.begin()
        for _ in range(3):
            self.count += 1
            yield self.environments.collect(self.environments.learner, 2)

    def local_state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_local_state(self, state: dict[str, Any]) -> None:
        self.count = state.get("count", -1)

    def forget(self) -> None:
        self.count = 0


def ppo() -> PPO:
    return PPO(hidden=(4,), batch_size=4, update_epochs=1)


def test_a_data_module_of_few_lines_trains_evaluates_and_predicts():
    module, data = ppo(), Pairs()
    assert (data.num_envs, data.spec.name) == (2, "Episodes57")
    logger = fit(module, data, limit_val_batches=1.0)
    assert module.env_steps == 3 * 2 * 2
    assert logger.column("eval/episodes") == [3]
    (rollout,) = make_trainer().predict(module, datamodule=data)  # type: ignore[misc]
    assert rollout["reward"].shape == (2, 2)


def test_what_it_remembers_travels_with_the_environments_of_each_rank(tmp_path: Any):
    data = Pairs()
    fit(ppo(), data)
    torch.save(data.state_dict(), tmp_path / "data.pt")
    state = torch.load(tmp_path / "data.pt", weights_only=True)
    (rank,) = state["ranks"]
    assert rank.keys() == {"collector", "rng", "seed", "own"}
    assert rank["own"] == {"count": 3}
    other = Pairs()
    other.load_state_dict(state)
    assert other.count == 3


def test_an_evaluation_takes_nothing_from_a_checkpoint():
    data, module = Pairs(), ppo()
    trainer = make_trainer(limit_val_batches=1.0)
    trainer.validate(module, datamodule=data, verbose=False)
    data.load_state_dict({"ranks": [{}, {}]})
    assert data.count == -1


def test_another_learner_starts_with_nothing_remembered():
    data, module = Pairs(), ppo()
    for learner, expected in ((module, 3), (module, 6), (ppo(), 3)):
        fit(learner, data)
        assert data.count == expected


def test_what_a_subclass_must_write():
    data = RLDataModule(ARGUMENTS)
    with pytest.raises(TypeError, match=r"RLDataModule must implement train_dataloader\(\)"):
        data.train_dataloader()
    with pytest.raises(TypeError, match="RLDataModule must define collect_steps"):
        _ = data.collect_steps
    assert data.local_state() == {}


@pytest.mark.parametrize("kind", [RolloutDataModule, ReplayDataModule])
def test_the_data_modules_that_are_shipped(kind: type[RLDataModule]):
    data = kind(Episodes57, num_envs=3)
    assert data.num_envs == 3
    assert data.collect_steps == {"RolloutDataModule": 128, "ReplayDataModule": 64}[kind.__name__]
    batch = {"reward": torch.ones(2)}
    assert data.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
