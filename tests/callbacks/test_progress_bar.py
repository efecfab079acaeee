import io
import sys

import pytest

from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.progress_bar import EnvStepsProgressBar, _Pace, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


NEVER = float("inf")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time passes by one second whenever the callback looks at the clock."""
    seconds = iter(range(100_000))
    monkeypatch.setattr("lit_rl.callbacks.progress_bar.time", Clock(seconds))


class Clock:
    """Stands for the module ``time``."""

    def __init__(self, seconds):
        self.monotonic = lambda: next(seconds)


def show(fit, bar, total=200, **kwargs):
    return fit(bar, EnvStepBudget(total), RolloutCheckpoint(), enable_progress_bar=True, **kwargs)


def test_writes_a_line_every_tenth_where_there_is_no_terminal(fit, capsys):
    show(fit, EnvStepsProgressBar(NEVER))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    # looked at in on_train_start, once a batch, and for a line: 20 steps in 3 s
    assert lines[0] == "env steps 20 of 200 (10%), return 1.5, 2000 steps/s, 27 s left"
    assert lines[-1] == "env steps 200 of 200 (100%), return 1.5, 2000 steps/s"


def test_writes_at_every_batch_when_lines_may_follow_at_once(fit, capsys):
    show(fit, EnvStepsProgressBar(0.0), total=50)
    ends = [line.rpartition(", ")[2] for line in capsys.readouterr().err.splitlines()]
    assert ends == ["8 s left", "6 s left", "4 s left", "2 s left", "2000 steps/s"]


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
    *others, last = terminal.getvalue().rstrip().split("\r")
    assert any("180/200 steps" in text and "2000 steps/s, 4 s left]" in text for text in others)
    assert "200/200" in last
    assert "left" not in last
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
    bar._write_line()
    assert capsys.readouterr().err == "env steps 10 of 10 (100%)\n"


def test_time_left_follows_the_speed_of_the_last_half():
    pace = _Pace(1000, now=50.0)
    for now in range(51, 61):
        pace.update(1000 + 100 * (now - 50), float(now))  # quick random actions for 10 s
    assert pace.steps_per_s == 100
    for now in range(61, 151):
        pace.update(2000 + 10 * (now - 60), float(now))
    assert pace.steps_per_s == 10  # of the whole time it is 19


def test_pace_needs_time_to_pass():
    pace = _Pace(0, now=1.0)
    pace.update(100, 1.0)
    assert pace.steps_per_s == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (130, "2 min 10 s"),
        (3600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
