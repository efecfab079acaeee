"""Workers on Ray: what they collect, what happens when they are lost, and what is left of them.

They start a cluster with two workers on this machine (``-m slow``; skipped without the extra ``fleet``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from lit_rl.callbacks.map_elites import MapElites
from lit_rl.collect.fleet.transport import RayTransport
from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.collect.workers.transport import LocalProcesses, Transport
from lit_rl.data.morphology import MorphologyDataModule
from lit_rl.data.rollout import RolloutDataModule
from lit_rl.envs.vector import batch_fn
from lit_rl.types import Rollout
from tests.cases import CASES
from tests.collect.workers.fleet_toys import Fails, Hangs, Random
from tests.data.test_collecting_workers import Kills, comparable, run
from tests.toys import fit
from tests.worker_toys import Steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_workers,  # Ray has threads: what is forked beside them dies
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'lit-rl[fleet]'"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Ray's own log files
]
ROOT = Path(__file__).parents[3]


def of_ray() -> list[str]:
    """Processes of Ray that this one has started, and folders of clusters."""
    below = psutil.Process().children(recursive=True)
    names = [" ".join(process.cmdline()[:3]) for process in below if process.status() != "zombie"]
    folders = map(str, Path(tempfile.gettempdir()).glob("lit_rl_ray_*"))
    return [name for name in names if "ray" in name.lower()] + list(folders)


def open_ports() -> set[str]:
    """Addresses at which this process, and all that it has started, listen."""
    everyone = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {c.laddr.ip for process in everyone for c in process.net_connections() if c.status == "LISTEN"}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a process, a file, a variable or a handler of Ray."""
    variables = {name for name in os.environ if name.startswith("RAY_")} | {"RAY_CLIENT_MODE"}
    handler = signal.getsignal(signal.SIGTERM)
    yield
    deadline = time.monotonic() + 10
    while of_ray() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert of_ray() == []
    assert {name for name in os.environ if name.startswith("RAY_")} <= variables
    assert signal.getsignal(signal.SIGTERM) == handler


def collector(env: Any, transport: Transport, **kwargs: Any) -> WorkersCollector:
    try:
        return WorkersCollector(batch_fn(env), 4, 0, 2, transport=transport, **kwargs)
    except BaseException:
        transport.close()
        raise


def on_ray(num_workers: int = 2) -> RayTransport:
    return RayTransport(None, num_workers, 4)


def rollouts(transport: Transport, num: int = 3) -> list[Rollout]:
    torch.manual_seed(3)
    made, policy = collector("CartPole-v1", transport), Random()
    try:
        found = [made.collect(policy, 20, 0)]
        with torch.no_grad():
            policy.weight.fill_(0.25)  # weights reach the workers
        return [*found, *(made.collect(policy, 20, 1 + i) for i in range(num - 1))]
    finally:
        made.close()


def test_rollouts_are_those_of_processes():
    """Bit for bit; and the cluster listens on loopback only."""
    transport = on_ray()
    assert {ip.removeprefix("::ffff:") for ip in open_ports()} == {"127.0.0.1"}
    for ours, theirs in zip(rollouts(transport), rollouts(LocalProcesses()), strict=True):
        for name in ("obs", "action", "reward", "terminated", "truncated", "extras", "final_obs", "episodes"):
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, equal_nan=True)
        assert ours["policy_version"] == theirs["policy_version"]


@pytest.mark.parametrize("name", ["ppo_workers", "sac_pendulum"])
def test_runs_are_those_of_processes(name: str):
    """Every loss of PPO with memory and normalizers, and of SAC with its ring."""
    ours, logger = run(name, collector="ray", num_workers=2)
    theirs, expected = run(name, collector="workers", num_workers=2)
    for (key, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other), key
    assert str(comparable(logger)) == str(comparable(expected))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_worker_is_replaced(how: int, monkeypatch: pytest.MonkeyPatch):
    """It is counted as other workers are, and its environments begin new episodes."""
    monkeypatch.setattr("lit_rl.collect.fleet.transport.FROZEN_S", 3.0)
    made, policy = collector(Steps, on_ray()), Random()
    try:
        first = made.collect(policy, 4, 0)
        os.kill(made.workers.pids[1], how)
        second = made.collect(policy, 4, 1)
    finally:
        made.close()
    assert first["obs"][-1, :, 0].tolist() == [4, 4, 4, 4]
    assert second["reset"][0].tolist() == [False, False, True, True]
    assert (second["collector"]["collector/restarts"], second["collector"]["collector/reclaimed"]) == (1, 1)


def test_a_run_goes_on_when_a_worker_is_killed():
    module, data = CASES["ppo_workers"](3)
    given = data.made_with["init_args"] | {"collector": "ray"}
    logger = fit(module, RolloutDataModule(**given), limit_val_batches=1.0, callbacks=[Kills()])
    rows = [row for _, row in logger.rows if "collector/restarts" in row]
    assert [row["collector/restarts"] for row in rows] == [0, 1, 1]
    assert module.env_steps == 3 * 128


def test_workers_collect_ahead_and_take_newer_weights_within_a_rollout():
    made, policy = collector("CartPole-v1", on_ray(), max_policy_lag=1, update_interval=2), Random()
    try:
        versions, weights = [], []
        for version in range(6):
            rollout = made.collect(policy, 64, version)
            versions.append(int(rollout["policy_version"]))
            weights.append(float(rollout["extras"]["weight"].min()))
            with torch.no_grad():
                policy.weight.fill_(0.4 - 0.05 * version)
        assert all(version - 2 <= seen <= version for version, seen in enumerate(versions))
        assert weights[-1] < 0.5
    finally:
        made.close()


def test_an_error_of_an_environment_comes_back_as_it_is():
    made = collector(Fails, on_ray())
    message = r"\(environments 0 to 1\): ZeroDivisionError: division by zero$"
    with pytest.raises(RuntimeError, match=message):
        made.collect(Random(), 4, 0)
    made.close()


def test_an_environment_that_hangs_is_named():
    made = collector(Hangs, on_ray(), step_timeout_s=3.0)
    with pytest.raises(RuntimeError, match=r"did not answer fill\(\) within .* = 3 \(it is in step, line"):
        made.collect(Random(), 4, 0)
    made.close()


def test_bodies_are_measured_by_the_workers(tmp_path: Path):
    """The archive is that of a run with processes, also where a worker is killed meanwhile."""
    found = []
    for name in ("workers", "ray"):
        data = MorphologyDataModule(
            8, 8, 3, env_kwargs={"num_bodies": 8, "num_steps": 20}, num_goals=2, eval_episodes=2, seed=3,
            collector=name, num_workers=2,
        )  # fmt: skip
        search = MapElites(generations=3, batch_size=6, every_batches=1, compare=False)
        torch.manual_seed(3)
        module = CASES["ppo_bodies"](1)[0]
        fit(module, data, callbacks=[search], default_root_dir=tmp_path)
        assert search.search is not None
        found.append(search.search.archive.data())
    for key, values in found[0].items():
        assert values.tolist() == found[1][key].tolist(), key


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nobody"])
def test_an_address_where_nobody_is(address: str):
    message = f"^ray_address = '{address}': no Ray cluster can be reached there"
    with pytest.raises(ValueError, match=message) as caught:
        RayTransport(address, 2, 4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(how: int, tmp_path: Path):
    command = [
        sys.executable, "-m", "lit_rl", "fit", "--config", "ppo_cartpole", "--data.collector", "ray",
        "--data.num_workers", "2", "--trainer.logger", "false",
    ]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as output:
        path = os.pathsep.join([str(ROOT), *sys.path])
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.rglob("*.ckpt")) and "Epoch 0" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            below = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(how)
            code = process.wait(90)
        finally:
            process.kill()
    assert code in (128 + how, -how, 0), log.read_text()
    gone, alive = psutil.wait_procs(below, timeout=10)
    assert gone
    assert not alive
