"""Bounds of actions that belong to the policy: a loaded one acts as it did, whatever the environment says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_rl import SAC, ReplayDataModule
from lit_rl.algos.action_box import ActionBox
from lit_rl.algos.export import export_policy, load_policy
from lit_rl.callbacks import RolloutCheckpoint
from tests.replay_toys import SPEC
from tests.toys import ContinuousEpisodes57, fit, make_trainer

LOW, HIGH = (-1.0, 4.0), (0.5, 6.0)
OBS, RESET = torch.randn(64, 3), torch.zeros(64, dtype=torch.bool)


class Wider(ContinuousEpisodes57):
    """The same environment with other bounds."""

    action_space = spaces.Box(np.array([-9, -9], np.float32), np.array([9, 30], np.float32))


class Unbounded(ContinuousEpisodes57):
    """The same environment without bounds."""

    action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def own(**arguments: Any) -> SAC:
    return SAC(hidden=(8,), action_low=LOW, action_high=HIGH, **arguments)


def replays(env: Any = ContinuousEpisodes57, **arguments: Any) -> ReplayDataModule:
    return ReplayDataModule(
        env, 2, steps_per_batch=4, batch_size=8, warmup_steps=400, batches_per_epoch=1, check=False,
        **arguments,
    )  # fmt: skip


def saved(folder: Path, module: SAC) -> Path:
    """A checkpoint of a short fit."""
    trainer(folder).fit(module, datamodule=replays())
    return next(folder.rglob("*.ckpt"))


def trainer(folder: Path, **arguments: Any) -> Any:
    """A trainer that keeps checkpoints in ``folder``."""
    keep = {"enable_checkpointing": True, "callbacks": [RolloutCheckpoint()]}
    return make_trainer(default_root_dir=folder, **keep, **arguments)


def greedy(module: Any) -> torch.Tensor:
    return module.act(OBS, {}, RESET, greedy=True).action


def test_actions_are_scaled_to_the_bounds_given():
    box = ActionBox(SPEC, "SAC", (LOW, HIGH))
    corners = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 0.5]])
    in_env = torch.tensor([[-1.0, 4.0], [-0.25, 5.0], [0.5, 5.5]])
    torch.testing.assert_close(box.to_env(corners), in_env)
    torch.testing.assert_close(box.from_env(in_env.view(3, 1, 2)).view(3, 2), corners)


@torch.no_grad()
def test_a_policy_explores_between_its_bounds_and_so_does_the_warm_up():
    data, module = replays(), own()
    fit(module, data)
    action = data.ring.get_state()["fields"]["action"].flatten(0, 1)
    for reached, bound in ((action.amin(0), LOW), (action.amax(0), HIGH)):
        torch.testing.assert_close(reached, torch.tensor(bound), atol=0.05, rtol=0)


def test_an_environment_without_bounds_can_be_learned():
    with pytest.raises(ValueError, match="SAC needs finite action bounds"):
        fit(SAC(hidden=(8,)), replays(Unbounded))
    module = own()
    fit(module, replays(Unbounded))
    assert module.updates == 8


def test_the_bounds_of_a_checkpoint_hold_where_the_environment_declares_others(tmp_path: Path):
    module = own()
    path = saved(tmp_path, module)
    assert {"box.middle", "box.scale"} <= torch.load(path, weights_only=True)["state_dict"].keys()
    wider = replace(SPEC, action=replace(SPEC.action, low=[-9.0, -9.0], high=[9.0, 30.0]))
    for loaded in (load_policy(path), SAC.load_from_checkpoint(path, spec=wider)):
        assert torch.equal(greedy(loaded), greedy(module))
    exported = torch.export.load(export_policy(path, tmp_path / "policy.pt2")).module()
    torch.testing.assert_close(exported(OBS), greedy(module))
    resumed = own()
    again = trainer(tmp_path / "again", max_epochs=2)
    again.fit(resumed, datamodule=replays(Wider), ckpt_path=path, weights_only=True)
    assert resumed.updates == 2 * module.updates
    assert torch.equal(resumed.box.middle, torch.tensor([-0.25, 5.0]))


def test_without_own_bounds_a_checkpoint_is_what_it_was(tmp_path: Path):
    path = saved(tmp_path, SAC(hidden=(8,)))
    assert not any(key.startswith("box.") for key in torch.load(path, weights_only=True)["state_dict"])
    with pytest.raises(ValueError, match="checkpoint was trained on ContinuousEpisodes57 with action"):
        trainer(tmp_path).fit(SAC(hidden=(8,)), datamodule=replays(Wider), ckpt_path=path, weights_only=True)
    with pytest.raises(RuntimeError, match="was trained with the bounds of its environment: leave action_lo"):
        SAC.load_from_checkpoint(path, action_low=LOW, action_high=HIGH)


def test_other_bounds_than_those_of_the_checkpoint_are_refused(tmp_path: Path):
    path = saved(tmp_path, own())
    trained = r"was trained with action_low = \[-1.0, 4.0\] and action_high = \[0.5, 6.0\], this learner has "
    with pytest.raises(RuntimeError, match=trained + r"\(-1.0, 4.0\) and \(0.5, 7.0\); give those of"):
        SAC.load_from_checkpoint(path, action_high=(0.5, 7.0))
    with pytest.raises(RuntimeError, match=trained + "none; give those of the checkpoint"):
        SAC.load_from_checkpoint(path, action_low=None, action_high=None)
    with pytest.raises(ValueError, match=r"box.middle \(2,\) is not in this learner"):
        SAC(hidden=(8,), spec=SPEC).init_from(path).configure_model()


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (
            LOW,
            None,
            r"SAC: action_low = \(-1.0, 4.0\) and action_high = None must be given together, one n",
        ),
        ((0.0,), HIGH, r"SAC: action_low = \(0.0,\) and action_high = .* must be given together"),
        (
            (-1.0, 6.0),
            HIGH,
            r"SAC: action_low\[1\] = 6.0 and action_high\[1\] = 6.0, expected finite num",
        ),
        (
            (-1.0, float("-inf")),
            HIGH,
            r"SAC: action_low\[1\] = -inf, expected a finite number",
        ),
        ((0.0,), (1.0,), "SAC: action_low and action_high have 1 numbers, an action of Toy-v0 has 2; give o"),
    ],
)
def test_bounds_that_are_none(low: Any, high: Any, message: str):
    with pytest.raises(ValueError, match=message):
        SAC(hidden=(8,), action_low=low, action_high=high, spec=SPEC).configure_model()
