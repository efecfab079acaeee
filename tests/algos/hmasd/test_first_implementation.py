"""What the first implementation of synchronous HMASD did wrong, one test per fault."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lit_rl import HMASD, RolloutDataModule
from lit_rl.algos.export import load_policy
from lit_rl.algos.hmasd.decisions import Decisions, Seen
from lit_rl.callbacks import PaperExport, RolloutCheckpoint
from lit_rl.callbacks.paper.figure_process import FigureProcess
from lit_rl.collect.inline import InlineCollector
from lit_rl.types import EnvSpec, Rollout, Step
from tests.team_toys import Team
from tests.toys import fit, make_trainer

ENVS, STEPS, EPOCHS = 4, 8, 3
SMALL: dict[str, Any] = {"hidden": (8,), "embedding": 8, "gru": 4, "chunk_length": 4, "k": 4}
FEW: dict[str, Any] = {**SMALL, "update_epochs": EPOCHS, "discriminator_epochs": 1}


class Watched(HMASD):
    """Notes rollouts, rewards of Eq. 4, the decisions of each epoch, and weights before and after updates."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{**FEW, **arguments})
        self.rollouts: list[Rollout] = []
        self.rewards: list[Tensor] = []
        self.epochs: list[list[Decisions]] = []
        self.weights: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        self.rollouts.append(rollout)
        self.epochs.append([])
        loss = self.coordinator._loss

        def noted(decisions: Decisions, clip: float) -> Any:
            self.epochs[-1].append(decisions)
            return loss(decisions, clip)

        self.coordinator._loss = noted  # type: ignore[method-assign]
        before = copies(self)
        super().training_step(rollout, batch_idx)
        self.weights.append((before, copies(self)))
        self.coordinator._loss = loss  # type: ignore[method-assign]

    def _rewards(self, rollout: Rollout, next_state: Tensor, next_obs: Tensor) -> Any:
        rewards, values = super()._rewards(rollout, next_state, next_obs)
        self.rewards.append(rewards)
        return rewards, values


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def environment(length: int = 6, **arguments: Any) -> Any:
    return partial(Team, length=length, **arguments)


def trained(batches: int = 2, **arguments: Any) -> Watched:
    module = Watched(**arguments)
    fit(module, RolloutDataModule(environment(), ENVS, STEPS, batches, seed=0))
    return module


def decision_points(rollout: Rollout) -> Iterator[tuple[int, int]]:
    """(t, n) of each decision: the first one of every environment, then the second ones, and so on."""
    start = rollout["extras"]["skill_start"]
    steps = [[t for t in range(len(start)) if start[t, n]] for n in range(start.shape[1])]
    for block in range(max(map(len, steps))):
        yield from ((of_env[block], n) for n, of_env in enumerate(steps) if block < len(of_env))


def test_the_coordinator_learns_from_the_first_update_on():
    """It was skipped until 128 decisions had gathered; here one update has about ten."""
    module = trained()
    for before, after in module.weights:
        for name in ("embed_state", "embed_obs", "encoder", "decoder", "value_head", "skill_head"):
            of_part = [key for key in before if key.startswith(f"coordinator.{name}.")]
            assert of_part
            assert any(not torch.equal(before[key], after[key]) for key in of_part), name


def test_each_decision_of_a_rollout_is_used_once_per_epoch_and_no_other():
    """It drew 128 at random from a store that older policies had filled."""
    module = trained()
    for rollout, epochs in zip(module.rollouts, module.epochs, strict=True):
        points = list(decision_points(rollout))
        assert len(points) == rollout["extras"]["skill_start"].sum()
        assert len(epochs) == EPOCHS
        expected = torch.stack([rollout["extras"]["skill_log_prob"][t, n] for t, n in points])
        for decisions in epochs:
            assert torch.equal(decisions.log_prob, expected)
    assert module.updates == 2 * EPOCHS


def test_decisions_are_stored_with_what_was_seen_when_they_were_made():
    """It stored state and observations of the end of the block."""
    module = trained()
    for rollout, epochs in zip(module.rollouts, module.epochs, strict=True):
        points = list(decision_points(rollout))
        obs, extras = rollout["obs"], rollout["extras"]
        stored = epochs[0]
        assert torch.equal(stored.state, torch.stack([obs["state"][t, n] for t, n in points]))
        assert torch.equal(stored.obs, torch.stack([obs["observation"][t, n] for t, n in points]))
        assert torch.equal(stored.skills[:, 0], torch.stack([extras["team_skill"][t, n] for t, n in points]))
        later = torch.stack([obs["state"][t + 1, n] for t, n in points])
        assert not (stored.state == later).all(1).any()  # the clock in the state never stands still


class LargeWeights(Watched):
    """The weak initial weights of attention would let some gradients vanish for long."""

    def build(self, spec: EnvSpec) -> None:
        super().build(spec)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.5)


def test_every_parameter_is_in_one_optimizer_and_moves():
    """Embeddings were created at the first decision, after Adam had been built, and were never trained."""
    module = LargeWeights(n_Z=3, n_z=2, k=2)
    trainer = make_trainer()
    trainer.fit(module, datamodule=RolloutDataModule(environment(), ENVS, STEPS, 2, seed=0))
    in_optimizers = [
        p for optimizer in trainer.optimizers for g in optimizer.param_groups for p in g["params"]
    ]
    assert len(in_optimizers) == 4
    ranges = [(p.data_ptr(), p.data_ptr() + p.numel() * p.element_size()) for p in in_optimizers]
    for name, parameter in module.named_parameters():
        inside = [low <= parameter.data_ptr() < high for low, high in ranges]
        assert sum(inside) == 1, name
    assert sum(p.numel() for p in in_optimizers) == sum(p.numel() for p in module.parameters())
    (before, _), (_, after) = module.weights[0], module.weights[-1]
    at_rest = {name for name in before if torch.equal(before[name], after[name])}
    assert all(name.endswith("key.bias") for name in at_rest), at_rest  # attention does not depend on it


def test_nothing_is_dropped_at_random():
    """Dropout made replayed log-probabilities differ from those of the decisions."""
    module = HMASD(**SMALL, spec=Team(ENVS).spec)
    module.configure_model()
    module.train()
    assert not [name for name, part in module.named_modules() if "Dropout" in type(part).__name__]
    rollout = InlineCollector(Team(ENVS, length=6), 0).collect(module, STEPS, 0)
    with torch.no_grad():
        seen = Seen(*module._vectors(rollout["obs"]), *module._vectors(rollout["final_obs"]),
                    rollout["final_index"])  # fmt: skip
        decisions, values = module._decisions(rollout, seen)
        again = [module.coordinator(decisions.state, decisions.obs, decisions.skills) for _ in range(2)]
    assert values["update/replay_error_coordinator"] < 1e-6
    assert all(torch.equal(a, b) for a, b in zip(*again, strict=True))


def test_a_checkpoint_fits_a_learner_that_has_not_acted_yet(tmp_path: Path):
    """Parts of a fresh model did not exist until its first decision, so it could not load the file."""
    module = HMASD(**FEW)
    trainer = make_trainer()
    trainer.fit(module, datamodule=RolloutDataModule(environment(), ENVS, STEPS, 1, seed=0))
    trainer.save_checkpoint(tmp_path / "model.pt")
    fresh = HMASD(**FEW, spec=Team(ENVS).spec)
    fresh.configure_model()
    state = torch.load(tmp_path / "model.pt", weights_only=True)["state_dict"]
    result = fresh.load_state_dict(state, strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    loaded = load_policy(tmp_path / "model.pt")
    for name, parameter in module.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter), name
        assert torch.equal(fresh.get_parameter(name), parameter), name


class BrokenReward(Team):
    """One reward of its 21st step is ``value``."""

    def __init__(self, num_envs: int, value: float) -> None:
        super().__init__(num_envs, length=6)
        self.value, self.steps = value, 0

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        self.steps += 1
        if self.steps == 21:
            step.reward[0, 0] = self.value
        return step


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "the environment returned: reward_TNA is nan at step 4, environment 0, agent left"),
        (3e38, r"(Losses|loss)/\w+(/\w+)? became (nan|inf) in the update after 96 env steps"),
    ],
)
def test_a_loss_that_is_not_finite_ends_training(value: float, message: str):
    """It was replaced by a constant, and training went on."""
    module = HMASD(**FEW)
    env = partial(BrokenReward, value=value)
    with pytest.raises(FloatingPointError, match=message):
        fit(module, RolloutDataModule(env, ENVS, STEPS, 5, seed=0, check=False))


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FigureProcess, "_start", lambda self, directory, step: None)


def rows(directory: Path, kind: str) -> list[dict[str, float]]:
    """Of all files of a kind, in their order."""
    files = sorted(directory.glob(f"{kind}_step_*.csv"), key=steps_in_name)
    tables = [csv.DictReader(file.read_text().splitlines()) for file in files]
    return [{k: float(v) for k, v in row.items()} for table in tables for row in table]


def steps_in_name(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def test_exported_components_are_those_of_the_reward_that_is_learned_from(tmp_path: Path, no_figures: None):
    """Constants were exported, and the total was the environment's reward alone."""
    module = Watched(lambda_e=1.0, lambda_D=0.3, lambda_d=0.2)
    data = RolloutDataModule(environment(), ENVS, STEPS, 5, seed=0)
    fit(module, data, callbacks=[PaperExport(export_interval=40)], default_root_dir=tmp_path)
    running, expected, returns = [0.0] * ENVS, [], []
    for rollout, rewards in zip(module.rollouts, module.rewards, strict=True):
        ended = (rollout["terminated"] | rollout["truncated"]).tolist()
        for t, per_env in enumerate(rewards.double().mean(-1).tolist()):
            for n, reward in enumerate(per_env):
                running[n] += reward
                if ended[t][n]:
                    expected.append(running[n])
                    running[n] = 0.0
        returns += rollout["episodes"]["episode_return"].tolist()
    exported = rows(tmp_path / "paper_data", "episode_rewards")
    assert [row["total_reward"] for row in exported] == pytest.approx(expected, abs=1e-4)
    assert [row["env_component"] for row in exported] == pytest.approx(returns)
    for row in exported:
        parts = row["env_component"], row["team_disc_component"], row["ind_disc_component"]
        assert row["total_reward"] == pytest.approx(sum(parts), abs=1e-9)
    for name in ("team_disc_component", "ind_disc_component"):
        per_step = {round(row[name] / row["episode_length"], 6) for row in exported}
        assert len(per_step) > len(exported) / 2, name


def test_exports_and_checkpoints_come_although_no_batch_meets_their_interval(
    tmp_path: Path, no_figures: None
):
    """Both waited for exact multiples; a batch has 1,024 env steps, for any number of environments."""
    module = HMASD(**{**FEW, "update_epochs": 1})
    data = RolloutDataModule(environment(), 64, rollouts_per_epoch=4, seed=0, batch_env_steps=1024)
    callbacks = [PaperExport(export_interval=1000),
                 RolloutCheckpoint(every_env_steps=1500, save_best=False, models="model")]  # fmt: skip
    trainer = make_trainer(callbacks=callbacks, default_root_dir=tmp_path, enable_checkpointing=True)
    trainer.fit(module, datamodule=data)
    written = sorted((tmp_path / "paper_data").glob("sync_metrics_step_*.csv"), key=steps_in_name)
    assert [steps_in_name(path) for path in written] == [1024, 2048, 3072, 4096]
    updates = rows(tmp_path / "paper_data", "sync_metrics")
    assert [row["samples_collected"] for row in updates] == [1024] * 4
    assert [row["policy_version"] for row in updates] == [1, 2, 3, 4]
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert saved == {"last.ckpt", "step_2048.ckpt", "step_3072.ckpt"}
    models = {path.name for path in (tmp_path / "models").iterdir()}
    assert models == {"model_1500.pt", "model_3000.pt", "model_final.pt"}
