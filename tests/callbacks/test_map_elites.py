"""The search beside training: its generations, its files, and how it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer

from lit_rl import PPO, MorphologyDataModule, PopulationPPO, RolloutDataModule
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
    with pytest.raises(ValueError, match=f"{name} = 0, expected .*{name}"):
        MapElites(**{name: 0})


# A policy for each body


def independent(**changes: Any) -> MorphologyDataModule:
    arms = {"num_bodies": 4, "num_steps": 20, "morph": False}
    return data(**{"training": "independent", "env_kwargs": arms, **changes})


def own_policies(**changes: Any) -> MapElites:
    return callback(**{"batch_size": 4, "compare": True, **changes})


def fit_population(path: Path, search: MapElites, module: Any, epochs: int = 1, **more: Any) -> PopulationPPO:
    torch.manual_seed(0)
    model = PopulationPPO(hidden=(8,), batch_size=20, update_epochs=1)
    trainer = Trainer(max_epochs=epochs, default_root_dir=path, callbacks=[search], **QUIET)
    trainer.fit(model, datamodule=module, **more)
    return model


def test_each_body_that_is_asked_for_is_trained_by_its_own_policy_and_then_measured_with_it(tmp_path: Path):
    """Two generations in four batches: bodies of the first two are those told first, weights begin anew."""
    search, module = own_policies(generations=2), independent()
    measured: list[tuple[int, np.ndarray]] = []
    trained: list[np.ndarray] = []
    steps: list[int] = []
    measure = module.measure

    def watched(genes: np.ndarray, fresh: int | None = None) -> Measured:
        measured.append((module.environments.learner.policy_version, genes))
        return measure(genes, fresh)

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            trained.append(module.training_genes)
            (optimizer,) = pl_module.raw_optimizers()
            steps.append(len(optimizer.state))

    module.measure = watched
    torch.manual_seed(0)
    model = PopulationPPO(hidden=(8,), batch_size=20, update_epochs=1)
    callbacks = [search, Watch()]
    Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=callbacks, **QUIET).fit(model, module)
    assert [version for version, _ in measured] == [2, 2, 4, 4]  # both times on fixed and on other goals
    for batch, told in enumerate((0, 0, 2, 2)):
        np.testing.assert_array_equal(trained[batch], measured[told][1])
    assert steps == [0, 1, 0, 1], "Adam begins anew with other bodies"
    summary = json.loads((tmp_path / "map_elites/summary.json").read_text())
    assert (summary["generations"], summary["evaluations"], summary["evaluations_again"]) == (2, 8, 0)
    assert np.isfinite(summary["corrected_qd_score"])
    assert summary["corrected_qd_score"] != summary["qd_score"]
    assert "random_qd_score" not in summary


def test_own_policies_are_resumed_bit_for_bit(tmp_path: Path):
    whole = own_policies(generations=5)
    one = fit_population(tmp_path / "whole", whole, independent(), epochs=3)

    class Stops(MapElites):
        def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    stopped = Stops(5, 4, every_batches=2, remeasure_every=2, seed=5)
    stopped.__class__.__qualname__ = MapElites.__qualname__  # Lightning names the state by the class
    fit_population(tmp_path / "stopped", stopped, independent(), epochs=2)
    resumed = own_policies(generations=5)
    two = fit_population(
        tmp_path / "resumed", resumed, independent(), epochs=3, ckpt_path=tmp_path / "stopped.ckpt"
    )
    assert torch.equal(*(torch.cat([p.flatten() for p in model.parameters()]) for model in (one, two)))
    files = [(tmp_path / run / "map_elites/summary.json").read_text() for run in ("whole", "resumed")]
    assert files[0] == files[1]


def test_own_policies_need_a_population_with_room_for_a_generation(tmp_path: Path):
    with pytest.raises(MisconfigurationException, match=r"needs a policy for each body, .*, got PPO"):
        fit(tmp_path, own_policies(), module=independent())
    with pytest.raises(MisconfigurationException, match=r"has 4 policies \(num_bodies\), but 6 bodies are"):
        fit_population(tmp_path, own_policies(batch_size=6), independent())
    with pytest.raises(ValueError, match=r"a multiple of env_kwargs\.num_bodies = 3 as num_envs, got 8"):
        independent(env_kwargs={"num_bodies": 3})
