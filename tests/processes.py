"""Processes that tests start: ranks of one DDP group, and runs of the command line that are stopped.

They are forked from a server that has imported Lightning already, which saves four seconds per process. Each
leads a process group of its own, of which nothing is left after the test.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil
import torch

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["lit_rl.cli.command", "tests.toys", "pytest"])


class Forked:
    """A function in a process of its own; what it prints goes to a file.

    Args:
        function: Importable by its name.
        args: Plain arguments.
        cwd: Its working directory.
        log: Where stdout and stderr go.
        environment: Added to the environment of this process.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *args: Any,
        cwd: Path,
        log: Path,
        environment: Mapping[str, str] = {},
    ) -> None:
        self.log = log
        whole = {**os.environ, **environment}
        self.process = _SERVER.Process(target=_main, args=(function, args, str(cwd), str(log), whole))
        self.process.start()

    @property
    def pid(self) -> int:
        """Of the process and of its group."""
        assert self.process.pid is not None
        return self.process.pid

    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text() if self.log.exists() else ""

    def exit_code(self, timeout_s: float) -> int:
        """Wait for its end; ``-N`` for a process that signal N killed."""
        self.process.join(timeout_s)
        code = self.process.exitcode
        assert code is not None, f"still running after {timeout_s} s\n{self.output()}"
        return code

    def kill(self) -> None:
        """End its whole group, if anything of it is left."""
        if is_group_alive(self.pid):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def _main(
    function: Callable[..., Any], args: tuple[Any, ...], cwd: str, log: str, environment: dict[str, str]
) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(*args)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_group_alive(group: int) -> bool:
    """Whether any process of a group runs; one that only waits to be reaped does not."""

    def is_member(pid: int) -> bool:
        try:
            return os.getpgid(pid) == group
        except ProcessLookupError:
            return False

    return any(is_alive(pid) for pid in psutil.pids() if is_member(pid))


def commands_of_children(pid: int | None = None) -> list[str]:
    """Command lines of the running processes that ``pid``, or this process, and its children have started.

    A process may end between two questions, so each answer may be that it is gone, or that it is a zombie.
    """
    commands = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # the error for a zombie is a subclass
            commands.append(" ".join(child.cmdline()))
    return commands


def wait_until(condition: Callable[[], Any], timeout_s: float, what: Callable[[], str]) -> None:
    """Ask again until ``condition()`` holds; fail with ``what()`` when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.01)


def lit_rl(*argv: str) -> None:
    """``python -m lit_rl``, for ``Forked``; Lightning starts further ranks by that command."""
    from lit_rl.cli import main

    sys.modules["__main__"].__spec__ = find_spec("lit_rl.__main__")
    sys.argv = ["lit-rl", *argv]
    main()


def run_ranks(
    function: Callable[..., Any], *args: Any, cwd: Path, num_ranks: int = 2, timeout_s: float = 120
) -> list[Any]:
    """``function(*args)`` in each of ``num_ranks`` ranks, for a Trainer with ``strategy="ddp"``.

    All ranks are killed when one fails or time is up.

    Returns:
        What each rank returned.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "NODE_RANK": "0"}
    results = [cwd / f"rank{rank}.pt" for rank in range(num_ranks)]
    ranks = [
        Forked(
            _rank,
            function,
            args,
            str(result),
            cwd=cwd,
            log=cwd / f"rank{rank}.log",
            environment=group | {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks)},
        )
        for rank, result in enumerate(results)
    ]
    deadline = time.monotonic() + timeout_s
    try:
        running = list(ranks)
        while running and all(rank.process.exitcode in (None, 0) for rank in ranks):
            assert time.monotonic() < deadline, f"ranks hang\n{_outputs(ranks)}"
            wait([rank.process.sentinel for rank in running], deadline - time.monotonic())
            running = [rank for rank in running if rank.process.exitcode is None]
        assert all(rank.process.exitcode == 0 for rank in ranks), _outputs(ranks)
    finally:
        for rank in ranks:
            rank.kill()
    return [torch.load(result, weights_only=False) for result in results]


def _rank(function: Callable[..., Any], args: tuple[Any, ...], result: str) -> None:
    torch.save(function(*args), result)


def _outputs(ranks: list[Forked]) -> str:
    return "\n".join(
        f"rank {i}: exit {rank.process.exitcode}\n{rank.output()}" for i, rank in enumerate(ranks)
    )
