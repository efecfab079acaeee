"""Every shipped configuration runs: experiments and systems alone, layers on top of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_rl.cli import main
from tests.cases import PENDULUM

# Lightning 2.6 calls jsonargparse by names that go away in its version 5, which we exclude
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

ROOT = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.rglob("*.yaml"))
EXPERIMENTS = [name for name in NAMES if "/" not in name or name.startswith(("systems/", "map_elites/"))]
LAYERS = [name for name in NAMES if name not in EXPERIMENTS]
BASE = "ppo_cartpole_fast"
BASES = {
    "data/remote": "sac_pendulum",
    "presets/hmasd_paper": "hmasd_uav",
    "presets/hmasd_sync": "hmasd_alice_bob",
    "presets/sac_droq": "sac_pendulum",
    "presets/sac_legged": "sac_pendulum",
    "presets/sac_redq": "sac_pendulum",
    "presets/sac_rlpd": "sac_pendulum",
    "presets/sac_serl": "sac_pendulum",
}
"""Experiments of the learner that a layer is made for; other layers fit any."""

SMOKE = ["--trainer.fast_dev_run", "true", "--seed_everything", "0", "--data.init_args.eval_episodes", "1"]
SMALL = {
    "ReplayDataModule": ["--data.init_args.warmup_steps", "256"],
    "RemoteReplayDataModule": [
        "--data.init_args.transport", "in_process", "--data.init_args.warmup_steps", "256",
    ],
}  # fmt: skip
"""What makes one batch of this data module quick."""


def arguments(*configs: str) -> list[str]:
    """Command line that tries one batch of everything; nothing is written."""
    experiment = yaml.safe_load((ROOT / f"{configs[0]}.yaml").read_text())
    small = SMALL.get(experiment["data"]["class_path"].rpartition(".")[2], [])
    if "presets/sac_rlpd" in configs:
        small = [*small, "--data.init_args.demonstrations", str(PENDULUM)]
    return ["fit", *(token for name in configs for token in ("--config", name)), *SMOKE, *small]


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [*EXPERIMENTS, *LAYERS])
def test_begins_with_one_line_that_describes_it(name: str):
    first, second, *_ = (ROOT / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    assert 12 <= len(first) <= 110
    assert not first.endswith(".")  # it is shown in a list
    assert second
    assert not second.startswith("#")


LONG = (
    "go2_ppo_joystick", "go2_sac_full", "go2_sac_legged", "hmasd_alice_bob", "hmasd_uav_sparse",
    "map_elites/advanced", "map_elites/independent", "predictor_uav", "systems/shared_ppo",
)  # fmt: skip
"""Experiments of which one batch takes seconds, and whose learner and data another one has, too."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.wide) if name in LONG else name for name in EXPERIMENTS]
)
def test_experiment_runs(cwd: Path, capsys: pytest.CaptureFixture[str], name: str):
    main(arguments(name))
    assert "env steps" in capsys.readouterr().out
    assert not any((cwd / folder).exists() for folder in ("runs", "tf-logs"))


IN_PROCESS = [name for name in LAYERS if name not in ("trainer/gpu", "trainer/two_processes", *BASES)]


@pytest.mark.parametrize("layer", IN_PROCESS)
def test_layer_runs_on_an_experiment(cwd: Path, capsys: pytest.CaptureFixture[str], layer: str):
    main(arguments(BASE, layer))
    assert "env steps 256" in capsys.readouterr().out  # 8 environments, 32 steps


@pytest.mark.parametrize(
    ("preset", "base", "steps"),
    [("presets/hmasd_paper", "hmasd_uav", 3200), ("presets/hmasd_sync", "hmasd_alice_bob", 1024)],
)
def test_preset_runs_on_an_experiment(
    cwd: Path, capsys: pytest.CaptureFixture[str], preset: str, base: str, steps: int
):
    epochs = ["--model.update_epochs", "1", "--model.discriminator_epochs", "1"]
    main([*arguments(base, preset), *epochs])
    assert f"env steps {steps}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("preset", "steps"),
    [  # before and in the batch
        ("presets/sac_legged", 256 + 16 * 16),
        ("presets/sac_serl", 300 + 30),
        pytest.param("presets/sac_droq", 256 + 10, marks=pytest.mark.wide),
        pytest.param("presets/sac_redq", 256 + 10, marks=pytest.mark.wide),
        pytest.param("presets/sac_rlpd", 256 + 10, marks=pytest.mark.wide),
    ],
)
def test_preset_of_sac_runs_on_an_experiment(
    cwd: Path, capsys: pytest.CaptureFixture[str], preset: str, steps: int
):
    main(arguments("sac_pendulum", preset))
    assert f"env steps {steps}\n" in capsys.readouterr().out


def test_every_preset_has_a_configuration_that_it_is_for():
    presets = {name for name in LAYERS if name.startswith("presets/")}
    assert presets == BASES.keys() - {"data/remote"}


@pytest.fixture
def parsed(cwd: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """``parsed("x", "y")`` is what the command line makes of these configurations, as flat keys."""

    def parse(*configs: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            main([*arguments(*configs), "--print_config"])
        assert stop.value.code == 0
        return flat(yaml.safe_load(capsys.readouterr().out))

    return parse


def test_remote_data_keep_what_the_experiment_says_of_data(parsed: Callable[..., dict[str, Any]]):
    alone, remote = parsed("sac_pendulum"), parsed("sac_pendulum", "data/remote")
    assert remote.pop("data.class_path").endswith("RemoteReplayDataModule")
    assert remote["data.init_args.port"] == 5488
    assert {key for key in alone.keys() & remote.keys() if alone[key] != remote[key]} == set()


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "data/remote"])
def test_layer_only_adds_its_own_keys(parsed: Callable[..., dict[str, Any]], layer: str):
    base = BASES.get(layer, BASE)
    alone, layered = parsed(base), parsed(base, layer)
    given = flat(yaml.safe_load((ROOT / f"{layer}.yaml").read_text()))
    appended = {key.removesuffix("+"): given.pop(key) for key in list(given) if key.endswith("+")}
    for key in set(given) & {token[2:] for small in SMALL.values() for token in small[::2]}:
        del given[key]  # the command line of this test says something else
    assert {key: layered[key] for key in given} == given
    for key, entries in appended.items():
        assert class_paths(layered[key]) == class_paths(alone[key]) + class_paths(entries)
    changed = {key for key in layered if layered[key] != alone.get(key)}
    assert changed - {"data.init_args.demonstrations"} <= given.keys() | appended.keys()  # that is a user's


def test_paper_preset_is_what_alice_and_bob_is_trained_with(parsed: Callable[..., dict[str, Any]]):
    assert parsed("hmasd_alice_bob", "presets/hmasd_paper") == parsed("hmasd_alice_bob")


def test_presets_can_follow_each_other(parsed: Callable[..., dict[str, Any]]):
    alone = parsed("hmasd_uav", "presets/hmasd_sync")
    both = parsed("hmasd_uav", "presets/hmasd_paper", "presets/hmasd_sync")
    for key in ("num_envs", "batch_env_steps"):
        assert both[f"data.init_args.{key}"] == alone[f"data.init_args.{key}"]
    for key in ("k", "chunk_length", "skill_sync"):
        assert both[f"model.init_args.{key}"] == alone[f"model.init_args.{key}"]


def test_preset_of_another_learner_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(arguments(BASE, "presets/hmasd_sync"))
    assert stop.value.code == 2
    assert "model.k: PPO has no argument 'k'" in capsys.readouterr().err


def test_callbacks_of_several_layers_add_up(parsed: Callable[..., dict[str, Any]]):
    layers = [layer for layer in LAYERS if "callbacks+:" in (ROOT / f"{layer}.yaml").read_text()]
    assert len(layers) > 1
    each = [class_paths(parsed(BASE, layer)["trainer.callbacks"]) for layer in layers]
    assert class_paths(parsed(BASE, *layers)["trainer.callbacks"]) == [
        path for paths in each for path in paths
    ]


def class_paths(entries: list[dict[str, Any]] | None) -> list[str]:
    """The classes of a list of callbacks."""
    return [entry["class_path"] for entry in entries or []]


def flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    """``{"trainer": {"devices": 1}}`` to ``{"trainer.devices": 1}``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves
