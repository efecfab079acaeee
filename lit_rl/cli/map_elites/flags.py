"""Flags of the earlier MAP-Elites trainers: their names, and which key of a configuration each one sets."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from lit_rl.cli.errors import CommandError

MODES = {
    "basic": "map_elites/basic",
    "advanced": "map_elites/advanced",
    "multiprocess": "map_elites/multiprocess",
    "shared-ppo": "map_elites/shared_ppo",
    "custom": "map_elites/custom",
}
"""Configuration of each mode."""
ENCODERS = {
    "mlp": None,
    "attention": "lit_rl.encoders.attention.AttentionEncoder",
    "gnn": "lit_rl.encoders.gnn.GNNEncoder",
}
BACKENDS = {"reacher2d": "kernel", "mujoco": "mujoco"}
TRAININGS = ("co_trained", "fine_tuned", "pretrained")
QUICK = {
    "num_generations": 1,
    "num_initial_random": 2,
    "individuals_per_generation": 2,
    "training_steps_per_individual": 500,
}
"""Sizes of ``--test-quick`` and ``--demo``."""


class Flag(NamedTuple):
    """A flag that takes a value, or none where ``kind`` is bool.

    Attributes:
        name: Its name in Python.
        key: What it sets; the name of a callback stands for its place in ``trainer.callbacks``.
        kind: Makes a value of its text.
        help: What it is for.
        least: Lowest number that is allowed.
        choices: Values that are allowed; all where there are none.
    """

    name: str
    key: str
    kind: Callable[[str], Any]
    help: str
    least: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """The flag as it is given."""
        return "--" + self.name.replace("_", "-")


FLAGS = (
    Flag("experiment_name", "NetworkLossLogger.experiment_name", str, "name of the loss log"),
    Flag("disable_loss_logging", "NetworkLossLogger", bool, "record no losses"),
    Flag("loss_log_dir", "NetworkLossLogger.log_dir", str, "folder of loss logs, else in the run directory"),
    Flag("loss_update_interval", "NetworkLossLogger.update_interval", float, "seconds between figures", 0),
    Flag("num_generations", "MapElites.generations", int, "generations after the random ones", 1),
    Flag("individuals_per_generation", "MapElites.batch_size", int, "bodies of a generation", 1),
    Flag("num_initial_random", "MapElites.num_initial", int, "random bodies at first", 0),
    Flag("training_steps_per_individual", "budget.total_env_steps", int, "env steps per body", 1),
    Flag("enable_rendering", "MapElites.render", bool, "write an episode of the best body as best.gif"),
    Flag("no_render", "MapElites.render", bool, "do not"),
    Flag("use_genetic_fitness", "data.init_args.genetic_fitness", bool, "fitness in tiers by reach"),
    Flag("no_genetic_fitness", "data.init_args.genetic_fitness", bool, "fitness by success"),
    Flag(
        "env_type", "data.init_args.env_kwargs", str, "the arm's own physics, or MuJoCo",
        choices=tuple(BACKENDS),
    ),
    Flag("encoder", "model.init_args.encoder", str, "what reads the arm", choices=tuple(ENCODERS)),
    Flag("training", "data.init_args.training", str, "bodies that are trained on", choices=TRAININGS),
    Flag("save_dir", "trainer.default_root_dir", str, "folder of the runs"),
    Flag("seed", "seed_everything", int, "seed of everything", 0),
    Flag("lr", "model.init_args.learning_rate", float, "step size of Adam", 0),
    Flag("hidden_dim", "model.init_args.hidden", int, "width of both hidden layers", 1),
    Flag("max_workers", "data.init_args.num_workers", int, "processes that step the arms", 1),
    Flag("buffer_size", "data.init_args.num_envs", int, "experiences between two updates, of all arms", 1),
    Flag("update_interval", "data.init_args.rollout_steps", int, "steps of each arm between updates", 1),
    Flag("min_batch_size", "model.init_args.batch_size", int, "experiences of one gradient step", 1),
    Flag("timeout", "data.init_args.step_timeout_s", float, "longest seconds of a worker's step", 0),
    Flag("silent_mode", "trainer.enable_progress_bar", bool, "show no progress"),
)  # fmt: skip
SHORT = {"silent_mode": ["--silent"], "max_workers": ["--workers"]}
"""Other names of flags."""
BY_NAME = {flag.name: flag for flag in FLAGS}


class Parser(argparse.ArgumentParser):
    """Knows the flags; whatever else is given belongs to ``fit``."""

    def __init__(self) -> None:
        super().__init__(
            prog="lit-rl map-elites",
            usage="lit-rl map-elites [MODE] [flags] [--key value ...]",
            description="Search for bodies by MAP-Elites. Every mode is a configuration, every flag a key.",
            epilog="Keys of lit-rl fit may follow, as in --model.gamma 0.9.",
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        self.add_argument("--mode", choices=MODES, metavar="MODE", help=" | ".join(MODES))
        self.add_argument("--train-shared", action="store_true", help="the mode shared-ppo")
        self.add_argument("--train", action="store_true", help="train, which is the default")
        self.add_argument("--test-quick", action="store_true", help="a run of a few seconds, of four bodies")
        self.add_argument("--demo", action="store_true", help="the same, with an episode of the best body")
        self.add_argument(
            "--resume", nargs="?", const="", metavar="RUN", help="go on with a run, or the latest"
        )
        self.add_argument("--test", nargs="?", const="", metavar="RUN", help="evaluate a run, or the latest")
        for flag in FLAGS:
            names = [flag.option, *SHORT.get(flag.name, [])]
            text = f"{flag.help}; sets {flag.key}"
            if flag.kind is bool:
                self.add_argument(*names, dest=flag.name, action="store_true", help=text)
            else:
                options: dict[str, Any] = {"choices": flag.choices} if flag.choices else {"metavar": "VALUE"}
                self.add_argument(*names, dest=flag.name, help=text, **options)

    def error(self, message: str) -> NoReturn:
        """Say it in one line."""
        raise CommandError(f"lit-rl map-elites: {message}")


def parse(argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Read a command line.

    Returns:
        The flags that were given, and what is left for ``fit``.

    Raises:
        CommandError: A value does not fit, or a flag is nearly one of these.
    """
    parser = Parser()
    is_named = bool(argv) and not argv[0].startswith("-")
    if is_named and argv[0] not in MODES:
        near = difflib.get_close_matches(argv[0], MODES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise CommandError(f"lit-rl map-elites expects a mode ({', '.join(MODES)}), got {argv[0]!r}{hint}")
    known, rest = parser.parse_known_args(argv[is_named:])
    for token in rest:
        name = token.partition("=")[0]
        near = difflib.get_close_matches(name, [option for flag in FLAGS for option in [flag.option]], n=1)
        if near and "." not in name and name.startswith("--"):
            raise CommandError(f"lit-rl map-elites: unknown flag {name}; did you mean {near[0]}?")
    given = vars(known) | ({"given_mode": argv[0]} if is_named else {})
    for name in given.keys() & BY_NAME.keys():
        given[name] = convert(BY_NAME[name], given[name])
    for one, other in (("enable_rendering", "no_render"), ("use_genetic_fitness", "no_genetic_fitness")):
        if one in given and other in given:
            options = f"{BY_NAME[one].option} and {BY_NAME[other].option}"
            raise CommandError(f"lit-rl map-elites: {options} contradict each other: give one of them")
    return given, rest


def convert(flag: Flag, value: Any, name: str | None = None) -> Any:
    """Make the value of a flag of its text.

    Raises:
        CommandError: It is no such number, or too small.
    """
    if flag.kind is bool or not isinstance(value, str):
        return value
    try:
        made = flag.kind(value)
    except ValueError:
        made = None
    if made is not None and (flag.least is None or _is_allowed(flag, made)):
        return made
    limit = (
        f"a whole number, at least {flag.least:g}" if flag.kind is int else f"a number, above {flag.least:g}"
    )
    raise CommandError(f"{name or flag.option} expects {limit}, got {value!r}")


def _is_allowed(flag: Flag, number: float) -> bool:
    """Tell whether a number is large enough, and finite."""
    least = flag.least or 0
    return number >= least if flag.kind is int else least < number < float("inf")
