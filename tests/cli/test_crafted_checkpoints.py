"""No crafted checkpoint runs or imports anything: command line and Python refuse each in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import PPO, RolloutDataModule, load_policy
from tests.cli.conftest import Run
from tests.crafted import CONFIG, HOSTILE, IGNORED, TRACE, TRAP, craft, set_trap

COMMANDS: dict[str, list[str]] = {
    name: [name, "--config", "crafted.yaml", "--ckpt_path", "crafted.ckpt"]
    for name in ("fit", "validate", "test", "predict")
} | {"export": ["export", "crafted.ckpt", "--out", "policy.pt2"]}
FUNCTIONS: dict[str, Callable[[Path], Any]] = {
    "load_from_checkpoint": PPO.load_from_checkpoint,
    "load_policy": load_policy,
}
AT_START = "environment: a class"
"""Refused when the run starts: not before are the environments of the checkpoint and of the data compared."""

WHOLE = [(file, command) for file in HOSTILE for command in COMMANDS]
QUICK = [
    ("encoder: os.system", "fit"),
    ("encoder: a module's class", "validate"),
    ("learner: a module's class", "predict"),
    ("pickle: an object that runs", "fit"),
    *((file, "test") for file in HOSTILE),
    *((file, "export") for file in HOSTILE if file.startswith(("learner", "nested"))),
]


@pytest.fixture
def trap(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, from where the trap can be imported; nothing may have sprung it in the end."""
    monkeypatch.syspath_prepend(cwd)
    monkeypatch.delitem(sys.modules, TRAP, raising=False)
    set_trap(cwd)
    (cwd / "crafted.yaml").write_text(CONFIG)
    return cwd


def assert_untouched(trap: Path) -> None:
    assert TRAP not in sys.modules
    assert not (trap / TRACE).exists()


def test_the_trap_works(trap: Path):
    """What is imported, called or unpickled does leave a trace, so that its absence says something."""
    __import__(TRAP)
    assert (trap / TRACE).exists()
    (trap / TRACE).unlink()
    del sys.modules[TRAP]
    torch.load(craft(HOSTILE["pickle: an object that runs"], trap), weights_only=False)
    assert (trap / TRACE).exists()


@pytest.fixture
def check(run: Run, trap: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], None]:
    """``check(file, command)``: the command ends with one line, and leaves nothing."""

    def call(file: str, command: str) -> None:
        craft(HOSTILE[file], trap)
        before = sorted(path.name for path in trap.iterdir())
        capsys.readouterr()
        assert run(*COMMANDS[command]) in (1, 2)
        assert_untouched(trap)
        written = capsys.readouterr().err
        lines = [line for line in written.splitlines() if line.startswith("lit-rl: error: ")]
        assert len(lines) == 1, written
        assert "Traceback" not in written
        if file != AT_START:
            assert "crafted.ckpt" in lines[0]
            assert sorted(path.name for path in trap.iterdir()) == before

    return call


@pytest.mark.parametrize(("file", "command"), QUICK)
def test_a_command_refuses_it_in_one_line(check, file: str, command: str):
    check(file, command)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "command"), WHOLE)
def test_every_command_refuses_every_file(check, file: str, command: str):
    check(file, command)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("file", HOSTILE)
def test_python_refuses_it(trap: Path, file: str, function: str):
    path = craft(HOSTILE[file], trap)
    with pytest.raises((ValueError, TypeError)) as refused:
        FUNCTIONS[function](path)
    assert_untouched(trap)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("file", HOSTILE)
def test_weights_alone_are_taken_without_running_anything(trap: Path, file: str):
    """``init_from``, and ``fit --init_from`` by it, reads tensors, and looks at nothing beside them."""
    learner = load_policy(craft(lambda content, folder: None, trap))
    path = craft(HOSTILE[file], trap)
    with suppress(ValueError):  # some have no weights that fit
        learner.init_from(path)
    assert_untouched(trap)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # a callback that is not there
def test_what_nothing_reads_does_nothing(run, trap: Path):
    def edit(content: dict[str, Any], folder: Path) -> None:
        for part in IGNORED.values():
            part(content, folder)

    path = craft(edit, trap)
    for command in COMMANDS.values():
        assert run(*command) == 0
    for load in FUNCTIONS.values():
        assert isinstance(load(path), PPO)
    assert_untouched(trap)


def test_a_data_module_takes_nothing_from_a_checkpoint(trap: Path):
    path = craft(IGNORED["arguments of a data module"], trap)
    with pytest.raises(ValueError, match=r"RolloutDataModule is not loaded from a checkpoint, which is data"):
        RolloutDataModule.load_from_checkpoint(path)
    assert_untouched(trap)


def test_a_random_generator_is_one_of_numpy(error, trap: Path):
    """The state of an environment names its generator; ``numpy.random.test`` would run numpy's tests."""

    def edit(content: dict[str, Any], folder: Path) -> None:
        (rank,) = content["RolloutDataModule"]["ranks"]
        layers = rank["collector"]["env"]["envs"][0]["layers"]
        layers[-1]["random"]["generator"]["bit_generator"] = "test"

    craft(edit, trap)
    message = error(1, *COMMANDS["fit"])
    assert message == "the state names 'test', expected a bit generator of numpy"
