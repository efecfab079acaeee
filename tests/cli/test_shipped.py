import pytest

from lit_rl.cli import shipped
from lit_rl.cli.errors import CommandError


def test_every_shipped_configuration_has_a_description():
    names = shipped.names()
    assert {"ppo_cartpole", "ppo_cartpole_fast", "sac_pendulum", "trainer/two_processes"} <= set(names)
    assert {"systems/hmasd_sync", "systems/hmasd_quickstart"} <= set(names)
    for name, description in names.items():
        assert len(description) > 10, name
        text = (shipped.directory() / f"{name}.yaml").read_text()
        assert text.startswith(f"# {description}\n"), name


@pytest.mark.parametrize("given", ["ppo_cartpole", "ppo_cartpole.yaml"])
def test_finds_by_name(given):
    assert shipped.find(given) == shipped.directory() / "ppo_cartpole.yaml"


def test_a_file_comes_before_a_name(cwd):
    (cwd / "ppo_cartpole").write_text("model: PPO")
    assert str(shipped.find("ppo_cartpole")) == "ppo_cartpole"


def test_a_run_directory_stands_for_its_configuration(cwd):
    (cwd / "runs").mkdir()
    (cwd / "runs" / "config.yaml").write_text("model: PPO")
    assert shipped.find("runs").name == "config.yaml"


def test_names_the_nearest():
    with pytest.raises(
        CommandError, match=r"ppo_cartpol: no such file; did you mean ppo_cartpole\?.*shipped config"
    ):
        shipped.find("ppo_cartpol")


def test_resolve_replaces_all_configs_and_nothing_else():
    root = shipped.directory()
    argv, files = shipped.resolve(
        ["fit", "--config", "sac_pendulum", "--x", "1", "-c=trainer/cpu", "--config=trainer/bf16"]
    )
    paths = [root / "sac_pendulum.yaml", root / "trainer" / "cpu.yaml", root / "trainer" / "bf16.yaml"]
    assert files == paths
    assert argv == [
        "fit",
        "--config",
        f"{paths[0]}",
        "--x",
        "1",
        "--config",
        f"{paths[1]}",
        "--config",
        f"{paths[2]}",
    ]
