import math

import pytest
from PIL import Image

from lit_rl.callbacks.recorder import figure
from lit_rl.callbacks.recorder.drawing import Drawing
from lit_rl.callbacks.recorder.statistics import LossStatistics


def panel(values, network="ppo", loss="actor_loss"):
    tracked = LossStatistics()
    for step, value in enumerate(values):
        tracked.add(step, step, value)
    return {
        "network": network,
        "loss": loss,
        "curve": tracked.curve.points(),
        "bad_steps": tracked.bad_steps,
        "summary": tracked.summary(),
    }


def content(*panels, missing=None, **counts):
    return {
        "experiment": "x",
        "algorithm": "ppo",
        "source": "measured",
        "step_unit": "env steps",
        "panels": list(panels),
        "missing": missing or {},
        "counts": {"offered": 5, "written": 3, "dropped": 1, "invalid": 1, "pending": 0} | counts,
        "state": "running",
    }


@pytest.mark.parametrize(
    "panels",
    [
        [],
        [panel([1.0])],
        [panel([math.nan])],
        [panel([0.0, math.inf, 0.0])],
        [panel([10.0**-i for i in range(8)])],
        [panel([1e300, -1e300])],
        [panel([float(i % 7) for i in range(3000)], loss=f"loss_{i}") for i in range(4)],
    ],
    ids=["none", "one row", "only NaN", "infinite", "decades", "huge", "many"],
)
def test_draws_whatever_there_is(tmp_path, panels):
    figure.draw(content(*panels, missing={"gnn": "no graph"}), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert image.height > 400


def drawn(monkeypatch, *panels, **kwargs):
    """The matplotlib figure before it is written."""
    figures = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *args, **kwargs: figures.append(self))
    figure.draw(content(*panels, **kwargs), None)
    return figures[0]


def test_what_it_says(monkeypatch):
    values = [float(i) for i in range(40)]
    values[7] = math.nan
    whole = drawn(monkeypatch, panel(values), missing={"gnn": "none", "attention": "none", "sac": "PPO"})
    (axes,) = whole.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("env steps", "actor loss")
    assert axes.get_title("left") == "ppo: actor_loss"
    assert axes.texts[0].get_text() == (
        "last 39   mean 19.8 ± 12   trend rising\nmedian 20   min 0   max 39   n 40   NaN 1"
    )
    assert whole.get_suptitle() == "Losses per network: x (ppo)"
    labels = [text.get_text() for text in whole.legends[0].get_texts()]
    assert labels == ["loss", "trend of the last 100 rows", "NaN or infinite"]
    notes = whole.texts[-1].get_text().splitlines()
    assert notes[:2] == ["missing: gnn, attention (none)", "missing: sac (PPO)"]
    assert notes[2].startswith("rows offered 5 = written 3 + dropped 1 + invalid 1; running, ")


def test_pending_rows_and_other_sources_are_said(monkeypatch):
    whole = drawn(monkeypatch, panel([1.0]), pending=7)
    assert "+ invalid 1 + pending 7; running" in whole.texts[-1].get_text()
    assert figure._title(content() | {"source": "simulated"}).endswith("SIMULATED")


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0, 1000.0], "log"), ([1.0, 100.0], "linear"), ([0.0, 1000.0], "linear")]
)
def test_axis_is_logarithmic_over_decades_of_positive_values(monkeypatch, values, scale):
    assert drawn(monkeypatch, panel(values)).axes[0].get_yscale() == scale


def test_no_text_overlaps(monkeypatch, tmp_path):
    panels = [
        panel([100 * math.sin(i) for i in range(3000)], loss=f"long_name_of_loss_{i}") for i in range(4)
    ]
    whole = drawn(monkeypatch, *panels, missing={name: name for name in ("gnn", "sac", "total")})
    whole.canvas.draw()
    texts = [*whole.texts, *whole.legends[0].get_texts()]
    for axes in whole.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        texts += [axes.xaxis.label, axes.yaxis.label, axes._left_title, axes.texts[0]]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    assert len(boxes) > 40
    for number, (one, box) in enumerate(boxes):
        assert whole.bbox.contains(box.x0, box.y0), one
        assert whole.bbox.contains(box.x1, box.y1), one
        assert not [other for other, its in boxes[:number] if box.overlaps(its)], one


def test_drawing_writes_the_figure_and_its_hourly_copy(tmp_path):
    drawing = Drawing(tmp_path)
    assert drawing.finish(0)
    assert drawing.start(content(panel([1.0, 2.0])))
    assert not drawing.start(content())
    assert drawing.finish(30)
    assert drawing.error is None
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert names[1] == "network_loss_curves_realtime.png"


def test_figure_that_fails_is_an_error_text(tmp_path):
    drawing = Drawing(tmp_path / "gone")
    drawing.start(content())
    drawing.finish(30)
    assert drawing.error is not None
    assert "the figure could not be drawn: FileNotFoundError" in drawing.error
