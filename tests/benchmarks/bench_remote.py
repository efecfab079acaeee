"""Actors elsewhere and their learner: how fast experience travels, and how well they learn together.

``python tests/benchmarks/bench_remote.py transport`` sends chunks of 50 transitions of one GO2 from an actor
process to a server in this one, over gRPC on the loopback, and prints chunks and MB per second; then it kills
an actor of ``lit-rl act`` and takes the time to the first new transition, and freezes one and takes the time
until its place is free. Targets: 5,000 chunks/s, 100 MB/s, 3 s, 10 s.

``... stream --minutes 10`` lets one actor play in real time at 50 Hz and another send 200 chunks/s, while
weights are published every second. It prints how often connections ended, and the memory of both sides.

``... async --seeds 1 2 3 --env_steps 20000`` trains ``go2_sac_quick`` with an actor at 50 Hz, with one that
plays as fast as it may, and without actors elsewhere; ``... chaos --seeds 1 2 3`` kills the actor at 5,000
and 10,000 and the learner at 12,000 env steps, as shares of ``--env_steps``. Each appends a line per
training to ``results/remote.jsonl``; a training that is there is not repeated, so that a command may be ended
and started again. ``... table`` writes ``results/remote.md``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import machine
import numpy as np
import psutil
import torch

from lit_rl.cli.act import make_env, read_data
from lit_rl.remote.link import Link
from lit_rl.remote.policy import Description
from lit_rl.remote.receiver import Receiver
from lit_rl.remote.server import LearnerServer
from lit_rl.remote.service import spec_text
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec

RESULTS = Path(__file__).parent / "results"
LINES, TABLE = RESULTS / "remote.jsonl", RESULTS / "remote.md"
CONFIG = "go2_sac_quick"
OBS, ACTION, STEPS = 48, 12, 50
RECORDED = ("x_velocity", "has_fallen")
SPEC = EnvSpec(
    "GO2-v0", LeafSpec([OBS]), ActionSpec("box", [ACTION], low=[-1.0] * ACTION, high=[1.0] * ACTION)
)
TARGETS = {"chunks_per_s": 5_000, "MB_per_s": 100, "restart_s": 3.0, "frozen_s": 10.0}
_ROUND_S = 6.0


def weights(hidden: int = 256) -> dict[str, np.ndarray]:
    """Make the numbers of a policy with two hidden layers."""
    widths, rng = (OBS, hidden, hidden, 2 * ACTION), np.random.default_rng(0)
    arrays = {"middle": np.zeros(ACTION, np.float32), "scale": np.ones(ACTION, np.float32)}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        arrays[f"weight/{number}"] = rng.normal(0, 0.05, (inputs, outputs)).astype(np.float32)
        arrays[f"bias/{number}"] = np.zeros(outputs, np.float32)
    return arrays


def chunk(num_envs: int) -> dict[str, np.ndarray]:
    """Make 50 steps of so many robots."""
    rng, flags = np.random.default_rng(0), np.zeros((STEPS, num_envs), bool)
    return {
        "obs": rng.normal(size=(STEPS + 1, num_envs, OBS)).astype(np.float32),
        "reset": np.zeros((STEPS + 1, num_envs), bool),
        "action": rng.uniform(-1, 1, (STEPS, num_envs, ACTION)).astype(np.float32),
        "reward": rng.normal(size=(STEPS, num_envs)).astype(np.float32),
        "terminated": flags,
        "truncated": flags.copy(),
        **{f"metrics/{name}": np.zeros((STEPS, num_envs), np.float32) for name in RECORDED},
    }


def listen(spec: EnvSpec, num_envs: int, steps: int, window: int, port: int = 0) -> Receiver:
    """Make a learner without a trainer."""
    server = LearnerServer(
        spec_text(spec.to_dict()), "bench", steps, num_envs, window, 4, "127.0.0.1", port
    )  # fmt: skip
    receiver = Receiver(server, spec, num_envs, steps, window)
    receiver.publish(0, Description("squashed_normal", "relu"), weights())
    return receiver


# Transport


def send(port: int, num_envs: int, per_s: float | None) -> None:
    """Send the same chunk again and again, as fast as allowed or ``per_s`` times a second; never returns."""
    link, arrays = Link("127.0.0.1", port, f"sender-{os.getpid()}", SPEC, num_envs), chunk(num_envs)
    link.start()
    parent, due = os.getppid(), time.monotonic()
    while os.getppid() == parent:
        turn = link.turn(1.0)
        if turn is None:
            continue
        link.send(arrays, turn.policy.version, turn)
        if per_s is not None:
            due = max(due + 1 / per_s, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def sender(port: int, num_envs: int = 1, per_s: float | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run :func:`send` in a process of its own."""
    argv = [sys.executable, __file__, "send", "--port", str(port), "--num_envs", str(num_envs)]
    process = subprocess.Popen([*argv, *(() if per_s is None else ("--per_s", str(per_s)))])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def transport_rate(num_envs: int, in_trainer: bool) -> dict[str, float]:
    """Measure chunks and MB per second.

    Args:
        num_envs: Robots of a chunk.
        in_trainer: Whether chunks are also checked and made into rollouts, as the trainer does.
    """
    receiver = listen(SPEC, num_envs, STEPS, 1_000_000)
    size = sum(array.nbytes for array in chunk(num_envs).values())
    with sender(receiver.server.port, num_envs):
        take = (lambda: receiver.take(0.2)) if in_trainer else (lambda: receiver.server.take(0.2))
        counted, start, granted = 0, None, 0.0
        while start is None or time.perf_counter() - start < _ROUND_S:
            if time.perf_counter() - granted > 0.2:
                granted = time.perf_counter()
                receiver.grant(10**9, 0)
            if take() is None:
                continue
            if start is None:
                start = time.perf_counter()
                continue
            counted += 1
        seconds = time.perf_counter() - start
    receiver.server.close()
    return {"chunks_per_s": counted / seconds, "MB_per_s": counted * size / seconds / 1e6}


def go2_learner() -> Receiver:
    """Make a learner without a trainer, for actors of ``CONFIG``."""
    data, _ = read_data([CONFIG], [])
    env = make_env(data)
    spec = env.spec
    env.close()
    return listen(spec, 1, STEPS, 8)


@contextmanager
def actor(port: int, *argv: str, seed: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``lit-rl act``."""
    command = [
        sys.executable, "-m", "lit_rl", "act", "--config", CONFIG, "--connect", f"127.0.0.1:{port}", "--name",
        "robot", "--seed_everything", str(seed), *argv,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def take_until(receiver: Receiver, condition: Callable[[], Any], timeout_s: float = 120.0) -> float:
    """Take chunks until it holds, and return the seconds."""
    start = time.perf_counter()
    while not condition():
        if time.perf_counter() - start > timeout_s:
            sys.exit(f"nothing came for {timeout_s:g} s")
        receiver.grant(receiver.inserted_steps + 10 * STEPS, 0)
        receiver.take(0.02)
    return time.perf_counter() - start


def ends(rounds: int) -> dict[str, list[float]]:
    """Measure how long it takes to replace a killed actor, and to free the place of a frozen one."""
    receiver = go2_learner()
    found = [_end_actors(receiver) for _ in range(rounds)]
    receiver.server.close()
    return {"restart_s": [restart for restart, _ in found], "frozen_s": [frozen for _, frozen in found]}


def _end_actors(receiver: Receiver) -> tuple[float, float]:
    server = receiver.server
    with actor(server.port) as first:
        before = receiver.inserted_steps
        take_until(receiver, lambda: receiver.inserted_steps > before + 10 * STEPS)
        os.kill(first.pid, signal.SIGKILL)
        start = time.perf_counter()
        first.wait()
        with actor(server.port) as second:
            while receiver.take(0.0) is not None:  # what the first one had sent
                pass
            after = receiver.inserted_steps
            take_until(receiver, lambda: receiver.inserted_steps > after)
            restart = time.perf_counter() - start
            os.kill(second.pid, signal.SIGSTOP)
            return restart, take_until(receiver, lambda: not server.live())


def print_transport(rounds: int) -> None:
    """Measure everything of the transport, and append a line."""
    start = machine.load()
    cases = {"one robot": (1, False), "one robot, taken by the trainer": (1, True), "16 robots": (16, False)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (num_envs, in_trainer) in cases.items():
            found[name].append(transport_rate(num_envs, in_trainer))
            print(name, found[name][-1], flush=True)
    rates = {
        name: {key: [round(rate[key], 1) for rate in rates] for key in ("chunks_per_s", "MB_per_s")}
        for name, rates in found.items()
    }
    line = {"kind": "transport", "rates": rates, **ends(rounds)}
    append({**line, "machine": machine.describe(), "start": start, "end": machine.load()})


# A long stream


def print_stream(minutes: float) -> None:
    """Let experience and weights flow, and watch connections and memory."""
    start_load, receiver = machine.load(), go2_learner()
    server, own = receiver.server, psutil.Process()
    memory: list[tuple[float, float, float, float]] = []
    lost_before = 0
    with actor(server.port, "--realtime", "--rate_hz", "50") as robot, sender(server.port, 1, 200) as busy:
        start, version, taken = time.perf_counter(), 0, 0
        while time.perf_counter() - start < 60 * minutes:
            receiver.grant(10**9, 0)
            taken += receiver.take(0.05) is not None
            now = time.perf_counter() - start
            if now > version:
                version += 1
                receiver.publish(version, Description("squashed_normal", "relu"), weights())
            if now > 5.0 + 10.0 * len(memory):  # the start is not counted
                processes = (own, *(psutil.Process(part.pid) for part in (robot, busy)))
                sizes = [process.memory_info().rss / 1e6 for process in processes]
                memory.append((round(now, 1), *(round(size, 1) for size in sizes)))
                print(memory[-1], "chunks", taken, "connections", server.num_joined, flush=True)
        joined, lost = server.num_joined, server.counts["lost_actors"] - lost_before
        counts = dict(server.counts)
    server.close()
    append(
        {
            "kind": "stream", "minutes": minutes, "chunks": taken, "connections": joined, "lost": lost,
            "counts": counts, "missing_steps": receiver.missing_steps, "memory_MB": memory,
            "start": start_load, "end": machine.load(),
        }
    )  # fmt: skip


# Trainings


def free_port() -> int:
    """Return a port at which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def learner_command(port: int | None, seed: int, env_steps: int, resume: bool = False) -> list[str]:
    """Return the command of ``lit-rl fit``; without a port it plays by itself."""
    command = [sys.executable, "-m", "lit_rl", "fit"]
    if resume:
        return [*command, "--config", "run/config.yaml", "--ckpt_path", "last"]
    command += ["--config", CONFIG]
    if port is not None:
        command += ["--config", "data/remote", "--data.port", str(port)]
    return [
        *command, "--run_dir", "run", "--seed_everything", str(seed), "--budget.total_env_steps",
        str(env_steps), "--checkpoint.every_batches", "1",
    ]  # fmt: skip


def newest(path: Path, name: str) -> float | None:
    """Return the last value of a column of ``metrics.csv``."""
    if not path.exists():
        return None
    with path.open(newline="") as file:
        values = [row[name] for row in csv.DictReader(file) if row.get(name)]
    return float(values[-1]) if values else None


class Training:
    """A learner in a folder, and its actor.

    Args:
        folder: Where it runs.
        seed: Seed of the run.
        env_steps: Env steps in all.
        rate_hz: Rate of the actor; None plays as fast as it may, 0 has no actor elsewhere.
    """

    def __init__(self, folder: Path, seed: int, env_steps: int, rate_hz: float | None) -> None:
        self.folder, self.seed, self.env_steps = folder, seed, env_steps
        self.port = None if rate_hz == 0 else free_port()
        self._rate = ("--rate_hz", str(rate_hz)) if rate_hz else ()
        self.learner: subprocess.Popen[Any] | None = None
        self.actor: subprocess.Popen[Any] | None = None
        self._log = (folder / "log").open("ab")

    def start_learner(self, resume: bool = False) -> None:
        """Start it, or let it go on."""
        command = learner_command(self.port, self.seed, self.env_steps, resume)
        self.learner = subprocess.Popen(command, cwd=self.folder, stdout=self._log, stderr=self._log)

    def start_actor(self) -> None:
        """Start the actor."""
        command = [
            sys.executable, "-m", "lit_rl", "act", "--config", CONFIG, "--connect", f"127.0.0.1:{self.port}",
            "--name", "robot", "--seed_everything", str(self.seed), *self._rate,
        ]  # fmt: skip
        self.actor = subprocess.Popen(command, cwd=self.folder, stdout=self._log, stderr=self._log)

    @property
    def steps(self) -> float:
        """Env steps that were learned from."""
        return newest(self.folder / "run" / "metrics.csv", "step") or 0.0

    def kill(self, process: subprocess.Popen[Any] | None) -> None:
        """Kill a part at once."""
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def wait(self, until_steps: float | None = None) -> None:
        """Wait for the end, or until so many env steps were learned from."""
        while self.learner is not None and self.learner.poll() is None:
            if until_steps is not None and self.steps >= until_steps:
                return
            time.sleep(0.2)
        if self.learner is not None and (code := self.learner.returncode):
            sys.exit(f"the learner ended with {code}:\n{(self.folder / 'log').read_text()[-4000:]}")

    def close(self) -> None:
        """End everything."""
        for process in (self.learner, self.actor):
            self.kill(process)
        self._log.close()

    def result(self) -> dict[str, Any]:
        """Judge the policy, and read the counters."""
        from bench_go2 import judge

        run = self.folder / "run"
        metrics = {
            name: newest(run / "metrics.csv", name)
            for name in (
                "step", "eval/return_mean", "learner/utd", "learner/policy_lag", "learner/missing_steps",
                "learner/duplicates", "learner/rejected", "learner/lost_actors",
            )
        }  # fmt: skip
        return {**metrics, **judge(run, self.seed), "counters": self._counters()}

    def _counters(self) -> dict[str, Any]:
        """Count the transitions in the ring that are there twice, and compare with what was taken."""
        saved = torch.load(self.folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        ring, remote = _with_key(saved, "ring"), _with_key(saved, "remote")
        if ring is None or ring["ring"] is None:
            return {}
        fields = ring["ring"]["fields"]
        rows = fields["obs"].flatten(0, 1) if isinstance(fields["obs"], torch.Tensor) else None
        kept = {} if rows is None else {"in_ring": len(rows), "different": len(torch.unique(rows, dim=0))}
        if remote is None or remote.get("remote") is None:
            return kept
        taken = remote["remote"]
        return {**kept, "inserted": taken["inserted_steps"], "missing": taken["missing_steps"]}


def _with_key(part: Any, key: str) -> Any:
    if isinstance(part, dict) and key in part:
        return part
    below = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return next((found for inner in below if (found := _with_key(inner, key)) is not None), None)


RATES: dict[str, float | None] = {"async_50_hz": 50.0, "async_free": None, "sync": 0.0}


def train(kind: str, seed: int, env_steps: int) -> dict[str, Any]:
    """Train once, in one of the ways of ``RATES``, or of ``chaos``."""
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Path(folder), seed, env_steps, RATES.get(kind, 50.0))
        start, load = time.perf_counter(), machine.load()
        try:
            training.start_learner()
            if training.port is not None:
                training.start_actor()
            if kind == "chaos":
                _disturb(training)
            training.wait()
            seconds = time.perf_counter() - start
            found = training.result()
        finally:
            training.close()
    return {
        "kind": kind, "seed": seed, "env_steps": env_steps, "wall_s": round(seconds, 1), **found,
        "start": load, "end": machine.load(),
    }  # fmt: skip


def _disturb(training: Training) -> None:
    """Kill the actor at a quarter and at half of the env steps, and the learner at three fifths."""
    for share in (0.25, 0.5):
        training.wait(share * training.env_steps)
        training.kill(training.actor)
        training.start_actor()
    training.wait(0.6 * training.env_steps)
    training.kill(training.learner)
    training.start_learner(resume=True)


def train_all(kinds: list[str], seeds: list[int], env_steps: int) -> None:
    """Train what is not in the file yet; the kinds alternate, so that a busy machine hits all of them."""
    done = {(line["kind"], line.get("seed"), line.get("env_steps")) for line in read()}
    for seed in seeds:
        for kind in kinds:
            if (kind, seed, env_steps) not in done:
                append(train(kind, seed, env_steps))


# Results


def read() -> list[dict[str, Any]]:
    """Read all lines so far."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def append(line: dict[str, Any]) -> None:
    """Keep a line, print it, and write the document anew."""
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)
    TABLE.write_text(table())


def table() -> str:
    """Make the document of all lines."""
    parts = ["# Actors elsewhere\n", "Written by `python tests/benchmarks/bench_remote.py COMMAND`.\n"]
    for line in read():
        load = f"load {line['start']['load'][0]} to {line['end']['load'][0]}"
        if line["kind"] == "transport":
            parts.append(f"## Transport ({line['start']['time']}, {load})\n")
            parts += ["| chunks of 50 steps | chunks/s | MB/s |", "|---|---|---|"]
            for name, rates in line["rates"].items():
                parts.append(f"| {name} | {_spread(rates['chunks_per_s'])} | {_spread(rates['MB_per_s'])} |")
            parts.append("")
            for name, text in (
                ("restart_s", "Killed to first new transition"),
                ("frozen_s", "Frozen to free"),
            ):
                parts.append(f"{text}: {_spread(line[name], 2)} s (target {TARGETS[name]:g} s).\n")
        elif line["kind"] == "stream":
            first, last = line["memory_MB"][0], line["memory_MB"][-1]
            parts.append(f"## Stream of {line['minutes']:g} minutes ({line['start']['time']}, {load})\n")
            parts.append(
                f"{line['chunks']} chunks over {line['connections']} connections, {line['lost']} of which "
                f"ended early; {line['missing_steps']} env steps missing. MB of learner, robot and sender: "
                f"{first[1:]} after {first[0]:g} s, {last[1:]} after {last[0]:g} s.\n"
            )
    return "\n".join([*parts, *_trainings()])


def _trainings() -> list[str]:
    lines = [line for line in read() if "seed" in line]
    if not lines:
        return []
    return [
        f"## Trainings of `{CONFIG}`\n",
        "| kind | env steps | seed | wall s | m/s ahead | return | updates per step | lag | missing | load |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {line['kind']} | {line['env_steps']} | {line['seed']} | {line['wall_s']:.0f} | "
            f"{line['x_velocity']:.3f} | {_number(line['eval/return_mean'])} | "
            f"{_number(line['learner/utd'])} | "
            f"{_number(line['learner/policy_lag'])} | {_number(line['learner/missing_steps'])} | "
            f"{line['end']['load'][0]} |"
            for line in sorted(lines, key=lambda line: (line["kind"], line["env_steps"], line["seed"]))
        ),
        "",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _spread(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("transport", "stream", "async", "chaos", "table", "send"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--env_steps", type=int, default=20_000)
    parser.add_argument("--kinds", nargs="+", choices=tuple(RATES), default=list(RATES))
    for name, kind, default in (("port", int, 0), ("num_envs", int, 1), ("per_s", float, None)):
        parser.add_argument(f"--{name}", type=kind, default=default, help=argparse.SUPPRESS)
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if given.command == "send":
        send(given.port, given.num_envs, given.per_s)
    elif given.command == "transport":
        print_transport(given.rounds)
    elif given.command == "stream":
        print_stream(given.minutes)
    elif given.command == "table":
        TABLE.write_text(table())
        print(table())
    else:
        kinds = ["chaos"] if given.command == "chaos" else given.kinds
        train_all(kinds, given.seeds, given.env_steps)


if __name__ == "__main__":
    main()
