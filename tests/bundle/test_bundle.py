"""Bundles: they repeat what was recorded, know their environment, and every damage is one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lit_rl import PPO
from lit_rl.algos.export import load_policy
from lit_rl.algos.module import RLModule
from lit_rl.bundle.contract import (
    CONTRACT,
    ONNX,
    PAIRS,
    BundleError,
    Contract,
    differences,
    hash_of,
    hash_of_file,
    read_contract,
)
from lit_rl.bundle.onnx_policy import OnnxPolicy
from lit_rl.bundle.pairs import read_pairs, replay
from lit_rl.bundle.verify import check_world, judge, try_in_worlds
from lit_rl.bundle.worlds import world_of
from lit_rl.bundle.writing import export_bundle
from lit_rl.envs.go2 import Go2Batch
from tests.bundle_toys import bundle_of, checkpoint_of
from tests.cases import CASES
from tests.team_toys import Team
from tests.toys import ContinuousEpisodes57, Episodes57, Mixed

GO2 = {"task": "joystick", "timestep_s": 0.01, "max_traj_length": 20, "latency_ms": [0.0, 10.0]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a recurrent policy, whose pairs span resets."""
    module = PPO(hidden=(8,), gru=6, chunk_length=8, batch_size=32)
    return bundle_of(tmp_path_factory.mktemp("made"), module, "CartPole-v1")[0]


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


def rewrite(bundle: Path, **changed: Any) -> None:
    """Change entries of the contract."""
    content = json.loads((bundle / CONTRACT).read_text())
    (bundle / CONTRACT).write_text(json.dumps(content | changed))


def test_pairs_span_resets_and_are_repeated(made: Path):
    contract = read_contract(made)
    pairs = read_pairs(made, contract)
    assert pairs["reset"].nonzero()[0].tolist() == [0, 8, 16, 24]
    assert pairs["obs"].shape == (32, 4)
    assert pairs["action"].dtype == np.int64
    assert replay(OnnxPolicy(made, contract), pairs) == 0
    assert [memory.input for memory in contract.memory] == ["memory/actor", "memory/critic"]
    assert contract.measured["episodes"] == 32
    assert contract.trained["learner"] == "PPO"


def test_memory_matters(made: Path):
    """Resets that are not told give other memories: what the pairs hold is the memory, too."""
    contract = read_contract(made)
    policy = OnnxPolicy(made, contract)
    inputs, memory = {"obs": np.ones((2, 4), np.float32)}, policy.initial_memory(2)
    _, memory = policy.act(inputs, memory, np.array([True, True]))
    _, told = policy.act(inputs, memory, np.array([True, False]))
    name = contract.memory[0].input
    np.testing.assert_allclose(told[name][0], memory[name][0], atol=1e-6)
    assert np.abs(told[name][1] - memory[name][1]).max() > 1e-4


@pytest.mark.parametrize(
    ("module", "env"),
    [
        (PPO(hidden=(8,), batch_size=32, normalize_observation=True), ContinuousEpisodes57),
        (PPO(hidden=(8,), batch_size=32, normalize_observation=True), partial(Mixed, "multi", mask=True)),
        (PPO(hidden=(8,), batch_size=32, central_critic=True), partial(Team, leaves_after=2)),
    ],
    ids=["box", "dict", "team"],
)
def test_any_environment(tmp_path: Path, module: RLModule, env: Any):
    bundle, world = bundle_of(tmp_path, module, env)
    contract = read_contract(bundle)
    policy = OnnxPolicy(bundle, contract)
    assert replay(policy, read_pairs(bundle, contract)) < 1e-5
    check_world(contract, world)
    (verdict,) = try_in_worlds(policy, world, 8)
    assert verdict.setting == "as in training"
    assert verdict.passed, verdict.said


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "predictor"])
def test_every_learner_has_a_bundle(tmp_path: Path, name: str):
    """All cases of the contract tests, with the environments of their data modules."""
    module, data = CASES[name](1)
    checkpoint = checkpoint_of(tmp_path, module, data)
    environments: Any = getattr(data, "environments")  # noqa: B009  # not of every data module

    def world(num_envs: int, changed: Any, record: Any) -> Any:
        return environments.make(num_envs)

    contract = export_bundle(checkpoint, tmp_path / "bundle", world, {"env": "tests", "env_kwargs": {}})
    assert contract.files[ONNX] == hash_of_file(tmp_path / "bundle" / ONNX)


def test_the_machine_describes_itself(tmp_path: Path):
    """Joint order of the SDK by hand: its motor 0 is the hip of the front right leg, our joint 3."""
    bundle, world = bundle_of(tmp_path, PPO(hidden=(8,), batch_size=32), "GO2-v0", GO2)
    contract = read_contract(bundle)
    machine = contract.machine
    assert machine is not None
    assert machine["sdk_order"] == [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
    assert machine["joint_names"][machine["sdk_order"][0]] == "FR_hip_joint"
    assert sum(term["size"] for term in machine["observation"]) == contract.inputs[0].shape[0] == 48
    assert machine["commands"]["ahead_mps"] == [-1.0, 1.5]
    settings = contract.trials["settings"]
    assert len(settings) == 8
    worst = settings["friction 0.4, torque-speed curve, latency 20 to 30 ms"]
    assert worst["latency_ms"] == [20.0, 30.0]
    assert (worst["solver"], worst["timestep_s"], worst["friction"]) == ("cg", 0.002, [0.4, 0.4])
    check_world(contract, world)
    rewrite(bundle, trials={**contract.trials, "settings": {"worst": {**worst, "max_traj_length": 5}}})
    (verdict,) = try_in_worlds(OnnxPolicy(bundle, read_contract(bundle)), world, 3)
    assert verdict.setting == "worst"
    assert "velocity_error" in verdict.said
    names = machine["joint_names"]
    swapped = {**machine, "joint_names": [names[1], names[0], *names[2:]]}
    rewrite(bundle, machine=swapped)
    with pytest.raises(
        BundleError, match=r"the contract does not fit the environment: machine\.joint_names is \[\"FL_thigh"
    ):
        check_world(read_contract(bundle), world)


def test_every_world_of_a_machine_differs_from_training():
    """Also where episodes were alike in training, motors weakened, and the latency was near its limit."""
    trained = {
        "randomize": False, "actuator": "pd_torque_speed", "latency_ms": [25.0, 30.0], "control_s": 0.025,
        "timestep_s": 0.005, "solver": "cg",
    }  # fmt: skip
    robots = Go2Batch(1, **trained)
    settings = robots.trials()["settings"]
    assert len(settings) == 8
    assert "friction 1, latency 40 to 40 ms" in settings
    for name, changed in settings.items():
        task = Go2Batch(2, **{**trained, **changed}).task
        assert (task.solver, task.randomize) == ("newton", True), name
        assert task.actuator == ("pd_torque_speed" if "curve" in name else "pd"), name
        assert 0.0015 < task.timestep_s <= 0.002, name


class Slashed(gymnasium.Env):
    """Observes at keys with slashes and tildes, one of them in 16 bits, and counts actions from 5 on."""

    observation_space = spaces.Dict(
        {"a/b": spaces.Box(-1, 1, (2,), np.float32), "c~d": spaces.Box(-9, 9, (1,), np.int16)}
    )
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._t = 0
        return self._obs(), {}

    def _obs(self) -> dict[str, Any]:
        return {"a/b": np.full(2, self._t / 8, np.float32), "c~d": np.array([self._t], np.int16)}

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        assert 5 <= action <= 7
        self._t += 1
        return self._obs(), float(action), False, self._t == 6, {}


def test_odd_keys_and_small_integers(tmp_path: Path):
    bundle, world = bundle_of(tmp_path, PPO(hidden=(8,), batch_size=32), Slashed)
    contract = read_contract(bundle)
    assert [(port.name, port.dtype) for port in contract.inputs] == [
        ("obs/a~1b", "float32"),
        ("obs/c~0d", "int16"),
    ]
    policy = OnnxPolicy(bundle, contract)
    pairs = read_pairs(bundle, contract)
    assert replay(policy, pairs) == 0
    assert set(pairs["action"].tolist()) <= {5, 6, 7}
    (verdict,) = try_in_worlds(policy, world, 3)
    assert verdict.passed, verdict.said


def test_onnxruntime_is_missing(made: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        BundleError, match=r"^onnxruntime is not installed, .* pip install 'lit-rl\[bundle\]'$"
    ):
        OnnxPolicy(made, read_contract(made))


def test_another_environment(made: Path):
    with pytest.raises(BundleError, match=r"does not fit the environment: spec\.name is \"CartPole-v1\""):
        check_world(read_contract(made), world_of("Acrobot-v1", {}))


def test_tampered_pairs_are_named(bundle: Path):
    contract = read_contract(bundle)
    with np.load(bundle / PAIRS) as content:
        pairs = dict(content)
    pairs["action"][9] = 1 - pairs["action"][9]
    np.savez(bundle / PAIRS, **pairs)
    with pytest.raises(BundleError, match=r"pairs\.npz is not the file that was exported: its SHA-256"):
        read_contract(bundle)
    rewrite(bundle, files={**contract.files, PAIRS: hash_of_file(bundle / PAIRS)})
    contract = read_contract(bundle)
    with pytest.raises(BundleError, match=r"^pair 9 does not match: action is \d, recorded was \d"):
        replay(OnnxPolicy(bundle, contract), read_pairs(bundle, contract))


def test_pairs_of_another_shape(bundle: Path):
    contract = read_contract(bundle)
    with np.load(bundle / PAIRS) as content:
        pairs = dict(content)
    for name, array, told in (
        ("obs", pairs["obs"][:, :3], r"obs must be float32 \(32, 4\), got float32 \(32, 3\)"),
        ("action", pairs["action"].astype(object), "cannot be read: Object arrays cannot be loaded"),
    ):
        np.savez(bundle / PAIRS, **{**pairs, name: array})
        with pytest.raises(BundleError, match=told):
            read_pairs(bundle, contract)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format": "x"}, "is of no policy bundle"),
        ({"version": 99}, "has version 99, this lit_rl reads 1"),
        ({"inputs": 3}, "inputs is missing or of another kind"),
        ({"inputs": [{"name": "obs"}]}, "spec, inputs, action or memory is damaged"),
        ({"spec": {"name": "x"}}, "spec, inputs, action or memory is damaged"),
        ({"spec_sha256": "0"}, "spec was changed after the export"),
    ],
)
def test_a_damaged_contract_is_one_line(bundle: Path, changed: dict[str, Any], told: str):
    rewrite(bundle, **changed)
    with pytest.raises(BundleError, match=told) as caught:
        read_contract(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"initial": [0.0] * 3}, "initial of memory/actor must be 6 numbers of at most 1e38"),
        ({"initial": None}, "initial of memory/actor must be 6 numbers of at most 1e38"),
        ({"initial": ["x"] * 6}, "initial of memory/actor must be 6 numbers of at most 1e38"),
        ({"initial": [float("nan")] * 6}, "initial of memory/actor must be 6 numbers of at most 1e38"),
        ({"initial": [10**400] * 6}, "initial of memory/actor must be 6 numbers of at most 1e38"),
        ({"input": 3}, r"a port has the names \[3, 'next_memory/actor'\]"),
        ({"input": "memory/x"}, r"has the inputs \['obs', 'memory/actor', 'memory/critic', 'reset'\]"),
        ({"shape": [3, 2]}, r"the input memory/actor is \('tensor\(float\)', \[6\]\), the contract says"),
        ({"dtype": "float64"}, r"the contract says \('tensor\(double\)', \[6\]\)"),
    ],
)
def test_a_damaged_memory_is_one_line(bundle: Path, changed: dict[str, Any], told: str):
    memory = json.loads((bundle / CONTRACT).read_text())["memory"]
    rewrite(bundle, memory=[memory[0] | changed, *memory[1:]])
    with pytest.raises(BundleError, match=told) as caught:
        OnnxPolicy(bundle, read_contract(bundle))
    assert "\n" not in str(caught.value)


def test_the_loop_of_the_notebook_keeps_a_memory(made: Path, tmp_path: Path):
    """Its lines of numpy and onnxruntime repeat a recurrent policy where lit_rl cannot be imported."""
    notebook = json.loads((Path(__file__).parents[2] / "notebooks" / "09_policy_bundle.ipynb").read_text())
    (loop,) = [text for cell in notebook["cells"] if "InferenceSession(" in (text := "".join(cell["source"]))]
    shutil.copytree(made, tmp_path / "policy")
    lines = ["import json, sys", "sys.modules['lit_rl'] = None", "from pathlib import Path"]
    lines += [
        "import numpy as np",
        "import onnxruntime",
        loop,
        "print(len(memory), len(errors), max(errors))",
    ]
    told = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[-1] == "2 32 0"


def test_files_that_are_missing_or_no_json(bundle: Path, tmp_path: Path):
    with pytest.raises(BundleError, match="is no folder; expected one that lit-rl export --bundle wrote"):
        read_contract(tmp_path / "nothing")
    (bundle / ONNX).unlink()
    with pytest.raises(BundleError, match=r"policy\.onnx is missing"):
        read_contract(bundle)
    (bundle / CONTRACT).write_text("[" * 100_000)
    with pytest.raises(BundleError, match="it is no JSON"):
        read_contract(bundle)
    (bundle / CONTRACT).unlink()
    os.mkfifo(bundle / CONTRACT)  # nobody writes into it: reading it would never end
    with pytest.raises(BundleError, match="cannot be read"):
        read_contract(bundle)


def test_a_network_that_is_none(bundle: Path):
    contract = read_contract(bundle)
    (bundle / ONNX).write_bytes(b"no network")
    with pytest.raises(BundleError, match=r"policy\.onnx cannot be read by onnxruntime") as caught:
        OnnxPolicy(bundle, contract)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_there_stays(bundle: Path, tmp_path: Path):
    with pytest.raises(BundleError, match=r"bundle exists; give another folder, or --overwrite"):
        export_bundle(tmp_path / "any.ckpt", bundle, world_of("CartPole-v1", {}), {})
    assert (bundle / CONTRACT).is_file()


def test_nothing_is_left_of_an_export_that_failed(tmp_path: Path):
    module = PPO(hidden=(8,), batch_size=32)
    _, world = bundle_of(tmp_path, module, Episodes57)
    with pytest.raises(ValueError, match="checkpoint was trained on Episodes57"):
        export_bundle(tmp_path / "last.ckpt", tmp_path / "other", world_of("CartPole-v1", {}), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "last.ckpt"]
    assert world(1, {}, ()).spec == load_policy(tmp_path / "last.ckpt").spec


def test_limits_by_hand():
    """Two episodes: one fell at its end, errors of 0.1 and 0.3."""
    episodes: Any = {
        "values": {"velocity_error": torch.tensor([0.1, 0.3])},
        "last_values": {"has_fallen": torch.tensor([0.0, 1.0])},
    }
    limits = {
        "has_fallen": {"of": "last step", "at_most": 0.0},
        "velocity_error": {"of": "all steps", "at_most": 0.25},
    }
    verdict = judge("ice", episodes, limits)
    assert verdict.said == "has_fallen 0.500 (more than 0), velocity_error 0.200 (at most 0.25)"
    assert not verdict.passed
    assert judge("ice", episodes, {"velocity_error": limits["velocity_error"]}).passed
    assert not judge("ice", episodes, {"height": {"of": "all steps", "at_most": 1.0}}).passed


def test_differences_name_the_entry():
    now, then = {"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 1, "c": [2, 1]}, "d": None}
    assert differences(now, then, "m") == ["m.a.c is [2, 1] in the contract, [1, 2] here"]
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    assert Contract.__doc__
