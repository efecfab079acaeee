"""``lit-rl fit | validate | test | predict``: LightningCLI with run directories and short errors."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import lit_rl
from lit_rl import terminal
from lit_rl.algos.module import RLModule
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.graceful_stop import GracefulStop
from lit_rl.callbacks.progress_bar import EnvStepsProgressBar
from lit_rl.cli import checkpoints, evaluation, free_values, launch, messages, origin, shipped
from lit_rl.cli.curves import Curves
from lit_rl.cli.errors import CommandError, describe_exit, naming_a_full_disk
from lit_rl.cli.interrupts import guarded
from lit_rl.cli.metrics_csv import MetricsCSV
from lit_rl.cli.parser import Parser, strip_frame
from lit_rl.cli.process_file import ProcessFile
from lit_rl.cli.ranks import Ranks
from lit_rl.cli.requirements import check_classes, check_nodes, check_seed, check_video
from lit_rl.cli.run_directory import RunDirectory, is_run
from lit_rl.cli.trajectories import write_trajectories
from lit_rl.cli.yaml_file import read_yaml

_log = logging.getLogger("lit_rl")

SHORT_NAMES = tuple(
    public
    for public in (getattr(lit_rl, name) for name in lit_rl.__all__)
    if isinstance(public, type) and issubclass(public, RLModule | LightningDataModule)
)
"""Learners and data modules of lit_rl, which YAML and command line may name without their module: loading
them here lets the parser find them."""

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": -1,  # EnvStepBudget ends training
    "max_steps": -1,
    "devices": 1,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "enable_model_summary": False,
}


def run(argv: list[str]) -> None:
    """Parse and carry out one command.

    Raises:
        CommandError: The command line, a configuration or a checkpoint is wrong.
        SystemExit: 128 + signal, when a signal ended training.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a user's own environments and encoders lie there
    resolved, configs = shipped.resolve(argv)
    for path in configs:
        read_yaml(path)
    is_first = launch.published() is None
    try:
        with messages.on_stderr(), free_values.kept(), guarded(RunDirectory()) as run_directory:
            CommandLine(resolved, configs, run_directory)
    finally:
        if is_first:
            launch.withdraw()


class CommandLine(LightningCLI):
    """LightningCLI for any ``RLModule`` and any data module.

    Args:
        argv: The command line, its configurations resolved to paths.
        configs: Paths of the configurations in it.
        run_directory: Directory that a fit writes into.
    """

    def __init__(self, argv: list[str], configs: list[Path], run_directory: RunDirectory) -> None:
        self.argv = argv
        self.configs = configs
        self.run_directory = run_directory
        self.checkpoint: Path | None = None
        self.unsaved: Path | None = None  # a run that was ended before its first checkpoint
        self.checkpoint_env_steps: int | None = None
        self.is_elsewhere = False  # the checkpoint was trained on another environment
        super().__init__(
            RLModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,  # written together with the run directory instead
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=True,
            parser_class=Parser,
            auto_configure_optimizers=False,
            args=argv,
        )

    # Parsing

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that every run has."""
        parser.add_lightning_class_args(EnvStepBudget, "budget")
        parser.add_lightning_class_args(RolloutCheckpoint, "checkpoint")

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "fit":
            parser.add_argument(
                "--run_dir", type=str | None, default=None, help="New or empty run directory."
            )
            origin.add_arguments(parser)
        else:
            parser.set_defaults({"budget.total_env_steps": 1})  # only fit must be told
        if subcommand == "test":
            parser.add_argument(
                "--video", type=str | None, default=None, help="Record an episode as .gif or .mp4."
            )
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning about ``sys.argv``."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint; the command line wins over its hyper-parameters, they over configurations."""
        name = self.config.subcommand
        given = self.chosen.get("ckpt_path")
        if name == "fit":
            origin.resolve_init_from(self.chosen, self.configs)
        if given is None:
            if name != "fit":
                raise CommandError(f"lit-rl {name} expects --ckpt_path last, best or a path, got none")
            return
        self.unsaved = origin.unsaved_run(str(given), self.configs) if name == "fit" else None
        if self.unsaved is not None:
            self.checkpoint_env_steps, self.chosen["ckpt_path"] = 0, None
            return
        self.checkpoint = checkpoints.resolve(str(given), self.configs)
        content = checkpoints.read(self.checkpoint)
        self.checkpoint_env_steps = checkpoints.env_steps(content)
        model = self._as_yaml()["model"]
        explicit = checkpoints.explicit_keys(self.argv)
        init_args, notes = checkpoints.merge(model, content, explicit, self.checkpoint)
        for note in [*notes, *(self._compare_data(content) if name == "fit" else ())]:
            _log.info(note)
        if notes:
            changed = {name: {"model": {"class_path": model["class_path"], "init_args": init_args}}}
            self.config = self.parser.parse_object(changed, self.config)
        self.chosen["ckpt_path"] = str(self.checkpoint)

    def _compare_data(self, content: dict[str, Any]) -> list[str]:
        """List what differs from the data that the checkpoint was trained with."""
        path = self._require_checkpoint()
        trained = checkpoints.trained_with(content, path)
        if trained is None:
            return [f"checkpoint {path} does not say on which data it was trained"]
        lines, self.is_elsewhere = checkpoints.compare_data(self._as_yaml()["data"], trained)
        return [*origin.compare_seed(self.chosen["seed_everything"], path), *lines]

    @property
    def chosen(self) -> Namespace:
        """The configuration of the command that was given."""
        return self.config[self.config.subcommand]

    def _as_yaml(self) -> dict[str, Any]:
        """Return the configuration of the command in plain types."""
        parser = self._subcommand_parsers[self.config.subcommand]
        return yaml.safe_load(parser.dump(self.chosen, skip_none=False))

    def _set_seed(self) -> None:
        """Draw a seed where none is given, unless this rank or this run goes on with one that exists."""
        config = self.chosen
        told = launch.published()
        if told is not None:
            config["seed_everything"] = told["seed"]
        elif config["seed_everything"] is True:
            launch.require_agreement("--seed_everything")
            run = checkpoints.run_of(self.checkpoint) if self.checkpoint else None
            saved = checkpoints.read_config(run / "config.yaml") if run else {}
            config["seed_everything"] = saved.get("seed_everything", secrets.randbelow(2**31))
        check_seed(config["seed_everything"])
        if config["seed_everything"] is not False:
            seed_everything(config["seed_everything"], workers=True, verbose=False)

    # Instantiation

    def instantiate_classes(self) -> None:
        """Report what a constructor refused, without jsonargparse's explanation of its type hint."""
        check_classes(self.chosen)
        try:
            super().instantiate_classes()
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise CommandError(strip_frame(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the run directory with its loggers, and the callbacks of every run unless configured.

        Raises:
            CommandError: Nothing would be kept of the run, by ``--trainer.barebones``.
        """
        settings = self._get(self.config_init, "trainer")
        if settings["barebones"]:
            raise CommandError(
                "--trainer.barebones true would keep nothing of a run: no log, no checkpoint, no progress; "
                "use Trainer(barebones=True) in Python, or give --trainer.logger false "
                "--trainer.enable_checkpointing false --trainer.enable_progress_bar false"
            )
        check_nodes(settings["num_nodes"])
        if self.subcommand == "fit" and self.chosen.init_from is not None:
            self.model.init_from(self.chosen.init_from, partial=self.chosen.init_from_partial)
        if self.subcommand != "fit":
            kwargs["logger"] = (
                False  # an evaluation prints its result and leaves the curves of training alone
            )
        elif not settings["fast_dev_run"]:
            path = self._open_run_directory(settings["default_root_dir"]).absolute()
            kwargs["default_root_dir"] = str(path)
            if settings["logger"] in (None, True):
                kwargs["logger"] = [
                    Curves(path, name="", version="", default_hp_metric=False, flush_secs=10),
                    MetricsCSV(path, self.checkpoint_env_steps),
                ]
        callbacks = [origin.announce(self.run_directory), *_with_default_callbacks(settings)]
        return super().instantiate_trainer(callbacks=callbacks, **kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Leave out the checkpoints that every run has, where ``enable_checkpointing`` is false."""
        if config["enable_checkpointing"] is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, RolloutCheckpoint)]
        return super()._instantiate_trainer(config, callbacks)

    def _open_run_directory(self, root: str | None) -> Path:
        config = self.chosen
        told = launch.published()
        if told is not None:
            return self.run_directory.reuse(Path(told["run_dir"]))
        given = Path(config["run_dir"]) if config["run_dir"] else None
        if given is not None and launch.external_rank():
            return self.run_directory.reuse(given)
        go_on = self.checkpoint or self.unsaved
        resumed = origin.run_to_go_on_with(go_on, self.configs, given, self.is_elsewhere)
        if resumed is not None:
            path = self.run_directory.reuse(resumed)
        else:
            if given is None:
                launch.require_agreement("--run_dir")
            path = self.run_directory.create(
                Path(root or "runs"), self._run_name(), config["seed_everything"], given
            )
        self.run_directory.write_start(self._whole_config(path))
        launch.publish(str(path.absolute()), config["seed_everything"])
        return path

    def _run_name(self) -> str:
        """Name the run after its first configuration, or after its learner where it has none.

        A configuration that was saved in a run gives the name of that run.
        """
        if not self.configs:
            return self.chosen.model.class_path.rpartition(".")[2].lower()
        first = self.configs[0].resolve()
        return (
            first.parent.parent.name if first.name == "config.yaml" and is_run(first.parent) else first.stem
        )

    def _whole_config(self, directory: Path) -> str:
        """Write all that decides the run, without where it is written; what it began with is a comment."""
        whole = self._as_yaml()
        kept = ("seed_everything", "trainer", "model", "data", "budget", "checkpoint")
        header = f"# Written by lit-rl {lit_rl.__version__}; lit-rl fit --config THIS_FILE repeats the run\n"
        header += origin.comment(directory, self.chosen, self.checkpoint)
        return header + yaml.safe_dump({key: whole[key] for key in kept}, sort_keys=False)

    # Commands

    def fit(self, **kwargs: Any) -> None:
        """Train; end with the status of the signal that stopped it, if one did."""
        path = self.run_directory.path
        own = path if self.trainer.is_global_zero else None
        begun = ProcessFile(own, self.chosen.budget.total_env_steps, lambda: self.run_directory.has_begun)
        with guarded(begun), naming_a_full_disk(path):
            self._fit(path, **kwargs)

    def _fit(self, path: Path | None, **kwargs: Any) -> None:
        if self.trainer.is_global_zero:
            where = f"run directory {path}" if path else "fast_dev_run: nothing is written"
            _log.info("%s, seed %s", where, self.chosen.seed_everything)
        self._call(self.trainer.fit, **kwargs)
        if not self.trainer.is_global_zero:
            return  # with status 0: Lightning kills the first rank when another one reports a failure
        self._report_fit()
        callbacks: list[Callback] = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        for callback in callbacks:
            if isinstance(callback, GracefulStop) and callback.exit_code is not None:
                sys.exit(callback.exit_code)

    def _report_fit(self) -> None:
        path, result = self.run_directory.path, self.model.eval_result
        if path is not None and result is not None and result["env_steps"] == self.model.env_steps:
            last = path / "checkpoints" / "last.ckpt"
            terminal.write(sys.stdout, evaluation.summary(result, last, self._eval_policy) + "\n")
        else:
            terminal.write(sys.stdout, f"env steps {self.model.env_steps}\n")

    def validate(self, **kwargs: Any) -> None:
        """Play the evaluation episodes and print their result."""
        self._evaluate(self.trainer.validate, **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Play the evaluation episodes, print their result, write ``eval.json`` and the video."""
        video = self.chosen.video
        if video is not None:
            self.datamodule.video = check_video(Path(video))
        checkpoint, result = self._evaluate(self.trainer.test, **kwargs)
        if not self.trainer.is_global_zero:
            return
        directory = checkpoints.run_of(checkpoint)
        if directory is not None:
            path = evaluation.write_json(result, checkpoint, directory, self._eval_policy)
            terminal.write(sys.stdout, f"written {path}\n")
        if video is not None:
            terminal.write(sys.stdout, f"written {video}\n")

    def predict(self, **kwargs: Any) -> None:
        """Record trajectories of the policy into ``trajectories.pt`` of the run.

        What off-policy learners can learn from is also written as ``demonstrations.safetensors``.
        """
        if self.trainer.world_size > 1:
            raise CommandError("lit-rl predict runs in one process: give --trainer.devices 1")
        checkpoint = self._require_checkpoint()
        self._require_batches(self.trainer.limit_predict_batches, "limit_predict_batches")
        trajectories = self._call(self.trainer.predict, **{**kwargs, "return_predictions": True})
        directory = checkpoints.run_of(checkpoint) or checkpoint.parent
        for line in write_trajectories(directory, trajectories, self.model.spec):
            terminal.write(sys.stdout, line)

    def _evaluate(self, function: Callable[..., Any], **kwargs: Any) -> tuple[Path, Mapping[str, float]]:
        checkpoint = self._require_checkpoint()
        limit = {"validate": "limit_val_batches", "test": "limit_test_batches"}[str(self.subcommand)]
        self._require_batches(getattr(self.trainer, limit), limit)
        self._call(function, **{**kwargs, "verbose": False})
        result = self.model.eval_result
        if self.trainer.is_global_zero:
            terminal.write(sys.stdout, evaluation.summary(result, checkpoint, self._eval_policy) + "\n")
        return checkpoint, result

    @property
    def _eval_policy(self) -> str | None:
        """What evaluations play; None where a data module of a user does not say."""
        return getattr(self.datamodule, "eval_policy", None)

    def _require_checkpoint(self) -> Path:
        if self.checkpoint is None:
            raise CommandError(f"lit-rl {self.subcommand} expects --ckpt_path")
        return self.checkpoint

    def _require_batches(self, limit: float, name: str) -> None:
        if limit == 0:
            raise CommandError(f"lit-rl {self.subcommand} has nothing to play: trainer.{name} is 0")

    def _call(self, function: Callable[..., Any], **kwargs: Any) -> Any:
        """Call a method of the trainer; leave no rank running, whatever happens."""
        with guarded(Ranks(self.trainer)):
            try:
                return function(**kwargs)
            except SystemExit as error:
                if isinstance(error.__context__, KeyboardInterrupt):  # how Lightning ends on Ctrl-C
                    raise KeyboardInterrupt from error
                where = describe_exit(error)
                raise CommandError(f"{where}, which ends no run; raise an error there", 1) from error
            except RuntimeError as error:
                if self.checkpoint is not None and "loading state_dict" in str(error):
                    raise CommandError(checkpoints.describe_mismatch(error, self.checkpoint), 1) from error
                raise


def _with_default_callbacks(settings: Mapping[str, Any]) -> list[Callback]:
    configured = settings["callbacks"] or []
    callbacks: list[Callback] = configured if isinstance(configured, list) else [configured]
    if not any(isinstance(callback, GracefulStop) for callback in callbacks):
        callbacks = [*callbacks, GracefulStop()]
    shows_progress = settings["enable_progress_bar"] is not False
    if shows_progress and not any(isinstance(callback, ProgressBar) for callback in callbacks):
        callbacks = [*callbacks, EnvStepsProgressBar()]
    return callbacks
