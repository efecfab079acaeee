import socket

import pytest

from lit_rl.cli import doctor


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch):
    """Without the checks that load torch or compile the quadruped."""
    for name in ("_gpu", "_go2"):
        monkeypatch.setattr(doctor, name, lambda: doctor.Finding(True, "left out"))


def test_a_sound_machine_gets_a_line_for_each_check(quick, run, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert run("doctor", "--port", str(port)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("python", "packages", "cores", "gpu", "go2", "wandb", "port", "disk")
    ]
    assert "torch 2." in lines[1]


def test_a_busy_port_is_named_and_the_status_is_1(quick, run, capsys):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert run("doctor", "--port", str(port)) == 1
    written = capsys.readouterr()
    assert f"NO  port      {port} cannot be listened at" in written.out
    assert written.err == "lit-rl: error: port: see above what to do\n"


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch: pytest.MonkeyPatch):
    found = {"numpy": "1.26.4", "torch": "2.11.0"}

    def version(name: str) -> str:
        if name not in found:
            raise doctor.metadata.PackageNotFoundError(name)
        return found[name]

    wanted = ["numpy>=2", "torch>=2.9,<2.14", "wandb>=0.19", 'envpool>=1.1; extra == "envpool"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(doctor.metadata, "version", version)
    finding = doctor._packages()
    assert not finding.is_good
    assert finding.text == ("numpy 1.26.4 is not >=2; wandb is missing: pip install 'numpy>=2' 'wandb>=0.19'")


@pytest.mark.parametrize(
    ("mode", "text"),
    [("disabled", "WANDB_MODE=disabled: nothing is sent anywhere"), (None, "runs are offline unless")],
)
def test_wandb_says_what_would_be_sent(monkeypatch: pytest.MonkeyPatch, mode, text):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    assert text in doctor._wandb().text


def test_the_quadruped_makes_a_step():
    assert doctor._go2().is_good
