"""A resumed run gives the numbers of a run that was not interrupted, bit for bit and at every batch."""

import csv
import logging
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.algos.module import RLModule
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from tests.cases import CASES, Make, few, ppo_annealed, sac_pendulum, shipped_data_modules
from tests.processes import Forked, lit_rl
from tests.toys import ContinuousEpisodes57, Episodes57, MemoryLogger, make_trainer

BATCHES_PER_EPOCH, EPOCHS = 3, 2
WALL_TIMES = ("time/", "collector/")
DATA = {cls.__qualname__ for cls in shipped_data_modules()}
"""Keys under which checkpoints hold what a data module remembers."""


@pytest.fixture(autouse=True)
def keep_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``seed_everything`` writes an environment variable, which must not outlive a test."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


class Run:
    """One fit, as the command line does it.

    Attributes:
        rows: What was logged, without wall times.
        trainer: After the fit.
    """

    def __init__(
        self,
        directory: Path,
        make: Make,
        seed: int = 3,
        resume: Path | None = None,
        epochs: int = EPOCHS,
        callbacks: tuple[Callback, ...] = (),
    ) -> None:
        seed_everything(seed, verbose=False)
        logger = MemoryLogger()
        self.checkpoints = directory / "checkpoints"
        self.checkpoint = RolloutCheckpoint(every_batches=1, every_env_steps=1)
        self.module, self.data = make(BATCHES_PER_EPOCH)
        self.trainer: Trainer = make_trainer(
            max_epochs=epochs,
            default_root_dir=directory,
            logger=logger,
            limit_val_batches=1.0,
            enable_checkpointing=True,
            callbacks=[self.checkpoint, *callbacks],
        )
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=resume, weights_only=True)
        self.rows = [
            (
                step,
                {name: value for name, value in values.items() if not name.startswith(WALL_TIMES)},
            )
            for step, values in logger.rows
        ]

    def step_checkpoints(self) -> list[Path]:
        """One for each batch."""
        return sorted(self.checkpoints.glob("step_*.ckpt"), key=env_steps_of)


def env_steps_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_identical(a: Any, b: Any, where: str = "checkpoint") -> None:
    """Equal to the bit, however nested."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_identical(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_identical(left, right, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def learned(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What decides all numbers to come: weights, optimizers, environments, generators, replay ring."""
    names = {"state_dict", "optimizer_states", "lit_rl"} | (DATA & checkpoint.keys())
    assert len(names) == 4
    return {name: checkpoint[name] for name in sorted(names)}


EVERY = ("ppo_annealed", "sac_pendulum")
"""Cases that are resumed at every batch, one of each kind of data; the others at an early and a late one."""


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """``whole_run("mappo")`` is that case without a break; each runs once."""
    return cache(lambda name: Run(tmp_path_factory.mktemp(name), CASES[name]))


@pytest.mark.parametrize("name", few(CASES, "mappo", "population", "ppo_workers", "sac_remote"))
def test_resume_is_exact(name: str, tmp_path: Path, whole_run: Callable[[str], Run]):
    whole = whole_run(name)
    *earlier, last = whole.step_checkpoints()
    assert len(earlier) == BATCHES_PER_EPOCH * EPOCHS - 1, name
    for path in earlier if name in EVERY else (earlier[0], earlier[-1]):
        resumed = Run(tmp_path / path.stem, CASES[name], seed=99, resume=path)
        where = f"{name}, {path.stem}"
        rest = [row for row in whole.rows if row[0] > env_steps_of(path)]  # type: ignore[operator]
        assert resumed.rows == rest, where
        assert any("eval/return_mean" in values for _, values in rest), where
        assert_identical(learned(load(resumed.checkpoints / last.name)), learned(load(last)), where)


def sampled(make: Make) -> Make:
    """The case with evaluations of the sampled policy."""

    def made(batches: int) -> tuple[RLModule, LightningDataModule]:
        module, data = make(batches)
        cast(Any, data).evaluation.policy = "sample"
        return module, data

    return made


def without_evaluations(run: Run) -> list[dict[str, float]]:
    """What was logged of training."""
    rows = [{key: x for key, x in values.items() if not key.startswith("eval/")} for _, values in run.rows]
    return [row for row in rows if row]


@pytest.mark.parametrize("name", few(CASES))
def test_sampled_evaluations_change_nothing_that_is_learned_and_resume_exactly(
    name: str, tmp_path: Path, whole_run: Callable[[str], Run]
):
    greedy, whole = whole_run(name), Run(tmp_path / "whole", sampled(CASES[name]))
    assert without_evaluations(whole) == without_evaluations(greedy), name
    first, *_, last = whole.step_checkpoints()
    assert_identical(learned(load(last)), learned(load(greedy.checkpoints / last.name)), name)
    resumed = Run(tmp_path / "resumed", sampled(CASES[name]), seed=99, resume=first)
    rest = [row for row in whole.rows if row[0] > env_steps_of(first)]  # type: ignore[operator]
    assert resumed.rows == rest, name


@pytest.mark.parametrize("name", EVERY)
def test_equal_seeds_give_equal_runs(name: str, tmp_path: Path):
    runs = {run: Run(tmp_path / run, CASES[name], seed) for run, seed in (("a", 3), ("b", 3), ("c", 4))}
    first, second, other = runs.values()
    assert first.rows == second.rows, name
    assert_identical(
        learned(load(first.checkpoints / "last.ckpt")), learned(load(second.checkpoints / "last.ckpt")), name
    )
    assert first.rows != other.rows, name


def test_a_finished_run_can_be_extended_and_keeps_its_best(tmp_path: Path):
    whole = Run(tmp_path / "whole", ppo_annealed)
    Run(tmp_path / "parts", ppo_annealed, epochs=1)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    extended = Run(tmp_path / "parts", ppo_annealed, seed=99, resume=last)
    assert extended.checkpoint.best_value == whole.checkpoint.best_value
    assert_identical(learned(load(last)), learned(load(whole.checkpoints / "last.ckpt")))
    assert_identical(
        learned(load(last.with_name("best.ckpt"))), learned(load(whole.checkpoints / "best.ckpt"))
    )
    rates = [values["policy/learning_rate"] for _, values in whole.rows if "policy/learning_rate" in values]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(rates)


class Watch(Callback):
    """Keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Lines of the log that tell how exactly the run is resumed."""
    caplog.set_level(logging.INFO, "lit_rl")
    return lambda: [line for line in caplog.messages if line.startswith("resumed: ")]


def test_exact_resume_is_announced(tmp_path: Path, said: Callable[[], list[str]]):
    Run(tmp_path, ppo_annealed, epochs=1)
    assert said() == []
    Run(tmp_path, ppo_annealed, epochs=2, resume=tmp_path / "checkpoints" / "last.ckpt")
    assert said() == ["resumed: environments, random generators and data continue bit for bit"]


def test_an_environment_without_state_goes_on_with_new_episodes(
    tmp_path: Path, said: Callable[[], list[str]]
):
    def make(batches: int) -> tuple[RLModule, LightningDataModule]:
        data = RolloutDataModule(Episodes57, 2, 17, batches, eval_episodes=1, seed=3)
        return PPO(hidden=(8,), batch_size=34, update_epochs=1), data

    first, second = Watch(), Watch()
    Run(tmp_path, make, epochs=1, callbacks=(first,))
    resumed = Run(
        tmp_path, make, epochs=2, resume=tmp_path / "checkpoints" / "last.ckpt", callbacks=(second,)
    )
    (line,) = said()
    assert "Episodes57 cannot save its state (tests.toys.Episodes57)" in line
    assert first.batches[-1]["obs"][-1, :, 1].any()  # in the middle of episodes
    assert second.batches[0]["reset"][0].all()
    assert not second.batches[0]["obs"][0, :, 1].any()  # at their start
    assert resumed.module.policy_version == 2 * BATCHES_PER_EPOCH
    started = [batch["obs"][0, :, 0] for batch in (first.batches[0], second.batches[0])]
    assert not torch.equal(*started)  # with another seed: no episode is played twice


def test_windows_of_the_ring_do_not_run_into_the_new_episodes(tmp_path: Path):
    def make(batches: int) -> tuple[RLModule, LightningDataModule]:
        data = ReplayDataModule(
            ContinuousEpisodes57,
            2,
            steps_per_batch=9,
            batch_size=64,
            warmup_steps=0,
            capacity=1000,
            n_step=3,
            batches_per_epoch=batches,
            eval_episodes=1,
        )
        return SAC(hidden=(8, 8), gamma=0.5), data

    watch = Watch()
    Run(tmp_path, make, epochs=1)
    Run(tmp_path, make, epochs=2, resume=tmp_path / "checkpoints" / "last.ckpt", callbacks=(watch,))
    for batch in watch.batches:
        t, next_t = 8 * batch["obs"][..., 1], 8 * batch["next_obs"][..., 1]
        episode, next_episode = batch["obs"][..., 0], batch["next_obs"][..., 0]
        assert torch.equal(episode, next_episode)
        assert ((next_t - t >= 1) & (next_t - t <= 3)).all()
        goes_on = batch["discount"] > 0
        assert torch.equal(batch["discount"][goes_on], 0.5 ** (next_t - t)[goes_on])


def test_the_best_checkpoint_holds_no_ring_and_says_so(tmp_path: Path, said: Callable[[], list[str]]):
    watch = Watch()
    first = Run(tmp_path / "first", sac_pendulum, epochs=1)
    best = first.checkpoints / "best.ckpt"
    assert best.stat().st_size < (first.checkpoints / "last.ckpt").stat().st_size
    Run(tmp_path / "second", sac_pendulum, epochs=2, resume=best, callbacks=(watch,))
    assert said() == ["resumed: environments and random generators continue; the replay ring starts empty"]
    assert [batch["new_steps"] for batch in watch.batches] == [
        50 + 32,
        32,
        32,
    ]  # the warm-up comes first again


RUN = """\
model:
  class_path: PPO
  init_args: {hidden: [8], batch_size: 32, update_epochs: 2}
data:
  class_path: RolloutDataModule
  init_args: {env: CartPole-v1, num_envs: 2, rollout_steps: 32, rollouts_per_epoch: 4, eval_episodes: 2}
trainer: {accelerator: cpu}
checkpoint: {every_batches: 3}
budget: {total_env_steps: 1024}
"""


def fit_and_die(writes_metrics: bool, *argv: str) -> None:
    """``lit-rl fit``, killed in the middle of batch 9; rows after the last checkpoint may be on disk."""
    finish_batch = RLModule.finish_batch

    def dying(self: RLModule, *args: Any, **kwargs: Any) -> None:
        if self.policy_version == 8:
            if writes_metrics:
                for logger in self.trainer.loggers:
                    logger.save()
            os.kill(os.getpid(), signal.SIGKILL)
        finish_batch(self, *args, **kwargs)

    RLModule.finish_batch = dying
    lit_rl(*argv)


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[Callable[..., Forked]]:
    """``fork(function, *args)`` runs in ``tmp_path``."""
    started: list[Forked] = []

    def start(function: Callable[..., None], *args: Any) -> Forked:
        forked = Forked(function, *args, cwd=tmp_path, log=tmp_path / f"{len(started)}.log")
        started.append(forked)
        return forked

    yield start
    for forked in started:
        forked.kill()


def read_metrics(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


@pytest.mark.wide  # tests/test_signals.py kills a run, too
def test_a_killed_run_resumes_to_the_metrics_of_one_that_was_not(tmp_path: Path, fork: Callable[..., Forked]):
    (tmp_path / "run.yaml").write_text(RUN)
    start = ["fit", "--config", "run.yaml", "--seed_everything", "5", "--run_dir"]
    whole = fork(lit_rl, *start, "whole")
    killed = {name: fork(fit_and_die, name == "late", *start, name) for name in ("late", "early")}
    assert whole.exit_code(60) == 0, whole.output()
    expected = read_metrics(tmp_path / "whole")
    assert [row["step"] for row in expected] == [str(64 * batch) for batch in range(1, 17)]
    for run in killed.values():
        assert run.exit_code(60) == -signal.SIGKILL, run.output()
    assert len(read_metrics(tmp_path / "late")) == 8  # the last checkpoint is of batch 6

    by_path = fork(lit_rl, "fit", "--config", "late/config.yaml", "--ckpt_path", "late/checkpoints/last.ckpt")
    by_name = fork(lit_rl, "fit", "--config", "early/config.yaml", "--ckpt_path", "last")
    for resumed, name in ((by_path, "late"), (by_name, "early")):
        assert resumed.exit_code(60) == 0, resumed.output()
        assert read_metrics(tmp_path / name) == expected
        last = Path("checkpoints") / "last.ckpt"
        assert_identical(learned(load(tmp_path / name / last)), learned(load(tmp_path / "whole" / last)))
