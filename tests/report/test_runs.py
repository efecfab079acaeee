import os

import pytest

from lit_rl.report.runs import find_runs, group_runs, is_run, read_run
from tests.report.conftest import process_json


def groups_of(*paths):
    return group_runs([read_run(path) for path in paths])


def test_reads_what_a_run_says(make_run):
    run = read_run(make_run("a", seed=3))
    assert (run.name, run.seed, run.algorithm, run.environment) == ("a", "3", "PPO", "CartPole-v1")
    assert (run.env_steps, run.total_env_steps, run.state.name, run.notes) == (400, 400, "finished", [])
    assert run.last("episode/return_mean") == 34.0
    assert run.table.columns["eval/return_mean"].steps.tolist() == [300, 400]
    assert run.series("nothing") is run.last("nothing") is None
    assert run.versions["git"]["commit"] == "abc123"


def test_torn_and_missing_files_are_noted(make_run):
    path = make_run("a", rows=["100,1,2,3,4,5", "200,1"])
    (path / "config.yaml").write_text("model: {init_args: [")
    (path / "versions.json").write_text('{"lit_rl": ')
    (path / "process.json").unlink()
    (path / "eval.json").write_text("[]")
    run = read_run(path)
    assert run.notes == ["config.yaml is damaged", "versions.json is damaged", "eval.json is damaged"]
    assert (run.env_steps, run.table.damaged, run.total_env_steps) == (100, 1, None)
    assert (run.algorithm, run.environment, run.seed, run.state.name) == (
        "unknown",
        "unknown",
        "unknown",
        "unknown",
    )
    (path / "config.yaml").unlink()
    assert "config.yaml is missing" in read_run(path).notes


@pytest.mark.parametrize("text", ["[]", "7", "model: 3\ndata: {init_args: 4}\nbudget: 5", "a: \x07"])
def test_configuration_of_any_shape_is_survived(make_run, text):
    path = make_run("a", process=process_json(total_env_steps=None))
    (path / "config.yaml").write_text(text)
    (group,) = groups_of(path)
    assert (group.runs[0].environment, group.runs[0].total_env_steps) == ("unknown", None)


def test_runs_that_differ_in_seed_and_watching_only_are_one_group(make_run):
    paths = [make_run(name, seed) for name, seed in (("a", 1), ("b", 2))]
    text = (paths[1] / "config.yaml").read_text().replace("accelerator: cpu", "accelerator: gpu")
    first = (paths[0] / "config.yaml").read_text()
    (paths[0] / "config.yaml").write_text(first.replace("seed: null", "seed: null\n    replay: true"))
    (paths[1] / "config.yaml").write_text(text.replace("seed: null", "seed: 9\n    playback: false"))
    (group,) = groups_of(*paths)
    assert [run.seed for run in group.runs] == ["1", "2/9"]
    assert (group.label, group.method, group.environment) == ("PPO, CartPole-v1", "PPO", "CartPole-v1")


def test_groups_are_named_by_what_tells_them_apart(make_run):
    found = groups_of(
        make_run("a", clip=0.1, gamma=0.9),
        make_run("b", clip=0.3, gamma=0.9),
        make_run("c", clip=0.3, gamma=0.8),
        make_run("d", env="Acrobot-v1"),
        make_run("e", seed=2, clip=0.3, gamma=0.8),
    )
    assert [group.label for group in found] == [
        "PPO, CartPole-v1, clip 0.1",
        "PPO, CartPole-v1, clip 0.3, gamma 0.9",
        "PPO, CartPole-v1, gamma 0.8",
        "PPO, Acrobot-v1",
    ]
    assert [len(group.runs) for group in found] == [1, 1, 2, 1]


def test_runs_without_configuration_are_groups_of_their_own(make_run):
    paths = [make_run(name) for name in "ab"]
    for path in paths:
        (path / "config.yaml").unlink()
    assert [group.label for group in groups_of(*paths)] == ["unknown, unknown, a", "unknown, unknown, b"]


def test_finds_runs_in_folders_through_links_and_each_once(make_run, monkeypatch, tmp_path):
    first, second = make_run("ppo/a"), make_run("ppo/b")
    link = first.parent / "latest"
    link.symlink_to("b")
    monkeypatch.chdir(tmp_path)
    relative = [path.relative_to(tmp_path) for path in (first, second)]
    runs = tmp_path / "runs"
    assert find_runs([runs]) == find_runs([runs / "ppo"]) == find_runs([runs, link]) == relative
    assert find_runs([link, first]) == relative[::-1]
    monkeypatch.chdir(first)
    assert find_runs([second]) == [second]
    os.chdir(second)
    assert read_run(find_runs([second])[0]).name == "b"


def test_what_is_no_run_is_refused_in_one_line(tmp_path):
    for path, what in ((tmp_path, "has no runs in it"), (tmp_path / "x", "does not exist")):
        with pytest.raises(ValueError, match=rf"{path} {what}: expected a run directory \(with metrics.csv,"):
            find_runs([path])


def test_run_that_crashed_at_its_start_is_a_run(make_run, tmp_path):
    path = make_run("a")
    (path / "metrics.csv").unlink()
    assert is_run(path)
    assert read_run(path).env_steps == 0
    assert not is_run(tmp_path)
