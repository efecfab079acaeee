"""A configuration that an earlier version wrote is read under the names of today."""

import pytest
import yaml

from lit_rl.cli import renamed
from lit_rl.cli.renamed import rename_keys
from tests.cli.conftest import TINY

TABLE = {"data.init_args": {"former": "present"}}


class Base:
    def __init__(self, present: bool = False) -> None: ...


class HandsOn(Base):
    def __init__(self, other: int = 0, **kwargs: bool) -> None: ...


class Both:
    def __init__(self, present: bool = False, former: bool = False) -> None: ...


class Neither:
    def __init__(self, other: int = 0) -> None: ...


def config(name="Base", arguments="{former: true, other: 1e-3}"):
    return f"data: # of a run\n  class_path: {__name__}.{name}\n  init_args: {arguments}\nx: former\n"


@pytest.mark.parametrize("name", ["Base", "HandsOn"])
def test_key_alone_is_exchanged(name):
    text, notes = rename_keys(config(name), TABLE)
    assert text == config(name, "{present: true, other: 1e-3}")
    assert notes == ["data.init_args.former of the configuration is called present now"]


@pytest.mark.parametrize(
    "text",
    [
        config("Both"),
        config("Neither"),
        config("Missing"),
        config(arguments="{present: false, former: true}"),
        config(arguments="[former]"),
        config(arguments="former"),
        "data: {init_args: {former: true}}",  # the class may stand in another file
        "data: former",
        "- data",
        "data: [",
        "",
    ],
)
def test_whatever_is_not_known_to_be_renamed_stays(text):
    assert rename_keys(text, TABLE) == (text, [])


def test_several_keys_and_sections():
    table = {
        "data.init_args": {"old_a": "present", "former": "new"},
        "model.init_args": {"former": "present"},
    }
    text = config(arguments="\n    'old_a': 1\n    former: 2") + config().replace("data:", "model:")
    found, notes = rename_keys(text, table)
    assert yaml.safe_load(found)["data"]["init_args"] == {"present": 1, "former": 2}  # Base knows no `new`
    assert yaml.safe_load(found)["model"]["init_args"] == {"present": True, "other": "1e-3"}
    assert len(notes) == 2


def test_real_table_waits_for_the_class_to_change():
    names = renamed._arguments_of("lit_rl.RolloutDataModule")
    assert {"env", "num_envs"} <= names
    text = "data: {class_path: lit_rl.RolloutDataModule, init_args: {replay: true}}"
    expected = text.replace("replay", "playback") if "playback" in names else text
    assert rename_keys(text)[0] == expected


def test_run_of_a_former_configuration(run, cwd, capsys, monkeypatch):
    monkeypatch.setattr(renamed, "RENAMED", {"data.init_args": {"workers_of_old": "num_envs"}})
    (cwd / "old.yaml").write_text(TINY.replace("num_envs", "workers_of_old"))
    assert run("fit", "--config", "old.yaml", "--run_dir", "a", "--budget.total_env_steps", "32") == 0
    line = "data.init_args.workers_of_old of the configuration is called num_envs now"
    assert capsys.readouterr().err.splitlines().count(line) == 1
    assert yaml.safe_load((cwd / "a" / "config.yaml").read_text())["data"]["init_args"]["num_envs"] == 2
