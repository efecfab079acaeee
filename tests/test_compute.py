from __future__ import annotations

import gc

import pytest
import torch

from lit_rl import compute
from lit_rl.compute import ProcessSettings, choose_matmul_precision, choose_threads


@pytest.fixture
def machine(monkeypatch):
    """Pretend a machine: ``machine(allowed, total, load)``."""

    def pretend(allowed: int, total: int, load: float) -> None:
        monkeypatch.setattr(compute, "allowed_cores", lambda: allowed)
        monkeypatch.setattr(compute.os, "cpu_count", lambda: total)
        monkeypatch.setattr(compute, "_load", lambda: load)

    return pretend


@pytest.fixture
def probe(monkeypatch):
    """Pretend measurements: ``probe(seconds of medium against 1, its error)``. It leaves a setting behind."""

    def pretend(medium_s: float, error: float) -> None:
        def measure(precision: str) -> tuple[float, float]:
            torch.set_float32_matmul_precision(precision)
            return (medium_s, error) if precision == "medium" else (1.0, 1e-7)

        monkeypatch.setattr(compute, "_probe", measure)

    return pretend


def test_narrow_networks_with_small_minibatches_get_one_thread(machine):
    machine(8, 8, 0.0)
    threads, reason = choose_threads(64, 1023, 1, "auto")
    assert threads == 1
    assert reason == "auto: layers of width 64 and minibatches of 1023 rows are too small to share"


def test_narrow_networks_with_large_minibatches_share_the_idle_cores(machine):
    machine(8, 8, 0.0)
    assert choose_threads(64, 1024, 1, "auto")[0] == 8


@pytest.mark.parametrize(
    ("allowed", "total", "load", "ranks", "expected"),
    [
        (8, 8, 0.1, 1, 8),
        (8, 8, 3.2, 1, 5),
        (8, 8, 0.1, 2, 4),
        (2, 64, 30.0, 1, 2),  # busy elsewhere, our two cores may be free
        (4, 4, 9.0, 1, 1),
        (2, 2, 0.0, 4, 1),
    ],
)
def test_wide_networks_share_the_idle_cores(machine, allowed, total, load, ranks, expected):
    machine(allowed, total, load)
    threads, reason = choose_threads(256, 1, ranks, "auto")
    assert threads == expected
    assert f"{ranks} ranks" in reason


def test_requested_threads_win():
    assert choose_threads(64, 1, 1, 3) == (3, "as set")
    with pytest.raises(ValueError, match="must be 'auto' or at least 1, got 0"):
        choose_threads(64, 1, 1, 0)


def test_this_machine_answers():
    assert choose_threads(1024, 1, 1, "auto")[0] >= 1
    assert choose_matmul_precision(256, "auto")[0] in ("highest", "medium")


@pytest.mark.parametrize(
    ("medium_s", "error", "expected"),
    [(0.5, 3e-7, "medium"), (0.5, 2e-3, "highest"), (0.95, 3e-7, "highest"), (1.5, 3e-7, "highest")],
)
def test_medium_only_when_faster_and_still_float32(probe, medium_s, error, expected):
    probe(medium_s, error)
    before = torch.get_float32_matmul_precision()
    precision, reason = choose_matmul_precision(256, "auto")
    assert precision == expected
    assert f"medium takes {medium_s:.2f} of the time" in reason
    assert torch.get_float32_matmul_precision() == before


def test_precision_is_not_probed_for_narrow_networks_or_other_devices(probe):
    probe(0.1, 0.0)
    assert choose_matmul_precision(64, "auto")[0] == "highest"
    assert choose_matmul_precision(512, "auto", "cuda")[0] == "highest"
    assert choose_matmul_precision(64, "medium") == ("medium", "as set")


def test_unknown_precision():
    with pytest.raises(ValueError, match="must be auto, highest, high or medium; got 'low'"):
        choose_matmul_precision(64, "low")  # pyright: ignore[reportArgumentType]


def test_the_probe_measures_float32_exactly_enough():
    seconds, error = compute._probe("highest", size=32, repeats=1)
    torch.set_float32_matmul_precision("highest")
    assert seconds > 0
    assert 0 <= error < compute.TOLERANCE


def test_settings_are_put_back_even_after_an_error():
    def current() -> tuple[int, str]:
        return torch.get_num_threads(), torch.get_float32_matmul_precision()

    def fail_inside() -> None:
        with ProcessSettings(before[0] + 1, "medium"):
            assert current() == (before[0] + 1, "medium")
            raise RuntimeError("stop")

    before = current()
    with pytest.raises(RuntimeError, match="stop"):
        fail_inside()
    assert current() == before


def test_settings_remember_what_was_before_the_first_apply():
    before = torch.get_num_threads()
    settings = ProcessSettings(before + 1, "highest")
    settings.restore()
    settings.apply()
    settings.apply()
    settings.restore()
    settings.restore()
    assert torch.get_num_threads() == before


def test_what_existed_before_is_left_to_itself_while_fitting():
    gc.unfreeze()  # a fit that failed in another test never came to restore
    with ProcessSettings(1, "highest"):
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_froze_stays_frozen():
    gc.freeze()
    try:
        with ProcessSettings(1, "highest"):
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
