"""One command line in a forked process: how it ends, and whether what it trained makes sense."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl.cli import main
from lit_rl.cli.command import CommandLine
from lit_rl.envs.workers import worker
from tests import forked, nameable

LIMIT_S = float(os.environ.get("MUTATION_LIMIT_S", "60"))
"""A case that takes longer has no end."""
MANY = 50
"""Evaluations of more episodes are left out."""
LINES = 3
LONGEST = 600
"""A refusal has at most so many lines and characters."""


class Outcome(NamedTuple):
    """How a case ended: ``refused``, ``trained``, ``unclear``, ``nonsense``, ``endless`` or ``trace``."""

    kind: str
    text: str


class _Watch(Callback):
    """Looks at weights and learning rates while a few batches are trained."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.before: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {name: value.detach().clone() for name, value in pl_module.named_parameters()}
        self.rates += self._rates(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.rates += self._rates(trainer)

    @staticmethod
    def _rates(trainer: Trainer) -> list[float]:
        return [max(group["lr"] for each in trainer.optimizers for group in each.param_groups)]

    def nonsense(self, trainer: Trainer, learner: Any) -> str | None:
        """Say what makes no sense of what was trained, if anything."""
        after = dict(learner.named_parameters())
        if not all(bool(value.isfinite().all()) for value in after.values()):
            return "weights that are not finite"
        if learner.env_steps == 0:
            return "no env step was trained on"
        if learner.updates and all(torch.equal(value, self.before[name]) for name, value in after.items()):
            return "no weight was changed"
        if self.rates[0] <= 0 or min(self.rates) < 0 or max(self.rates) > 1:
            return f"learning rates {self.rates}"
        if max(self.rates) > 1.0001 * self.rates[0] and learner.hparams.get("adaptive_kl") is None:
            return f"the learning rate rises: {self.rates}"
        wrong = [name for name, value in trainer.callback_metrics.items() if not math.isfinite(value)]
        losses = [name for name in wrong if name.startswith(("loss/", "policy/"))]
        return f"{losses} are not finite" if losses else None


NEEDED = (
    "lit_rl.cli.command", "lit_rl.envs.arm", "lit_rl.envs.go2", "lit_rl.envs.uav.network",
    "torch_geometric.nn", "lit_rl.encoders.gnn", "lit_rl.callbacks.map_elites",
    "lit_rl.report.playback", "mujoco", "scipy.optimize", "gymnasium.envs.mujoco", "mpe2",
    "gymnasium.envs.classic_control", "lit_rl.collect.workers.collector",
)  # fmt: skip
"""What cases import; forks of a process that has imported it begin at once."""


_PARSER: dict[str, Any] = {}
"""Attributes of the command line that hold its parser, which is made once: it takes half of the time of a
case that is refused."""


class _IsMade(BaseException):
    """Ends a command once its parser is there."""


def prepare() -> None:
    """Import and make in this process what every case needs, so that its forks begin at once."""
    for name in NEEDED:
        import_module(name)
    for found in nameable.classes():
        import_module(found.__module__)
    set_up = CommandLine.setup_parser

    def keep(self: CommandLine, *args: Any) -> None:
        set_up(self, *args)
        for name in ("parser", "_subcommand_parsers", "_subcommand_method_arguments"):
            _PARSER[name] = getattr(self, name)
        raise _IsMade

    CommandLine.setup_parser = keep
    try:
        with suppress(_IsMade):
            main(["fit", "--config", "ppo_cartpole"])
    finally:
        CommandLine.setup_parser = set_up


def attempt(argv: Sequence[str], names: Sequence[str], files: dict[str, str]) -> Outcome:
    """Run a command in a fork of this process, in an empty folder.

    Args:
        argv: The command line.
        names: Words of which a refusal must hold one.
        files: Text of the files that lie in the folder, by name.
    """
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    child = os.fork()
    if child == 0:
        _run(argv, folder)
    try:
        status = _wait(child)
        return _judge(status, folder, names)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(child: int) -> int | None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run(argv: Sequence[str], folder: Path) -> None:
    """Run the command and end this process."""
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open("output.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        before = sys.stdout, sys.stderr  # kept: the files would be closed together with these
        sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
        code = _command(argv)
        del before
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _command(argv: Sequence[str]) -> int:
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "disabled"
    worker.ModuleProcess = forked.process  # pyright: ignore[reportAttributeAccessIssue]
    CommandLine.setup_parser = lambda self, *_: vars(self).update(_PARSER)
    fit = Trainer.fit

    def watched(self: Trainer, model: Any, *args: Any, **kwargs: Any) -> None:
        watch = _Watch()
        data = getattr(kwargs.get("datamodule"), "made_with", {"init_args": {}})
        if (data["init_args"].get("eval_episodes") or 0) > MANY:
            self.limit_val_batches = 0  # so many take long, but they end
        self.callbacks.append(watch)
        fit(self, model, *args, **kwargs)
        Path("found.json").write_text(json.dumps(watch.nonsense(self, model)))

    Trainer.fit = watched
    try:
        main(list(argv))
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def _judge(status: int | None, folder: Path, names: Sequence[str]) -> Outcome:
    path = folder / "output.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if status is None:
        return Outcome("endless", text[-300:])
    if "Traceback (most recent" in text or status < 0:
        return Outcome("trace", f"status {status}: {text[-600:]}")
    if status == 0:
        found = folder / "found.json"
        nonsense = json.loads(found.read_text()) if found.exists() else None
        return Outcome("nonsense", nonsense) if nonsense else Outcome("trained", "")
    return judge_refusal(text, names)


def judge_refusal(text: str, names: Sequence[str]) -> Outcome:
    """Tell whether what a command said when it refused is one clear line that names what was wrong."""
    lines = text.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith("lit-rl: error:")]
    if len(begins) != 1:
        return Outcome("unclear", f"{len(begins)} error lines: {text[-500:]}")
    said = lines[begins[0] :]
    message = "\n".join(said)
    if len(said) > LINES or len(message) > LONGEST:
        return Outcome("unclear", f"{len(said)} lines, {len(message)} characters: {message[:900]}")
    if "--debug" in message:
        return Outcome("unclear", f"not written for users: {message}")
    if not any(name in message for name in names):
        return Outcome("unclear", f"names none of {names}: {message}")
    return Outcome("refused", message)
