"""Settings of Lightning's Trainer with which learners work; the others are refused before anything is made.

A learner takes its gradient steps inside ``training_step``, many in each batch, and a batch is experience
that exists once. Whatever of Lightning supposes one optimizer step per batch, or the same batches again,
would silently do nothing here; each is named with what does the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
)
from lightning.pytorch.callbacks.finetuning import BaseFinetuning
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden

_PRECISIONS = ("32-true", "64-true", "bf16-mixed")
_SINGLE_COPY = ("SingleDeviceStrategy", "DDPStrategy")  # strategies in which each rank holds all parameters

_REFUSED: dict[type[Callback], str] = {
    LearningRateFinder: "it raises the rate at every optimizer step, of which a batch here has many; compare "
    "short runs with several learning_rate instead",
    BatchSizeFinder: "a batch is collected experience, not a part of a dataset; set num_envs and batch_size",
    StochasticWeightAveraging: "it needs learning-rate schedulers of Lightning; use WeightAveraging or "
    "EMAWeightAveraging",
    GradientAccumulationScheduler: "an update divides its batch into minibatches itself; set batch_size",
    ModelPruning: "it replaces parameters, which the optimizers hold as one flat tensor; prune the exported "
    "policy instead",
    BaseFinetuning: "it adds parameters to optimizers during training, which hold theirs as one flat tensor; "
    "freeze an encoder when it is made, by requires_grad_(False)",
    SpikeDetection: "it reads the one loss that training_step returns, and an update has several; use "
    "EarlyStopping with monitor='loss/...'",
}

_GRADIENT_HOOKS = (
    "on_before_backward",
    "on_after_backward",
    "on_before_zero_grad",
    "on_before_optimizer_step",
)
_MODULE_HOOKS = (
    *_GRADIENT_HOOKS, "backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping",
    "lr_scheduler_step",
)  # fmt: skip


class _Settings(Protocol):
    """Every ``Trainer`` has these after its ``__init__``, though its class does not declare them."""

    gradient_clip_val: float | None
    gradient_clip_algorithm: Any
    accumulate_grad_batches: int
    overfit_batches: float
    _model_registry: str | None
    callbacks: list[Callback]
    datamodule: Any


def check_trainer(trainer: Trainer, module: LightningModule) -> None:
    """Refuse a trainer whose settings would be without effect, or would make the updates of a policy wrong.

    Raises:
        ValueError: A setting or callback does not go together with the learner; the message says which, why,
            and what to use.
    """
    strategy = type(trainer.strategy).__name__
    if strategy not in _SINGLE_COPY:
        raise ValueError(
            f"trainer.strategy must keep all parameters on each rank (auto, ddp), got {strategy}"
        )
    precision = str(trainer.precision)
    if precision not in _PRECISIONS:
        raise ValueError(
            f"trainer.precision must be one of {', '.join(_PRECISIONS)}, got {precision}: "
            "half-precision weights make the probability ratio of a policy wrong"
        )
    if trainer.state.fn == TrainerFn.FITTING:
        settings: Any = trainer
        for problem in _problems(settings, module):
            raise ValueError(problem)
        # twenty lines about saving what was before an optimizer step; what is after the update is wanted here
        warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")


def _problems(trainer: _Settings, module: LightningModule) -> Iterator[str]:
    if trainer.gradient_clip_val is not None or trainer.gradient_clip_algorithm is not None:
        yield (
            "trainer.gradient_clip_val is not used: a learner clips the gradients of its own minibatches; "
            "set its argument max_grad_norm (--model.max_grad_norm)"
        )
    if trainer.accumulate_grad_batches != 1:
        yield (
            f"trainer.accumulate_grad_batches must be 1, got {trainer.accumulate_grad_batches}: an update "
            "divides its batch into minibatches itself; set the learner's batch_size"
        )
    if trainer.overfit_batches:
        yield (
            f"trainer.overfit_batches must be 0, got {trainer.overfit_batches}: every batch is collected "
            "anew and cannot be repeated; limit_train_batches shortens an epoch"
        )
    if trainer._model_registry is not None:
        yield (
            "trainer.model_registry is not used: it belongs to Lightning's own platform; checkpoints are "
            "files of the run directory"
        )
    for callback in trainer.callbacks:
        name = type(callback).__name__
        yield from (f"{name}: {why}" for kind, why in _REFUSED.items() if isinstance(callback, kind))
        if isinstance(callback, ModelCheckpoint):
            yield from _problems_of_checkpoint(callback, trainer.datamodule, module)
        if isinstance(callback, EMAWeightAveraging) and callback.update_every_n_steps != 1:
            yield (
                f"{name}: update_every_n_steps must be 1, got {callback.update_every_n_steps}: it is asked "
                "once per batch, and steps are env steps; a decay nearer to 1 averages for longer"
            )
    if _takes_its_own_steps(module):
        yield from _problems_of_hooks(trainer.callbacks, module)


def _problems_of_checkpoint(callback: ModelCheckpoint, data: Any, module: LightningModule) -> Iterator[str]:
    """Find settings with which Lightning's ``ModelCheckpoint`` would skip saves silently."""
    if callback._train_time_interval is not None:
        yield (
            "ModelCheckpoint: train_time_interval saves nothing under manual optimization; use "
            "every_n_epochs, every_n_train_steps, or RolloutCheckpoint's every_batches"
        )
    every, steps_after = callback._every_n_train_steps, getattr(data, "env_steps_after", None)
    if every < 1 or steps_after is None:
        return
    ranks = module.trainer.world_size
    first, second = steps_after(1) * ranks, steps_after(2) * ranks
    if first % (second - first) or every % (second - first):
        yield (
            f"ModelCheckpoint: every_n_train_steps = {every} would skip saves: it saves where the env steps "
            f"are an exact multiple, and they go {first}, {second}, ...; give a multiple of {second - first}"
            + (" and as many warm-up steps" if first % (second - first) else "")
            + ", or use RolloutCheckpoint's every_env_steps"
        )


def _problems_of_hooks(callbacks: list[Callback], module: LightningModule) -> Iterator[str]:
    """Find hooks around a backward pass or an optimizer step, which nobody would call."""
    why = "would never be called: gradient steps are taken within training_step; use on_train_batch_end"
    for callback in callbacks:
        for hook in _GRADIENT_HOOKS:
            if is_overridden(hook, callback, Callback):
                yield f"{type(callback).__name__}.{hook} {why}"
    for hook in _MODULE_HOOKS:
        if is_overridden(hook, module, LightningModule):
            yield f"{type(module).__name__}.{hook} {why}"


def _takes_its_own_steps(module: LightningModule) -> bool:
    """Tell whether ``training_step`` is one of lit_rl; a user's own may call optimizers as Lightning does."""
    return module.training_step.__module__.partition(".")[0] == "lit_rl"


def check_schedulers(trainer: Trainer, module: LightningModule) -> None:
    """Refuse learning-rate schedulers of Lightning, which nobody would step.

    Raises:
        ValueError: ``configure_optimizers`` returned one, and ``training_step`` is one of lit_rl.
    """
    if trainer.lr_scheduler_configs and _takes_its_own_steps(module):
        raise ValueError(
            f"{type(module).__name__}.configure_optimizers returned a learning-rate scheduler, which would "
            "never be stepped; use anneal_env_steps, or set the rate of the optimizer in on_train_batch_start"
        )
