import os
import signal
import threading
import time

import pytest
from lightning.pytorch import Callback

from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.graceful_stop import GracefulStop
from lit_rl.processes import STOP_SIGNALS


class SendAt(Callback):
    """Sends signals to this process while a batch is trained."""

    def __init__(self, policy_version: int, *signals: int) -> None:
        self.policy_version, self.signals = policy_version, signals

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if pl_module.policy_version == self.policy_version:
            for signum in self.signals:
                os.kill(os.getpid(), signum)


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_signal_ends_training_after_the_batch_with_a_checkpoint(fit, signum, code):
    stop = GracefulStop()
    module, trainer = fit(RolloutCheckpoint(), stop, SendAt(4, signum), EnvStepBudget(990))
    assert stop.exit_code == code
    assert module.trained == [1, 2, 3, 4, 5]
    assert fit.load("last.ckpt")["state_dict"]["weight"].item() == 5
    assert module.evaluated_at == [40]  # none after the signal
    assert trainer.limit_val_batches == 1.0


def test_stopped_run_goes_on_as_if_it_had_not_been_stopped(fit, tmp_path):
    whole, _ = fit(EnvStepBudget(120), RolloutCheckpoint())
    fit.directory = tmp_path / "stopped"
    fit(EnvStepBudget(120), RolloutCheckpoint(), GracefulStop(), SendAt(5, signal.SIGTERM))
    resumed, _ = fit(
        EnvStepBudget(120), RolloutCheckpoint(), ckpt_path=fit.directory / "checkpoints" / "last.ckpt"
    )
    assert resumed.trained == whole.trained[6:]
    assert resumed.evaluated_at == [80, 120]


def test_no_signal_no_exit_code(fit):
    stop = GracefulStop()
    fit(stop, RolloutCheckpoint(), EnvStepBudget(30))
    assert stop.exit_code is None


def test_handlers_are_given_back(fit):
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    fit(GracefulStop(), RolloutCheckpoint(), EnvStepBudget(10), SendAt(0, signal.SIGUSR1))
    assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == before


def test_nohup_is_respected(fit):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = GracefulStop()
        module, _ = fit(RolloutCheckpoint(), stop, SendAt(1, signal.SIGHUP), EnvStepBudget(30))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stop.exit_code is None
    assert module.trained == [1, 2, 3]


class ForkAt(Callback):
    """Forks a process in the middle of training, and sends it SIGTERM."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if pl_module.policy_version == 1:
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                os.write(writing, b"x")
                time.sleep(60)
                os._exit(0)
            os.read(reading, 1)
            os.kill(child, signal.SIGTERM)
            self.status = os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_while_training_dies_of_a_signal(fit):
    stop, fork = GracefulStop(), ForkAt()
    module, _ = fit(RolloutCheckpoint(), stop, fork, EnvStepBudget(30))
    assert os.WTERMSIG(fork.status) == signal.SIGTERM
    assert stop.exit_code is None
    assert module.trained == [1, 2, 3]


def test_second_ctrl_c_stops_at_once(fit):
    before = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    try:
        with pytest.raises(SystemExit):  # how Lightning ends on KeyboardInterrupt
            fit(
                GracefulStop(),
                RolloutCheckpoint(),
                EnvStepBudget(90),
                SendAt(2, signal.SIGINT, signal.SIGINT),
            )
        assert fit.saved == ["interrupted.ckpt"]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves SIGINT ignored
    assert [signal.getsignal(signum) for signum in STOP_SIGNALS] == before


def test_training_in_a_thread_works_without_signals(fit, caplog):
    caplog.set_level("INFO", "lit_rl")
    thread = threading.Thread(target=lambda: fit(GracefulStop(), RolloutCheckpoint(), EnvStepBudget(20)))
    thread.start()
    thread.join()
    assert fit.saved == ["best.ckpt", "last.ckpt"]
    assert "GracefulStop is off" in caplog.text
