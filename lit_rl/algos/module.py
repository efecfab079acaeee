"""The base class of all learners, ``RLModule``: it deals with Lightning, and holds no mathematics.

Lightning's Trainer has traps for reinforcement learning, which this class keeps away from learners:

- ``global_step`` counts calls of Lightning's own optimizer wrappers, so ``env_steps``, ``policy_version`` and
  ``updates`` are counted here, and Lightning's counter is made to follow ``env_steps``.
- Flags and callbacks that suppose one optimizer step per batch would silently do nothing: they are refused.
- Under ``ddp`` Lightning's own path fails or silently does not synchronise with several losses, so
  :meth:`RLModule.adam` makes optimizers that average the flat gradient over ranks themselves.
- ``self.log`` is slow for every key, so a batch is logged by one host synchronisation and one ``log_metrics``
  per logger, and put into ``trainer.callback_metrics`` at once.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from lit_rl import metrics
from lit_rl.algos.batch_log import BatchLog, fetch, refuse_not_finite
from lit_rl.algos.checkpoint_entry import KEY, entry, make_plain, read_entry
from lit_rl.algos.env_step_loop import count_env_steps, is_row_due, publish
from lit_rl.algos.evaluation import EvalResult, summarize
from lit_rl.algos.lag import Lag
from lit_rl.algos.loading import FromCheckpoint
from lit_rl.algos.monitors import check_monitors, report_waiting
from lit_rl.algos.optimizer_settings import OptimizerSettings
from lit_rl.algos.requirements import check_schedulers, check_trainer
from lit_rl.compute import MatmulPrecision, ProcessSettings, choose_settings
from lit_rl.flat import FlatAdam, descend
from lit_rl.ranks import Ranks
from lit_rl.types import CRITIC, Batch, Decision, EnvSpec, EvalEpisodes, Nested

log = logging.getLogger("lit_rl")


class RLModule(FromCheckpoint):
    """A policy and its learner.

    A subclass writes ``build`` (networks), ``act``, ``configure_optimizers`` (one :meth:`adam` for each
    network that is trained) and ``training_step``, which begins with :meth:`begin_batch` and ends with
    :meth:`finish_batch`; a policy with memory also writes ``initial_carry``.

    Logs: ``time/update_s``, ``time/collect_s``, ``time/env_steps_per_s``, ``update/gradient_steps``,
    ``update/policy_version``, ``episode/return_mean``, ``episode/length_mean``, ``episode/count``, ``env/*``,
    ``eval/return_mean``, ``eval/return_std``, ``eval/return_min``, ``eval/return_max``, ``eval/length_mean``,
    ``eval/episodes``, ``eval/success_rate`` and ``eval/env/*``; of collecting workers ``collector/*``,
    and ``lag/*`` where they collect ahead; with demonstrations ``replay/demonstration_share``.

    Args:
        spec: Observation and action of the environment. None takes them from the trainer's data module.
        threads: OpenMP threads of this process while fitting; ``auto`` takes 1 for narrow networks with
            small minibatches and otherwise the idle cores divided by the ranks of this machine.
        matmul_precision: ``torch.set_float32_matmul_precision`` while fitting; ``auto`` measures at the start
            whether ``medium`` is faster on this CPU and still as exact as float32, for networks of width 256
            and above.
        gamma: Discount per env step. Data modules ask the learner for it.

    Attributes:
        central_critic: Whether a critic sees what the actor does not, which a learner has to say.
        looks_at_state: Whether it looks at the global state of several agents, which is else left out.
    """

    central_critic, looks_at_state = False, True

    def __init__(
        self,
        spec: EnvSpec | None = None,
        threads: int | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
        gamma: float = 0.99,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec = spec
        self.gamma = gamma
        self.progress_metrics: dict[str, float] = {}
        self.eval_result: EvalResult | None = None
        self.eval_seconds = 0.0
        self.is_updating = False
        self.reward_components: dict[str, Tensor] | None = None
        self._threads: int | Literal["auto"] = threads
        self._matmul_precision: MatmulPrecision = matmul_precision
        self._settings: ProcessSettings | None = None
        self._resumed_settings: dict[str, Any] | None = None
        self._last_log_time: float | None = None
        self._update_began: float | None = None
        self._log = BatchLog()
        self.lag = Lag()
        self._pending_local_state: dict[str, Any] | None = None
        self._waited_for: set[str] = set()
        self._optimizer_settings = OptimizerSettings()

    # What a learner implements

    def build(self, spec: EnvSpec) -> None:
        """Create the networks for ``spec``; this is called once, before the optimizers exist."""
        raise TypeError(f"{type(self).__name__} must implement build(spec)")

    def initial_carry(self, num_envs: int) -> Nested:
        """Return the carry before the first step; ``{}`` for policies without memory."""
        return {}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Decide for N environments, as ``Policy`` of ``lit_rl.types`` describes."""
        raise TypeError(f"{type(self).__name__} must implement act(obs, carry, reset, greedy=...)")

    @property
    def width(self) -> int:
        """Width of the widest layer, which decides threads and the matmul route."""
        return max((max(p.shape[-2:]) for p in self.parameters() if p.ndim >= 2), default=1)

    @property
    def rows(self) -> int:
        """Rows of a minibatch, which also decide the number of threads; 1 where they are not known."""
        return 1

    def local_state(self) -> dict[str, Any]:
        """Return the state that differs between ranks, as tensors and plain types.

        It must not be a buffer, because DDP overwrites the buffers of all ranks with those of rank 0.
        """
        return {}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`local_state` returned."""

    # Life cycle

    def configure_callbacks(self) -> list[Callback]:
        """Refuse a trainer with which the learner does not work, and let it count env steps.

        This is the first hook that Lightning calls, before environments and networks are made. A subclass
        that returns callbacks calls it, too.
        """
        check_trainer(self.trainer, self)
        if self.trainer.state.fn == TrainerFn.FITTING:
            check_monitors(self.trainer, self)
        count_env_steps(self.trainer)
        return []

    def configure_model(self) -> None:
        """Build the networks, from the given spec or from the data module's environments."""
        if not self._built:
            if self.spec is None and self._trainer is None:
                return  # load_from_checkpoint comes here first; the checkpoint knows the environment
            datamodule = getattr(self._trainer, "datamodule", None)
            if self.spec is None and datamodule is not None:
                self.spec = datamodule.spec
            if self.spec is None:
                raise ValueError(
                    f"{type(self).__name__} must know the environment: give trainer.fit a data module with a "
                    "spec, or pass spec=..."
                )
            if self.spec.has_critic_part and (self.spec.agents or not self.central_critic):
                raise ValueError(
                    f"{type(self).__name__}: observations of {self.spec.name} have a part {CRITIC!r}, which "
                    "only critics may see; set central_critic = true, which PPO and SAC have for a single "
                    "agent, or make the environment without it"
                )
            self.build(self.spec)
            self._built = True
        if self._weights is not None:
            self._weights.give(self)
            self._weights = None

    def on_fit_start(self) -> None:
        """Set threads and matmul route, give each rank its own random numbers."""
        check_schedulers(self.trainer, self)
        self.lag.allow(self, self.trainer)
        self._optimizer_settings.note(self.trainer)
        self._apply_settings()
        self.ranks.part_random_streams()  # Lightning gives all ranks the same

    def _apply_settings(self) -> None:
        """Set threads and matmul route; a resumed run keeps its own, so that its numbers stay the same."""
        local_ranks = self.trainer.num_devices if self.device.type == "cpu" else 1
        self._settings, why = choose_settings(
            self.width, self.rows, local_ranks, self.device.type, self._threads, self._matmul_precision,
            self._resumed_settings,
        )  # fmt: skip
        self._settings.apply()
        log.info("compute: %s", why)

    def on_train_start(self) -> None:
        """Continue the rank's own state after a resume, with the settings of optimizers that were changed."""
        self._optimizer_settings.resume(self.trainer)
        if self._pending_local_state is not None:
            self.load_local_state(self._pending_local_state)
            self._pending_local_state = None
        self.is_updating = False
        self._last_log_time = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        """Say what callbacks watch in vain so far."""
        report_waiting(self.trainer, self._waited_for)

    def teardown(self, stage: str) -> None:
        """Put threads and matmul precision back."""
        if self._settings is not None:
            self._settings.restore()
            self._settings = None

    # Updates

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return Ranks(self._world_size, self.global_rank if self._world_size > 1 else 0)

    @property
    def _world_size(self) -> int:
        return self._trainer.world_size if self._trainer is not None else 1

    def adam(
        self,
        network: nn.Module,
        learning_rate: float,
        epsilon: float = 1e-8,
        max_grad_norm: float | None = None,
        compile: bool = False,
    ) -> FlatAdam:
        """Make an Adam for all parameters of ``network``, whose gradients are averaged over ranks.

        ``FlatAdam`` explains the arguments. Call its ``minimize`` for a gradient step.
        """
        return FlatAdam(network, learning_rate, epsilon, max_grad_norm, self.ranks, compile)

    def minimize(
        self, optimizer: torch.optim.Optimizer, loss: Tensor, max_grad_norm: float | None = None
    ) -> None:
        """Take a step with an optimizer that :meth:`adam` did not make; gradients are averaged over ranks."""
        descend(optimizer, loss, max_grad_norm, self.ranks)

    def raw_optimizers(self) -> list[Any]:
        """Return what ``configure_optimizers`` returned, without Lightning's wrappers.

        A wrapper takes time that counts beside a small gradient step.
        """
        optimizers = self.optimizers(use_pl_optimizer=False)
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def begin_batch(self, batch: Batch, *, is_on_policy: bool) -> None:
        """Begin an update; from here to :meth:`finish_batch` nothing can be collected.

        Args:
            batch: What ``training_step`` was given.
            is_on_policy: Whether to refuse experience that an older version of the policy collected.

        Raises:
            RuntimeError: The batch was collected with another version of the policy than the one being
                trained.
        """
        if is_on_policy and not 0 <= self.policy_version - batch["policy_version"] <= self.lag.longest:
            raise RuntimeError(
                f"on-policy batch expected of policy version {self.policy_version}, got "
                f"{batch['policy_version']}: the dataloader was prefetched. Its dataset must define __len__ "
                "and use no worker processes."
            )
        self.is_updating = True
        self._update_began = time.perf_counter()

    # Logging

    def finish_batch(self, values: dict[str, Tensor | float], batch: Batch) -> None:
        """End an update: advance the counters, log once, refuse losses that are not finite.

        Args:
            values: Scalars to log, by the names of ``metrics.py``; tensors stay on the device until here and
                are fetched together.
            batch: What ``training_step`` was given; its episodes, metrics and seconds are logged, too.

        Raises:
            FloatingPointError: A value is not finite.
            RuntimeError: ``begin_batch`` was not called.
        """
        if self._update_began is None:
            raise RuntimeError(
                f"{type(self).__name__}.training_step must call begin_batch before finish_batch"
            )
        start, self._update_began = self._update_began, None
        episodes, new_steps = batch["episodes"], batch["new_steps"]
        self.is_updating = False
        self.policy_version += 1
        self.env_steps += new_steps * self._world_size
        self.recent_episodes.add(episodes)
        recorded = {
            f"{metrics.ENV_PREFIX}{name}": value.nanmean() for name, value in batch["metrics"].items()
        }
        fetched = self._fetch(values | recorded, len(episodes["episode_return"]))
        self.progress_metrics = fetched
        refuse_not_finite(fetched, self.env_steps, self.policy_version)
        now = time.perf_counter()
        if self._last_log_time is not None:
            fetched[metrics.STEPS_PER_SECOND] = new_steps * self._world_size / (now - self._last_log_time)
        self._last_log_time = now
        fetched[metrics.UPDATE_SECONDS] = now - start
        fetched |= {metrics.COLLECT_SECONDS: batch["collect_s"], **batch["collector"]}
        fetched[metrics.GRADIENT_STEPS] = float(self.updates)
        fetched[metrics.POLICY_VERSION] = float(self.policy_version)
        self._log.begin(fetched)
        publish(self.trainer, fetched)

    def _fetch(self, values: dict[str, Tensor | float], num_ended: int) -> dict[str, float]:
        """Average ``values`` over all ranks, and add statistics of the latest episodes."""
        fetched, totals = fetch(values, [*self.recent_episodes.totals(), num_ended], self.ranks)
        may_lack = (metrics.EXPLAINED_VARIANCE, metrics.ENV_PREFIX)  # no variance, or nothing was reported
        fetched = {n: v for n, v in fetched.items() if math.isfinite(v) or not n.startswith(may_lack)}
        total_return, total_length, window, ended = totals
        self.num_episodes += int(ended)
        if window:
            fetched[metrics.EPISODE_RETURN] = total_return / window
            fetched[metrics.EPISODE_LENGTH] = total_length / window
        fetched[metrics.EPISODES] = float(self.num_episodes)
        return fetched

    def log_values(self, values: dict[str, float]) -> None:
        """Log ``values`` over env steps; while a batch ends they become part of its row."""
        self._log.add(values, self.trainer.loggers, self.env_steps)
        publish(self.trainer, values)

    def log_point(self, values: dict[str, float], env_steps: int) -> None:
        """Log ``values`` at a step inside the batch; a logger with one row per batch gets only the last."""
        self._log.add_point(values, self.trainer.loggers, env_steps)

    def _write_row(self) -> None:
        """Write what was logged for the batch so far, in every ``log_every_n_steps``-th batch."""
        if self._log.points:
            publish(self.trainer, self._log.points)
        self._log.write(self.trainer.loggers if is_row_due(self.trainer) else [], self.env_steps)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the row of the batch, after all callbacks.

        Raises:
            RuntimeError: ``training_step`` returned without :meth:`finish_batch`.
        """
        if self.is_updating:
            raise RuntimeError(
                f"{type(self).__name__}.training_step must end with finish_batch(values, batch)"
            )
        self._write_row()

    # Evaluation

    def validation_step(self, batch: EvalEpisodes, batch_idx: int) -> None:
        """Log statistics of evaluation episodes over ranks, unless a signal broke the evaluation off."""
        self.eval_seconds = batch["seconds"]
        self.eval_result, values = summarize(batch, self.ranks, self.env_steps)
        if self.eval_result is None or self.trainer.sanity_checking:
            return  # Lightning logs nothing of it either
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.log_values(values)
        else:  # what trainer.test returns; the key `step` is Lightning's way to set the axis
            # equal on all ranks already; sync_dist only keeps Lightning from warning
            synced = {"batch_size": 1, "sync_dist": self._world_size > 1}
            self.log_dict(values | {"step": float(self.env_steps)}, **synced)
        self._last_log_time = None  # evaluation is outside every timer

    def test_step(self, batch: EvalEpisodes, batch_idx: int) -> None:
        """Play and summarise episodes as in validation."""
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Return trajectories of the policy, as the data module recorded them."""
        return batch

    # State

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the environment's spec, recent episodes and every rank's own state; write what was logged.

        Hyper-parameters that are not plain data (an encoder given as a Python object) are left out, so that
        the checkpoint loads with ``weights_only=True``; pass them again to ``load_from_checkpoint``.
        """
        if self._trainer is not None:  # a run that is killed later keeps its curves up to this checkpoint
            self._write_row()
            for logger in self.trainer.loggers:
                logger.save()
        checkpoint["state_dict"]["_extra_state"] = self.get_extra_state()  # averaged weights lack counters
        make_plain(checkpoint, self.CHECKPOINT_HYPER_PARAMS_KEY)
        own = {"state": self.local_state() if self._built else {}, **self.recent_episodes.state_dict()}
        ranks, optimizers = self.ranks.gather(own), self._optimizer_settings.given
        checkpoint[KEY] = entry(type(self), self.spec, ranks, optimizers)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the networks if nobody did, and keep this rank's state for the start of training.

        Raises:
            ValueError: The checkpoint is of an environment that differs, or was not written by lit_rl.
        """
        saved = read_entry(checkpoint)
        spec = EnvSpec.from_dict(saved["spec"])
        if not self._built:
            self.spec = self.spec or spec
            self.configure_model()
        bounds, met = self.action_bounds, self.spec
        if bounds is not None and met is not None:  # those of the environment never counted
            spec, met = spec.within(*bounds), met.within(*bounds)
        spec.check_same(met, self.looks_at_state)
        self._resumed_settings = saved["settings"]
        self._optimizer_settings.before = saved.get("optimizers")
        if self.global_rank < len(saved["ranks"]):
            own = saved["ranks"][self.global_rank]
            self.recent_episodes.load_state_dict(own)
            self._pending_local_state = own["state"]


def linear_schedule(env_steps: int, anneal_env_steps: int | None) -> float:
    """Return a factor that goes from 1 at the start to 0 at ``anneal_env_steps``; it stays 1 for None."""
    return 1.0 if anneal_env_steps is None else max(0.0, 1.0 - env_steps / anneal_env_steps)
