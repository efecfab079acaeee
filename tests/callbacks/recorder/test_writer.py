import math
from pathlib import Path

import pytest

from lit_rl.callbacks.recorder.numbers import Row
from lit_rl.callbacks.recorder.writer import LossWriter


@pytest.fixture
def open_writer():
    writers = []

    def open_one(*args, **kwargs):
        writers.append(LossWriter(*args, **kwargs))
        return writers[-1]

    yield open_one
    for writer in writers:
        writer.close()


def row(step, network="ppo", **losses):
    return Row(network, step, 1700000000.25, losses or {"actor_loss": step / 2})


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_columns_of_the_first_row(tmp_path, open_writer):
    writer = open_writer(tmp_path)
    writer.append([row(1, actor_loss=0.1, critic_loss=math.nan)])
    writer.append([row(2, critic_loss=-math.inf), row(1, "total", total_loss=3.0)])
    assert lines(tmp_path / "ppo_losses.csv") == [
        "step,timestamp,source,actor_loss,critic_loss",
        "1,1700000000.250000,measured,0.1,nan",
        "2,1700000000.250000,measured,,-inf",
    ]
    assert lines(tmp_path / "total_losses.csv")[1:] == ["1,1700000000.250000,measured,3.0"]
    assert writer.sizes == {path.name: path.stat().st_size for path in tmp_path.iterdir()}


def test_new_loss_opens_a_segment_and_later_rows_stay_in_it(tmp_path, open_writer):
    writer = open_writer(tmp_path)
    writer.append([row(1), row(2), row(3, new_loss=7.0), row(4)])
    writer.append([row(5)])
    assert len(lines(tmp_path / "ppo_losses.csv")) == 3
    assert lines(tmp_path / "ppo_losses.1.csv") == [
        "step,timestamp,source,actor_loss,new_loss",
        "3,1700000000.250000,measured,,7.0",
        "4,1700000000.250000,measured,2.0,",
        "5,1700000000.250000,measured,2.5,",
    ]


def test_large_file_is_followed_by_a_new_one(tmp_path, open_writer):
    writer = open_writer(tmp_path, max_segment_bytes=100)
    for step in range(5):
        writer.append([row(step)])
    assert len(list(tmp_path.iterdir())) > 1
    assert sum(len(lines(path)) - 1 for path in tmp_path.iterdir()) == 5
    assert all(path.stat().st_size < 200 for path in tmp_path.iterdir())


def test_goes_on_where_an_earlier_process_stopped(tmp_path, open_writer):
    open_writer(tmp_path).append([row(1), row(2, new_loss=1.0)])
    with (tmp_path / "ppo_losses.1.csv").open("a") as file:
        file.write("3,17000")
    (tmp_path / "sac_losses.csv").write_text("step,time")
    writer = open_writer(tmp_path)
    writer.repair()
    writer.append([row(3)])
    assert [line.partition(",")[0] for line in lines(tmp_path / "ppo_losses.1.csv")] == ["step", "2", "3"]
    assert not (tmp_path / "sac_losses.csv").exists()


def test_what_was_not_acknowledged_is_taken_back(tmp_path, open_writer):
    writer = open_writer(tmp_path)
    writer.append([row(1)])
    acknowledged = dict(writer.sizes)
    before = (tmp_path / "ppo_losses.csv").read_bytes()
    writer.append([row(2), row(3, new_loss=1.0), row(1, "gnn")])
    follower = open_writer(tmp_path)
    follower.restore(acknowledged)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"ppo_losses.csv": before}
    follower.append([row(2)])
    assert len(lines(tmp_path / "ppo_losses.csv")) == 3


def test_batch_that_does_not_fit_leaves_nothing(tmp_path, open_writer):
    (tmp_path / "sac_losses.csv").symlink_to("/dev/full")
    writer = open_writer(tmp_path)
    writer.append([row(1)])
    before = (tmp_path / "ppo_losses.csv").read_bytes()
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            writer.append([row(2), row(2, "gnn"), row(2, "sac")])
        assert (tmp_path / "ppo_losses.csv").read_bytes() == before
        assert not (tmp_path / "gnn_losses.csv").exists()
    (tmp_path / "sac_losses.csv").unlink()
    writer.append([row(2), row(2, "sac")])
    assert len(lines(tmp_path / "ppo_losses.csv")) == 3
    assert len(lines(tmp_path / "sac_losses.csv")) == 2


def test_names_with_commas(tmp_path, open_writer):
    writer = open_writer(tmp_path)
    writer.append([Row("ppo", 1, 0.0, {'a,"b"': 1.0})])
    assert lines(tmp_path / "ppo_losses.csv")[0] == 'step,timestamp,source,"a,""b"""'
