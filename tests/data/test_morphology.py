"""Bodies that are trained on: when they change, which they are, and how they are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from lit_rl import PPO, MorphologyDataModule

ARMS = {"num_bodies": 8, "num_steps": 20}
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "limit_val_batches": 0,
}  # fmt: skip


def make(**changes: Any) -> MorphologyDataModule:
    given = {"num_envs": 8, "rollout_steps": 10, "rollouts_per_epoch": 4, "rollouts_per_bodies": 2, "seed": 3}
    return MorphologyDataModule(
        **{**given, "env_kwargs": ARMS, "num_goals": 2, "eval_episodes": 2, **changes}
    )


def fit(data: MorphologyDataModule, tmp_path: Any, epochs: int = 1) -> PPO:
    model = PPO(hidden=(8,), batch_size=40, update_epochs=1)
    Trainer(max_epochs=epochs, default_root_dir=tmp_path, **QUIET).fit(model, datamodule=data)
    return model


class Watched(MorphologyDataModule):
    """Remembers the bodies of every rollout."""

    seen: list[np.ndarray]
    resets: list[bool]

    def _rollouts(self) -> Any:
        self.seen, self.resets = [], []
        for rollout in super()._rollouts():
            arms: Any = self.environments.collector.env
            self.seen.append(arms.bodies.reach_m[arms.body].copy())
            self.resets.append(bool(rollout["reset"][0].all()))
            yield rollout


def watched(**changes: Any) -> Watched:
    given = make(**changes).made_with["init_args"]
    return Watched(**{name: value for name, value in given.items() if name != "env"})


def test_bodies_change_with_new_episodes_after_so_many_rollouts(tmp_path: Any):
    data = watched()
    fit(data, tmp_path)
    first, again, third, fourth = data.seen
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(third, fourth)
    assert (first != third).all()
    assert data.resets == [True, False, True, False]


@pytest.mark.parametrize(
    ("training", "pretrain", "num_elites"), [("co_trained", 0, 4), ("fine_tuned", 0, 8), ("pretrained", 0, 0),
    ("fine_tuned", 10_000, 0)],
)  # fmt: skip
def test_which_bodies_are_trained_on_is_one_argument(
    tmp_path: Any, training: str, pretrain: int, num_elites: int
):
    data = make(training=training, pretrain_env_steps=pretrain)
    elites = np.random.default_rng(0).random((5, 13))
    given: dict[str, Any] = {}

    class Search(PPO):
        def on_train_start(self) -> None:
            data.train_on(elites)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(outputs, batch, batch_idx)
            given["genes"] = data.training_genes

    model = Search(hidden=(8,), batch_size=40, update_epochs=1)
    Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET).fit(model, datamodule=data)
    is_elite = (given["genes"][:, None] == elites[None]).all(2).any(1)
    assert is_elite.sum() == num_elites


def test_measuring_plays_the_policy_and_leaves_training_alone(tmp_path: Any):
    class Measured(PPO):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(outputs, batch, batch_idx)
            data: Any = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            genes = np.random.default_rng(0).random((3, 13))
            self.found = [data.measure(genes), data.measure(genes), data.measure(genes, fresh=1)]

    model, results = Measured(), []
    for kind in (PPO, Measured):
        torch.manual_seed(0)
        model = kind(hidden=(8,), batch_size=40, update_epochs=1)
        Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET).fit(model, datamodule=make())
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert model.env_steps == 320
    assert torch.equal(*results)
    assert isinstance(model, Measured)
    first, again, fresh = model.found
    np.testing.assert_array_equal(first.objective, again.objective)
    assert (first.objective != fresh.objective).all()
    np.testing.assert_array_equal(first.measures, fresh.measures)


def test_diversity_of_equal_bodies_is_zero():
    data = make()
    assert data.diversity() == (0.0, 0.0)
    data.training_genes = np.repeat(np.random.default_rng(0).random((1, 13)), 4, 0)
    assert data.diversity() == pytest.approx((0.0, 0.0), abs=1e-7)
    data.training_genes = np.random.default_rng(0).random((64, 13))
    entropy, distance = data.diversity()
    assert 3.0 < entropy <= np.log(64)
    assert 0.35 < distance < 0.45  # of two uniform numbers the root mean square difference is 0.41


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env_kwargs": {"bodies": [{"lengths": [0.1] * 3, "gears": [0.1] * 3}]}}, "must not have bodies"),
        ({"env_kwargs": {"joints": [3, 7]}}, r"joints\[1\] = 7, expected 3 <= joints\[1\] <= 6"),
        ({"env_kwargs": {"length_m": [0.2, 0.1]}}, "the bounds are reversed"),
        ({"env_kwargs": {"lenght_m": [0.1, 0.2]}}, "no setting 'lenght_m'.*length_m"),
        ({"shares": (1, 0)}, "shares must be three numbers"),
        ({"shares": (0, 0, 0)}, "shares must be three numbers"),
        ({"shares": (1, -1, 1)}, r"shares\[1\] = -1, expected shares\[1\] >= 0"),
        ({"pretrain_env_steps": -1}, "pretrain_env_steps = -1, expected pretrain_env_steps >= 0"),
        ({"training": "cotrained"}, "training = 'cotrained', expected .* Did you mean co_trained"),
        ({"training": "independent", "collector": "workers"}, "needs collector = inline, got workers"),
    ],
)
def test_arguments_are_checked(change: dict, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        make(**change)


def test_workers_give_what_one_process_gives_and_resume(tmp_path: Any, caplog: pytest.LogCaptureFixture):
    weights, states = [], []
    for placement in ({}, {"vectorization": "async", "num_workers": 2}):
        torch.manual_seed(0)
        data = make(**placement)
        model = fit(data, tmp_path)
        weights.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach())
        states.append(data.state_dict())
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)
    again = make(vectorization="async", num_workers=2)
    again.load_state_dict(states[1])
    with caplog.at_level("INFO", "lit_rl"):
        fit(again, tmp_path)
    assert "resumed: environments, random generators and data continue bit for bit" in caplog.text


def test_processes_that_nobody_uses_are_refused():
    with pytest.raises(
        ValueError,
        match="num_workers = 2 needs vectorization = async or collector = workers or ray, got native",
    ):
        make(num_workers=2)
    with pytest.raises(ValueError, match=r"= 'asinc', expected native or async\. Did you mean async\?"):
        make(vectorization="asinc")


def test_an_episode_of_a_body_is_a_gif(tmp_path: Any):
    data = make()
    fit(data, tmp_path)
    data.film(np.full(13, 0.5), tmp_path / "body.gif")
    with Image.open(tmp_path / "body.gif") as image:
        assert (image.size, getattr(image, "n_frames", 0)) == ((400, 400), 5)  # steps 0, 4, ... 16
        assert image.info["duration"] in (80, 83)  # ms, four steps of 20 ms
