"""Gradient steps per second of the encoders of robots, at equal numbers of parameters.

``python tests/benchmarks/bench_encoders.py`` prints what forward and backward passes of actor and critic take
with one encoder for both and a loss like that of PPO, for robots of 3 to 6 joints with 16 features each (the
layout ``tokens`` of the planar arm) in one batch. Widths are chosen so that the networks have as nearly as
many parameters as they can; ``perceptron`` flattens everything. A second table says what it costs to join
graphs in a batch: index arithmetic, as here, against ``Batch.from_data_list`` of torch_geometric.

Times are those of the processor, which a busy machine changes little, and the encoders take turns; printed
are medians and ranges. It takes about half a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import machine
import torch
from torch import Tensor

from lit_rl.algos.multi_agent import Views
from lit_rl.algos.ppo.actor_critic import ActorCritic
from lit_rl.encoders.attention import AttentionEncoder
from lit_rl.encoders.embodiment import EmbodimentEncoder
from lit_rl.encoders.gnn import GNNEncoder
from lit_rl.encoders.graph_attention import GraphAttentionEncoder
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec

JOINTS, FEATURES, CONTEXT = 6, 16, 9
SPEC = EnvSpec(
    "arms",
    {
        "joint_tokens": LeafSpec([JOINTS, FEATURES]),
        "joint_mask": LeafSpec([JOINTS]),
        "global_token": LeafSpec([CONTEXT]),
    },
    ActionSpec("box", [JOINTS], low=[-1.0] * JOINTS, high=[1.0] * JOINTS),
)
ENCODERS: dict[str, Callable[[int], Any]] = {
    "perceptron": lambda width: partial(PerceptronEncoder, hidden=(width, width)),
    "attention": lambda width: partial(AttentionEncoder, width=width, feedforward=2 * width),
    "gnn": lambda width: partial(GNNEncoder, width=width),
    "graph_attention": lambda width: partial(GraphAttentionEncoder, width=width, feedforward=2 * width),
    "embodiment": lambda width: partial(EmbodimentEncoder, width=width, description=tuple(range(9, 15))),
}


def network(name: str, width: int) -> ActorCritic:
    """Actor and critic with one encoder of this width."""
    return ActorCritic(Views(SPEC), [64], "tanh", ENCODERS[name](width), True, None)


def parameters(module: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def of_size(name: str, wanted: int) -> tuple[int, ActorCritic]:
    """The width, a multiple of 4, with which a network comes closest to so many parameters, and the
    network."""
    width = min(range(8, 513, 4), key=lambda w: abs(parameters(network(name, w)) - wanted))
    return width, network(name, width)


def robots(batch: int) -> dict[str, Tensor]:
    """Observations of robots of all sizes."""
    exists = torch.arange(JOINTS) < torch.randint(3, JOINTS + 1, (batch, 1))
    return {
        "joint_tokens": torch.randn(batch, JOINTS, FEATURES) * exists[..., None],
        "joint_mask": exists.float(),
        "global_token": torch.randn(batch, CONTEXT),
    }


def step(module: ActorCritic, samples: dict[str, Any]) -> None:
    """One forward and backward pass of a loss with a ratio, a value and an entropy."""
    module.zero_grad()
    log_prob, entropy, value = module(samples)
    (
        (log_prob - log_prob.detach()).exp() * samples["advantage"] + value.square() - 0.01 * entropy
    ).mean().backward()


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Mean seconds of the processor that a call takes."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def batching(batch: int, rounds: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds to join the graphs of a batch, in both ways."""
    from torch_geometric.data import Batch, Data

    encoder = GNNEncoder(SPEC)
    obs = robots(batch)
    tokens = encoder.reader(obs)
    sizes = obs["joint_mask"].sum(-1).int().tolist()

    def one_by_one() -> Any:
        graphs = []
        for token, size in zip(obs["joint_tokens"], sizes, strict=True):
            up = torch.arange(size - 1)
            edges = torch.stack([torch.cat([up, up + 1]), torch.cat([up + 1, up])])
            graphs.append(Data(x=token[:size], edge_index=edges))
        return Batch.from_data_list(graphs)

    found: dict[str, list[float]] = {"index arithmetic": [], "Batch.from_data_list": []}
    for _ in range(rounds):
        found["index arithmetic"].append(1e3 * seconds(lambda: encoder.edges(tokens), repeats))
        found["Batch.from_data_list"].append(1e3 * seconds(one_by_one, 1))
    return found


def spread(values: list[float], digits: int = 1) -> str:
    """Median and range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"**{middle:.{digits}f}** ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=int, default=70_000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    begin = machine.load()
    made = {name: of_size(name, arguments.parameters) for name in ENCODERS}
    samples: dict[str, Any] = {"obs": robots(arguments.batch), "action": torch.randn(arguments.batch, JOINTS)}
    samples["advantage"] = torch.randn(arguments.batch)
    passes: dict[str, list[float]] = {name: [] for name in made}
    forwards: dict[str, list[float]] = {name: [] for name in made}
    for _, module in made.values():
        step(module, samples)
    for _ in range(arguments.rounds):
        for name, (_, module) in made.items():
            passes[name].append(1e3 * seconds(partial(step, module, samples), arguments.repeats))
            with torch.no_grad():
                forward = seconds(partial(module, samples), arguments.repeats)
            forwards[name].append(1e3 * forward)
    joined = batching(arguments.batch, arguments.rounds, arguments.repeats)
    print(machine.as_text(machine.describe(), begin, machine.load()))
    print(f"\n{arguments.batch} robots of 3 to {JOINTS} joints, {arguments.threads} thread(s):\n")
    print("| encoder | width | parameters | forward, ms | forward and backward, ms | steps/s |")
    print("|---|---|---|---|---|---|")
    for name, (width, module) in made.items():
        rate = 1e3 / statistics.median(passes[name])
        cells = [
            name,
            width,
            f"{parameters(module):,}",
            spread(forwards[name]),
            spread(passes[name]),
            f"{rate:.1f}",
        ]
        print("| " + " | ".join(map(str, cells)) + " |")
    print("\n| joining the graphs of a batch | ms |\n|---|---|")
    for name, values in joined.items():
        print(f"| {name} | {spread(values, 2)} |")
    result = {
        name: {"parameters": parameters(module), "ms": passes[name]} for name, (_, module) in made.items()
    }
    print(json.dumps({"encoders": result, "batching_ms": joined}))


if __name__ == "__main__":
    main()
