"""The policy of an actor without torch is the learner's, number for number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl import PPO, SAC, TD3, RemoteReplayDataModule
from lit_rl.algos.module import RLModule
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.vector import make_vector_env
from lit_rl.nested import map_nested
from lit_rl.remote.policy import Description, NumpyPolicy, Unfit, digest, features, policy_frame
from lit_rl.remote.wire import Frame, FrameReader, WireError, messages
from lit_rl.types import EnvSpec, VectorEnv
from tests.cases import GO2, TOKEN_ENCODERS
from tests.remote.toys import DESCRIPTION, SPEC, arrays_of
from tests.token_toys import Joints
from tests.toys import Mixed, fit


def mixed_box() -> Mixed:
    return Mixed("box")


CASES: dict[str, tuple[Callable[[EnvSpec], RLModule], Any, dict[str, Any]]] = {
    "sac": (lambda spec: SAC(hidden=(16, 16), spec=spec), "Pendulum-v1", {}),
    "sac_own_box": (
        lambda spec: SAC(hidden=(16,), action_low=(-1.5,), action_high=(0.5,), initial_std=0.3, spec=spec),
        "Pendulum-v1",
        {},
    ),
    "sac_norm": (
        lambda spec: SAC(hidden=(16, 16), normalize_observation=True, spec=spec), "Pendulum-v1", {}
    ),
    "sac_central_critic": (
        lambda spec: SAC(hidden=(16, 16), central_critic=True, normalize_observation=True, spec=spec),
        "GO2-v0",
        GO2,
    ),
    "sac_critic_part_alone": (
        lambda spec: SAC(hidden=(16, 16), central_critic=True, spec=spec), "GO2-v0", GO2
    ),
    "sac_joints": (lambda spec: SAC(hidden=(16, 16), spec=spec), Joints, {}),
    "sac_dict": (
        lambda spec: SAC(hidden=(16, 16), normalize_observation=True, spec=spec), mixed_box, {}
    ),
    "td3": (lambda spec: TD3(hidden=(16, 16), spec=spec), "Pendulum-v1", {}),
    "td3_joints": (lambda spec: TD3(hidden=(16, 16), spec=spec), Joints, {}),
}  # fmt: skip


def learner_and_env(name: str) -> tuple[RLModule, VectorEnv]:
    make, env_id, env_kwargs = CASES[name]
    env = make_vector_env(env_id, 3, env_kwargs=env_kwargs, check=False)
    learner = make(env.spec)
    learner.configure_model()
    norm = getattr(learner, "observation_norm", None)
    if norm is not None:  # as after some training
        for part in norm.norms.values():
            part.shift.normal_()
            part.scale.uniform_(0.5, 2.0)
    return learner, env


def sent(learner: Any, spec: EnvSpec, version: int = 3) -> NumpyPolicy:
    """The policy after its way over the wire."""
    frame = policy_frame(version, *learner.portable_policy())
    reader = FrameReader()
    (received,) = [found for message in messages([frame.encode()]) for found in reader.feed(message)]
    return NumpyPolicy(spec, received)


def tensors(obs: Any) -> Any:
    return map_nested(torch.as_tensor, obs)


@pytest.mark.parametrize("name", CASES)
def test_the_greedy_actions_are_those_of_torch(name: str):
    learner, env = learner_and_env(name)
    policy, rng = sent(learner, env.spec), np.random.default_rng(0)
    assert policy.version == 3
    obs = env.reset(0)
    for _ in range(20):
        ours = policy.act(obs, rng, greedy=True)
        reset = torch.zeros(3, dtype=torch.bool)
        theirs = learner.act(tensors(obs), {}, reset, greedy=True).action.detach().numpy()
        assert ours.shape == theirs.shape
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * max(1.0, np.abs(theirs).max()))
        obs = env.step(policy.act(obs, rng)).obs
    env.close()


@pytest.mark.parametrize("name", ["sac", "sac_own_box", "td3"])
def test_the_noise_has_the_deviation_that_the_learner_has(name: str):
    learner, env = learner_and_env(name)
    policy = sent(learner, env.spec)
    obs = env.reset(0)
    one = {"obs": np.repeat(obs[:1], 4_000, 0)}["obs"]
    ours = policy.act(one, np.random.default_rng(0))
    reset = torch.zeros(4_000, dtype=torch.bool)
    theirs = learner.act(tensors(one), {}, reset).action.numpy()
    span = policy._scale
    assert np.abs((ours.mean(0) - theirs.mean(0)) / span) < 0.05
    assert np.abs((ours.std(0) - theirs.std(0)) / span) < 0.03
    env.close()


def test_random_actions_fill_the_bounds_of_the_learner_and_leave_out_joints_that_are_none():
    learner, env = learner_and_env("sac_own_box")
    drawn = sent(learner, env.spec).draw(np.repeat(env.reset(0)[:1], 2_000, 0), np.random.default_rng(0))
    assert -1.5 <= drawn.min() < -1.48
    assert 0.48 < drawn.max() <= 0.5
    learner, env = learner_and_env("sac_joints")
    obs = env.reset(0)
    drawn = sent(learner, env.spec).draw(obs, np.random.default_rng(0))
    theirs = UniformPolicy(env.spec).act(tensors(obs), {}, torch.zeros(3, dtype=torch.bool)).action.numpy()
    assert ((drawn == 0) == (theirs == 0)).all()
    assert (drawn[obs["joint_mask"] == 1] != 0).all()


def test_an_encoder_is_refused_in_one_line():
    env = make_vector_env(Joints, 2, check=False)
    learner = SAC(hidden=(16,), encoder=TOKEN_ENCODERS["attention"], spec=env.spec)
    learner.configure_model()
    with pytest.raises(
        ValueError, match="SAC has encoder = AttentionEncoder, which actors elsewhere"
    ) as error:
        learner.portable_policy()
    assert "\n" not in str(error.value)


def test_ppo_is_refused_in_one_line():
    data = RemoteReplayDataModule("Pendulum-v1", port=0, check=False)
    with pytest.raises(ValueError, match="PPO cannot act elsewhere; use SAC or TD3") as error:
        fit(PPO(hidden=(8,)), data)
    assert "\n" not in str(error.value)


def test_a_snapshot_does_not_change_with_the_learner():
    learner, env = learner_and_env("sac")
    frame = policy_frame(1, *learner.portable_policy())  # type: ignore[operator]
    before = digest(frame.arrays)
    for parameter in learner.parameters():
        parameter.data.add_(1.0)
    assert digest(frame.arrays) == before == frame.header["digest"]
    env.close()


def test_a_damaged_policy_is_asked_for_again():
    frame = policy_frame(4, DESCRIPTION, arrays_of())
    frame.arrays["bias/0"][0] = 1.0
    with pytest.raises(WireError, match="policy 4 was damaged on its way: its checksum is another one"):
        NumpyPolicy(SPEC, frame)


@pytest.mark.parametrize(
    ("description", "changed", "expected"),
    [
        ({"head": "categorical"}, {}, "is none that this actor knows; update lit_rl here"),
        ({"activation": "gelu"}, {}, "is none that this actor knows; update lit_rl here"),
        ({}, {"weight/0": np.zeros((3, 2), np.float32)}, r"a layer of shape \(3, 2\) takes no 2 features"),
        ({"head": "squashed"}, {}, "the policy has 2 outputs, 1 were expected; give the same --config"),
        ({}, {"scale": np.ones(2, np.float32)}, "the policy lacks scale of 1 action dimensions"),
        ({}, {"bias/0": np.full(2, np.nan, np.float32)}, "policy 0 holds numbers that are not finite"),
        ({}, {"shift/x": np.ones(2, np.float32)}, "normalises observations that this environment does not"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(description: Any, changed: Any, expected: str):
    known = {"head": "squashed_normal", "activation": "relu"} | description
    frame = policy_frame(0, Description(**known), arrays_of() | changed)
    with pytest.raises(Unfit, match=expected):
        NumpyPolicy(SPEC, frame)


def test_a_description_of_a_newer_version_is_refused():
    frame = policy_frame(0, DESCRIPTION, arrays_of())
    newer = Frame("policy", {**frame.header, "description": {"head": "squashed", "layers": 3}}, frame.arrays)
    with pytest.raises(Unfit, match="the learner describes a policy that this actor does not know"):
        NumpyPolicy(SPEC, newer)


def test_features_count_choices():
    env = make_vector_env(mixed_box, 1, check=False)
    assert features(env.spec.observation) == 4 + (3 + 2) + 4 + 3
    env.close()
