"""Checkpoints that were written before the files of the learners moved, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden_runs import CHECKPOINTS, episodes_of_then

CONFIGS = {
    "ppo_cartpole": """\
model: {class_path: PPO, init_args: {hidden: [16, 16], batch_size: 64}}
data:
  class_path: RolloutDataModule
  init_args: {env: CartPole-v1, num_envs: 4, rollout_steps: 32, eval_episodes: 4, seed: 1, replay: false}
""",
    "sac_pendulum": """\
model: {class_path: SAC, init_args: {hidden: [16, 16]}}
data:
  class_path: ReplayDataModule
  init_args: {env: Pendulum-v1, num_envs: 2, steps_per_batch: 16, batch_size: 16, warmup_steps: 50,
              capacity: 150, eval_episodes: 2, seed: 5, replay: false}
""",
}
"""Configurations as earlier versions wrote them."""


@pytest.mark.parametrize("name", CONFIGS)
def test_an_old_checkpoint_is_evaluated_as_before(
    run, cwd: Path, capsys: pytest.CaptureFixture[str], name: str
):
    kept = json.loads((CHECKPOINTS / f"{name}.json").read_text())["evaluated"]
    (cwd / "old.yaml").write_text(CONFIGS[name] + "trainer: {accelerator: cpu}\n")
    with episodes_of_then():
        assert run("test", "--config", "old.yaml", "--ckpt_path", str(CHECKPOINTS / f"{name}.ckpt")) == 0
    assert f"return {kept['eval/return_mean']:.1f} (95 % interval" in capsys.readouterr().out
