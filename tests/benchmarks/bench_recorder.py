"""Loss recorder: what ``record()`` costs the training loop, and the memory of the recorder process.

``record()`` is called without pause, each call timed; the queue overflows on the way, as intended. Then the
process draws its figure, with matplotlib loaded, and reports its largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path

from lit_rl.callbacks.recorder.client import Recorder
from lit_rl.callbacks.recorder.settings import Settings


def time_calls(recorder: Recorder, calls: int) -> list[float]:
    """Microseconds of each call, sorted."""
    times = []
    losses = {"actor_loss": 0.5, "critic_loss": 1.5}
    for step in range(calls):
        start = time.perf_counter_ns()
        recorder.record("ppo", step, losses)
        times.append((time.perf_counter_ns() - start) / 1000)
    return sorted(times)


def main() -> None:
    """Time the calls and weigh the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200_000)
    args = parser.parse_args()
    logging.getLogger("lit_rl").setLevel(logging.ERROR)  # that rows are dropped is no news here
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Settings("benchmark", folder), Path(folder))
        times = time_calls(recorder, args.calls)
        totals = recorder.close(timeout_s=60)
        recorder.wait(timeout_s=60)
        state = json.loads((Path(folder) / "recorder.json").read_text())
    result = {"p50_us": times[len(times) // 2], "p99_us": times[len(times) * 99 // 100], "max_us": times[-1]}
    print(json.dumps({**result, "process_peak_mb": state["peak_memory_mb"], "calls": args.calls, **totals}))


if __name__ == "__main__":
    main()
