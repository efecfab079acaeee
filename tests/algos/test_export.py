"""Policies outside of Lightning: the file of ``torch.export`` acts like the learner it came from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from lit_rl import HMASD, PPO, SAC, TD3, ReplayDataModule, RolloutDataModule
from lit_rl.algos.export import example_observation, export_policy, load_policy
from lit_rl.algos.module import RLModule
from lit_rl.env_units import ActionToEnv
from lit_rl.nested import map_nested
from lit_rl.nets import Flatten
from lit_rl.types import Decision, EnvSpec
from tests.team_toys import Team
from tests.toys import ContinuousEpisodes57, Episodes57, MatchingPair, Mixed, make_trainer


def trained(folder: Path, module: RLModule, env: Any) -> Path:
    """A checkpoint of a short training."""
    if isinstance(module, SAC | TD3):
        data: Any = ReplayDataModule(
            env, warmup_steps=8, steps_per_batch=8, batch_size=8, batches_per_epoch=1
        )
    else:
        data = RolloutDataModule(env, 4, 16, rollouts_per_epoch=2)
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    path = folder / "last.ckpt"
    trainer.save_checkpoint(path)
    return path


def observations(spec: EnvSpec, num_envs: int) -> Any:
    """Random ones, in the shapes and types of ``spec``; every action is allowed."""

    def fill(leaf: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(leaf) * 3 if leaf.is_floating_point() else leaf

    obs = map_nested(fill, example_observation(spec, num_envs))
    if isinstance(obs, dict) and "goal" in obs:
        obs["goal"] = torch.arange(num_envs) % 4
    return obs


@pytest.mark.parametrize(
    ("module", "env"),
    [
        (PPO(hidden=(8,), batch_size=32), Episodes57),
        (PPO(hidden=(8,), batch_size=32, normalize_observation=True), ContinuousEpisodes57),
        (PPO(hidden=(8,), batch_size=32, normalize_observation=True), partial(Mixed, "multi", mask=True)),
        (PPO(hidden=(8,), batch_size=32), MatchingPair),
        (PPO(hidden=(8,), batch_size=32, agent_ids=True), MatchingPair),
        (
            PPO(hidden=(8,), batch_size=32, central_critic=True, normalize_observation=True),
            partial(Team, leaves_after=2),
        ),
        (SAC(hidden=(8,)), ContinuousEpisodes57),
        (SAC(hidden=(8,)), partial(Mixed, "box")),
        (TD3(hidden=(8,)), ContinuousEpisodes57),
    ],
    ids=["ppo", "ppo-box", "ppo-dict", "ppo-agents", "ppo-numbers", "ppo-state", "sac", "sac-dict", "td3"],
)
def test_exported_file_acts_like_the_learner(tmp_path: Path, module: RLModule, env: Any):
    checkpoint = trained(tmp_path, module, env)
    out = export_policy(checkpoint, tmp_path / "new" / "policy.pt2")
    policy = torch.export.load(out).module()
    assert module.spec is not None
    for num_envs in (1, 2, 7):
        obs = observations(module.spec, num_envs)
        reset = torch.zeros(num_envs, dtype=torch.bool)
        with torch.no_grad():
            expected = ActionToEnv(module.spec.action)(module.act(obs, {}, reset, greedy=True).action)
        torch.testing.assert_close(policy(obs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        (Episodes57, {}),
        (MatchingPair, {}),
        (Team, {"central_critic": True}),
        (Team, {"central_critic": True, "agent_ids": True}),
        (Team, {"central_critic": True, "agent_ids": "actor"}),
    ],
)
def test_exported_recurrent_policy_carries_its_memory(tmp_path: Path, env: Any, arguments: dict[str, Any]):
    module = PPO(hidden=(8,), gru=6, chunk_length=8, batch_size=32, **arguments)
    policy = torch.export.load(
        export_policy(trained(tmp_path, module, env), tmp_path / "policy.pt2")
    ).module()
    for _ in played_alike(policy, module, steps=4, restart=2):
        pass


def played_alike(policy: Any, module: RLModule, steps: int, restart: int) -> Iterator[Decision]:
    """Decisions of the learner for 3 environments, the second of which begins anew at ``restart``."""
    assert module.spec is not None
    carry = own_carry = module.initial_carry(3)
    for t in range(steps):
        obs, reset = observations(module.spec, 3), torch.tensor([t == 0, t == restart, False])
        with torch.no_grad():
            expected = module.act(obs, own_carry, reset, greedy=True)
        own_carry = expected.carry
        action, carry = policy(obs, carry, reset)
        torch.testing.assert_close(action, expected.action)
        torch.testing.assert_close(carry, own_carry, rtol=1e-5, atol=1e-6)
        yield expected


@pytest.mark.parametrize("skill_last_layer", [False, True])
def test_exported_skills_have_the_learners_clock(tmp_path: Path, skill_last_layer: bool):
    """Decided at steps 0 and 2, and where an episode begins; held in between."""
    module = HMASD(
        3, 2, k=2, hidden=(8,), embedding=8, gru=4, chunk_length=4, skill_last_layer=skill_last_layer
    )
    checkpoint = trained(tmp_path, module, partial(Team, leaves_after=2))
    policy = torch.export.load(export_policy(checkpoint, tmp_path / "policy.pt2")).module()
    for t, expected in enumerate(played_alike(policy, module, steps=5, restart=3)):
        assert expected.extras["skill_start"].tolist() == [t in (0, 2, 4), t in (0, 2, 3), t in (0, 2, 4)]


@pytest.mark.slow
def test_exported_file_needs_neither_lightning_nor_this_library(tmp_path: Path):
    out = export_policy(
        trained(tmp_path, PPO(hidden=(8,), batch_size=32), Episodes57), tmp_path / "policy.pt2"
    )
    code = (
        "import sys, torch\n"
        f"policy = torch.export.load({str(out)!r}).module()\n"
        "assert policy(torch.zeros(5, 3)).shape == (5,)\n"
        "assert not {'lightning', 'lit_rl', 'gymnasium'} & set(sys.modules), 'imported too much'\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_loaded_learner_is_the_saved_one(tmp_path: Path):
    module = PPO(hidden=(8,), batch_size=32, normalize_observation=True)
    loaded = load_policy(trained(tmp_path, module, Episodes57))
    assert isinstance(loaded, PPO)
    assert not loaded.training
    assert (loaded.env_steps, loaded.policy_version, loaded.updates) == (128, 2, 40)
    assert loaded.spec == module.spec
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, loaded.state_dict()[name])


class Doubling(nn.Module):
    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        self.flatten = Flatten(spec)
        self.out_features = self.flatten.out_features

    def forward(self, obs: Any) -> torch.Tensor:
        return 2 * self.flatten(obs)


def test_an_encoder_that_is_a_python_object_is_passed_again(tmp_path: Path):
    module = PPO(hidden=(8,), batch_size=32, encoder=Doubling)
    checkpoint = trained(tmp_path, module, Episodes57)
    obs, reset = torch.randn(5, 3), torch.zeros(5, dtype=torch.bool)
    loaded = load_policy(checkpoint, encoder=Doubling)
    assert torch.equal(
        loaded.act(obs, {}, reset, greedy=True).action, module.act(obs, {}, reset, greedy=True).action
    )


def test_files_that_are_no_checkpoint(tmp_path: Path):
    text = tmp_path / "notes.ckpt"
    text.write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"notes\.ckpt is not a checkpoint of lit_rl, or it is truncated"):
        load_policy(text)
    torch.save({"state_dict": {}}, text)
    with pytest.raises(ValueError, match="is not a checkpoint of lit_rl"):
        load_policy(text)
    with pytest.raises(FileNotFoundError):
        load_policy(tmp_path / "missing.ckpt")


def test_a_checkpoint_may_only_name_a_learner(tmp_path: Path):
    """Its class is looked up by name, and nothing but a learner is ever called."""
    path = tmp_path / "evil.ckpt"
    for name in ("subprocess.Popen", "lightning.pytorch.LightningModule", "lit_rl.algos.ppo.missing"):
        torch.save({"lit_rl": {"class_path": name}, "state_dict": {}}, path)
        with pytest.raises(ValueError, match=f"names {name} as its learner; a checkpoint is data"):
            load_policy(path)
    assert issubclass(RLModule, LightningModule)


def test_the_file_ends_in_pt2(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"out must end in \.pt2 \(the format of torch\.export\), got policy\.onnx"
    ):
        export_policy("any.ckpt", "policy.onnx")
