"""Every flag of Lightning's Trainer and every callback that it ships: each works, or is refused.

The table has a row for each, by its name: a function ``flag_NAME`` or ``callback_NAME`` that shows its effect
to be the documented one, or an entry in ``REFUSED_FLAGS`` or ``REFUSED_CALLBACKS`` with the beginning of the
message. A version of Lightning with one more flag or callback fails here until it has a row.
``docs/lightning.md`` is held to it.
"""

# ruff: noqa: N802  # functions have the names of the classes that they try
from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks as shipped
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    BatchSizeFinder,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    ModelSummary,
    OnExceptionCheckpoint,
    SpikeDetection,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.callbacks.finetuning import BackboneFinetuning, BaseFinetuning
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
from lightning.pytorch.profilers import SimpleProfiler

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks import EnvStepBudget, RolloutCheckpoint
from tests.toys import Episodes57, MemoryLogger, make_trainer, parameters_of

ROOT = Path(__file__).parents[1]
BATCH, EPOCH = 16, 48  # env steps


def learner(**kwargs: Any) -> PPO:
    return PPO(**{"hidden": (4,), "batch_size": 16, "update_epochs": 1, **kwargs})


def data(**kwargs: Any) -> RolloutDataModule:
    return RolloutDataModule(
        **{"env": Episodes57, "num_envs": 2, "rollout_steps": 8, "rollouts_per_epoch": 3, "eval_episodes": 2,
           "seed": 0, "check": False, **kwargs}
    )  # fmt: skip


class Watch(Callback):
    """Notes what Lightning shows to a callback of a user."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.metrics: list[dict[str, float]] = []
        self.logged: list[dict[str, float]] = []
        self.evaluated: list[tuple[int, dict[str, float]]] = []
        self.epochs = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        self.steps.append(trainer.global_step)
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.logged.append({name: float(value) for name, value in trainer.logged_metrics.items()})

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.evaluated.append((trainer.global_step, metrics))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.epochs += 1


class Run:
    """A short training with the given flags: 16 env steps per batch, 3 batches per epoch.

    Attributes:
        steps: ``trainer.global_step`` at the end of every batch.
    """

    def __init__(
        self, *callbacks: Callback, model: PPO | None = None, env: Any = Episodes57, **flags: Any
    ) -> None:
        torch.manual_seed(0)
        self.watch, self.logger = Watch(), MemoryLogger()
        self.model, self.data = model or learner(), data(env=env)
        defaults = {"logger": self.logger, "limit_val_batches": 1.0}
        self.trainer = make_trainer(**{**defaults, "callbacks": [*callbacks, self.watch], **flags})
        self.trainer.fit(self.model, datamodule=self.data)
        self.steps = self.watch.steps

    def weights(self) -> torch.Tensor:
        return parameters_of(self.model)

    def axis(self) -> list[int | None]:
        return [step for step, _ in self.logger.rows]


# Flags that work


def flag_accelerator(tmp_path: Path) -> None:
    run = Run(accelerator="cpu")
    assert run.trainer.strategy.root_device.type == run.model.device.type == "cpu"


def flag_strategy(tmp_path: Path) -> None:
    assert Run(strategy="auto").steps == [16, 32, 48]  # ddp: tests/test_ddp.py


def flag_devices(tmp_path: Path) -> None:
    assert Run(devices=1).trainer.num_devices == 1  # 2: tests/test_ddp.py


def flag_num_nodes(tmp_path: Path) -> None:
    assert Run(num_nodes=1).trainer.world_size == 1


def flag_precision(tmp_path: Path) -> None:
    assert Run(precision="bf16-mixed").steps == [16, 32, 48]
    with pytest.raises(ValueError, match="precision must be one of 32-true, 64-true, bf16-mixed, got"):
        Run(precision="bf16-true")


def flag_logger(tmp_path: Path) -> None:
    run = Run()
    assert run.axis() == [16, 32, 48, 48]


def flag_callbacks(tmp_path: Path) -> None:
    run = Run(max_epochs=2)
    assert run.steps == [16, 32, 48, 64, 80, 96]
    for metrics in (*run.watch.metrics, *run.watch.logged):
        assert {"loss/policy", "episode/count", "time/update_s"} <= set(metrics)
    rows = [row for _, row in run.logger.rows if "loss/policy" in row]
    assert [m["loss/policy"] for m in run.watch.metrics] == [row["loss/policy"] for row in rows]
    assert [m["loss/policy"] for m in run.watch.logged] == [row["loss/policy"] for row in rows]
    evaluated = {name for _, row in run.logger.rows for name in row if name.startswith("eval/")}
    assert len(evaluated) >= 6
    assert [step for step, _ in run.watch.evaluated] == [48, 96]
    assert all(evaluated <= set(metrics) for _, metrics in run.watch.evaluated)


def flag_fast_dev_run(tmp_path: Path) -> None:
    run = Run(fast_dev_run=True, default_root_dir=str(tmp_path))
    assert run.steps == [16]
    assert not list(tmp_path.iterdir())


def flag_max_epochs(tmp_path: Path) -> None:
    assert Run(max_epochs=2).steps[-1] == 2 * EPOCH


def flag_min_epochs(tmp_path: Path) -> None:
    assert Run(EnvStepBudget(16), max_epochs=-1, min_epochs=2).steps[-1] == 2 * EPOCH


def flag_max_steps(tmp_path: Path) -> None:
    run = Run(max_epochs=-1, max_steps=80)
    assert run.steps == [16, 32, 48, 64, 80]
    assert run.trainer.global_step == run.model.env_steps == 80
    assert Run(max_epochs=-1, max_steps=70).steps[-1] == 80  # the batch that reaches it is whole


def flag_min_steps(tmp_path: Path) -> None:
    assert Run(EnvStepBudget(16), max_epochs=-1, min_steps=64).steps == [16, 32, 48, 64]


def flag_max_time(tmp_path: Path) -> None:
    assert len(Run(max_epochs=-1, max_time=timedelta(milliseconds=1)).steps) <= 1


def flag_limit_train_batches(tmp_path: Path) -> None:
    run = Run(limit_train_batches=2, max_epochs=2)
    assert (run.steps, run.watch.epochs) == ([16, 32, 48, 64], 2)
    assert Run(limit_train_batches=0.34).steps == [16]


def flag_limit_val_batches(tmp_path: Path) -> None:
    assert Run(limit_val_batches=0).watch.evaluated == []
    assert [step for step, _ in Run(limit_val_batches=1).watch.evaluated] == [48]


def flag_limit_test_batches(tmp_path: Path) -> None:
    module = learner()
    results = make_trainer(limit_test_batches=1).test(module, datamodule=data(), verbose=False)
    assert results[0]["eval/episodes"] == 2
    make_trainer(limit_test_batches=0).test(module := learner(), datamodule=data(), verbose=False)
    assert module.eval_result is None


def flag_limit_predict_batches(tmp_path: Path) -> None:
    predicted: Any = make_trainer(limit_predict_batches=1).predict(learner(), datamodule=data())
    (rollout,) = predicted
    assert rollout["reward"].shape == (8, 2)
    assert not make_trainer(limit_predict_batches=0).predict(learner(), datamodule=data())


def flag_val_check_interval(tmp_path: Path) -> None:
    run = Run(val_check_interval=1, max_epochs=2)
    assert [step for step, _ in run.watch.evaluated] == [16, 32, 48, 64, 80, 96]


def flag_check_val_every_n_epoch(tmp_path: Path) -> None:
    run = Run(check_val_every_n_epoch=2, max_epochs=4)
    assert [step for step, _ in run.watch.evaluated] == [96, 192]


def flag_num_sanity_val_steps(tmp_path: Path) -> None:
    run, plain = Run(num_sanity_val_steps=1), Run()
    assert run.watch.evaluated[0][0] == 0
    assert run.axis() == plain.axis() == [16, 32, 48, 48]
    assert torch.equal(run.weights(), plain.weights())


def flag_log_every_n_steps(tmp_path: Path) -> None:
    run = Run(log_every_n_steps=2, max_epochs=2)
    assert run.axis() == [32, 48, 64, 96, 96]  # batches 2, 4, 6, and both evaluations
    assert len(run.watch.metrics) == 6
    assert all("loss/policy" in metrics for metrics in run.watch.metrics)


def flag_enable_checkpointing(tmp_path: Path) -> None:
    Run(enable_checkpointing=True, default_root_dir=str(tmp_path), max_epochs=2)
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["epoch=1-step=96.ckpt"]


def flag_enable_progress_bar(tmp_path: Path) -> None:
    bar = TQDMProgressBar(refresh_rate=1)
    run = Run(bar, enable_progress_bar=True)
    assert run.trainer.progress_bar_callback is bar
    mean = run.watch.metrics[-1]["episode/return_mean"]
    assert bar.get_metrics(run.trainer, run.model)["episode/return_mean"] == mean


def flag_enable_model_summary(tmp_path: Path) -> None:
    run = Run(enable_model_summary=True)
    assert any(isinstance(callback, ModelSummary) for callback in run.trainer.callbacks)


def flag_deterministic(tmp_path: Path) -> None:
    seen = []
    look = LambdaCallback(
        on_train_batch_end=lambda *_: seen.append(torch.are_deterministic_algorithms_enabled())
    )
    try:
        Run(look, deterministic=True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [True, True, True]


def flag_benchmark(tmp_path: Path) -> None:
    before = torch.backends.cudnn.benchmark
    try:
        Run(benchmark=True)
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize("mode", [True, False])
def test_inference_mode_holds_for_evaluations_alone(mode: bool) -> None:
    seen = []

    class Spy(PPO):
        def act(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(torch.is_inference_mode_enabled())
            return super().act(*args, **kwargs)

    make_trainer(inference_mode=mode).test(Spy(hidden=(4,), batch_size=16), datamodule=data(), verbose=False)
    assert set(seen) == {mode}


def flag_inference_mode(tmp_path: Path) -> None:
    test_inference_mode_holds_for_evaluations_alone(True)
    test_inference_mode_holds_for_evaluations_alone(False)


def flag_use_distributed_sampler(tmp_path: Path) -> None:
    weights = [Run(use_distributed_sampler=use).weights() for use in (True, False)]
    assert torch.equal(*weights)  # there is no DataLoader whose sampler could be shared


def flag_profiler(tmp_path: Path) -> None:
    profiler = SimpleProfiler()
    Run(profiler=profiler)
    assert len(profiler.recorded_durations["run_training_batch"]) == 3


def flag_detect_anomaly(tmp_path: Path) -> None:
    seen = []
    run = Run(
        LambdaCallback(on_train_batch_end=lambda *_: seen.append(torch.is_anomaly_enabled())),
        detect_anomaly=True,
    )
    assert seen == [True, True, True]
    assert torch.equal(run.weights(), Run().weights())


def flag_barebones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = learner()
    trainer = Trainer(
        barebones=True, accelerator="cpu", devices=1, max_epochs=1, default_root_dir=str(tmp_path)
    )
    trainer.fit(model, datamodule=data())
    assert trainer.global_step == EPOCH
    assert not list(tmp_path.iterdir())
    assert torch.equal(parameters_of(model), Run().weights())


def flag_plugins(tmp_path: Path) -> None:
    written: list[str] = []

    class Named(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            written.append(Path(path).name)
            super().save_checkpoint(checkpoint, path, storage_options)

    run = Run(RolloutCheckpoint(), plugins=[Named()], enable_checkpointing=True,
              default_root_dir=str(tmp_path))  # fmt: skip
    assert len(written) == 2
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert run.steps[-1] == EPOCH
    with pytest.raises(Exception, match="AsyncCheckpointIO does not tell; leave that plugin out"):
        Run(RolloutCheckpoint(), plugins=[AsyncCheckpointIO()], enable_checkpointing=True,
            default_root_dir=str(tmp_path))  # fmt: skip


def flag_sync_batchnorm(tmp_path: Path) -> None:
    assert torch.equal(Run(sync_batchnorm=True).weights(), Run().weights())  # no learner has such a layer


def flag_reload_dataloaders_every_n_epochs(tmp_path: Path) -> None:
    weights = [Run(reload_dataloaders_every_n_epochs=n, max_epochs=3).weights() for n in (0, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def flag_default_root_dir(tmp_path: Path) -> None:
    Run(RolloutCheckpoint(), enable_checkpointing=True, default_root_dir=str(tmp_path / "here"))
    assert {path.name for path in tmp_path.rglob("*.ckpt")} == {"last.ckpt", "best.ckpt"}


class HyperParameters(MemoryLogger):
    """A logger of a user that keeps hyper-parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[str, Any] = {}

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.params = dict(params)


def flag_enable_autolog_hparams(tmp_path: Path) -> None:
    for is_on in (True, False):
        logger = HyperParameters()
        Run(logger=logger, enable_autolog_hparams=is_on, model=learner(learning_rate=0.125))
        assert logger.params.get("learning_rate") == (0.125 if is_on else None)


REFUSED_FLAGS: dict[str, tuple[Any, str]] = {
    "gradient_clip_val": (0.5, "trainer.gradient_clip_val is not used: .*max_grad_norm"),
    "gradient_clip_algorithm": ("norm", "trainer.gradient_clip_val is not used: .*max_grad_norm"),
    "accumulate_grad_batches": (2, "trainer.accumulate_grad_batches must be 1, got 2: .*batch_size"),
    "overfit_batches": (1, "trainer.overfit_batches must be 0, got 1: every batch is collected anew"),
    "model_registry": ("mine", "trainer.model_registry is not used: "),
}

FLAGS = {name.removeprefix("flag_"): row for name, row in list(globals().items()) if name.startswith("flag_")}


# Callbacks that work


def callback_Callback(tmp_path: Path) -> None:
    flag_callbacks(tmp_path)


def callback_LambdaCallback(tmp_path: Path) -> None:
    steps: list[int] = []
    Run(LambdaCallback(on_train_batch_end=lambda trainer, *_: steps.append(trainer.global_step)))
    assert steps == [16, 32, 48]


def callback_BasePredictionWriter(tmp_path: Path) -> None:
    class Writer(BasePredictionWriter):
        shapes: list[tuple[int, ...]] = []  # noqa: RUF012  # one use

        def write_on_batch_end(
            self, trainer: Any, pl_module: Any, prediction: Any, *args: Any, **kwargs: Any
        ) -> None:
            self.shapes.append(tuple(prediction["reward"].shape))

    writer = Writer(write_interval="batch")
    with pytest.warns(UserWarning, match="infer the batch indices"):  # there is no sampler to infer them from
        make_trainer(callbacks=[writer]).predict(learner(), datamodule=data(), return_predictions=False)
    assert writer.shapes == [(8, 2)]


def callback_Checkpoint(tmp_path: Path) -> None:
    flag_default_root_dir(tmp_path)  # RolloutCheckpoint is one


def callback_ModelCheckpoint(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", "{step}", monitor="eval/return_mean", mode="max", save_top_k=1)
    train = ModelCheckpoint(tmp_path / "train", "{step}", monitor="loss/policy", save_top_k=-1)
    every = ModelCheckpoint(tmp_path / "every", "{step}", every_n_train_steps=32, save_top_k=-1)
    run = Run(best, train, every, enable_checkpointing=True, max_epochs=2, env="CartPole-v1")
    scores = {step: metrics["eval/return_mean"] for step, metrics in run.watch.evaluated}
    assert float(best.best_model_score) == pytest.approx(max(scores.values()))
    assert best.best_model_path.endswith(f"step={max(scores, key=scores.get)}.ckpt")
    names = {folder: {path.name for path in (tmp_path / folder).iterdir()} for folder in ("train", "every")}
    assert names["train"] == {"step=48.ckpt", "step=96.ckpt"}
    assert names["every"] == {"step=32.ckpt", "step=64.ckpt", "step=96.ckpt"}
    again, trainer = learner(), make_trainer(max_epochs=2)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint"):
        trainer.fit(again, datamodule=data(env="CartPole-v1"), ckpt_path=tmp_path / "every" / "step=64.ckpt")
    assert torch.equal(parameters_of(again), run.weights())  # saved within an epoch, resumed bit for bit


def callback_DeviceStatsMonitor(tmp_path: Path) -> None:
    run = Run(DeviceStatsMonitor(cpu_stats=True))
    steps = [step for step, row in run.logger.rows if any("cpu_percent" in name for name in row)]
    assert set(steps) == {0, 16, 32, 48}


def callback_EarlyStopping(tmp_path: Path) -> None:
    for monitor in ("episode/return_mean", "eval/return_mean", "loss/value", "eval/length_mean"):
        stop = EarlyStopping(monitor, mode="max", stopping_threshold=-1e9)
        assert Run(stop, max_epochs=3).steps[-1] == EPOCH, monitor
        assert EarlyStopping(monitor, mode="max", stopping_threshold=1e9).monitor == monitor
        assert Run(EarlyStopping(monitor, patience=9), max_epochs=2).steps[-1] == 2 * EPOCH, monitor


def callback_OnExceptionCheckpoint(tmp_path: Path) -> None:
    def fail(trainer: Any, *args: Any) -> None:
        if trainer.global_step == 32:
            raise RuntimeError("stop here")

    # Lightning looks for such a file, to go on from it, and says twice that there is none
    none_yet = "called without a model|there is no last checkpoint"
    with pytest.raises(RuntimeError, match="stop here"), pytest.warns(UserWarning, match=none_yet):
        Run(LambdaCallback(on_train_batch_end=fail), OnExceptionCheckpoint(tmp_path, "saved"),
            enable_checkpointing=True)  # fmt: skip
    assert torch.load(tmp_path / "saved.ckpt", weights_only=True)["global_step"] == 32


def callback_LearningRateMonitor(tmp_path: Path) -> None:
    for callback in (LearningRateMonitor(), LearningRateMonitor(logging_interval="step")):
        run = Run(callback, model=learner(anneal_env_steps=160, learning_rate=0.01), max_epochs=2)
        rates = {step: row["lr-FlatAdam"] for step, row in run.logger.rows if "lr-FlatAdam" in row}
        assert set(rates) <= {0, 16, 32, 48, 64, 80}
        assert 0 in rates
    assert list(rates) == [0, 16, 32, 48, 64, 80]


def callback_ModelSummary(tmp_path: Path) -> None:
    Run(ModelSummary(max_depth=2))


def callback_RichModelSummary(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    Run(shipped.RichModelSummary())


def callback_ProgressBar(tmp_path: Path) -> None:
    flag_enable_progress_bar(tmp_path)


def callback_TQDMProgressBar(tmp_path: Path) -> None:
    flag_enable_progress_bar(tmp_path)


def callback_RichProgressBar(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    bar = shipped.RichProgressBar()
    run = Run(bar, enable_progress_bar=True)
    assert "episode/return_mean" in bar.get_metrics(run.trainer, run.model)


def callback_ThroughputMonitor(tmp_path: Path) -> None:
    monitor = ThroughputMonitor(batch_size_fn=lambda batch: batch["reward"].numel(), window_size=2)
    with pytest.warns(UserWarning, match="flops_per_batch"):
        run = Run(monitor, limit_val_batches=0)
    steps = [step for step, row in run.logger.rows if "train/samples" in row or "train|samples" in row]
    assert steps == [16, 32, 48]


def callback_Timer(tmp_path: Path) -> None:
    timer = Timer(duration=timedelta(milliseconds=1))
    assert len(Run(timer, max_epochs=-1).steps) <= 1
    assert timer.time_elapsed("train") > 0


def callback_WeightAveraging(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    look = LambdaCallback(on_train_batch_end=lambda trainer, module, *_: seen.append(parameters_of(module)))
    with pytest.warns(UserWarning, match="WeightAveraging"):
        run = Run(look, WeightAveraging(), model=learner(learning_rate=0.05))
    assert len(seen) == 3
    torch.testing.assert_close(run.weights(), torch.stack(seen).mean(0))
    assert torch.equal(seen[-1], Run(model=learner(learning_rate=0.05)).weights())


def callback_EMAWeightAveraging(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    look = LambdaCallback(on_train_batch_end=lambda trainer, module, *_: seen.append(parameters_of(module)))
    with pytest.warns(UserWarning, match="WeightAveraging"):
        run = Run(look, EMAWeightAveraging(decay=0.5), model=learner(learning_rate=0.05))
    expected = 0.25 * seen[0] + 0.25 * seen[1] + 0.5 * seen[2]
    torch.testing.assert_close(run.weights(), expected)
    with pytest.raises(ValueError, match="EMAWeightAveraging: update_every_n_steps must be 1, got 10"):
        Run(EMAWeightAveraging(update_every_n_steps=10))


class Freeze(BaseFinetuning):
    def freeze_before_training(self, pl_module: Any) -> None:
        pass

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        pass


REFUSED_CALLBACKS: dict[str, tuple[Any, str]] = {
    "BatchSizeFinder": (BatchSizeFinder, "BatchSizeFinder: a batch is collected experience"),
    "LearningRateFinder": (LearningRateFinder, "LearningRateFinder: it raises the rate at every"),
    "StochasticWeightAveraging": (
        lambda: StochasticWeightAveraging(swa_lrs=0.1),
        "StochasticWeightAveraging: it needs learning-rate schedulers",
    ),
    "GradientAccumulationScheduler": (
        lambda: GradientAccumulationScheduler({0: 2}),
        "GradientAccumulationScheduler: an update divides its batch",
    ),
    "ModelPruning": (lambda: ModelPruning("l1_unstructured"), "ModelPruning: it replaces parameters"),
    "BaseFinetuning": (Freeze, "Freeze: it adds parameters to optimizers"),
    "BackboneFinetuning": (BackboneFinetuning, "BackboneFinetuning: it adds parameters to optimizers"),
    "SpikeDetection": (SpikeDetection, "SpikeDetection: it reads the one loss"),
}

CALLBACKS = {
    name.removeprefix("callback_"): row
    for name, row in list(globals().items())
    if name.startswith("callback_")
}


# The table


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_works(name: str, tmp_path: Path) -> None:
    FLAGS[name](tmp_path)


@pytest.mark.parametrize("name", REFUSED_FLAGS)
def test_a_flag_is_refused(name: str) -> None:
    value, message = REFUSED_FLAGS[name]
    with pytest.raises(ValueError, match=message) as caught:
        Run(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_works(name: str, tmp_path: Path) -> None:
    CALLBACKS[name](tmp_path)


@pytest.mark.parametrize("name", REFUSED_CALLBACKS)
def test_a_callback_is_refused(name: str) -> None:
    make, message = REFUSED_CALLBACKS[name]
    with pytest.raises(ValueError, match=message) as caught:
        Run(make())
    assert "\n" not in str(caught.value)


def test_every_flag_and_callback_has_a_row() -> None:
    flags = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    assert flags == set(FLAGS) | set(REFUSED_FLAGS)
    assert not set(FLAGS) & set(REFUSED_FLAGS)
    assert set(shipped.__all__) == set(CALLBACKS) | set(REFUSED_CALLBACKS)
    assert not set(CALLBACKS) & set(REFUSED_CALLBACKS)


def test_the_page_says_the_same() -> None:
    page = (ROOT / "docs" / "lightning.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (works|refused)", page, re.MULTILINE))
    expected = dict.fromkeys([*FLAGS, *CALLBACKS], "works")
    expected |= dict.fromkeys([*REFUSED_FLAGS, *REFUSED_CALLBACKS], "refused")
    assert rows == expected


# What else would be without effect


@pytest.mark.parametrize(
    "hook", ["on_before_backward", "on_after_backward", "on_before_zero_grad", "on_before_optimizer_step"]
)
def test_hooks_around_a_gradient_step_are_refused(hook: str) -> None:
    why = f"{hook} would never be called: gradient steps are taken within training_step"
    with pytest.raises(ValueError, match=f"LambdaCallback.{why}"):
        Run(LambdaCallback(**{hook: lambda *_: None}))
    own = type("Own", (PPO,), {hook: lambda self, *_: None})
    with pytest.raises(ValueError, match=f"Own.{why}"):
        Run(model=own(hidden=(4,), batch_size=16))


@pytest.mark.parametrize("hook", ["optimizer_step", "configure_gradient_clipping", "backward"])
def test_hooks_of_the_module_are_refused(hook: str) -> None:
    own = type("Own", (PPO,), {hook: lambda self, *args, **kwargs: None})
    with pytest.raises(ValueError, match=f"Own.{hook} would never be called"):
        Run(model=own(hidden=(4,), batch_size=16))


def test_a_scheduler_that_nobody_steps_is_refused() -> None:
    class Scheduled(PPO):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    with pytest.raises(ValueError, match=r"Scheduled\.configure_optimizers returned a learning-rate sched"):
        Run(model=Scheduled(hidden=(4,), batch_size=16))


def test_saves_that_would_be_skipped_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"every_n_train_steps = 20 would skip saves: .* 16, 32, .*of 16, or"
    ):
        Run(ModelCheckpoint(tmp_path, every_n_train_steps=20), enable_checkpointing=True)
    with pytest.raises(ValueError, match="ModelCheckpoint: train_time_interval saves nothing"):
        Run(ModelCheckpoint(tmp_path, train_time_interval=timedelta(1)), enable_checkpointing=True)
    replay = ReplayDataModule("Pendulum-v1", 2, 8, batch_size=4, warmup_steps=20, batches_per_epoch=2)
    trainer = make_trainer(
        callbacks=[ModelCheckpoint(tmp_path, every_n_train_steps=32)], enable_checkpointing=True
    )
    with pytest.raises(
        ValueError, match=r"they go 36, 52, \.\.\.; give a multiple of 16 and as many warm-up"
    ):
        trainer.fit(SAC(hidden=(4,)), datamodule=replay)


def test_what_nothing_logs_is_refused_before_training() -> None:
    for callback in (
        EarlyStopping("episode/retun_mean"),
        ModelCheckpoint(monitor="loss/critic"),
        RolloutCheckpoint(monitor="eval/retun_mean"),
    ):
        trainer = make_trainer(callbacks=[callback], enable_checkpointing=True, limit_val_batches=1)
        name, module = type(callback).__name__, learner()
        with pytest.raises(
            ValueError, match=f"{name} watches '{callback.monitor}', which nothing logs; "
        ) as e:
            trainer.fit(module, datamodule=data())
        assert "loss/policy" in str(e.value)
        assert "eval/return_mean" in str(e.value)
        assert module.spec is None  # no environment was made
    with pytest.raises(
        ValueError, match="EarlyStopping watches 'eval/return_mean', but nothing is evaluated"
    ):
        Run(EarlyStopping("eval/return_mean"), limit_val_batches=0)
    with pytest.raises(ValueError, match="did you mean episode/return_mean"):
        make_trainer(callbacks=[EarlyStopping("episode/retun_mean")]).fit(learner(), datamodule=data())


def test_names_of_a_users_own_code_are_believed() -> None:
    class Own(PPO):
        def training_step(self, rollout: Any, batch_idx: int) -> None:
            super().training_step(rollout, batch_idx)
            self.log("mine", float(self.env_steps))

    run = Run(EarlyStopping("mine", mode="max", stopping_threshold=10), model=Own(hidden=(4,), batch_size=16))
    assert run.steps == [16, 32, 48]
    mine = [(step, row["mine"]) for step, row in run.logger.rows if "mine" in row]
    assert mine == [(16, 16.0), (32, 32.0), (48, 48.0)]


def test_a_value_that_comes_late_is_waited_for(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Episodes of 5 steps, rollouts of 1: the first mean return is logged in the second epoch."""
    caplog.set_level("WARNING", "lit_rl")
    stop = EarlyStopping("episode/return_mean", mode="max", stopping_threshold=-1e9)
    trainer = make_trainer(callbacks=[stop, RolloutCheckpoint(monitor="episode/return_mean")], max_epochs=9,
                           enable_checkpointing=True, default_root_dir=str(tmp_path))  # fmt: skip
    module = learner(batch_size=2)
    trainer.fit(module, datamodule=data(rollout_steps=1))
    assert module.env_steps == 12  # the end of the second epoch, of 3 batches of 2
    assert caplog.text.count("EarlyStopping waits for episode/return_mean, which was not logged yet") == 1


def test_weight_averages_are_what_is_saved_and_resumed(tmp_path: Path) -> None:
    def run(epochs: int, path: Path | None = None) -> tuple[torch.Tensor, PPO]:
        torch.manual_seed(0)
        model = learner(learning_rate=0.05)
        saves = ModelCheckpoint(tmp_path / str(epochs), "{step}", save_top_k=-1, every_n_train_steps=16)
        trainer = make_trainer(callbacks=[EMAWeightAveraging(decay=0.5), saves], max_epochs=epochs,
                               enable_checkpointing=True)  # fmt: skip
        with pytest.warns(UserWarning, match="WeightAveraging"):
            trainer.fit(model, datamodule=data(env="CartPole-v1"), ckpt_path=path)
        return parameters_of(model), model

    whole, _ = run(2)
    saved = torch.load(tmp_path / "2" / "step=64.ckpt", weights_only=True)
    assert saved["state_dict"]["_extra_state"]["env_steps"] == 64
    resumed, model = run(2, tmp_path / "2" / "step=64.ckpt")
    assert torch.equal(whole, resumed)
    assert model.env_steps == 96
