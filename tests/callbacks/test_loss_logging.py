import asyncio
import inspect
import os
import signal
import subprocess
import sys

import pytest

from lit_rl.callbacks import loss_logging
from lit_rl.callbacks.loss_logging import (
    LossLoggingContext,
    auto_log_loss,
    get_loss_log_directory,
    is_loss_logger_alive,
    log_attention_loss,
    log_custom_network_loss,
    log_gnn_loss,
    log_losses,
    log_network_loss,
    log_ppo_loss,
    start_loss_logging,
    stop_loss_logging,
)
from lit_rl.callbacks.recorder.reader import read_losses
from lit_rl.loss_log import segments
from tests.conftest import ROOT


@pytest.fixture
def start(tmp_path):
    started = []

    def start_one(name="x", **kwargs):
        started.append(start_loss_logging(name, log_dir=tmp_path, **kwargs))
        return started[-1]

    yield start_one
    stop_loss_logging()
    loss_logging._Current.has_warned = False
    for recorder in started:
        if recorder._thread.is_alive() and recorder.process_id is not None:
            os.kill(recorder.process_id, signal.SIGKILL)
        assert recorder.wait()


def losses(tmp_path, network, name="x_loss_log"):
    return read_losses(tmp_path / name, network).losses


def test_start_log_stop(start, tmp_path):
    start()
    assert is_loss_logger_alive()
    assert get_loss_log_directory() == tmp_path / "x_loss_log"
    for step in range(3):
        assert log_network_loss("ppo", step, {"actor_loss": 0.5 * step, "critic_loss": 1}, timestamp=7.0)
        log_attention_loss(step, {"attention_loss": 2.0, "attention_accuracy": 0.5})
        log_ppo_loss(10 + step, {"actor_loss": 3.0})
        log_gnn_loss(step, {"gnn_loss": 4.0})
        log_custom_network_loss("Mine", step, {"mine_loss": 5.0})
    assert stop_loss_logging() == {"offered": 15, "written": 15, "dropped": 0, "invalid": 0}
    assert not is_loss_logger_alive()
    assert get_loss_log_directory() is None
    assert losses(tmp_path, "ppo")["actor_loss"] == [0, 3, 0.5, 3, 1, 3]
    assert losses(tmp_path, "ppo")["critic_loss"] == [1, None, 1, None, 1, None]
    assert losses(tmp_path, "attention") == {"attention_loss": [2] * 3, "attention_accuracy": [0.5] * 3}
    assert losses(tmp_path, "mine") == {"mine_loss": [5, 5, 5]}
    assert read_losses(tmp_path / "x_loss_log", "ppo").timestamps[0] == 7


def test_queries_start_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_loss_logger_alive()
    assert get_loss_log_directory() is None
    assert stop_loss_logging() == {}
    assert list(tmp_path.iterdir()) == []


def test_without_a_logger_nothing_is_recorded_and_this_is_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loss_logging._Current, "has_warned", False)
    assert not log_network_loss("ppo", 1, {"actor_loss": 1.0})
    assert not log_ppo_loss(1, {"actor_loss": 1.0})
    (message,) = caplog.messages
    assert "no logger runs, losses are not recorded; call start_loss_logging()" in message
    assert list(tmp_path.iterdir()) == []


def test_one_logger_at_a_time(start, tmp_path):
    start()
    with pytest.raises(
        RuntimeError, match=r"but one writes to .*x_loss_log; call stop_loss_logging\(\) first"
    ):
        start_loss_logging("y", log_dir=tmp_path)


def test_same_name_gets_another_directory(start, tmp_path):
    for value in (1.0, 2.0):
        start()
        log_ppo_loss(0, {"actor_loss": value})
        stop_loss_logging()
    assert losses(tmp_path, "ppo") == {"actor_loss": [1]}
    assert losses(tmp_path, "ppo", "x_loss_log-2") == {"actor_loss": [2]}


def test_losses_are_sorted_by_their_names(start, tmp_path):
    start()
    assert log_losses(1, {"actor_loss": 1.0, "attn_loss": 2.0, "support_loss": 3.0, "alpha": 4.0}, "sac")
    stop_loss_logging()
    assert list(segments(tmp_path / "x_loss_log")) == ["attention", "other", "sac"]
    assert losses(tmp_path, "sac") == {"actor_loss": [1], "alpha": [4]}
    assert losses(tmp_path, "other") == {"support_loss": [3]}


def test_context(start, tmp_path):
    with LossLoggingContext("c", log_dir=tmp_path, update_interval=60) as recorder:
        assert is_loss_logger_alive()
        log_ppo_loss(1, {"actor_loss": 1.0})
    assert not is_loss_logger_alive()
    assert losses(tmp_path, "ppo", "c_loss_log") == {"actor_loss": [1]}
    assert recorder.wait()


def test_decorator(start, tmp_path):
    @auto_log_loss("ppo")
    def train(step, scale=2.0):
        """Trains."""
        return {"actor_loss": scale * step}

    @auto_log_loss("gnn", step_param="at")
    def measure(graph, *, at=5):
        return 0.25

    @auto_log_loss("sac")
    async def train_later(step):
        await asyncio.sleep(0)
        return {"alpha_loss": step}

    start()
    assert train(1) == {"actor_loss": 2}
    assert train(scale=3.0, step=2) == {"actor_loss": 6}
    assert measure("graph") == measure("graph", at=6) == 0.25
    assert asyncio.run(train_later(9)) == {"alpha_loss": 9}
    stop_loss_logging()
    assert (train.__name__, train.__doc__) == ("train", "Trains.")
    assert list(inspect.signature(train).parameters) == ["step", "scale"]
    assert inspect.iscoroutinefunction(train_later)
    table = read_losses(tmp_path / "x_loss_log", "ppo")
    assert (table.steps, table.losses) == ([1, 2], {"actor_loss": [2, 6]})
    table = read_losses(tmp_path / "x_loss_log", "gnn")
    assert (table.steps, table.losses) == ([5, 6], {"gnn_loss": [0.25, 0.25]})
    assert losses(tmp_path, "sac") == {"alpha_loss": [9]}


def test_decorator_hands_on_results_that_are_no_losses(start):
    @auto_log_loss("ppo")
    def train(step):
        return "done"

    start()
    assert train(1) == "done"
    assert stop_loss_logging() == {"offered": 1, "written": 0, "dropped": 0, "invalid": 1}


def test_decorator_needs_a_step():
    def train(batch, epoch):
        return {}

    with pytest.raises(TypeError, match=r"parameter 'step', it has \(batch, epoch\); name .* by step_param"):
        auto_log_loss("ppo")(train)


def test_import_is_light():
    heavy = "{'torch', 'lightning', 'numpy', 'matplotlib'}"
    code = f"import sys, lit_rl.callbacks.loss_logging; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
