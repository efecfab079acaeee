"""Start-up of the command line: wall seconds of ``lit-rl --help``, as the user's shell sees them.

The first call is not timed: it reads the files from disk and writes Python's bytecode caches, as the first
use after an installation does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def startup_seconds(command: list[str]) -> float:
    """Wall seconds of one call."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def main() -> None:
    """Time several calls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5)
    args = parser.parse_args()
    command = [str(Path(sys.executable).with_name("lit-rl")), "--help"]
    startup_seconds(command)
    seconds = statistics.median(startup_seconds(command) for _ in range(args.calls))
    print(json.dumps({"seconds": seconds, "calls": args.calls}))


if __name__ == "__main__":
    main()
