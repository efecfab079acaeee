from collections.abc import Callable
from pathlib import Path

import pytest

from lit_rl.cli import main

TINY = """\
# A run of a second
model:
  class_path: PPO
  init_args:
    hidden: [8]
    batch_size: 16
    update_epochs: 1
data:
  class_path: RolloutDataModule
  init_args:
    env: CartPole-v1
    num_envs: 2
    rollout_steps: 16
    rollouts_per_epoch: 2
    eval_episodes: 2
trainer:
  accelerator: cpu
budget:
  total_env_steps: 128
"""

Run = Callable[..., int]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lightning 2.6 calls jsonargparse by names that go away in its version 5, which we exclude."""
    category = "jsonargparse._deprecated.JsonargparseDeprecationWarning"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}"))


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with ``tiny.yaml``."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(cwd: Path) -> Run:
    """``run("fit", ...)`` runs a command in this process and returns its exit status."""

    def call(*args: str | Path) -> int:
        try:
            main([str(arg) for arg in args])
        except SystemExit as error:
            return int(error.code or 0)
        return 0

    return call


@pytest.fixture
def error(run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``error(code, "fit", ...)`` runs a command that must fail so, and returns its one line."""

    def call(code: int, *args: str | Path) -> str:
        capsys.readouterr()
        assert run(*args) == code
        written = capsys.readouterr()
        lines = [line for line in written.err.splitlines() if line.startswith("lit-rl: error: ")]
        assert len(lines) == 1, written.err
        assert "Traceback" not in written.err
        return lines[0].removeprefix("lit-rl: error: ")

    return call


def the_run(cwd: Path, name: str = "tiny") -> Path:
    """The only run of a configuration."""
    (found,) = [path for path in (cwd / "runs" / name).iterdir() if not path.is_symlink()]
    return found


@pytest.fixture
def fitted(run: Run, cwd: Path) -> Path:
    """A finished run of ``tiny.yaml``, relative to the working directory."""
    assert run("fit", "--config", "tiny.yaml", "--seed_everything", "7") == 0
    return the_run(cwd).relative_to(cwd)
