from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from lightning.pytorch import Callback

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.data.arguments import EnvironmentArguments
from lit_rl.data.environments import Environments
from lit_rl.seeds import derive
from tests.toys import ContinuousEpisodes57, Episodes57, MatchingPair, fit, make_trainer, parameters_of
from tests.worker_toys import Uneven


def environments(env: Any = Episodes57, num_envs: int = 4, seed: int | None = None) -> Environments:
    arguments = EnvironmentArguments(env, num_envs, seed=seed, check=False)
    return Environments(arguments, "RolloutDataModule")


def on_rank(made: Environments, rank: int, world_size: int, module: Any = None) -> Environments:
    """Put the environments into a run of several ranks."""
    made.trainer = SimpleNamespace(  # type: ignore[assignment]  # the few attributes that are asked for
        global_rank=rank,
        world_size=world_size,
        lightning_module=module,
        precision_plugin=SimpleNamespace(forward_context=torch.no_grad),
    )
    return made


def test_seeds_of_ranks_do_not_overlap(monkeypatch: pytest.MonkeyPatch):
    """Environment i of rank r starts with the run's own number + r * num_envs + i."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert environments().seed == derive(0, "training")
    assert on_rank(environments(seed=7), 0, 3).seed == derive(7, "training")
    assert on_rank(environments(seed=7), 2, 3).seed == derive(7, "training") + 8
    monkeypatch.setenv("PL_GLOBAL_SEED", "100")  # set by seed_everything
    assert on_rank(environments(), 1, 3).seed == derive(100, "training") + 4
    assert on_rank(environments(seed=7), 1, 3).seed == derive(7, "training") + 4


def test_ranks_share_the_evaluation_episodes_of_one_process():
    """Two ranks with five episodes each play the ten that one process plays."""
    first = environments(seed=7).eval_seed(10)
    assert [on_rank(environments(seed=7), rank, 2).eval_seed(5) - first for rank in range(2)] == [0, 5]


def test_runs_with_neighbouring_seeds_share_no_episode():
    """With 64 environments of training and 100 of evaluations each."""
    starts = [
        start + i
        for seed in range(50)
        for start, count in [
            (environments(seed=seed).seed, 64),
            (environments(seed=seed).eval_seed(100), 100),
        ]
        for i in range(count)
    ]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("env", [Uneven, "Pendulum-v1"])
def test_training_in_workers_equals_training_in_one_process(env: Any):
    trained = []
    for arguments in ({}, {"vectorization": "async", "num_workers": 3}):
        torch.manual_seed(0)
        module = PPO(batch_size=12, update_epochs=1, threads=1, matmul_precision="highest")
        data = RolloutDataModule(env, 4, 6, 2, eval_episodes=2, seed=3, **arguments)  # type: ignore[arg-type]
        trainer = make_trainer(limit_val_batches=1)
        trainer.fit(module, datamodule=data)
        trained.append((parameters_of(module), trainer.callback_metrics["eval/return_mean"]))
    assert torch.equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]


def resumed(make_module: Any, make_data: Any, tmp_path: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Train two epochs at once, and two with a checkpoint and new objects between."""
    torch.manual_seed(0)
    whole = make_module()
    make_trainer(max_epochs=2, **kwargs).fit(whole, datamodule=make_data())

    torch.manual_seed(0)
    first, path = make_module(), tmp_path / "last.ckpt"

    class Save:
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            trainer.save_checkpoint(path)

    from lightning.pytorch.callbacks import LambdaCallback

    callback = LambdaCallback(on_train_epoch_end=Save().on_train_epoch_end)
    make_trainer(max_epochs=1, callbacks=[callback], **kwargs).fit(first, datamodule=make_data())
    torch.manual_seed(12345)
    second = make_module()
    make_trainer(max_epochs=2, **kwargs).fit(second, datamodule=make_data(), ckpt_path=path)
    return whole, second


@pytest.mark.parametrize("gru", [None, 4])
def test_a_resumed_run_of_ppo_continues_bit_for_bit(
    tmp_path: Any, gru: int | None, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "lit_rl")
    whole, second = resumed(
        lambda: PPO(
            hidden=(8,),
            batch_size=32,
            update_epochs=2,
            gru=gru,
            normalize_observation=True,
            normalize_return=True,
        ),
        lambda: RolloutDataModule("CartPole-v1", 4, 16, rollouts_per_epoch=3, seed=5),
        tmp_path,
    )
    assert torch.equal(parameters_of(whole), parameters_of(second))
    assert (whole.env_steps, whole.policy_version, whole.updates, whole.num_episodes) == (
        second.env_steps,
        second.policy_version,
        second.updates,
        second.num_episodes,
    )
    assert list(whole.recent_episodes.returns) == list(second.recent_episodes.returns)
    assert "resumed: environments, random generators and data continue bit for bit" in caplog.text


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_resumed_run_of_sac_continues_bit_for_bit(tmp_path: Any, n_step: int):
    whole, second = resumed(
        lambda: SAC(hidden=(8,)),
        lambda: ReplayDataModule(
            "Pendulum-v1",
            2,
            8,
            batch_size=8,
            capacity=64,
            warmup_steps=16,
            n_step=n_step,
            batches_per_epoch=3,
        ),
        tmp_path,
    )
    assert torch.equal(parameters_of(whole), parameters_of(second))
    assert whole.env_steps == second.env_steps == 6 * 16 + 16
    assert whole.progress_metrics["value/q_mean"] == second.progress_metrics["value/q_mean"]


def test_an_environment_that_cannot_save_starts_anew_and_says_so(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "lit_rl")
    _, second = resumed(
        lambda: PPO(hidden=(8,), batch_size=32),
        lambda: RolloutDataModule(MatchingPair, 4, 8, rollouts_per_epoch=2),
        tmp_path,
    )
    assert second.env_steps == 2 * 2 * 32
    assert "resumed: MatchingPair cannot save its state (MatchingPair), so episodes start anew" in caplog.text


def test_a_ring_that_was_not_saved_starts_empty_and_says_so(tmp_path: Any, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "lit_rl")

    def data() -> ReplayDataModule:
        made = ReplayDataModule("Pendulum-v1", 1, 8, batch_size=8, warmup_steps=16, batches_per_epoch=2)
        made.save_replay = False
        return made

    _, second = resumed(lambda: SAC(hidden=(8,)), data, tmp_path)
    assert second.env_steps == 4 * 8 + 2 * 16  # warmed up again, and counted
    assert "the replay ring starts empty" in caplog.text


def test_a_checkpoint_of_another_number_of_ranks():
    made = environments()
    with pytest.raises(
        ValueError, match=r"written by 2 ranks, this run has 1; resume with the same trainer\.devices"
    ):
        made.load_state_dict({"ranks": [{}, {}]})


def test_a_state_that_was_not_used_yet_is_saved_as_it_came():
    """A run that is stopped before its first batch must not lose what it resumed from."""
    made = environments()
    state = made.state_dict({"ring": None})
    state["ranks"][0]["own"] = {"ring": "kept"}
    fresh = environments()
    assert fresh.load_state_dict(state) == {"ring": "kept"}
    assert fresh.state_dict({"ring": None})["ranks"][0]["own"] == {"ring": "kept"}


def test_collecting_needs_a_trainer():
    made = environments()
    with pytest.raises(
        RuntimeError, match=r"experience is collected while a Trainer runs: call trainer\.fit"
    ):
        made.collect(PPO(hidden=(4,)), 1)
    made.close()
    made.close()


def test_a_users_environment_is_tried_once():
    class Counted(Episodes57):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            Counted.made += 1

    fit(
        PPO(hidden=(4,), batch_size=16),
        RolloutDataModule(Counted, 2, 8, rollouts_per_epoch=1, eval_episodes=3),
        limit_val_batches=1.0,
    )
    assert Counted.made == 1 + 2 + 3  # tried, training, evaluation


def test_an_environment_that_breaks_the_contract_is_refused_before_training():
    class Wrong(ContinuousEpisodes57):
        def step(self, action: Any) -> Any:
            return (*super().step(action)[:4], None)

    with pytest.raises(ValueError, match="info of step is None, expected a dict"):
        fit(PPO(hidden=(4,)), RolloutDataModule(Wrong))


class KeepBatches(Callback):
    def __init__(self) -> None:
        self.batches: list[Any] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch)


def test_training_again_continues_for_the_same_learner_and_starts_afresh_for_another():
    data = RolloutDataModule("CartPole-v1", 2, 8, rollouts_per_epoch=1, seed=3)
    module, keep = PPO(hidden=(4,), batch_size=16, update_epochs=1), KeepBatches()
    for _ in range(2):
        make_trainer(max_epochs=1, callbacks=[keep]).fit(module, datamodule=data)
        assert data.state_dict()["ranks"][0]["collector"]["started"]  # a checkpoint saved after the fit
    first, second = keep.batches
    assert torch.equal(first["obs"][-1], second["obs"][0])
    assert not second["reset"][0].any()
    other = PPO(hidden=(4,), batch_size=16, update_epochs=1)
    make_trainer(max_epochs=1, callbacks=[keep]).fit(other, datamodule=data)
    assert keep.batches[2]["reset"][0].all()
    assert torch.equal(keep.batches[2]["obs"][0], first["obs"][0])


def test_another_learner_does_not_inherit_the_replay_ring():
    data = ReplayDataModule(ContinuousEpisodes57, 2, 8, batch_size=4, warmup_steps=20, batches_per_epoch=1)
    keep = KeepBatches()
    module = SAC(hidden=(4,))
    for learner in (module, module, SAC(hidden=(4,))):
        make_trainer(max_epochs=1, callbacks=[keep]).fit(learner, datamodule=data)
    assert [batch["new_steps"] for batch in keep.batches] == [20 + 16, 16, 20 + 16]


def test_a_fit_that_fails_leaves_neither_processes_nor_a_frozen_collector_behind():
    class Fails(Callback):
        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            raise RuntimeError("the disk is full")

    gc.unfreeze()  # other tests of this process may have left it frozen
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    workers = {"vectorization": "async", "num_workers": 1, "check": False}
    data = RolloutDataModule("CartPole-v1", 2, 16, rollouts_per_epoch=2, **workers)
    module = PPO(hidden=(4,), batch_size=16)
    trainer = make_trainer(callbacks=[Fails()], max_epochs=1)
    with pytest.raises(RuntimeError, match="the disk is full"):
        trainer.fit(module, data)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert gc.get_freeze_count() == 0
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, data)  # the same objects can be used again
    assert module.policy_version == 3
