import io
import sys

import pytest

from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.progress_bar import EnvStepsProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


NEVER = float("inf")


def show(fit, bar, total=200, **kwargs):
    return fit(bar, EnvStepBudget(total), RolloutCheckpoint(), enable_progress_bar=True, **kwargs)


def test_writes_a_line_every_tenth_where_there_is_no_terminal(fit, capsys):
    show(fit, EnvStepsProgressBar(NEVER))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "env steps 20 of 200 (10%), return 1.5, 2000 steps/s"
    assert lines[-1] == "env steps 200 of 200 (100%), return 1.5, 2000 steps/s"


def test_writes_at_every_batch_when_lines_may_follow_at_once(fit, capsys):
    show(fit, EnvStepsProgressBar(0.0), total=50)
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_without_a_budget_there_is_no_share(fit, capsys):
    fit(
        EnvStepsProgressBar(0.0),
        RolloutCheckpoint(),
        max_epochs=1,
        batches_per_epoch=1,
        enable_progress_bar=True,
    )
    assert capsys.readouterr().err == "env steps 10, return 1.5, 2000 steps/s\n"


def test_resumed_run_writes_only_new_tenths(fit, tmp_path, capsys):
    show(fit, EnvStepsProgressBar(NEVER), total=50)
    capsys.readouterr()
    show(fit, EnvStepsProgressBar(NEVER), total=100, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    shares = [line.partition("(")[2].partition(")")[0] for line in capsys.readouterr().err.splitlines()]
    assert shares == ["60%", "70%", "80%", "90%", "100%"]


def test_draws_a_bar_on_a_terminal(fit, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    show(fit, EnvStepsProgressBar())
    last = terminal.getvalue().rstrip().rpartition("\r")[2]
    assert "200/200" in last
    assert "return 1.5, 2000 steps/s" in last


def test_disabled_bar_is_silent(fit, capsys):
    bar = EnvStepsProgressBar(0.0)
    bar.disable()
    show(fit, bar)
    bar.print("nothing")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", [float("nan"), None])
def test_what_is_not_measured_is_left_out(fit, capsys, value):
    bar = EnvStepsProgressBar(0.0)
    module, _ = show(fit, bar, total=10)
    module.progress_metrics = {} if value is None else {"episode/return_mean": value}
    capsys.readouterr()
    bar._write_line(module)
    assert capsys.readouterr().err == "env steps 10 of 10 (100%)\n"
