import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lit_rl.callbacks.paper import figure as paper_figure
from lit_rl.callbacks.paper.figure import MAX_POINTS, draw, moving_statistics, thin_out
from lit_rl.callbacks.paper.files import EPISODES, SYNC, PaperFiles


def export(directory, num_episodes, num_updates=10, step=100, rank=0):
    rng = np.random.default_rng(0)
    rewards = (100 * rng.normal(size=num_episodes)).tolist()
    files = PaperFiles(directory, rank)
    rows = [f"{i + 1},0,{reward!r},9,{i:.3f},{reward!r},0.0,0.0" for i, reward in enumerate(rewards)]
    files.write_rows(EPISODES, step, rows)
    files.write_rows(SYNC, step, [f"{i + 1},10,0.01,0.02,333.3" for i in range(num_updates)])
    files.close()


def test_moving_statistics_are_those_of_a_slow_twin():
    values = 1e6 + np.random.default_rng(0).normal(size=30)
    mean, std = moving_statistics(values, 7)
    for i in range(30):
        part = values[max(0, i - 6) : i + 1]
        assert mean[i] == pytest.approx(part.mean(), rel=1e-12)
        assert std[i] == pytest.approx(part.std(ddof=1) if i else 0.0, rel=1e-6)


def test_moving_statistics_of_nothing():
    mean, std = moving_statistics(np.array([]), 5)
    assert len(mean) == len(std) == 0


def test_thin_out_keeps_the_ends():
    assert thin_out(0).tolist() == []
    assert thin_out(3).tolist() == [0, 1, 2]
    many = thin_out(10_000)
    assert len(many) == MAX_POINTS
    assert (many[0], many[-1]) == (0, 9_999)


@pytest.mark.parametrize("num_episodes", [0, 1, 300])
def test_figure_has_300_dots_per_inch_and_the_width_of_two_columns(tmp_path, num_episodes):
    export(tmp_path, num_episodes, num_updates=min(10, num_episodes))
    path = draw(tmp_path, 100)
    assert path == tmp_path / "sync_training_progress_step_100.png"
    with Image.open(path) as image:
        assert image.size == (2148, 1290)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert not list(tmp_path.glob(".*"))


def test_panels(tmp_path, monkeypatch):
    """What a reader needs: titles with letters, axes with names, legends, nothing after the step."""
    export(tmp_path, 5000)
    export(tmp_path, 7, step=200)
    figures = []
    savefig = paper_figure.Figure.savefig
    monkeypatch.setattr(
        paper_figure.Figure,
        "savefig",
        lambda self, *args, **kwargs: (figures.append(self), savefig(self, *args, **kwargs)),
    )
    draw(tmp_path, 100)
    panels = figures[0].axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        "(a) Episode reward",
        "(b) Reward distribution",
        "(c) Episode length",
        "(d) Reward of last 100 episodes",
        "(e) Sync efficiency",
        "(f) Policy version",
    ]
    assert [panel.get_xlabel() for panel in panels] == [
        "episode",
        "total reward",
        "episode",
        "episode",
        "policy version",
        "env steps",
    ]
    assert [panel.get_ylabel() for panel in panels] == [
        "total reward",
        "episodes",
        "length (env steps)",
        "total reward",
        "env steps / s",
        "policy version (updates)",
    ]
    points, mean = panels[0].lines
    assert len(points.get_xdata()) == len(mean.get_xdata()) == MAX_POINTS
    assert mean.get_xdata()[-1] == 5000
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == [
        "episode (1500 of 5000)",
        "mean of last 50",
    ]
    assert panels[5].lines[0].get_xdata()[-1] == 100
    assert panels[5].lines[0].get_ydata()[-1] == 10


def test_episodes_of_all_ranks_are_in_the_order_of_time_and_updates_those_of_the_first(tmp_path):
    export(tmp_path, 4)
    export(tmp_path, 4, rank=1)
    columns = paper_figure.read_columns(tmp_path, EPISODES)
    assert columns["rank"].tolist() == [0] * 4 + [1] * 4
    assert draw(tmp_path, 100).exists()


def test_imports_no_torch():
    code = "import sys, lit_rl.callbacks.paper.figure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_command_names_a_wrong_directory(tmp_path, capsys):
    with pytest.raises(SystemExit):
        paper_figure.main([str(tmp_path / "none"), "100"])
    assert "directory must be one that PaperExport wrote" in capsys.readouterr().err


def test_command_draws(tmp_path):
    export(tmp_path, 3)
    paper_figure.main([str(tmp_path), "100"])
    assert (tmp_path / "sync_training_progress_step_100.png").exists()
