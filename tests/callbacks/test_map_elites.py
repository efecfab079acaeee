"""The search beside training: its generations, its files, and how it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from lit_rl import PPO, MorphologyDataModule, RolloutDataModule
from lit_rl.callbacks import MapElites
from lit_rl.qd.archive import Archive
from lit_rl.qd.search import Measured

ARMS = {"num_bodies": 8, "num_steps": 20}
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "limit_val_batches": 0,
}  # fmt: skip


def data(**changes: Any) -> MorphologyDataModule:
    given = {"rollouts_per_bodies": 2, "env_kwargs": ARMS, "num_goals": 2, "eval_episodes": 2, "seed": 3}
    return MorphologyDataModule(8, 10, 4, **{**given, **changes})


def callback(**changes: Any) -> MapElites:
    given = {"generations": 4, "batch_size": 6, "every_batches": 2, "remeasure_every": 2, "seed": 5}
    return MapElites(**{**given, **changes})


def fit(
    path: Path, search: MapElites, epochs: int = 1, module: MorphologyDataModule | None = None, **more: Any
) -> PPO:
    torch.manual_seed(0)
    model = PPO(hidden=(8,), batch_size=40, update_epochs=1)
    trainer = Trainer(max_epochs=epochs, default_root_dir=path, callbacks=[search], **QUIET)
    trainer.fit(model, datamodule=module or data(), **more)
    return model


def test_generations_go_on_beside_training_and_the_rest_follows_at_its_end(tmp_path: Path):
    search = callback()
    seen: list[tuple[int, int]] = []
    module = data()
    measure = module.measure

    def watched(genes: np.ndarray, fresh: int | None = None) -> Measured:
        seen.append((module.environments.learner.policy_version, len(genes)))
        return measure(genes, fresh)

    module.measure = watched
    fit(tmp_path, search, module=module)
    elites = json.loads((tmp_path / "map_elites/summary.json").read_text())
    assert [version for version, _ in seen[:3]] == [
        2,
        4,
        4,
    ]
    assert {version for version, _ in seen[3:]} == {4}
    assert (elites["generations"], elites["evaluations"], elites["failed"]) == (4, 24, 0)
    assert elites["training"] == "co_trained"
    assert len(module._elites)


def test_the_files_say_what_is_in_the_archive(tmp_path: Path):
    search = callback()
    fit(tmp_path, search)
    archive = Archive(search._started().archive.grid, 13)
    archive.load_csv(tmp_path / "map_elites/archive.csv")
    summary = json.loads((tmp_path / "map_elites/summary.json").read_text())
    assert summary["qd_score"] == archive.qd_score > 0
    assert summary["num_elites"] == len(archive)
    assert {"corrected_qd_score", "random_qd_score", "random_corrected_qd_score"} <= set(summary)
    assert (tmp_path / "map_elites/archive.png").stat().st_size > 1000
    cells = json.loads((tmp_path / "map_elites/archive.json").read_text())
    scores = {"archive": "qd_score", "corrected": "corrected_qd_score", "random": "random_qd_score"}
    for name, score in scores.items():
        assert sum(value + 0.7 for value in cells[name]["objective"]) == pytest.approx(summary[score])
    assert cells["archive"]["index"] == archive.data()["index"].tolist()
    joints = [len(body["lengths"]) for body in cells["archive"]["bodies"]]
    assert joints == archive.data()["measures"][:, 0].tolist()  # bodies stand in the order of their cells


def test_elites_are_as_good_as_the_finished_policy_makes_them(tmp_path: Path):
    search, module = callback(), data()

    class Ended(PPO):
        def on_train_end(self) -> None:
            kept = search._started().archive.data()
            self.again = module.measure(kept["solution"]).objective
            self.kept = kept["objective"]

    model = Ended(hidden=(8,), batch_size=40, update_epochs=1)
    Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[search], **QUIET).fit(
        model, datamodule=module
    )
    np.testing.assert_array_equal(model.kept, model.again)


def test_pretrained_searches_with_the_finished_policy_only(tmp_path: Path):
    search, module = callback(), data(training="pretrained")
    versions = []
    tell = MapElites._generation

    def watched(self: MapElites, of: Any) -> None:
        versions.append(self._learner.policy_version)
        tell(self, of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MapElites, "_generation", watched)
        fit(tmp_path, search, module=module)
    assert versions == [4] * 4


def test_a_run_that_is_resumed_continues_bit_for_bit(tmp_path: Path):
    whole = callback(generations=8)
    one = fit(tmp_path / "whole", whole, epochs=3)

    class Stops(MapElites):
        def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    stopped = Stops(8, 6, every_batches=2, remeasure_every=2, seed=5)
    stopped.__class__.__qualname__ = MapElites.__qualname__  # Lightning names the state by the class
    fit(tmp_path / "stopped", stopped, epochs=2)
    resumed = callback(generations=8)
    two = fit(tmp_path / "resumed", resumed, epochs=3, ckpt_path=tmp_path / "stopped.ckpt")
    assert torch.equal(*(torch.cat([p.flatten() for p in model.parameters()]) for model in (one, two)))
    for name in ("archive.csv", "summary.json"):
        files = [(tmp_path / run / "map_elites" / name).read_text() for run in ("whole", "resumed")]
        assert files[0] == files[1]


def test_more_than_a_fifth_of_failures_stops_the_run_with_one_line_and_keeps_what_was_found(tmp_path: Path):
    module = data()
    measure = module.measure

    def breaks(genes: np.ndarray, fresh: int | None = None) -> Measured:
        found = measure(genes, fresh)
        if module.environments.learner.policy_version == 4:
            found.objective[:] = np.nan
        return found

    module.measure = breaks
    with pytest.raises(MisconfigurationException, match="6 of 6 bodies of generation 2 failed") as error:
        fit(tmp_path, callback(), module=module)
    assert "\n" not in str(error.value)
    summary = json.loads((tmp_path / "map_elites/summary.json").read_text())
    assert (summary["evaluations"], summary["failed"]) == (12, 6)
    assert summary["num_elites"] > 0


def test_data_without_bodies_is_refused(tmp_path: Path):
    with pytest.raises(MisconfigurationException, match="as MorphologyDataModule, got RolloutData"):
        fit(tmp_path, callback(), module=RolloutDataModule("CartPole-v1", check=False))


@pytest.mark.parametrize("name", ["generations", "batch_size", "every_batches", "remeasure_every"])
def test_numbers_must_be_positive(name: str):
    with pytest.raises(MisconfigurationException, match=f"{name} must be at least 1, got 0"):
        MapElites(**{name: 0})
