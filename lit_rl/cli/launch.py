"""Ranks of one run: who started this process, and what the ranks agree on before they meet."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

from lit_rl.cli.errors import CommandError

_LAUNCHED = "LIT_RL_RUN"
"""Environment variable in which the first rank tells the ranks it starts the seed and the run directory."""

_PR_SET_PDEATHSIG = 1  # Linux's number for the signal that this process gets when its parent ends


def publish(run_dir: str, seed: int) -> None:
    """Tell the ranks that this process is about to start."""
    os.environ[_LAUNCHED] = json.dumps({"run_dir": run_dir, "seed": seed, "pid": os.getpid()})


def published() -> dict[str, Any] | None:
    """Return what the first rank told this process; None in the first rank."""
    text = os.environ.get(_LAUNCHED)
    return None if text is None else json.loads(text)


def end_with_first_rank() -> None:
    """Do not outlive a first rank that was killed before the ranks met: they would wait for it half an hour.

    Later its loss is noticed by the next communication.
    """
    told = published()
    if told is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != told["pid"]:
        raise CommandError("the first rank has ended", 1)


def withdraw() -> None:
    """Forget what was published, for the next run in this process."""
    os.environ.pop(_LAUNCHED, None)


def external_rank() -> int | None:
    """Return the rank of this process when torchrun or SLURM started it with others; None otherwise."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"])
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        return int(os.environ["SLURM_PROCID"])
    return None


def require_agreement(option: str) -> None:
    """Refuse to choose something that all ranks must know when they were started independently.

    Raises:
        CommandError: This process is one of several that torchrun or SLURM started.
    """
    if external_rank() is not None:
        raise CommandError(f"started by torchrun or SLURM: give {option}, so that all ranks agree on it")
