import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """\
seed_everything: 7
model: {class_path: lit_rl.PPO}
data: {class_path: lit_rl.RolloutDataModule, init_args: {env: CartPole-v1}}
budget: {total_env_steps: 200}
"""


@pytest.fixture
def made(cwd: Path) -> Path:
    """The files of a small run, relative to the working directory."""
    path = Path("runs/made/a")
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(CONFIG)
    (path / "versions.json").write_text('{"lit_rl": "0.1.0"}')
    (path / "metrics.csv").write_text("step,episode/return_mean\n100,20.0\n200,30.0\n")
    return path


def test_real_runs(run, fitted, cwd, capsys):
    assert run("fit", "--config", "tiny.yaml", "--seed_everything", "8") == 0
    capsys.readouterr()
    assert run("status", fitted) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [str(fitted), "  state       finished", "  env steps   128 of 128 (100.0%)"]
    assert "  policy      version 4" in lines
    assert run("report", "runs/tiny") == 0
    assert capsys.readouterr().out == f"written {fitted}/report.html\n"
    page = (fitted / "report.html").read_text()
    for text in ("PPO, CartPole-v1: mean of 2 runs", "finished", "learner: value", "KL divergence"):
        assert text in page
    assert run("paper", "runs/tiny", "--out", "figures") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "written figures/table.tex"
    assert len(list((cwd / "figures").iterdir())) == 5
    assert "PPO & 2 & 128 &" in (cwd / "figures" / "table.tex").read_text()


@pytest.mark.parametrize("command", ["report", "status", "paper"])
def test_loads_neither_torch_nor_lightning(made, command):
    code = (
        "import sys; from lit_rl.cli import main; main(sys.argv[1:]);"
        "sys.exit(str({'torch', 'lightning', 'matplotlib.pyplot'} & {*sys.modules} or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, made], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
    assert str(made) in done.stdout


def test_several_runs(run, made, cwd, capsys):
    shutil.copytree(made, cwd / "other")
    (made.parent / "latest").symlink_to("a")
    assert run("status", made, "other", "runs/made", "runs/made/latest") == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert (first.splitlines()[0], second.splitlines()[0]) == (str(made), "other")


def test_report_can_lie_elsewhere(run, made, cwd):
    assert run("report", "runs/made", "--out", "mine.html") == 0
    assert (cwd / "mine.html").exists()
    assert not (made / "report.html").exists()


def test_paper_lies_in_the_first_run(run, made, capsys):
    assert run("paper", made) == 0
    names = ("training_return_CartPole-v1.pdf", "training_return_CartPole-v1.png", "table.tex")
    assert capsys.readouterr().out == "".join(f"written {made}/paper/{name}\n" for name in names)


def test_equal_seeds(error, made, cwd):
    shutil.copytree(made, cwd / "copy")
    message = error(2, "paper", made, "copy")
    assert message == (
        f"runs of PPO, CartPole-v1 must have different seeds, but {made} and copy both have seed 7: "
        "leave one of them out"
    )


@pytest.mark.parametrize("command", ["report", "status", "paper"])
def test_what_is_no_run(error, cwd, command):
    message = error(2, command, "nowhere")
    assert message.startswith("nowhere does not exist: expected a run directory (with metrics.csv, or config")
    assert error(2, command, ".").startswith(". has no runs in it: expected a run directory")


def test_wrong_command_lines(error, made):
    assert error(2, "report") == (
        "the following arguments are required: RUN; expected lit-rl report RUN [RUN ...] [--out report.html]"
    )
    assert error(2, "status", made, "--out", "x").endswith("expected lit-rl status RUN [RUN ...]")
    assert error(2, "report", made, "--out", ".") == "--out . is a folder: give a file, as in report.html"
    assert error(2, "paper", made, "--out", "tiny.yaml") == "--out tiny.yaml is a file: give a folder"


def test_place_that_cannot_be_written(error, made, cwd):
    expected = "cannot write no/folder.html: No such file or directory; give --out"
    assert error(1, "report", made, "--out", "no/folder.html") == expected
    expected = "cannot write tiny.yaml/folder: Not a directory; give --out"
    assert error(1, "paper", made, "--out", "tiny.yaml/folder") == expected


@pytest.mark.parametrize("command", ["report", "status", "paper"])
def test_help(run, capsys, command):
    assert run(command, "--help") == 0
    assert f"usage: lit-rl {command}" in capsys.readouterr().out
