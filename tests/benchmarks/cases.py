"""What is measured, against what, and what is required of it. Pure data, read by ``run_all.py``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from floors import FLOP

Sides = dict[str, list[str]]


@dataclass(frozen=True)
class Check:
    """A promise: the median of ``side`` (divided by that of ``against``, if given) against ``limit``.

    Without a limit the value is shown, and nothing is required of it.
    """

    text: str
    side: str
    against: str | None
    kind: Literal["at least", "at most"]
    limit: float | None = None


@dataclass(frozen=True)
class Case:
    """A row or two of the table.

    Args:
        name: For ``--only``.
        title: What the table says.
        sides: Name of a side to the script and its arguments.
        metric: Key of the scripts' JSON that is compared.
        unit: Of the metric.
        checks: What is required.
        quick: Arguments appended under ``--quick``.
        threads: OpenMP threads of every process.
        rounds: Runs of each side.
        flop: Matrix operations per update, for the distance to the floor.
        only_rounds: Sides that run in the first so many rounds only.
        slow: Whether the case takes so long that it runs only when it is named.
    """

    name: str
    title: str
    sides: Sides
    metric: str
    unit: str
    checks: list[Check]
    quick: list[str]
    threads: int = 1
    rounds: int = 3
    flop: int | None = None
    only_rounds: dict[str, int] = field(default_factory=dict)
    slow: bool = False


def _against(peer: str) -> list[Check]:
    """Both of ours against a further peer, shown only."""
    return [Check(f"{side} / {peer}", side, peer, "at least") for side in ("default", "compile")]


def _ppo(name: str, title: str, peer: str, default: float, compiled: float, *, sbx: bool) -> Case:
    script = ["bench_ppo.py", name]
    sides = {side: [*script, side] for side in ("peer", "default", "compile")}
    return Case(
        name=f"ppo_{name}",
        title=title,
        sides=sides | ({"SBX": ["peer_sbx.py", name]} if sbx else {}),
        metric="env_steps_per_s",
        unit="env steps/s",
        checks=[
            Check(f"default / {peer}", "default", "peer", "at least", default),
            Check(f"compile / {peer}", "compile", "peer", "at least", compiled),
            *(_against("SBX") if sbx else []),
        ],
        quick=["--rollouts", "6"],
        flop=FLOP[f"ppo_{name}"],
    )


def _sac(threads: int, default: float, compiled: float, updates: int) -> Case:
    script, more = "bench_sac.py", ["--threads", str(threads), "--updates", str(updates)]
    sides: Sides = {side: [script, side, *more] for side in ("peer", "default", "compile")}
    if threads == 1:  # what the route of matrix products contributes
        sides["peer, medium"] = [script, "peer", *more, "--precision", "medium"]
        sides["default, highest"] = [script, "default", *more, "--precision", "highest"]
        sbx = ["peer_sbx.py", "sac", "--updates", str(updates)]
        sides |= {"SBX": sbx, "SBX, 64 at once": [*sbx, "--chunk", "64"]}
    return Case(
        name=f"sac_{threads}",
        title=f"SAC HalfCheetah-v5, batch 256, 2x256, one update per step, float32, threads each: {threads}",
        sides=sides,
        metric="updates_per_s",
        unit="updates/s",
        checks=[
            Check("default / SB3", "default", "peer", "at least", default),
            Check("compile / SB3", "compile", "peer", "at least", compiled),
            *(_against("SBX") + _against("SBX, 64 at once") if threads == 1 else []),
        ],
        quick=["--updates", "64"],
        threads=threads,
        flop=FLOP["sac"],
        only_rounds={"peer, medium": 2, "default, highest": 2},
    )


def _watch(config: str, rounds: int, *, slow: bool) -> Case:
    """Training with every callback that watches, over training without."""
    script = ["bench_watch.py", "one", config]
    return Case(
        name=f"watch_{config}",
        title=f"{config} with `callbacks/watch`, wall time of training",
        sides={"none": script, "watch": [*script, "callbacks/watch"]},
        metric="training",
        unit="s",
        checks=[Check("watched / unwatched", "watch", "none", "at most", 1.02)],
        quick=["--set", "budget.total_env_steps=2000"],
        rounds=rounds,
        slow=slow,
    )


def _hmasd(config: str, limit: float) -> Case:
    return Case(
        name=config,
        title=f"`{config}` end to end, 15 epochs on all samples, 2 threads",
        sides={"ours": ["bench_hmasd.py", "one", "--configs", config]},
        metric="env_steps_per_s",
        unit="env steps/s",
        checks=[Check(config, "ours", None, "at least", limit)],
        quick=["--updates", "2"],
        threads=2,
    )


def _environment(name: str, title: str, script: list[str], quick: list[str], limit: float) -> Case:
    return Case(
        name=name,
        title=f"{title}, random actions, 1 thread",
        sides={"ours": script},
        metric="env_steps_per_s",
        unit="env steps/s",
        checks=[Check(title, "ours", None, "at least", limit)],
        quick=quick,
    )


def _recorder(name: str, title: str, metric: str, unit: str, limit: float) -> Case:
    return Case(
        name=name,
        title=f"loss recorder: {title}",
        sides={"ours": ["bench_recorder.py"]},
        metric=metric,
        unit=unit,
        checks=[Check(title, "ours", None, "at most", limit)],
        quick=["--calls", "2000"],
        rounds=1,
    )


def _arm(name: str, title: str, metric: str, limit: float) -> Case:
    return Case(
        name=name,
        title=title,
        sides={"kernel": ["bench_arm.py", "speed"]},
        metric=metric,
        unit="physics steps/s" if metric != "ratio" else "times",
        checks=[Check(metric.replace("_", " "), "kernel", None, "at least", limit)],
        quick=["--seconds", "1", "--rounds", "1"],
    )


def _go2(name: str, title: str, arguments: list[str], limit: float) -> Case:
    return Case(
        name=name,
        title=title,
        sides={"batch": ["bench_go2.py", "speed", *arguments]},
        metric="control_steps_per_s",
        unit="control steps/s",
        checks=[Check("control steps per s", "batch", None, "at least", limit)],
        quick=["--seconds", "1", "--rounds", "1"],
        threads=2,
    )


CASES = [
    Case(
        name="startup",
        title="start-up of `lit-rl --help`",
        sides={"ours": ["bench_startup.py"]},
        metric="seconds",
        unit="s",
        checks=[Check("lit-rl --help", "ours", None, "at most", 1.5)],
        quick=["--calls", "2"],
        rounds=1,
    ),
    Case(
        name="replay",
        title="replay: add 16 + sample 256 (obs 17, act 6)",
        sides={
            f"{side}, {shape}": ["bench_replay.py", shape, side]
            for shape in ("envs", "steps")
            for side in ("peer", "ours")
        },
        metric="microseconds",
        unit="us",
        checks=[
            Check("16 envs x 1 step, time / SB3", "ours, envs", "peer, envs", "at most", 1.0),
            Check("1 env x 16 steps, time / SB3", "ours, steps", "peer, steps", "at most", 1.0),
        ],
        quick=["--repeats", "50"],
    ),
    Case(
        name="overhead",
        title="Lightning, logging, callbacks and checkpoints, over the same update in a bare loop",
        sides={size: ["bench_overhead.py", size] for size in ("8x32", "8x128", "8x128-short")},
        metric="percent",
        unit="%",
        checks=[
            Check("8 envs x 128 (batch 64, 10 epochs)", "8x128", None, "at most", 2.0),
            Check("8 envs x 32 (batch 256, 20 epochs)", "8x32", None, "at most", 5.0),
        ],
        quick=["--batches", "12"],
        only_rounds={"8x128": 2},
    ),
    _ppo(
        "cartpole",
        "PPO CartPole-v1, settings of the rl-zoo, 100,000 env steps, 1 thread",
        "SB3",
        1.8,
        3.0,
        sbx=True,
    ),
    _ppo(
        "cleanrl",
        "PPO CartPole-v1 at CleanRL's defaults, 100,000 env steps, 1 thread",
        "CleanRL",
        2.5,
        3.5,
        sbx=False,
    ),
    _ppo(
        "halfcheetah",
        "PPO HalfCheetah-v5, 8 envs x 256, batch 64, 10 epochs, 1 thread",
        "SB3",
        1.6,
        2.6,
        sbx=True,
    ),
    Case(
        name="ppo_workers",
        title="PPO HalfCheetah-v5 compiled, 2 processes collect / 1 collects ahead by one rollout",
        sides={
            "SB3": ["bench_ppo.py", "halfcheetah", "peer"],
            "workers": ["bench_ppo.py", "halfcheetah", "workers"],
            "ahead": ["bench_ppo.py", "halfcheetah", "ahead"],
            "SBX": ["peer_sbx.py", "halfcheetah"],
        },
        metric="env_steps_per_s",
        unit="env steps/s",
        checks=[
            Check("2 workers / SB3", "workers", "SB3", "at least", 3.2),
            Check("2 workers / SBX", "workers", "SBX", "at least", 1.8),
            Check("ahead / SB3", "ahead", "SB3", "at least"),
            Check("ahead / SBX", "ahead", "SBX", "at least"),
        ],
        quick=["--rollouts", "6"],
        flop=FLOP["ppo_halfcheetah"],
    ),
    Case(
        name="transport",
        title="transitions from 2 worker processes through shared memory",
        sides={"ours": ["bench_transport.py"]},
        metric="transitions_per_s",
        unit="transitions/s",
        checks=[Check("transport", "ours", None, "at least", 500_000)],
        quick=["--seconds", "0.3", "--rounds", "1"],
    ),
    Case(
        name="mappo_spread",
        title="MAPPO simple_spread_v3, 32 envs x 25, minibatches of 200 env steps, 10 epochs, 1 thread",
        sides={
            "BenchMARL": ["peer_benchmarl.py", "--rollouts", "12"],
            "default": ["bench_mappo.py", "default", "--rollouts", "20"],
            "compile": ["bench_mappo.py", "compile", "--rollouts", "20"],
        },
        metric="env_steps_per_s",
        unit="env steps/s",
        checks=_against("BenchMARL"),
        quick=["--rollouts", "2"],
    ),
    _sac(1, 1.7, 2.1, updates=1_536),
    _sac(2, 1.8, 2.3, updates=1_536),
    _recorder("recorder", "99th percentile of `record()`, called without pause", "p99_us", "us", 20.0),
    _recorder(
        "recorder_memory", "peak memory of its process, matplotlib included", "process_peak_mb", "MB", 150.0
    ),
    _environment(
        "uav_32",
        "`uav_bs_v0` alone, 32 networks",
        ["bench_uav.py", "speed", "--networks", "32"],
        ["--seconds", "0.5"],
        40_000,
    ),
    _environment(
        "uav_256",
        "`uav_bs_v0` alone, 256 networks",
        ["bench_uav.py", "speed", "--networks", "256"],
        ["--seconds", "0.5"],
        40_000,
    ),
    _environment(
        "alice_bob",
        "`AliceAndBob` alone, 1,024 copies",
        ["bench_alice_bob.py", "--num-envs", "1024"],
        [],
        1_000_000,
    ),
    _hmasd("hmasd_uav", 2_000),
    _hmasd("hmasd_alice_bob", 3_000_000 / (40 * 60)),
    _watch("ppo_cartpole", 5, slow=False),
    _watch("sac_pendulum", 3, slow=True),
    _arm("arm_speed", "planar arms, 4,096 of 3 to 6 joints, 1 thread", "physics_steps_per_s", 4_000_000.0),
    _go2("go2_coarse", "1,024 quadrupeds, 10 ms x 2, 2 threads", ["--timestep", "0.01"], 45_000.0),
    _go2("go2_fine", "1,024 quadrupeds, 4 ms x 5, 2 threads", ["--timestep", "0.004"], 22_000.0),
    _go2(
        "go2_single",
        "one quadruped by Gymnasium, 4 ms x 5, 1 thread",
        ["--single", "--timestep", "0.004", "--threads", "1"],
        6_000.0,
    ),
    _arm("arm_ratio", "planar arms over a plain loop of `mj_step` in the same process", "ratio", 10.0),
    Case(
        name="memory",
        title="growth of the trainer's memory over 2,000,000 env steps with `callbacks/watch`",
        sides={"watch": ["bench_watch.py", "memory"]},
        metric="growth_mib",
        unit="MiB",
        checks=[Check("after warm-up", "watch", None, "at most", 20.0)],
        quick=["--env-steps", "60000"],
        rounds=1,
        slow=True,
    ),
    Case(
        name="memory_hmasd",
        title="growth of the trainer's memory over 4,000,000 env steps of HMASD with `callbacks/watch`",
        sides={
            "watch": [
                "bench_watch.py",
                "memory",
                "--config",
                "hmasd_uav",
                "--env-steps",
                "4000000",
                "--set",
                "model.init_args.discriminator_epochs=1",
                "model.init_args.embedding=8",
                "model.init_args.gru=8",
            ]
        },
        metric="growth_mib",
        unit="MiB",
        checks=[Check("after warm-up", "watch", None, "at most", 50.0)],
        quick=["--env-steps", "60000"],
        rounds=1,
        slow=True,
    ),
]
