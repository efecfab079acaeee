"""Damaged run directories, which ``status``, ``report`` and ``paper`` must read or refuse in one line.

``python -m tests.fuzzed_runs --count 1000`` makes a small run of every kind, damages copies of them, and says
how many ended in a stack trace, in an unclear message, never, or in too much memory. Equal seeds damage
equally. ``--keep FOLDER`` keeps the copies that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.figure

from lit_rl import metrics
from lit_rl.cli import main
from lit_rl.cli.actor_log import ActorLog

COMMANDS = ("status", "report", "paper")
SECONDS = 120
"""A command that takes longer is endless: a busy machine needs a few."""

MEGABYTES = 1000
"""All cases together may need so much more memory, at most, than was in use before."""

DRAWN = 20
"""Figures are rendered in one case of so many, and put together only in the others."""

PLAIN = (
    "--config", "ppo_cartpole", "--model.hidden", "[4]", "--data.num_envs", "2", "--data.rollout_steps", "16",
    "--data.rollouts_per_epoch", "2", "--data.eval_episodes", "2", "--model.batch_size", "16",
    "--model.update_epochs", "1", "--budget.total_env_steps", "128",
)  # fmt: skip
ARCHIVE = (
    "--config", "map_elites/basic", "--data.num_envs", "4", "--data.rollout_steps", "8",
    "--data.rollouts_per_bodies", "1", "--data.env_kwargs.num_steps", "8",
    "--data.env_kwargs.num_bodies", "4",
    "--data.num_goals", "2", "--data.eval_episodes", "2", "--model.hidden", "[4]",
    "--model.batch_size", "16", "--model.update_epochs", "1", "--data.rollouts_per_epoch", "6",
    "--trainer.callbacks.generations", "3", "--budget.total_env_steps", "384",
)  # fmt: skip
SKILLS = (
    "--config", "systems/hmasd_sync", "--data.env.init_args.num_steps", "8", "--data.num_envs", "2",
    "--data.batch_env_steps", "32", "--data.rollouts_per_epoch", "11", "--data.eval_episodes", "2",
    "--data.playback", "true", "--model.hidden", "[4]", "--model.embedding", "4", "--model.gru", "4",
    "--model.update_epochs", "1", "--model.discriminator_epochs", "1", "--budget.total_env_steps", "1056",
)  # fmt: skip
GO2 = (
    "--config", "go2_ppo_joystick", "--data.num_envs", "2", "--data.rollout_steps", "8",
    "--data.rollouts_per_epoch", "2", "--data.eval_episodes", "1", "--data.playback", "true",
    "--data.env_kwargs.max_traj_length", "20", "--model.hidden", "[4]", "--model.batch_size", "8",
    "--model.update_epochs", "1", "--budget.total_env_steps", "64",
)  # fmt: skip
ACTORS = (
    "--config", "systems/go2_async", "--data.transport", "in_process", "--data.steps_per_batch", "8",
    "--data.updates_per_step", "0.5", "--data.warmup_steps", "16", "--data.batch_size", "4",
    "--data.batches_per_epoch", "4", "--data.eval_episodes", "1", "--data.env_kwargs.max_traj_length", "20",
    "--model.hidden", "[4]", "--budget.total_env_steps", "120",
)  # fmt: skip
KINDS = {"plain": PLAIN, "archive": ARCHIVE, "skills": SKILLS, "go2": GO2, "actors": ACTORS}
"""The command line of a small training of every kind of run."""

VALUES = (
    "NaN", "Infinity", "-Infinity", "1e308", "-1e308", "1e999", "9" * 400, "9" * 5000, "0", "-1",
    "true", "null",
    '""', '"nan"', '"x"', "[]", "{}", "[[[]]]", '{"a": 1}', "5e-324", str(2**63), "x", "\x00", "\U0001f9ff",
    '"\\ud800"',
)  # fmt: skip
"""What may stand in the place of any number or text of a file."""

ACTOR_NAMES = (
    metrics.ACTOR_STEPS,
    metrics.ACTOR_EPISODES,
    metrics.ACTOR_REWARD_10,
    metrics.ACTOR_POLICY_VERSION,
)

_VALUE = re.compile(rb'"[^"\n]*"|-?\d+\.?\d*(?:[eE][-+]?\d+)?|[a-z_]+')

Damage = Callable[[random.Random, Path], None]


class EndlessError(BaseException):
    """A command takes too long. It is no ``Exception``: nothing on its way takes it for a failure."""


def make_run(kind: str, folder: Path) -> Path:
    """Train a small run of a kind in ``folder``, and return its directory without what no report reads."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        main(["fit", *KINDS[kind], "--seed_everything", "1", "--run_dir", f"made/{kind}", "--debug"])
    run = folder / "made" / kind
    if kind == "actors":
        log = ActorLog("actor-1", str(run / "actors"), 10.0)
        for k in range(3):
            log(dict.fromkeys(ACTOR_NAMES, float(k)))
        log.close()
    for path in sorted(run.rglob("*"), reverse=True):
        if path.suffix == ".ckpt":
            path.write_bytes(b"")
        elif path.is_file() and path.suffix not in (".json", ".yaml", ".csv", ".txt"):
            path.unlink()
    for name in ("wandb", "models", "logs"):
        shutil.rmtree(run / name, ignore_errors=True)
    return run


def cut(rng: random.Random, path: Path) -> None:
    """End the file somewhere."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def binary(rng: random.Random, path: Path) -> None:
    """Replace a part of the file, or all of it, by random bytes."""
    content = path.read_bytes()
    begin = rng.choice([0, rng.randrange(len(content) + 1)])
    path.write_bytes(content[:begin] + rng.randbytes(rng.choice([3, 3000])) + content[begin + 3 :])


def wrong_values(rng: random.Random, path: Path) -> None:
    """Put hostile values in the place of some numbers and texts."""
    content = path.read_bytes()
    for _ in range(rng.choice([1, 1, 3, 30])):
        found = list(_VALUE.finditer(content))
        if not found:
            return
        match = rng.choice(found)
        content = content[: match.start()] + rng.choice(VALUES).encode() + content[match.end() :]
    path.write_bytes(content)


def swapped(rng: random.Random, path: Path) -> None:
    """Put other values of the same file in the place of some, so that types and shapes no longer fit."""
    content = path.read_bytes()
    for _ in range(rng.choice([1, 5])):
        found = list(_VALUE.finditer(content))
        if not found:
            return
        match, other = rng.choice(found), rng.choice(found)
        content = content[: match.start()] + other[0] + content[match.end() :]
    path.write_bytes(content)


def deep(rng: random.Random, path: Path) -> None:
    """Nest lists or mappings deeply, alone or inside what is there."""
    depth = rng.choice([90, 3000, 100_000])
    begin, end = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    nested = begin * depth + b"1" + rng.choice([end * depth, b""])
    content = path.read_bytes()
    numbers = list(re.finditer(rb"\d+", content))
    if numbers and rng.random() < 0.7:
        match = rng.choice(numbers)
        nested = content[: match.start()] + nested + content[match.end() :]
    path.write_bytes(nested)


def aliases(rng: random.Random, path: Path) -> None:
    """Let YAML refer to itself, or to ten values of ten values of ten values."""
    names = "abcdefghij"
    rows = [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in pairwise(names)]
    laughs = "\n".join(["a: &a [x, x]", *rows])
    path.write_text(rng.choice(["model: &m {class_path: *m}\n", "data: &d\n  init_args: *d\n", laughs]))


def lines(rng: random.Random, path: Path) -> None:
    """Repeat, shuffle or join lines, or write one that is very long."""
    content = path.read_bytes().splitlines(keepends=True)
    what = rng.randrange(4)
    if what == 0:
        rng.shuffle(content)
    elif what == 1:
        content *= rng.choice([2, 50])
    elif what == 2:
        content = [line.rstrip(b"\n") for line in content]
    else:
        content.insert(rng.randrange(len(content) + 1), rng.choice([b"1,", b"x", b'"', b"9"]) * 3_000_000)
    path.write_bytes(b"".join(content))


def removed(rng: random.Random, path: Path) -> None:
    """Remove the file, or the folder that it lies in."""
    if rng.random() < 0.8 or path.parent.name in KINDS:
        path.unlink()
    else:
        shutil.rmtree(path.parent)


def something_else(rng: random.Random, path: Path) -> None:
    """Put a link, a pipe or a folder in the place of the file."""
    path.unlink()
    what = rng.choice(["loop", "nothing", "/dev/zero", "/dev/null", "folder", "pipe", "parent"])
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"loop": path.name, "nothing": "nowhere", "parent": ".."}.get(what, what))


def unreadable(rng: random.Random, path: Path) -> None:
    """Take the permission to read the file, or its folder."""
    (path if rng.random() < 0.7 else path.parent).chmod(0)


def empty(rng: random.Random, path: Path) -> None:
    """Leave nothing, or one line, in the file."""
    path.write_bytes(rng.choice([b"", b"\n", path.read_bytes().partition(b"\n")[0]]))


DAMAGES: list[Damage] = [
    cut, binary, wrong_values, wrong_values, wrong_values, wrong_values, swapped, swapped, deep, aliases,
    lines, removed, something_else, unreadable, empty,
]  # fmt: skip
"""Wrong values are the most frequent: there are most of them."""


def damage(seed: int, run: Path) -> str:
    """Damage one to three files of ``run``, and say how."""
    rng = random.Random(seed)
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        there = (path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
        files = sorted(path for path in there if path.suffix != ".ckpt")
        how = rng.choice(DAMAGES)
        if how is aliases:
            files = [path for path in files if path.name == "config.yaml"]
        if files:
            path = rng.choice(files)
            done.append(f"{how.__name__} {path.relative_to(run)}")
            how(rng, path)
    return ", ".join(done)


def verdict(command: str, run: Path, out: Path) -> str:
    """Run a command; say ``read``, ``refused``, ``trace``, ``unclear`` or ``endless``, with the message."""
    told, said = io.StringIO(), io.StringIO()
    rest = [] if command == "status" else ["--out", str(out / command)]
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said), _limited():
            main([command, str(run), *rest])
    except EndlessError:
        return f"endless: {command}"
    except SystemExit:
        message = said.getvalue().strip()
        is_clear = message.startswith("lit-rl: error: ") and len(message.splitlines()) == 1
        return f"refused: {message}" if is_clear and "--debug" not in message else f"unclear: {message}"
    except BaseException:
        return f"trace: {traceback.format_exc()}"
    return "read" if not said.getvalue() else f"unclear: {said.getvalue()}"


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def end(signum: int, frame: Any) -> None:
        raise EndlessError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _touch(figure: matplotlib.figure.Figure, path: Path, **options: Any) -> None:
    path.touch()


@contextlib.contextmanager
def _undrawn(is_undrawn: bool) -> Iterator[None]:
    """Let figures be put together without being rendered, which takes most of the time."""
    before = matplotlib.figure.Figure.savefig
    if is_undrawn:
        matplotlib.figure.Figure.savefig = _touch  # type: ignore[method-assign]
    try:
        yield
    finally:
        matplotlib.figure.Figure.savefig = before  # type: ignore[method-assign]


def fuzz(
    made: Sequence[Path], seeds: Sequence[int], keep: Path | None = None
) -> tuple[Counter[str], list[str]]:
    """Damage a copy of one of the runs by each seed, and read it by all commands.

    Returns:
        How often each verdict came, and a line for each that was neither read nor refused.
    """
    counts: Counter[str] = Counter()
    faults, before = [], _peak_megabytes()
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="fuzzed_") as folder:
            source = made[seed % len(made)]
            run = Path(folder) / source.name
            shutil.copytree(source, run)
            done = damage(seed, run)
            is_bad = False
            for command in COMMANDS:
                with _undrawn(seed % DRAWN != 0):
                    found = verdict(command, run, Path(folder))
                kind = found.partition(":")[0]
                counts[kind] += 1
                if kind not in ("read", "refused"):
                    is_bad = True
                    faults.append(f"seed {seed}, {source.name}, {command}, {done}: {found}")
            if is_bad and keep is not None:
                shutil.copytree(run, keep / str(seed), symlinks=True, ignore_dangling_symlinks=True)
            _readable_again(Path(folder))
    memory = _peak_megabytes() - before
    if memory > MEGABYTES:
        faults.append(f"{memory:.0f} MB of memory, more than {MEGABYTES}")
    return counts, faults


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _readable_again(folder: Path) -> None:
    """Let everything be removed."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)


def run() -> int:
    """Read the command line, and return 1 where a run was neither read nor refused in one line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--count", type=int, default=1000, help="how many run directories")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    parser.add_argument(
        "--made", type=Path, help="folder in which the undamaged runs are kept, or lie already"
    )
    parser.add_argument("--keep", type=Path, help="folder for the damaged runs that failed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.made.absolute() if given.made else Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        there = {kind: place / "made" / kind for kind in KINDS}
        made = [path if path.is_dir() else make_run(kind, place) for kind, path in there.items()]
        counts, faults = fuzz(made, range(given.first, given.first + given.count), given.keep)
    print(*faults, json.dumps({"runs": given.count, **counts}), sep="\n")  # noqa: T201  # the result
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(run())
