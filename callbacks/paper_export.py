"""Writes the data and figures of a run for a paper, while it goes on.

Axes: T steps, N environments.
"""

from __future__ import annotations

import logging
import time
import uuid
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl.arguments import Count, Interval, check_arguments
from lit_rl.callbacks.paper.figure_process import FigureProcess
from lit_rl.callbacks.paper.files import (
    COMPONENTS,
    HEADERS,
    SKILLS,
    SUMMARY,
    PaperFiles,
    claim_directory,
    file_name,
    remove_after,
)
from lit_rl.callbacks.paper.rows import PaperRows
from lit_rl.callbacks.trainer.attributes import is_dry_run
from lit_rl.metrics import COLLECT_SECONDS, UPDATE_SECONDS
from lit_rl.ranks import gather_over_ranks
from lit_rl.types import Learner, ReplayBatch, Rollout, as_learner

_log = logging.getLogger("lit_rl")

SUMMARY_INTERVAL_S = 10.0
"""Shortest time between two summaries while training goes on."""


class PaperExport(Callback):
    """Writes ``paper_data/`` of a run: CSV files of episodes and updates, skills, a summary, a figure.

    Each time ``export_interval`` more env steps are done, and at the end, files with that step in their
    name come in addition. A file holds the rows since the file before it: *all files of a kind together hold
    every row exactly once*, and one without rows is not written (at the end there is at least one with a
    header). Each file is complete or not there at all.

    - ``episode_rewards_step_<step>.csv``: a row per training episode. ``total_reward`` is the sum of its
      three components. If the learner has no reward components, ``env_component`` is the undiscounted return
      and the others are 0. ``episode`` counts from 1, ``timestamp`` is in Unix seconds, at the end of the
      update.
    - ``sync_metrics_step_<step>.csv``: a row per update, of ``policy_version`` after it;
      ``samples_collected`` are env steps of all ranks, times are in seconds, ``sync_efficiency`` = samples /
      (collection + update).
    - ``reward_components_step_<step>.csv``, only with ``detailed_logging``: for each batch, environment and
      component the sum over the steps of the batch; ``step`` are the env steps after it.
    - ``skill_usage_step_<step>.json``: numbers of *assignments* of each skill so far, not of env steps; a
      policy without skills has it only at the end.
    - ``sync_training_summary.json``: mean, sample standard deviation, lowest and highest total reward of all
      episodes, mean efficiency of the updates, faults; written anew every 10 s at most, and at the end.
    - ``sync_training_progress_step_<step>.png``: drawn by another process of low priority; the last one is
      finished before the program ends.

    A learner gives its parts of the reward as ``reward_components``: a dict of tensors ``(T, N)`` of the
    batch just trained, of which ``env``, ``team_disc`` and ``ind_disc`` are summed over episodes (others
    only appear among the detailed rows).

    With several ranks each writes its own rows, further ranks with ``_rank<rank>`` in the name and their own
    count of episodes; ``env_id`` is unique. The JSON files tell of the first rank until the end of training,
    when they tell of all.

    A resumed run removes the files after the last export of its checkpoint, for those steps are trained
    again. Where another run has written, ``paper_data_2`` and so on is taken. Memory does not grow beyond
    the rows of one interval. What cannot be written is warned of once and counted as ``rows_lost``.

    Args:
        directory: Where to write; None takes ``<default_root_dir>/paper_data``.
        export_interval: Env steps between two exports, of all ranks. Less loses less when the machine dies,
            and makes more files.
        detailed_logging: Whether to write ``reward_components_step_<step>.csv``.
        figure_interval_s: Shortest time in seconds between two figures.

    Raises:
        MisconfigurationException: ``export_interval`` is not positive, or ``figure_interval_s`` negative.
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(
        self,
        directory: str | None = None,
        export_interval: Count = 1000,
        detailed_logging: bool = False,
        figure_interval_s: Interval = 60.0,
    ) -> None:
        check_arguments(PaperExport, locals())
        self.directory = directory
        self.export_interval = export_interval
        self.detailed_logging = detailed_logging
        self.figure = FigureProcess(figure_interval_s)
        self._world_size = 1
        self._summarized_at = 0.0
        self._loaded: dict[str, Any] | None = None
        self._files: PaperFiles | None = None
        self._forget(0)

    def _forget(self, env_steps: int) -> None:
        """Drop all rows and statistics, and begin the export of a run that is at ``env_steps``."""
        self._rows = PaperRows(self.detailed_logging)
        self._run_id = uuid.uuid4().hex
        self._env_steps = self._exported_at = env_steps

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "PaperExport")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where the checkpoint or the last fit stopped, or begin anew."""
        self._files = None
        if is_dry_run(trainer):
            return
        self._world_size = trainer.world_size
        module = self._learner
        if self._loaded is not None:
            self._restore(self._loaded, trainer.global_rank)
            self._loaded = None
        elif module.env_steps != self._env_steps or not module.env_steps:
            self._forget(module.env_steps)
        directory: Any = self._claim(Path(trainer.default_root_dir)) if trainer.is_global_zero else None
        self._files = PaperFiles(trainer.strategy.broadcast(directory), trainer.global_rank)
        if trainer.is_global_zero:
            self._write_summary(self._files, self._rows, module.policy_version)
        self.figure.begin()

    def _claim(self, root: Path) -> Path:
        """Choose the directory, and remove from it what is trained again."""
        base = Path(self.directory) if self.directory is not None else root / "paper_data"
        try:
            directory = claim_directory(base, self._run_id)
            files, rows = remove_after(directory, self._exported_at)
        except OSError as error:
            _log.warning(
                "PaperExport cannot read %s: %s; it may hold rows twice", base, error.strerror or error
            )
            return base
        if directory != base:
            _log.info("PaperExport writes to %s: another run has written to %s", directory, base)
        if files:
            _log.info(
                "PaperExport removed %d files with %d rows after env step %d, where the checkpoint goes on",
                files,
                rows,
                self._exported_at,
            )
        return directory

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Rollout | ReplayBatch,
        batch_idx: int,
    ) -> None:
        """Take the rows of the batch, and export when it is time."""
        if self._files is None:
            return
        module = self._learner
        values, env_steps = module.progress_metrics, module.env_steps
        samples, self._env_steps = env_steps - self._env_steps, env_steps
        self._rows.add_update(module.policy_version, samples, values[COLLECT_SECONDS], values[UPDATE_SECONDS])
        first_env = trainer.global_rank * batch["num_envs"]
        self._rows.add_batch(batch, module.reward_components, env_steps, first_env, time.time())
        if env_steps - self._exported_at >= self.export_interval:
            self._export(self._files, module.policy_version)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the rest, tell of all ranks, start the last figure."""
        if self._files is None:
            return
        self._write_rows(self._files)
        self._collect()
        self._write_headers(self._files)
        self._write_json(self._files, self._of_all_ranks(), self._learner.policy_version)
        self._close(self._files)
        if trainer.is_global_zero:
            self.figure.start_last(self._files.directory, self._env_steps)
        self._files = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Export the batches that were trained; leave no process behind."""
        self.figure.kill()
        if self._files is not None:
            self._write_rows(self._files)
            self._collect()
            self._write_json(self._files, self._rows, self._learner.policy_version)
            self._close(self._files)
            self._files = None

    def _export(self, files: PaperFiles, policy_version: int) -> None:
        """Write while training goes on: rarely what takes another file's place, which is costly."""
        self._write_rows(files)
        if files.rank:
            return
        if self._rows.skills.has_skills:
            self._write_skills(files, self._rows)
        if time.monotonic() - self._summarized_at >= SUMMARY_INTERVAL_S:
            self._write_summary(files, self._rows, policy_version)
        self.figure.start(files.directory, self._env_steps)

    def _write_rows(self, files: PaperFiles) -> None:
        self._exported_at = self._env_steps
        for kind, waiting in self._rows.take().items():
            if waiting:
                files.write_rows(kind, self._env_steps, waiting)
        self._rows.rows_lost += files.collect()

    def _collect(self) -> None:
        """Wait until all rows are written, or known to be lost."""
        if self._files is not None:
            self._rows.rows_lost += self._files.collect(wait=True)

    def _close(self, files: PaperFiles) -> None:
        self._rows.rows_lost += files.close()

    def _write_headers(self, files: PaperFiles) -> None:
        """Write a file with a header for each kind of which a short run had no rows."""
        for kind in HEADERS:
            if (kind != COMPONENTS or self.detailed_logging) and not files.has(kind):
                files.write_rows(kind, self._env_steps, [])

    def _write_json(self, files: PaperFiles, rows: PaperRows, policy_version: int) -> None:
        if files.rank == 0:
            self._write_skills(files, rows)
            self._write_summary(files, rows, policy_version)

    def _write_skills(self, files: PaperFiles, rows: PaperRows) -> None:
        files.write_json(file_name(SKILLS, self._env_steps, ".json"), rows.skill_usage(self._env_steps))

    def _write_summary(self, files: PaperFiles, rows: PaperRows, policy_version: int) -> None:
        summary = rows.summary(self._env_steps, policy_version)
        files.write_json(SUMMARY, summary | {"run_id": self._run_id})
        self._summarized_at = time.monotonic()

    def _of_all_ranks(self) -> PaperRows:
        """Add up episodes, skills and faults of all ranks; each rank must call it."""
        total = PaperRows()
        total.set_state(self._rows.get_state())
        states = gather_over_ranks(self._rows.get_state(), self._world_size)
        for state in states[1:]:
            other = PaperRows()
            other.set_state(state)
            total.add(other)
        return total

    def state_dict(self) -> dict[str, Any]:
        """Rows that wait, sums of running episodes and statistics of every rank; each rank must call it.

        It waits for the disk first: the rows up to ``exported_at`` are in their files when this returns.
        """
        self._collect()
        return {
            "run_id": self._run_id,
            "env_steps": self._env_steps,
            "exported_at": self._exported_at,
            "ranks": gather_over_ranks(self._rows.get_state(), self._world_size),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict` when training starts."""
        self._loaded = state_dict

    def _restore(self, state: dict[str, Any], rank: int) -> None:
        self._forget(state["env_steps"])
        self._run_id, self._exported_at = state["run_id"], state["exported_at"]
        if rank < len(state["ranks"]):
            self._rows.set_state(state["ranks"][rank])
