"""The page in a headless browser: the script runs to its end, curves are drawn, nothing is complained of."""

import json
import re
import shutil
import subprocess

import pytest

from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.report.html import write_report
from tests.report.test_playback import record

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium on PATH")


def load(path):
    """The page's elements after its script ran, and what the console said."""
    profile = path.parent / "profile"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
    ]
    done = subprocess.run(
        [str(BROWSER), *flags, "--virtual-time-budget=2000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_curves_are_drawn_without_an_error(make_run, tmp_path):
    runs = [make_run(f"a{seed}", seed) for seed in (1, 2)]
    runs.append(make_run("b", 1, clip=0.1, rows=["100,1,nan,3,4,5", "200,nan,2,3,4,5", "300,5,1e-7,3,4,5"]))
    runs.append(make_run("c", 1, env="Empty-v0", rows=["100,nan,nan,nan,nan,nan"]))
    dom, console = load(write_report(runs, tmp_path / "report.html"))
    assert console == []
    assert "data-error" not in dom
    ready = re.search(r'<html[^>]* data-ready="(\d+)"', dom)
    assert ready
    assert int(ready[1]) == dom.count("<figcaption") == 4
    curves = re.findall(r'<path class="curve" d="([^"]*)"', dom)
    assert len(curves) == 4 * (3 + 1 + 1)  # two runs and their mean, one run, one without a finite value
    drawn = [curve for curve in curves if curve]
    assert len(drawn) == 4 * (3 + 1)
    assert all(re.fullmatch(r"(M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)*)+", curve) for curve in drawn), drawn
    assert "NaN" not in dom
    assert dom.count(">env steps</text>") == 4


def test_page_without_a_finite_value_is_ready(make_run, tmp_path):
    run = make_run("a", rows=["0,nan,nan,inf,4,nan"])
    dom, console = load(write_report([run], tmp_path / "report.html"))
    assert console == []
    assert 'data-ready="4"' in dom
    assert dom.count(">No finite values.</p>") == 4


def test_a_playback_plays_and_can_be_moved(make_run, tmp_path):
    run = make_run("a")
    (run / "playback.json").write_text(json.dumps(record(UAVNetwork(1), 30)))
    page = write_report([run], tmp_path / "report.html")
    dom, console = load(page)
    assert console == []
    assert "data-error" not in dom
    assert '<div class="controls">' in dom  # shown by the script
    assert ">t = 29 s" in dom
    use = """
        const slider = document.querySelector("input"), button = document.querySelector("button");
        slider.value = 7; slider.dispatchEvent(new Event("input"));
        document.body.dataset.moved = slider.getAttribute("aria-valuetext");
        button.click(); document.body.dataset.label = button.textContent;
    """
    text = page.read_text()
    page.write_text(text.replace("</script>\n\n</body>", use + "</script>\n\n</body>"))
    dom, console = load(page)
    assert console == []
    assert re.search(r'data-moved="t = 7 s', dom)
    assert 'data-label="Pause"' in dom
    played = re.search(r'class="now"[^>]*>t = (\d+) s', dom)
    assert played
    assert 7 < int(played[1]) <= 29
