"""The page as text: valid, escaped, small, and right whatever state the run is in."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lit_rl.report import html
from lit_rl.report.html import write_report
from tests.report.conftest import process_json

VOID = {"meta", "link", "br", "img", "input", "hr", "col"}


class Strict(HTMLParser):
    """Checks that elements nest, ids are unique and nothing is loaded; keeps the text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert text.startswith("<!doctype html>\n")
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert len(given) == len(attrs)
        assert not given.get("src")
        assert given.get("href", "data:,") == "data:,"
        self.ids += [given["id"]] if "id" in given else []
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data[self.open[-1] if self.open else ""] = (
            self.data.get(self.open[-1] if self.open else "", "") + data
        )


def page(*runs, out=None):
    path = write_report(runs, out)
    text = path.read_text()
    parsed = Strict(text)
    charts = json.loads(text.partition('id="charts">')[2].partition("</script>")[0])
    return text, parsed, charts


def headings(parsed):
    return parsed.data["h2"]


def test_page_of_one_run_lies_in_it(make_run):
    run = make_run("a")
    text, parsed, charts = page(run)
    assert (run / "report.html").read_text() == text
    assert parsed.data["title"] == parsed.data["h1"] == "PPO, CartPole-v1"
    assert headings(parsed) == "RunsLearning curvesEvaluationLossesSpeedTo repeat itWhat was dropped"
    assert parsed.data["h3"] == "Training returnEvaluation returnlearner: valueThroughput"
    assert len(charts) == text.count('<figure class="chart">') == 4
    assert charts[0]["lines"] == [
        {
            "name": "PPO, CartPole-v1",
            "color": 0,
            "thin": False,
            "x": [100, 200, 300, 400],
            "y": [11, 12, 13, 14],
        }
    ]
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_runs_of_one_configuration_have_a_mean_with_an_interval(make_run, tmp_path):
    _, parsed, charts = page(*(make_run(f"a{seed}", seed) for seed in (1, 2)), out=tmp_path / "both.html")
    *thin, mean = charts[0]["lines"]
    assert [line["name"] for line in thin] == ["seed 1", "seed 2"]
    assert mean["name"] == "PPO, CartPole-v1: mean of 2 runs"
    assert mean["y"] == [16, 17, 18, 19]
    assert mean["high"] == pytest.approx([y + 12.7062 * 5 for y in mean["y"]], rel=1e-4)
    assert "low" not in charts[2]["lines"][-1]  # bands for returns only
    assert "2 runs of 1 configuration" in parsed.data["p"]


def test_text_from_files_is_escaped(make_run):
    evil = "</script><script>alert(1)</script><b>"
    run = make_run(
        "a&b", seed=1, env=evil, head=f"step,episode/return_mean,loss/{evil},time/env_steps_per_s,x,y"
    )
    text, parsed, charts = page(run)
    assert "<script>alert" not in text
    assert parsed.data["h1"] == f"PPO, {evil}"
    assert f"learner: {evil}" in parsed.data["h3"]
    assert charts[0]["lines"][0]["name"] == f"PPO, {evil}"
    assert "a <fast> one" in parsed.data["td"]


@pytest.mark.parametrize("name", ["config.yaml", "versions.json", "metrics.csv", "process.json", None])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_crashed_run_with_torn_files(make_run, name, share):
    run = make_run("a", process=process_json("running", create_time=1.0))
    for path in [run / name] if name else [path for path in run.iterdir() if path.is_file()]:
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    _, parsed, _ = page(run)
    assert headings(parsed).startswith("Runs")
    if name != "process.json" and name is not None:
        assert "crashed" in parsed.data["span"]


def test_running_run_without_a_row(make_run):
    run = make_run("a")
    (run / "metrics.csv").unlink()
    _, parsed, charts = page(run)
    assert headings(parsed) == "RunsTo repeat itWhat was dropped"
    assert charts == []


def test_what_was_dropped_is_told(make_run):
    run = make_run("a", rows=["100,1,nan,3,4,5", "200,inf,2,3,4,5", "300,1"])
    folder = run / "network_loss_logs" / "a_loss_log"
    folder.mkdir(parents=True)
    counts = {"offered": 9, "written": 7, "dropped": 2, "invalid": 0}
    (folder / "recorder.json").write_text(json.dumps({"state": "finished", **counts}))
    (run / "paper_data").mkdir()
    (run / "paper_data" / "sync_training_summary.json").write_text('{"rows_lost": 3}')
    _, parsed, charts = page(run)
    assert parsed.data["li"] == "".join(
        [
            "a: metrics.csv: 1 incomplete line left out",
            "a: loss recorder: 9 offered, 7 written, 2 dropped, 0 invalid",
            "a: paper export: 3 rows could not be written",
            "a: episode/return_mean: 1 of 2 values not finite",
            "a: loss/value: 1 of 2 values not finite",
            "a: learner value: 1 of 2 values not finite",
        ]
    )
    assert charts[0]["lines"][0]["y"] == [1, None]


def test_whole_run_dropped_nothing(make_run):
    assert page(make_run("a"))[1].data["li"] == "Nothing: every file was read in full."


def test_sections_appear_with_their_data(make_run):
    head = "step,Sync/Efficiency,Sync/CollectionTime,Sync/UpdateTime,policy/kl,policy/entropy"
    run = make_run("a", head=head)
    (run / "paper_data").mkdir()
    for step, usage in ((99, {"0": 1}), (1000, {"0": 3, "1": 12})):
        content = {"team_skills": usage, "skill_switches": 5, "total_steps": step}
        (run / "paper_data" / f"skill_usage_step_{step}.json").write_text(json.dumps(content))
    (run / "paper_data" / "skill_usage_step_2000_rank1.json").write_text('{"team_skills": {"7": 1}}')
    _, parsed, _ = page(run)
    assert headings(parsed) == "RunsPolicy and valueSynchronous updatesSkillsTo repeat itWhat was dropped"
    assert parsed.data["caption"] == "PPO, CartPole-v1, seed 1: 5 switches"
    assert parsed.data["th"].endswith("team skill 0team skill 1hardware and versions")


def test_empty_skills_are_no_section(make_run):
    run = make_run("a")
    (run / "paper_data").mkdir()
    (run / "paper_data" / "skill_usage_step_5.json").write_text('{"team_skills": {}}')
    assert "Skills" not in headings(page(run)[1])


def test_networks_without_a_loss_are_named(make_run):
    run = make_run("a")
    folder = run / "network_loss_logs" / "a_loss_log"
    folder.mkdir(parents=True)
    networks = {"sac": {"status": "missing", "reason": "the learner is PPO"}}
    (folder / "config.json").write_text(json.dumps({"networks": networks}))
    (folder / "ppo_losses.csv").write_text(
        "step,timestamp,source,actor_loss\n1,0,measured,2\n2,0,measured,1\n"
    )
    _, parsed, _ = page(run)
    assert "Not recorded: sac (the learner is PPO)." in parsed.data["p"]
    assert "ppo: actor_loss" in parsed.data["h3"]
    assert "Trend: insufficient." in parsed.data["figcaption"]


def test_losses_over_decades_are_logarithmic(make_run):
    rows = [f"{k},1,{10.0**-k},1000,1,1" for k in range(1, 6)]
    assert [chart["log"] for chart in page(make_run("a", rows=rows))[2]] == [False, False, True, False]


def test_evaluation_by_lit_rl_test(make_run):
    run = make_run("a")
    result = {"return_mean": 123.456, "return_std": 7.0, "episodes": 20, "env_steps": 400}
    (run / "eval.json").write_text(json.dumps(result))
    assert "agreedy policy123.5720400" in page(run)[1].data["td"]  # older files do not say
    for policy, words in (("greedy", "greedy policy"), ("sample", "sampled policy"), (None, "")):
        (run / "eval.json").write_text(json.dumps({**result, "eval_policy": policy}))
        assert f"a{words}123.5720400" in page(run)[1].data["td"]
    (run / "eval.json").write_text('{"return_mean": "torn"}')
    assert "torn" not in page(run)[1].data["td"]


def test_long_runs_and_many_runs_stay_under_two_megabytes(make_run):
    rng = np.random.default_rng(0)
    losses = ",".join(f"loss/{k}" for k in range(8))
    head = f"step,episode/return_mean,eval/return_mean,{losses}"
    rows = [f"{256 * k}," + ",".join(map(str, rng.normal(size=10) * 100)) for k in range(1, 2001)]
    runs = [make_run(f"a{k}", k, rows=rows if k < 4 else rows[:700], head=head) for k in range(40)]
    assert len(page(*runs)[0].encode()) < 2_000_000
    assert len(page(runs[0])[0].encode()) < 200_000


def test_nothing_is_left_of_a_page_that_could_not_be_written(make_run, monkeypatch, tmp_path):
    run = make_run("a")
    old = page(run)[0]

    def fail(path, target):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_report([run])
    assert (run / "report.html").read_text() == old
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_page_loads_nothing_from_elsewhere(make_run):
    text = page(make_run("a"))[0].replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text
    assert "@import" not in text
    assert "url(#" in text
    assert text.count("url(") == text.count("url(#")
    assert html.POINTS_PER_PAGE * 20 < 2_000_000
