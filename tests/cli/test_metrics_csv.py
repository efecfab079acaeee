import csv

import pytest

from lit_rl.cli.metrics_csv import MetricsCSV


@pytest.fixture
def read(tmp_path):
    def rows():
        with (tmp_path / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return rows


def test_values_of_one_step_share_a_row(tmp_path, read):
    table = MetricsCSV(str(tmp_path))
    table.log_metrics({"a": 1.5}, step=10)
    table.log_metrics({"b": 2.5}, step=10)
    table.log_metrics({"a": 3.5}, step=20)
    table.save()
    assert read() == [{"step": "10", "a": "1.5", "b": "2.5"}, {"step": "20", "a": "3.5", "b": ""}]


def test_a_row_that_was_saved_too_early_is_completed(tmp_path, read):
    table = MetricsCSV(tmp_path)
    for values, step in (({"a": 1, "b": 2}, 10), ({"a": 3}, 20), ({"b": 4}, 20), ({"a": 5, "b": 6}, 30)):
        table.log_metrics(values, step)
        table.save()
    assert [list(row.values()) for row in read()] == [["10", "1", "2"], ["20", "3", "4"], ["30", "5", "6"]]


def test_new_columns_keep_old_rows(tmp_path, read):
    table = MetricsCSV(tmp_path)
    for step, metrics in enumerate([{"a": 1}, {"a": 2}, {"b": 3}]):
        table.log_metrics(metrics, step)
        table.save()
    assert read() == [
        {"step": "0", "a": "1", "b": ""},
        {"step": "1", "a": "2", "b": ""},
        {"step": "2", "a": "", "b": "3"},
    ]


def test_a_resumed_run_appends(tmp_path, read):
    for first in (1, 3):
        table = MetricsCSV(tmp_path)
        table.log_metrics({"a": first}, first)
        table.log_metrics({"a": first + 1}, first + 1)
        table.finalize("success")
    assert [row["step"] for row in read()] == ["1", "2", "3", "4"]


def test_rows_after_the_checkpoint_are_replaced(tmp_path, read, caplog):
    caplog.set_level("INFO", "lit_rl")
    table = MetricsCSV(tmp_path)
    for step in (10, 20, 30, 40):
        table.log_metrics({"a": step}, step)
    table.save()
    resumed = MetricsCSV(tmp_path, resume_step=20)
    resumed.log_metrics({"a": -30}, 30)
    resumed.save()
    assert [(row["step"], row["a"]) for row in read()] == [("10", "10"), ("20", "20"), ("30", "-30")]
    assert "metrics.csv: 2 rows after 20 env steps are trained again" in caplog.text


def test_a_line_that_a_killed_process_left_incomplete_is_dropped(tmp_path, read):
    (tmp_path / "metrics.csv").write_text("step,a,b\n1,2.0,3.0\n2,4.")
    resumed = MetricsCSV(tmp_path, resume_step=1)
    resumed.log_metrics({"a": 5.0}, 2)
    resumed.save()
    assert [row["a"] for row in read()] == ["2.0", "5.0"]


def test_writes_once_a_second_all_but_the_newest_row(tmp_path, read, monkeypatch):
    now = 0.0
    monkeypatch.setattr("lit_rl.cli.metrics_csv.time.monotonic", lambda: now)
    table = MetricsCSV(tmp_path)
    table.log_metrics({"a": 1}, 1)
    table.log_metrics({"a": 2}, 2)
    assert not (tmp_path / "metrics.csv").exists()
    now = 1.5
    table.log_metrics({"a": 3}, 3)
    assert [row["step"] for row in read()] == ["1", "2"]


def test_nothing_logged_writes_nothing(tmp_path):
    MetricsCSV(tmp_path).finalize("success")
    assert list(tmp_path.iterdir()) == []
