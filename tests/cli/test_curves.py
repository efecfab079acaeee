from __future__ import annotations

import random
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow as slow
from tensorboard.summary.writer import record_writer

from lit_rl.cli.curves import Curves, masked_crc32c


def test_checksums_are_those_of_tensorboard():
    numbers = random.Random(0)
    for size in (0, 1, 8, 1000):
        data = numbers.randbytes(size)
        assert masked_crc32c(data) == slow.masked_crc32c(data)


def test_tensorboard_writes_with_the_fast_checksum():
    # the name is where tensorboard looks it up; should a release move it, only speed is lost
    assert record_writer.RecordWriter.write.__globals__["masked_crc32c"] is masked_crc32c


def test_values_of_a_batch_are_read_back(tmp_path: Path):
    curves = Curves(tmp_path, name="", version="", default_hp_metric=False)
    for step in range(3):
        curves.log_metrics({"loss/policy": step / 2, "Sync/PolicyVersion": step}, step=10 * step)
    curves.save()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/policy")] == [
        (0, 0),
        (10, 0.5),
        (20, 1),
    ]
    assert events.Tags()["scalars"] == ["loss/policy", "Sync/PolicyVersion"]
    curves.finalize("success")
