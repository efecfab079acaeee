"""When a second thread pays: gradient steps of small networks with one thread and with two.

``python tests/benchmarks/bench_threads.py`` prints for each width and number of rows the median microseconds
of a step over five alternating rounds, their ratio, and rows times width, by which ``lit_rl/compute.py``
decides.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

SIZES = [
    (features, width, rows)
    for features, width in ((17, 64), (250, 64), (17, 256))
    for rows in (64, 256, 512, 1024, 2048, 5120)
]


def microseconds(features: int, width: int, rows: int, threads: int) -> float:
    """Of a step of Adam on two hidden layers."""
    torch.set_num_threads(threads)
    layers = nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
    network, x = nn.Sequential(*layers), torch.randn(rows, features)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    steps = max(10, 2_000_000 // (rows * width))
    start = 0.0
    for step in range(-20, steps):
        if step == 0:
            start = time.perf_counter()
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    return (time.perf_counter() - start) / steps * 1e6


def main() -> None:
    """Print the table."""
    print("features  width   rows  1 thread (us)  2 threads (us)  ratio  rows x width")
    for features, width, rows in SIZES:
        rounds = [[microseconds(features, width, rows, threads) for threads in (1, 2)] for _ in range(5)]
        one, two = (statistics.median(column) for column in zip(*rounds, strict=True))
        values = rows * max(features, width)
        print(f"{features:8} {width:6} {rows:6} {one:14.0f} {two:15.0f} {one / two:6.2f} {values:13,}")


if __name__ == "__main__":
    main()
