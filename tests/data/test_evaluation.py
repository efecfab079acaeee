from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_rl import PPO, RolloutDataModule
from lit_rl.data.evaluation import Evaluation
from tests.data.test_environments import environments, on_rank
from tests.toys import Episodes57, fit, parameters_of


class SeedLog(Episodes57):
    """Notes every seed it is reset with."""

    seeds: list[int] = []  # noqa: RUF012 - shared by all copies on purpose

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        if seed is not None:
            self.seeds.append(seed)
        return super().reset(seed=seed)


def test_evaluation_has_seeds_of_its_own():
    """Two ranks share five episodes, rounded up; nobody meets an episode of training or of the other rank."""
    seen = {}
    for rank in range(2):
        SeedLog.seeds = []
        made = on_rank(environments(SeedLog, seed=7), rank, 2)
        evaluation = Evaluation(made, 5, playback=False)
        module = PPO(hidden=(4,), spec=made.spec)
        module.configure_model()
        on_rank(made, rank, 2, module)
        made.collect(module, 2)
        training = list(SeedLog.seeds)
        SeedLog.seeds = []
        batches = [next(evaluation.episodes(None)) for _ in range(2)]
        assert [len(batch["episodes"]["episode_return"]) for batch in batches] == [3, 3]
        assert SeedLog.seeds[:3] == SeedLog.seeds[3:]  # equal policies meet equal episodes
        seen[rank] = (set(training), set(SeedLog.seeds))
        made.close()
        evaluation.close()
    assert seen[0][0] == {7, 8, 9, 10}
    assert seen[1][0] == {11, 12, 13, 14}
    assert len(seen[0][1] | seen[1][1]) == 6
    assert not (seen[0][1] | seen[1][1]) & (seen[0][0] | seen[1][0])


def test_evaluation_plays_every_environment_once_and_is_reported():
    module = PPO(hidden=(4,), batch_size=16)
    data = RolloutDataModule(Episodes57, 2, 8, rollouts_per_epoch=1, eval_episodes=3, seed=0)
    logger = fit(module, data, limit_val_batches=1.0)
    assert logger.column("eval/episodes") == [3]
    lengths = [{0: 5, 1: 7, 2: 5}[(0 + 500_009 + i) % 3] for i in range(3)]
    assert logger.column("eval/length_mean") == [pytest.approx(sum(lengths) / 3)]
    returns = [{0: 10, 1: 91, 2: 110}[(500_009 + i) % 3] for i in range(3)]
    assert logger.column("eval/return_mean") == [pytest.approx(np.mean(returns))]
    assert logger.column("eval/return_std") == [pytest.approx(np.std(returns, ddof=1))]
    assert module.eval_result is not None
    assert module.eval_result["env_steps"] == 16


def test_evaluation_does_not_change_what_is_learned():
    finals = []
    for limit in (0, 1.0):
        torch.manual_seed(0)
        module = PPO(hidden=(4,), batch_size=16)
        fit(
            module,
            RolloutDataModule("CartPole-v1", 2, 16, rollouts_per_epoch=2),
            max_epochs=2,
            limit_val_batches=limit,
        )
        finals.append(parameters_of(module))
    assert torch.equal(*finals)
