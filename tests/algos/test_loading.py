"""Learners are loaded from checkpoints as Lightning does it, without trust in the file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from lit_rl import PPO, SAC, RolloutDataModule, load_policy
from lit_rl.algos.loading import read
from lit_rl.algos.module import RLModule
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.nets import Flatten
from lit_rl.types import EnvSpec
from tests.crafted import good_checkpoint

SPEC = {"class_path": "lit_rl.encoders.perceptron.PerceptronEncoder", "init_args": {"hidden": [4]}}


class Own(PPO):
    """A learner of a user, with an argument of its own beside those that it hands on."""

    def __init__(self, own: tuple[int, int] = (0, 0), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.own = own


class Scaled(nn.Module):
    def __init__(self, spec: EnvSpec, by: float = 1.0) -> None:
        super().__init__()
        self.flatten, self.by = Flatten(spec), by
        self.out_features = self.flatten.out_features

    def forward(self, obs: Any) -> torch.Tensor:
        return self.by * self.flatten(obs)


def saved(
    folder: Path, *, learner: str = "lit_rl.PPO", weights: RLModule | None = None, **arguments: Any
) -> Path:
    """A checkpoint with these hyper-parameters, and the weights of a module if given."""
    content = good_checkpoint()
    content["hyper_parameters"] |= arguments | {"_class_path": learner}
    content["lit_rl"]["class_path"] = learner
    if weights is not None:
        weights.spec = EnvSpec.from_dict(content["lit_rl"]["spec"])
        weights.configure_model()
        content["state_dict"] = weights.state_dict()
    torch.save(content, folder / "a.ckpt")
    return folder / "a.ckpt"


def same_weights(one: RLModule, other: RLModule) -> Iterator[bool]:
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        yield torch.equal(first, second)


def test_arguments_are_those_of_the_checkpoint(tmp_path: Path):
    path = saved(tmp_path, clip=0.13)
    for loaded in (PPO.load_from_checkpoint(path), load_policy(path), RLModule.load_from_checkpoint(path)):
        assert type(loaded) is PPO
        assert (loaded.settings.clip, loaded.hparams["hidden"]) == (0.13, (8,))
    assert load_policy(path, clip=0.14).settings.clip == 0.14
    with path.open("rb") as file:
        assert load_policy(file).settings.clip == 0.13  # type: ignore[arg-type, attr-defined]
    memory = io.BytesIO(path.read_bytes())
    assert PPO.load_from_checkpoint(memory, weights_only=True).settings.clip == 0.13


def test_an_encoder_of_lit_rl_needs_no_word(tmp_path: Path):
    trained = PPO(hidden=(8,), encoder=partial(PerceptronEncoder, hidden=(4,)))
    loaded = load_policy(saved(tmp_path, weights=trained, encoder=SPEC))
    assert all(same_weights(loaded, trained))


def test_an_encoder_of_ones_own_is_named_first(tmp_path: Path):
    trained = PPO(hidden=(8,), encoder=partial(Scaled, by=3.0))
    spec = {"class_path": f"{__name__}.Scaled", "init_args": {"by": 3.0}}
    path = saved(tmp_path, weights=trained, encoder=spec)
    message = (
        f"^checkpoint {path} names {__name__}.Scaled as encoder; a checkpoint is data, and may name nothing "
        r"but classes of lit_rl and those that you name: if it is yours, give encoder=\.\.\., "
        r"or classes=\[\.\.\.\]$"
    )
    with pytest.raises(ValueError, match=message):
        load_policy(path)
    for loaded in (
        load_policy(path, [Scaled]),
        load_policy(path, encoder=partial(Scaled, by=3.0)),
        PPO.load_from_checkpoint(path, classes=[Scaled]),
    ):
        assert all(same_weights(loaded, trained))
        assert loaded.policy.network.actor_encoder.by == 3.0  # type: ignore[union-attr]


def test_a_learner_of_ones_own_is_named_first(tmp_path: Path):
    path = saved(tmp_path, learner="__main__.Own", own=[1, 2], clip=0.13)
    with pytest.raises(
        ValueError, match=r"names __main__\.Own as its learner; .*load with that class itself"
    ):
        load_policy(path)
    with pytest.raises(ValueError, match=r"names __main__\.Own as its learner"):
        PPO.load_from_checkpoint(path)
    for loaded in (Own.load_from_checkpoint(path), load_policy(path, [Own])):
        assert isinstance(loaded, Own)
        assert (loaded.own, loaded.settings.clip) == ((1, 2), 0.13)


def test_another_learner_is_refused(tmp_path: Path):
    path = saved(tmp_path)
    with pytest.raises(ValueError, match=r"names lit_rl\.PPO as its learner, which is not a subclass of SAC"):
        SAC.load_from_checkpoint(path)
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        PPO().load_from_checkpoint(path)


def test_weights_that_do_not_fit(tmp_path: Path):
    path = saved(tmp_path, weights=PPO(hidden=(8, 8)))
    with pytest.raises(RuntimeError, match="loading state_dict"):
        PPO.load_from_checkpoint(path)
    loaded = PPO.load_from_checkpoint(saved(tmp_path, weights=PPO(hidden=(8,))), strict=False, hidden=(8,))
    assert loaded.env_steps == 0


def test_arguments_are_not_read_from_another_file(tmp_path: Path):
    with pytest.raises(ValueError, match=r"hparams_file='h\.yaml': give the arguments .* as keywords"):
        PPO.load_from_checkpoint(saved(tmp_path), hparams_file="h.yaml")


def test_an_argument_that_there_is_not(tmp_path: Path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'clpi'"):
        load_policy(saved(tmp_path), clpi=0.1)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"state_dict": {}, "lit_rl": "PPO"}, [1], "text"])
def test_what_is_no_checkpoint(tmp_path: Path, content: Any):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt is not a checkpoint of lit_rl"):
        read(tmp_path / "a.ckpt")


def test_arguments_of_numpy_are_kept_and_load_again(tmp_path: Path):
    given = {
        "hidden": np.array([8, 4]), "learning_rate": np.float64(1e-3), "batch_size": np.int64(16),
        "gamma": np.float32(0.5), "update_epochs": np.array(1), "clip_value": np.float64(0.2),
        "normalize_advantage": np.bool_(False),
    }  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(PPO(**given), RolloutDataModule("CartPole-v1", 2, 8, 1, check=False))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    kept = read(tmp_path / "a.ckpt")["hyper_parameters"]
    expected = {"hidden": [8, 4], "learning_rate": 1e-3, "batch_size": 16, "gamma": 0.5, "update_epochs": 1}
    assert {name: kept[name] for name in expected} == expected
    assert type(kept["batch_size"]) is int
    loaded = PPO.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.hparams["hidden"] == (8, 4)
    assert (loaded.gamma, loaded.hparams["normalize_advantage"]) == (0.5, False)
