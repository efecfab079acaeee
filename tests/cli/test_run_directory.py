import json
from pathlib import Path

import pytest

from lit_rl.cli import run_directory
from lit_rl.cli.errors import CommandError
from lit_rl.cli.run_directory import RunDirectory


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_is_named_after_configuration_time_and_seed_and_never_exists(runs, monkeypatch):
    class Now(run_directory.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5)

    monkeypatch.setattr(run_directory, "datetime", Now)
    names = [RunDirectory().create(runs, "tiny", 7, None).name for _ in range(3)]
    assert names == ["20300102-030405-seed7", "20300102-030405-seed7-2", "20300102-030405-seed7-3"]


def test_latest_points_to_the_newest(runs):
    RunDirectory().create(runs, "tiny", 1, None)
    path = RunDirectory().create(runs, "tiny", 2, None)
    assert (runs / "tiny" / "latest").resolve() == path.resolve()


def fail(root: Path, seed: int, trace: str | None = None) -> None:
    """A run that fails, after leaving ``trace``."""
    with RunDirectory() as run:
        path = run.create(root, "tiny", seed, None)
        run.write_start("model: PPO\n")
        if trace is not None:
            (path / trace).parent.mkdir(exist_ok=True)
            (path / trace).touch()
        raise ValueError("broken")


def test_failed_start_leaves_nothing(runs):
    with pytest.raises(ValueError, match="broken"):
        fail(runs, 1)
    assert not runs.exists()


def test_failed_start_gives_latest_back(runs):
    first = RunDirectory().create(runs, "tiny", 1, None)
    with pytest.raises(ValueError, match="broken"):
        fail(runs, 2)
    assert (runs / "tiny" / "latest").resolve() == first.resolve()


@pytest.mark.parametrize("trace", ["metrics.csv", "checkpoints/interrupted.ckpt"])
def test_what_was_trained_stays(runs, trace):
    with pytest.raises(ValueError, match="broken"):
        fail(runs, 1, trace)
    assert (runs / "tiny" / "latest" / trace).exists()


def test_given_directory_must_be_empty(runs):
    given = runs / "mine"
    assert RunDirectory().create(runs, "tiny", 1, given) == given
    assert not (runs / "latest").exists()
    (given / "notes.txt").touch()
    with pytest.raises(
        CommandError, match=r"--run_dir .*mine is not empty: .*mine/config\.yaml --ckpt_path last"
    ):
        RunDirectory().create(runs, "tiny", 1, given)


def test_directory_that_cannot_be_made(runs):
    runs.write_text("a file")
    with pytest.raises(
        CommandError, match=r"the run directory .* cannot be made: .*; choose one by --run_dir"
    ) as caught:
        RunDirectory().create(runs, "tiny", 1, None)
    assert caught.value.code == 1


def test_start_is_written_and_older_parts_are_kept(runs):
    run = RunDirectory()
    path = run.create(runs, "tiny", 1, None)
    for text in ("a: 1\n", "a: 1\n", "a: 2\n", "a: 3\n"):
        run.write_start(text)
    texts = {file.name: file.read_text() for file in path.glob("config*.yaml")}
    assert texts == {"config.yaml": "a: 3\n", "config-1.yaml": "a: 1\n", "config-2.yaml": "a: 2\n"}
    versions = json.loads((path / "versions.json").read_text())
    assert {"lit_rl", "python", "torch", "lightning", "gymnasium", "numpy", "platform", "cpu", "git"} == set(
        versions
    )
    assert versions["git"] is None  # tmp_path is no repository


def test_an_earlier_run_is_not_written_to_before_its_first_batch(runs):
    path = RunDirectory().create(runs, "tiny", 1, None)
    (path / "config.yaml").write_text("a: 1\n")
    run = RunDirectory()
    run.reuse(path)
    run.write_start("a: 2\n")
    assert [file.name for file in path.iterdir()] == ["config.yaml"]
    assert (path / "config.yaml").read_text() == "a: 1\n"
    assert not run.has_begun
    for _ in range(2):
        run.begin()
        assert run.has_begun
        assert {file.name for file in path.iterdir()} == {"config.yaml", "config-1.yaml", "versions.json"}
    assert (path / "config.yaml").read_text() == "a: 2\n"


def test_a_run_without_a_directory_begins_without_a_trace(runs):
    run = RunDirectory()
    run.begin()
    assert run.has_begun
    assert not runs.exists()


def test_git_state_of_the_working_directory(monkeypatch):
    answers = {"rev-parse": "abc123", "status": " M file.py"}
    monkeypatch.setattr(run_directory, "_run_git", lambda *args: answers[args[0]])
    assert run_directory.versions()["git"] == {"commit": "abc123", "dirty": True}
    answers["status"] = ""
    assert run_directory.versions()["git"] == {"commit": "abc123", "dirty": False}


def test_order_of_calls_is_checked():
    with pytest.raises(ValueError, match="call create or reuse first"):
        RunDirectory().write_start("")
    run = RunDirectory()
    assert run.reuse(Path("x")) == Path("x") == run.path


def test_a_given_directory_beside_nothing_else_is_removed_without_its_parent(runs):
    """The parent of a relative path is ``.``, which cannot be removed: that error hid the first one."""
    directory = RunDirectory()
    directory.create(runs, "tiny", 7, Path("a"))
    directory.__exit__(ValueError, ValueError("the first failure"), None)
    assert list(Path.cwd().iterdir()) == []


def test_a_configuration_named_config_names_the_run_after_its_folder_only_in_a_run(run, fitted, cwd):
    own = cwd / "mine" / "config.yaml"
    own.parent.mkdir()
    own.write_text((cwd / "tiny.yaml").read_text())
    assert run("fit", "--config", own, "--seed_everything", "1") == 0
    assert run("fit", "--config", fitted / "config.yaml", "--seed_everything", "2") == 0
    assert {path.name for path in (cwd / "runs").iterdir()} == {"tiny", "config"}
    assert len([path for path in (cwd / "runs" / "tiny").iterdir() if not path.is_symlink()]) == 2
