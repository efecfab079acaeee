import math

import numpy as np
import pytest
import torch

from lit_rl.callbacks.recorder.numbers import OnDevice, Row, check, fetch, hold


def row(network="ppo", step=1, timestamp=2.0, **losses):
    return Row(network, step, timestamp, losses or {"actor_loss": 0.5})


@pytest.mark.parametrize(
    "value",
    [
        2,
        2.0,
        True + 1,
        np.float32(2),
        np.int64(2),
        np.array(2.0),
        np.array([2.0]),
        torch.tensor(2.0, requires_grad=True),
        torch.tensor([2]),
        torch.tensor(2, dtype=torch.bfloat16),
    ],
)
def test_numbers_of_all_kinds(value):
    losses = check(row(loss=hold(value))).losses
    assert losses == {"loss": 2.0}
    assert type(losses["loss"]) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite_values_pass(value):
    assert str(check(row(loss=value)).losses["loss"]) == str(value)


def test_value_is_that_of_the_moment():
    loss = torch.zeros(1)
    held = hold(loss)
    loss += 1
    assert held == 0


@pytest.mark.parametrize("value", [torch.zeros(2), np.zeros(2), torch.zeros(2, device="meta")])
def test_arrays_of_several_numbers_are_refused(value):
    with pytest.raises((ValueError, RuntimeError)):
        hold(value)


def test_tensors_of_a_device_are_fetched_together():
    """The meta device stands for an accelerator whose values cannot be fetched."""
    rows = [row(a=OnDevice(torch.tensor(1.5), None), b=0.5), row(a=OnDevice(torch.tensor(2.5), None))]
    broken = row(a=hold(torch.zeros((), device="meta")))
    fetch([*rows, broken])
    assert [r.losses for r in rows] == [{"a": 1.5, "b": 0.5}, {"a": 2.5}]
    with pytest.raises(TypeError, match="loss a must be a number, got OnDevice"):
        check(broken)


@pytest.mark.gpu
def test_cuda_tensor_is_copied_without_a_sync():
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        loss = torch.ones((), device="cuda")
        torch.cuda._sleep(100_000_000)
        loss += 1
        held = hold(loss)
        assert not stream.query()  # nobody waited
        loss += 1
    rows = [row(loss=held)]
    fetch(rows)
    assert rows[0].losses == {"loss": 2.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (row("../ppo"), "network must consist of letters, digits and _ . - .64 at most., got '../ppo'"),
        (row(""), "network must consist"),
        (row("a" * 65), "network must consist"),
        (Row("ppo", 1, 2.0, {}), "network ppo: at least one loss expected, got none"),
        (row(step=1.5), "step must be an integer, got 1.5"),
        (row(step=math.nan), "step must be an integer, got nan"),
        (row(step="1"), "'str' object cannot be interpreted as an integer"),
        (row(timestamp=math.nan), "timestamp must be finite, got nan"),
        (row(loss="0.5"), "loss loss must be a number, got str"),
        (row(loss=None), "loss loss must be a number, got NoneType"),
        (row(loss=1j), "loss loss must be a number, got complex"),
        (row(loss=10**400), "too large"),
        (row(step_=1, source=1.0), "printable name other than step, timestamp, source, got 'source'"),
        (Row("ppo", 1, 2.0, {"a\nb": 1.0}), r"printable name .* got 'a\\nb'"),
        (Row("ppo", 1, 2.0, {1: 1.0}), "printable name .* got 1"),
    ],
)
def test_what_is_no_row(given, message):
    with pytest.raises((TypeError, ValueError, OverflowError), match=message):
        check(given)


@pytest.mark.parametrize("step", [7, 7.0, np.int64(7), torch.tensor(7)])
def test_steps_of_all_kinds(step):
    assert check(row(step=step)).step == 7
