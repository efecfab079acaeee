from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import PPO
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import ActionSpec, Collector, EnvSpec, LeafSpec, Policy, VectorEnv, as_learner
from tests.toys import Episodes57, MatchingPair

NESTED = EnvSpec(
    name="Nested-v0",
    observation={
        "action_mask": LeafSpec([4], "int64", [2, 2, 2, 2]),
        "inner": {"shape": LeafSpec([2, 2], "uint8")},  # a key with the name of a field
        "real": LeafSpec([3]),
    },
    action=ActionSpec("discrete", categories=[4]),
    agents=["left", "right"],
    state=5,
)


def test_a_spec_survives_a_checkpoint(tmp_path: Path):
    torch.save(NESTED.to_dict(), tmp_path / "spec.pt")
    assert EnvSpec.from_dict(torch.load(tmp_path / "spec.pt", weights_only=True)) == NESTED
    flat = EnvSpec("Flat-v0", LeafSpec([]), ActionSpec("box", [2], low=[-1.0, 0.0], high=[1.0, float("inf")]))
    torch.save(flat.to_dict(), tmp_path / "spec.pt")
    assert EnvSpec.from_dict(torch.load(tmp_path / "spec.pt", weights_only=True)) == flat


@pytest.mark.parametrize(
    "plain", [None, {}, {"class_path": "os.system"}, NESTED.to_dict() | {"action": {"kin": 1}}]
)
def test_what_is_no_spec_is_refused(plain: Any):
    with pytest.raises(ValueError, match=r"^a spec expected name, observation, action, agents and state as"):
        EnvSpec.from_dict(plain)


def test_an_action_mask_is_a_key_on_top():
    assert NESTED.has_action_mask
    assert not EnvSpec("e", LeafSpec([2]), NESTED.action).has_action_mask
    assert not EnvSpec("e", {"inner": {"action_mask": LeafSpec([4])}}, NESTED.action).has_action_mask


@pytest.mark.parametrize(("shape", "size"), [([], 1), ([3], 3), ([2, 3], 6)])
def test_size_of_an_action(shape: list[int], size: int):
    assert ActionSpec("box", shape).size == size


def test_protocols_are_met():
    envs = make_vector_env(Episodes57, 2)
    assert isinstance(envs, VectorEnv)
    assert isinstance(MatchingPair(2), VectorEnv)
    assert isinstance(PPO(), Policy)
    assert isinstance(UniformPolicy(envs.spec), Policy)
    assert isinstance(InlineCollector(envs, 0), Collector)
    assert not isinstance(envs, Policy)


def test_a_module_that_is_no_learner_is_told_what_it_lacks():
    class Half:
        spec, gamma, env_steps, policy_version = None, 0.9, 0, 0

    with pytest.raises(TypeError, match=r"EpisodeStats needs a learner .* got Half, which has no updates,"):
        as_learner(Half(), "EpisodeStats")
    module = PPO()
    assert as_learner(module, "EpisodeStats") is module
