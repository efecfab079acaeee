from __future__ import annotations

import math

import pytest

from lit_rl.algos.batch_log import BatchLog, refuse_not_finite
from tests.toys import MemoryLogger


class Table(MemoryLogger):
    is_row_per_batch = True


def test_a_batch_is_written_once_with_what_callbacks_added():
    curves, table, log = MemoryLogger(), Table(), BatchLog()
    log.begin({"loss": 1.0})
    log.add_point({"episode": 7.0}, [curves, table], 12)
    log.add_point({"episode": 8.0}, [curves, table], 15)
    log.add({"sync": 2.0}, [curves, table], 16)
    log.write([curves, table], 16)
    assert curves.rows == [(12, {"episode": 7}), (15, {"episode": 8}), (16, {"loss": 1, "sync": 2})]
    assert table.rows == [(16, {"loss": 1, "sync": 2, "episode": 8})]
    log.write([curves, table], 16)  # nothing is left
    assert len(curves.rows) == 3
    assert len(table.rows) == 1


def test_outside_of_a_batch_values_are_written_at_once():
    logger, log = MemoryLogger(), BatchLog()
    log.add({"eval": 3.0}, [logger], 20)
    assert logger.rows == [(20, {"eval": 3})]


def test_what_is_not_finite_is_named():
    refuse_not_finite({"a": 0.0}, 1, 1)
    with pytest.raises(
        FloatingPointError, match=r"b became nan in the update after 64 env steps \(policy version 3"
    ):
        refuse_not_finite({"a": 0.0, "b": math.nan}, 64, 3)
