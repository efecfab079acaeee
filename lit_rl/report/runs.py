"""A run as its directory tells it, and runs of one configuration as a group."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lit_rl.report.config import parse_config
from lit_rl.report.damage import noting, object_of, text_of
from lit_rl.report.losses import LossLog, read_losses
from lit_rl.report.process import FILE, State, read_state
from lit_rl.report.tables import Series, Table, read_table
from lit_rl.report.words import short

_NOT_LEARNING = (
    "accelerator",
    "callbacks",
    "logger",
    "default_root_dir",
    "enable_progress_bar",
    "enable_model_summary",
    "log_every_n_steps",
    "profiler",
)
"""Keys of ``trainer`` that do not change what is learned: runs of one configuration may differ in them."""

_NOT_LEARNING_DATA = ("seed", "playback", "replay")
"""Arguments of the data module that neither do; ``replay`` is what earlier versions called ``playback``."""

_ADDED_LATER = {"eval_policy": "greedy"}
"""Arguments of the data module that older configurations lack, with what those runs did."""


@dataclass(frozen=True, eq=False)
class Run:
    """What the files of a run say; whatever is missing or torn is left empty and noted.

    Attributes:
        path: The run directory.
        config: Content of ``config.yaml``.
        config_text: Text of ``config.yaml``.
        versions: Content of ``versions.json``.
        process: Content of ``process.json``.
        evaluation: Content of ``eval.json``.
        table: Content of ``metrics.csv``.
        state: Whether it runs, or how it ended.
        notes: What could not be read.
    """

    path: Path
    config: dict[str, Any]
    config_text: str
    versions: dict[str, Any]
    process: dict[str, Any]
    evaluation: dict[str, Any]
    table: Table
    state: State
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.absolute().name

    @property
    def seed(self) -> str:
        """All seeds the run was started with; equal seeds and configurations are one run, given twice."""
        seeds = [self.config.get("seed_everything"), _arguments(self.config, "data").get("seed")]
        return "/".join(short(seed) for seed in seeds if seed is not None) or "unknown"

    @property
    def is_seeded(self) -> bool:
        """Whether the seed of the run is known and was used."""
        return self.config.get("seed_everything", False) is not False

    @property
    def algorithm(self) -> str:
        """The name of the learner's class, as in ``PPO``."""
        return _class_name(self.config.get("model"))

    @property
    def environment(self) -> str:
        """Id or class of the environment; the class of the data module where that decides it."""
        named = _arguments(self.config, "data").get("env")
        return _class_name(self.config.get("data") if named is None else named)

    @property
    def eval_policy(self) -> str:
        """What the evaluations of the run played, ``greedy`` or ``sample``."""
        return short((_ADDED_LATER | _arguments(self.config, "data"))["eval_policy"])

    @property
    def env_steps(self) -> int:
        """How many env steps the last row that was written counts."""
        return self.table.last_step

    @property
    def total_env_steps(self) -> int | None:
        """How many env steps the run is to do; None when it does not say."""
        told = self.process.get("total_env_steps")
        budget = self.config.get("budget")
        total = told or (budget.get("total_env_steps") if isinstance(budget, dict) else None)
        return int(total) if isinstance(total, int | float) and math.isfinite(total) else None

    @cached_property
    def losses(self) -> LossLog:
        """What was recorded of the losses of the run; it is read on first use."""
        return read_losses(self.path, self.table)  # what is damaged is noted there

    def series(self, name: str) -> Series | None:
        """Return a logged value over env steps; None when it was never logged."""
        return self.table.columns.get(name)

    def last(self, name: str) -> float | None:
        """Return the newest value of ``name``; None when it was never logged."""
        series = self.series(name)
        return None if series is None else series.last


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        runs: The runs, in the order in which they were given.
        words: Arguments that tell this group from others with this learner and environment.
    """

    runs: list[Run]
    words: list[str]

    @property
    def environment(self) -> str:
        """Id or class of the environment."""
        return self.runs[0].environment

    @property
    def method(self) -> str:
        """The learner, and what tells the group from others: ``PPO, clip 0.1``."""
        return ", ".join([self.runs[0].algorithm, *self.words])

    @property
    def label(self) -> str:
        """The method with its environment: ``PPO, CartPole-v1, clip 0.1``."""
        return ", ".join([self.runs[0].algorithm, self.environment, *self.words])


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Find the run directories among ``paths`` and within those that are folders of runs; each counts once.

    Raises:
        ValueError: A path is no run, and no folder with runs.
    """
    found: dict[Path, None] = {}
    for path in paths:
        try:
            runs = [path] if is_run(path) else [p for p in _below(path) if is_run(p)]
            what = "has no runs in it" if path.is_dir() else "does not exist"
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        if not runs:
            raise ValueError(
                f"{path} {what}: expected a run directory (with metrics.csv, or config.yaml and "
                "versions.json) or a folder of such, as in runs/ppo_cartpole"
            )
        found |= dict.fromkeys(_short(run.resolve()) for run in runs)
    return list(found)


def is_run(path: Path) -> bool:
    """Tell whether ``path`` is a directory that ``lit-rl fit`` fills."""
    try:
        has_start = (path / "config.yaml").is_file() and (path / "versions.json").is_file()
        return has_start or (path / "metrics.csv").is_file()
    except OSError:  # not ours to look into
        return False


def read_run(path: Path, now: float | None = None, tail: int | None = None) -> Run:
    """Read the files of a run, in whatever state they are.

    Args:
        path: The run directory.
        now: Unix time, for tests.
        tail: Most bytes that are read at the end of ``metrics.csv``; None reads all of it.
    """
    notes: list[str] = []
    config_text, config, table = "", {}, Table()
    with noting("config.yaml", notes):
        config_text = text_of(path / "config.yaml")
        config = parse_config(config_text) if config_text else {}
    with noting("metrics.csv", notes):
        table = read_table(path / "metrics.csv", tail=tail)
    process = _object(path / FILE, notes)
    return Run(
        path=path,
        config=config,
        config_text=config_text,
        versions=_object(path / "versions.json", notes),
        process=process,
        evaluation=_object(path / "eval.json", notes),
        table=table,
        state=read_state(path, process or None, now),
        notes=notes,
    )


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Put runs of one configuration together, in the order of the first run of each."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_identity(run), []).append(run)
    words = _differences([members[0] for members in groups.values()])
    return [Group(members, own) for members, own in zip(groups.values(), words, strict=True)]


def _short(path: Path) -> Path:
    """Write ``path`` relative to the working directory where it lies in that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _below(path: Path) -> list[Path]:
    """List the folders in ``path`` and the folders in those, sorted."""
    if not path.is_dir():
        return []
    return sorted(p for pattern in ("*", "*/*") for p in path.glob(pattern) if p.is_dir())


def _learning_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the part of a configuration that decides the numbers of a run, its seed left out."""
    part = {key: value for key, value in config.items() if key not in ("seed_everything", "checkpoint")}
    if isinstance(part.get("trainer"), dict):
        part["trainer"] = {k: v for k, v in part["trainer"].items() if k not in _NOT_LEARNING}
    if arguments := _arguments(config, "data"):
        kept = {key: value for key, value in arguments.items() if key not in _NOT_LEARNING_DATA}
        part["data"] = {**part["data"], "init_args": _ADDED_LATER | kept}
    return part


def _identity(run: Run) -> str:
    part = _learning_part(run.config)
    return json.dumps(_flatten(part), sort_keys=True) if part else str(run.path.resolve())


def _differences(firsts: Sequence[Run]) -> list[list[str]]:
    """Find for each run a few arguments that tell it from others with its learner and environment.

    A run that no argument tells from others gets its name, as do runs whose configuration is unreadable.
    """
    flat = [_flatten(_learning_part(run.config)) for run in firsts]
    found = []
    for run, own in zip(firsts, flat, strict=True):
        kind = (run.algorithm, run.environment)
        rivals = [
            other
            for rival, other in zip(firsts, flat, strict=True)
            if rival is not run and (rival.algorithm, rival.environment) == kind
        ]
        found.append(_tell_apart(own, rivals, run.name))
    return found


def _tell_apart(own: dict[str, str], rivals: list[dict[str, str]], name: str) -> list[str]:
    """Choose arguments of ``own`` such that each rival differs in at least one of them.

    The argument in which most of the remaining rivals differ is chosen first. Where two configurations are
    equal in all arguments, the ``name`` of the run ends the list.
    """
    words = []
    while rivals:
        alike = {key: [r for r in rivals if r.get(key) == own[key]] for key in sorted(own, key=_importance)}
        key = min(alike, key=lambda key: len(alike[key]), default=None)
        if key is None or len(alike[key]) == len(rivals):
            return [*words, name]
        words.append(short(f"{key.rpartition('.')[2]} {own[key]}"))
        rivals = alike[key]
    return words


def _importance(key: str) -> int:
    """Rank a key by its section: readers look for the learner first, then for the data and the budget."""
    sections = ("model", "data", "budget")
    section = key.partition(".")[0]
    return sections.index(section) if section in sections else len(sections)


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix: str(value)}
    return {
        path: leaf
        for key, item in value.items()
        for path, leaf in _flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _arguments(config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return ``init_args`` of the model or the data; it is empty where the file is torn."""
    section = config.get(part)
    arguments = section.get("init_args") if isinstance(section, dict) else None
    return arguments if isinstance(arguments, dict) else {}


def _class_name(value: Any) -> str:
    """Say ``PPO`` for ``{"class_path": "lit_rl.PPO"}``; a string is taken as it is."""
    if isinstance(value, dict):
        return short(str(value.get("class_path", "unknown")).rpartition(".")[2])
    return short(value) if value is not None else "unknown"


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    with noting(path.name, notes):
        content = object_of(path)
    return content
