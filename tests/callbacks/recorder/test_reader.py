import math
from contextlib import closing

from lit_rl.callbacks.recorder.numbers import Row
from lit_rl.callbacks.recorder.reader import count_rows, read_losses, read_rows
from lit_rl.callbacks.recorder.writer import LossWriter
from lit_rl.files import write_json
from lit_rl.loss_log import segments


def write(directory, *rows):
    with closing(LossWriter(directory)) as writer:
        writer.append([Row("ppo", step, float(step), losses) for step, losses in rows])


def test_segments_are_one_table(tmp_path):
    write(tmp_path, (1, {"a": 0.5}), (2, {"a": math.nan}), (3, {"b": 2.0}), (4, {"a": 1.0, "b": 3.0}))
    table = read_losses(tmp_path, "ppo")
    assert table.steps == [1, 2, 3, 4]
    assert table.timestamps == [1, 2, 3, 4]
    assert str(table.losses) == "{'a': [0.5, nan, None, 1.0], 'b': [None, None, 2.0, 3.0]}"


def test_segments_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("x_losses.10.csv", "x_losses.csv", "x_losses.2.csv", "x_losses.2.csv.bak", "y.2_losses.csv"):
        (tmp_path / name).touch()
    found = {network: [path.name for path in paths] for network, paths in segments(tmp_path).items()}
    assert found == {"x": ["x_losses.csv", "x_losses.2.csv", "x_losses.10.csv"], "y.2": ["y.2_losses.csv"]}


def test_torn_and_damaged_lines_are_left_out(tmp_path):
    write(tmp_path, (1, {"a": 0.5}), (2, {"a": 0.25}))
    with (tmp_path / "ppo_losses.csv").open("ab") as file:
        file.write(
            b"3,3.0,measured\nx,3.0,measured,1.0\n\x00\xff\n\n4,4.0,measured,0.125\n5,5.0,measured,0.7"
        )
    assert read_losses(tmp_path, "ppo").losses == {"a": [0.5, 0.25, 0.125]}
    assert count_rows(tmp_path / "ppo_losses.csv") == 7


def test_rows_that_were_trained_again_are_left_out(tmp_path):
    """Steps 1 to 4; resumed at 2 and then 3, 4, 5 again; resumed at 4 and then 5."""
    write(tmp_path, *((step, {"a": 1.0}) for step in (1, 2, 3, 4)))
    write(tmp_path, *((step, {"a": 2.0}) for step in (3, 4, 5)))
    write(tmp_path, (5, {"a": 3.0}))
    marks = [
        {"step": 2, "rows": {"ppo_losses.csv": 4}},
        {"step": 4, "rows": {"ppo_losses.csv": 7, "sac_losses.csv": 3}},
    ]
    write_json(tmp_path / "config.json", {"resumes": marks})
    rows = [(row.step, row.losses["a"]) for row in read_rows(tmp_path, "ppo")]
    assert rows == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]


def test_nothing_there(tmp_path):
    assert read_losses(tmp_path, "ppo").steps == []
    (tmp_path / "ppo_losses.csv").touch()
    assert read_losses(tmp_path, "ppo").steps == []
