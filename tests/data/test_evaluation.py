from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl import PPO, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.episode_stats import EpisodeStats
from lit_rl.callbacks.graceful_stop import GracefulStop
from lit_rl.data import video
from lit_rl.data.evaluation import Evaluation
from lit_rl.seeds import derive
from lit_rl.types import Step
from tests.data.test_environments import environments, on_rank
from tests.team_toys import Roles
from tests.toys import Episodes57, fit, make_trainer, parameters_of


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
    first = derive(7, "training")
    assert [{start - first for start in seen[rank][0]} for rank in range(2)] == [{0, 1, 2, 3}, {4, 5, 6, 7}]
    assert len(seen[0][1] | seen[1][1]) == 6
    assert not (seen[0][1] | seen[1][1]) & (seen[0][0] | seen[1][0])


def test_evaluation_plays_every_environment_once_and_is_reported():
    module = PPO(hidden=(4,), batch_size=16)
    data = RolloutDataModule(Episodes57, 2, 8, rollouts_per_epoch=1, eval_episodes=3, seed=0)
    logger = fit(module, data, limit_val_batches=1.0)
    assert logger.column("eval/episodes") == [3]
    first = derive(0, "evaluation")
    lengths = [{0: 5, 1: 7, 2: 5}[(first + i) % 3] for i in range(3)]
    assert logger.column("eval/length_mean") == [pytest.approx(sum(lengths) / 3)]
    returns = [{0: 10, 1: 91, 2: 110}[(first + i) % 3] for i in range(3)]
    assert logger.column("eval/return_mean") == [pytest.approx(np.mean(returns))]
    assert logger.column("eval/return_std") == [pytest.approx(np.std(returns, ddof=1))]
    assert module.eval_result is not None
    assert module.eval_result["env_steps"] == 16


class DrawsGlobally(Episodes57):
    """Draws from the generators that all share, as environments of users do."""

    def _obs(self) -> np.ndarray:
        return super()._obs() * np.float32(np.random.rand() + random.random())  # noqa: NPY002


@pytest.mark.parametrize("env", ["CartPole-v1", DrawsGlobally])
def test_evaluation_does_not_change_what_is_learned(env: Any):
    finals: list[torch.Tensor] = []
    ways: list[Any] = [(0, "greedy"), (1.0, "greedy"), (1.0, "sample")]
    for limit, policy in ways:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        module = PPO(hidden=(4,), batch_size=16)
        data = RolloutDataModule(env, 2, 16, rollouts_per_epoch=2, eval_policy=policy, check=False)
        fit(module, data, max_epochs=2, limit_val_batches=limit)
        finals.append(parameters_of(module))
    assert torch.equal(finals[0], finals[1])
    assert torch.equal(finals[0], finals[2])


class Apart(Roles):
    """The team earns 1 when its two agents, who see the same, choose differently."""

    def step(self, action: np.ndarray) -> Step:
        return super().step(action)._replace(reward=(action[:, 0] != action[:, 1]).astype(np.float32))


def test_a_policy_that_must_mix_its_actions_is_only_seen_when_it_is_sampled():
    """Greedily both agents choose the likelier action: 0. Sampled they differ with 2 * 0.25 * 0.75."""
    data = RolloutDataModule(Apart, 2, 4, eval_episodes=400, seed=0)
    module = PPO(hidden=(4,), spec=data.spec)
    module.configure_model()
    last: Any = module.policy.network.actor[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.25, 0.75]).log())
    trainer = make_trainer(limit_val_batches=1.0)
    returns: dict[Any, set[float]] = {"greedy": set(), "sample": set()}
    for policy in returns:
        data = RolloutDataModule(Apart, 2, 4, eval_episodes=400, seed=0, eval_policy=policy)
        for play in (trainer.validate, trainer.test):
            play(module, datamodule=data, verbose=False)
            assert module.eval_result is not None
            returns[policy].add(module.eval_result["return_mean"])
    assert returns["greedy"] == {0.0}
    (sampled,) = returns["sample"]  # the same episodes each time
    assert sampled == pytest.approx(0.375, abs=4 * (0.375 * 0.625 / 400) ** 0.5)


class Endless(Episodes57):
    """Episodes without an end; where ``signal`` is set, the third step sends it to this process, once."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"
    signal: int | None = None

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.t == 2 and self.signal:
            signum, Endless.signal = self.signal, None
            os.kill(os.getpid(), signum)
        return (*super().step(action)[:2], False, False, {})

    def render(self) -> np.ndarray:  # type: ignore[override]
        return np.full((8, 8, 3), 20 * (self.t % 10), np.uint8)

    def picture(self) -> dict[str, Any]:
        return {"kind": "nothing", "t": self.t}


@pytest.mark.parametrize("kind", [RolloutDataModule, ReplayDataModule])
def test_a_step_limit_of_evaluations(kind: Any, caplog: pytest.LogCaptureFixture):
    message = rf"^{kind.__name__}: eval_max_steps = 0, expected 1 <= eval_max_steps <= 100000000$"
    with pytest.raises(ValueError, match=message):
        kind("CartPole-v1", eval_max_steps=0)
    data = kind(Endless, 2, eval_episodes=2, eval_max_steps=9, seed=0, check=False)
    module, trainer = PPO(hidden=(4,)), make_trainer(limit_val_batches=1.0)
    for play in (trainer.validate, trainer.test):
        caplog.clear()
        play(module, datamodule=data, verbose=False)
        assert "2 of 2 evaluation episodes had no end after 9 steps" in caplog.text
        assert module.eval_result is not None
        assert module.eval_result["length_mean"] == 9


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_breaks_off_an_evaluation_that_never_ends(
    signum: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What was trained is saved; nothing of the evaluation is logged, also none of the epoch before again."""

    class ArmedLater(PPO):
        def on_validation_start(self) -> None:
            monkeypatch.setattr(Endless, "signal", signum if self.policy_version > 2 else None)

    stop = GracefulStop()
    module = ArmedLater(hidden=(4,), batch_size=16)
    data = RolloutDataModule(Endless, 2, 8, 2, eval_episodes=2, eval_max_steps=5, seed=0, check=False)
    logger = fit(
        module,
        data,
        max_epochs=3,
        limit_val_batches=1.0,
        callbacks=[stop, EpisodeStats(), RolloutCheckpoint()],
        default_root_dir=tmp_path,
        enable_checkpointing=True,
    )
    assert stop.exit_code == code
    assert (module.policy_version, module.eval_result) == (4, None)
    assert logger.column("eval/length_mean") == logger.column("eval/mean_length") == [5]
    saved = tmp_path / "checkpoints"
    assert sorted(path.name for path in saved.iterdir()) == ["best.ckpt", "last.ckpt"]
    last = torch.load(saved / "last.ckpt", weights_only=True)["state_dict"]["_extra_state"]
    assert last["policy_version"] == 4


def test_the_first_evaluation_broken_off_needs_nothing_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Armed(PPO):
        def on_validation_start(self) -> None:
            monkeypatch.setattr(Endless, "signal", signal.SIGTERM)

    data = RolloutDataModule(Endless, 2, 8, 2, eval_episodes=2, seed=0, check=False, playback=False)
    callbacks: Any = [GracefulStop(), RolloutCheckpoint()]
    fit(
        Armed(hidden=(4,), batch_size=16),
        data,
        max_epochs=3,
        limit_val_batches=1.0,
        callbacks=callbacks,
        default_root_dir=tmp_path,
        enable_checkpointing=True,
    )
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_film_of_an_episode_that_never_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from PIL import Image

    caplog.set_level("INFO", "lit_rl")
    monkeypatch.setattr(video, "MAX_FRAMES", 6)
    data = RolloutDataModule(Endless, eval_episodes=1, eval_max_steps=9, seed=0, check=False)
    data.video = tmp_path / "eval.gif"
    make_trainer(limit_val_batches=1.0).validate(PPO(hidden=(4,)), datamodule=data, verbose=False)
    assert caplog.text.count("1 of 1 evaluation episodes had no end") == 1
    with Image.open(data.video) as image:
        assert image.n_frames == 6  # type: ignore[attr-defined]
    assert "eval.gif shows the first 6 steps of an episode that is longer" in caplog.text
