import math
import os

import pytest

from lit_rl.report import tables
from lit_rl.report.tables import last_row, read_table


@pytest.fixture
def read(tmp_path):
    def write_and_read(text, **kwargs):
        path = tmp_path / "metrics.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_table(path, **kwargs)

    return write_and_read


def rows(series):
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_columns_keep_the_values_that_are_there(read):
    table = read("step,a,b\r\n10,1.5,\r\n20,,2.5\r\n30,3.5,nan\r\n")
    assert rows(table.columns["a"]) == [(10, 1.5), (30, 3.5)]
    assert table.columns["b"].steps.tolist() == [20, 30]
    assert (table.last_step, table.damaged, table.columns["a"].last) == (30, 0, 3.5)


def test_torn_tail_and_damaged_lines_are_counted_and_left_out(read):
    table = read("step,a,b\n10,1,2\n20,3\nx,1,2\n30,4,5\n\n40,9")
    assert rows(table.columns["a"]) == [(10, 1), (30, 4)]
    assert (table.damaged, table.last_step) == (4, 30)


@pytest.mark.parametrize(
    "content", [b"", b"step,a", b"\x00\xff\n\x00\n", b'"' + b"x" * 200_000 + b'"\n1\n', b"a,b\n1,2\n"]
)
def test_what_is_no_table_is_an_empty_one(read, content):
    assert read(content).columns == {}


def test_missing_file_is_an_empty_table(tmp_path):
    assert read_table(tmp_path / "nothing.csv").last_step == 0


def test_steps_may_go_back_and_the_later_row_counts(read):
    table = read("step,a\n10,1\n20,2\n30,3\n20,-2\n25,-2.5\n")
    assert rows(table.columns["a"]) == [(10, 1), (20, -2), (25, -2.5), (30, 3)]


def test_rows_that_were_trained_again_are_left_out(read):
    table = read("step,a\n10,1\n20,2\n30,3\n20,-2\n25,-2.5\n", trained_again=[(3, 10)])
    assert rows(table.columns["a"]) == [(10, 1), (20, -2), (25, -2.5)]
    assert table.last_step == 25


def test_columns_of_text_are_no_values(read):
    table = read("step,timestamp,source,loss\n1,100.5,measured,0.5\n")
    assert set(table.columns) == {"loss"}


def test_only_the_end_of_a_large_table_is_read(read, tmp_path):
    lines = [f"{k},{k / 2}\n" for k in range(1, 2001)]
    table = read("step,a\n" + "".join(lines), tail=100)
    assert (table.last_step, table.damaged, table.columns["a"].last) == (2000, 0, 1000.0)
    assert table.unread == sum(map(len, lines)) - sum(
        len(line) for line in lines[-len(table.columns["a"].steps) :]
    )
    assert table.unread > sum(map(len, lines)) - 100
    assert read("step,a\n1,2\n", tail=100).unread == 0
    assert last_row(tmp_path / "metrics.csv", 100) == {"step": 1.0, "a": 2.0}


def test_numbers_that_would_overflow_are_infinite_and_such_steps_damage(read):
    table = read(f"step,a\n1,1e308\n2,-{'9' * 5000}\n3,1e100\n1e300,1\nnan,1\n{'9' * 5000},1\n")
    assert table.columns["a"].values.tolist() == [math.inf, -math.inf, 1e100]
    assert (table.damaged, table.last_step) == (3, 3)


def test_a_line_or_a_header_without_end_takes_no_memory(read, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_LINE", 50)
    monkeypatch.setattr(tables, "MOST_COLUMNS", 3)
    table = read(f"step,a\n1,2\n2,{'3' * 200}\n3,4\n{'5' * 500}")
    assert (rows(table.columns["a"]), table.damaged) == ([(1, 2), (3, 4)], 2)
    assert read("step,a,b,c\n1,2,3,4\n").columns == {}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    make(tmp_path / "metrics.csv")
    with pytest.raises(OSError, match="not a regular file"):
        read_table(tmp_path / "metrics.csv")
