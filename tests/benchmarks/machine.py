"""Where the numbers were measured: processor, cores, versions, and how busy the machine was."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "stable-baselines3", "gymnasium", "mujoco", "numpy")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
"""Instruction sets that decide which matrix-product route is the fast one."""


def describe() -> dict[str, Any]:
    """Processor, cores, instruction sets, operating system and versions."""
    model, flags = _processor()
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instruction_sets": [flag for flag in FLAGS if flag in flags],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def load() -> dict[str, Any]:
    """The time, and the load averages of the last 1, 5 and 15 minutes (this session's own runs included)."""
    averages = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
    return {"time": time.strftime("%Y-%m-%d %H:%M:%S %Z"), "load": averages}


def as_text(machine: dict[str, Any], start: dict[str, Any], end: dict[str, Any]) -> str:
    """One paragraph for the head of a table."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['processor']}, {machine['usable_cores']} of {machine['cores']} cores "
        f"({', '.join(machine['instruction_sets']) or 'instruction sets unknown'}), no GPU used; "
        f"{machine['system']}, Python {machine['python']}, {versions}. "
        f"Load average {_load_text(start)} at the start ({start['time']}), "
        f"{_load_text(end)} at the end ({end['time']})."
    )


def _load_text(reading: dict[str, Any]) -> str:
    return f"{reading['load'][0]:.2f}" if reading["load"] else "unknown"


def _processor() -> tuple[str, set[str]]:
    model, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
    return model, flags


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
