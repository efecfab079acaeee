"""No actor sees the part of an observation that is for critics; learners that would show it refuse it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl import PPO, SAC
from lit_rl.algos.export import export_policy
from lit_rl.algos.module import RLModule
from lit_rl.types import OBSERVATION, EnvSpec, LeafSpec
from tests.cases import CASES, ppo_legs, sac_central_critic
from tests.toys import make_trainer

SPEC = EnvSpec(
    "robot",
    {OBSERVATION: LeafSpec([3]), "critic": LeafSpec([5])},
    replace(ppo_legs(1)[1].spec.action, shape=[2], low=[-1.0, -1.0], high=[1.0, 1.0]),  # type: ignore[attr-defined]
)


def built(learner: RLModule) -> Any:
    learner.configure_model()
    return learner


def obs(seed: int, batch: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        OBSERVATION: torch.randn(batch, 3, generator=generator),
        "critic": torch.randn(batch, 5, generator=generator),
    }


@pytest.mark.parametrize("name", CASES)
def test_learners_refuse_what_their_actor_must_not_see(name: str):
    learner, _ = CASES[name](1)
    # a central critic of several agents sees their global state, and each of their actors all other parts
    learner.spec = replace(SPEC, agents=["a", "b"], state=3) if learner.central_critic else SPEC
    message = "have a part 'critic', which only critics may see; set central_critic = true, which PPO and SAC"
    with pytest.raises(ValueError, match=message):
        learner.configure_model()


@pytest.mark.parametrize("kind", [PPO, SAC])
def test_a_central_critic_needs_something_to_see(kind: type[RLModule]):
    plain = replace(SPEC, observation=LeafSpec([3]))
    with pytest.raises(
        ValueError, match="or with a part 'critic' in the observation of one, robot has neither"
    ):
        built(kind(central_critic=True, spec=plain))  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [PPO, SAC])
@pytest.mark.parametrize("greedy", [True, False])
def test_the_actor_does_not_see_the_part_of_critics(kind: type[RLModule], greedy: bool):
    learner = built(kind(central_critic=True, normalize_observation=True, spec=SPEC))  # type: ignore[call-arg]
    first, second = obs(0), obs(0) | {"critic": obs(1)["critic"]}
    actions = []
    for seen in (first, second, first[OBSERVATION]):  # a robot has no such part at all
        torch.manual_seed(7)
        actions.append(learner.act(seen, {}, torch.zeros(4, dtype=torch.bool), greedy=greedy).action)
    torch.testing.assert_close(actions[0], actions[1], rtol=0, atol=0)
    torch.testing.assert_close(actions[0], actions[2], rtol=0, atol=0)


def test_a_recurrent_actor_needs_no_part_of_critics_when_it_is_greedy():
    learner = built(PPO(central_critic=True, hidden=(8,), gru=4, spec=SPEC))
    carry, reset = learner.initial_carry(4), torch.zeros(4, dtype=torch.bool)
    own = obs(0)[OBSERVATION]
    with_part, without = (learner.act(seen, carry, reset, greedy=True) for seen in (obs(0), own))
    torch.testing.assert_close(with_part.action, without.action, rtol=0, atol=0)
    assert not torch.equal(without.carry["actor"], carry["actor"])
    sampled = learner.act(obs(0), carry, reset)  # in training the memory of the critic moves on, too
    assert not torch.equal(sampled.carry["critic"], carry["critic"])


def test_sac_needs_a_joint_mask_for_its_critics_too():
    joints = {"joint_tokens": LeafSpec([2, 3]), "joint_mask": LeafSpec([2]), "critic": LeafSpec([5])}
    with pytest.raises(ValueError, match="needs the key 'joint_mask' in the part 'critic', too"):
        built(SAC(central_critic=True, spec=replace(SPEC, observation=joints)))


def test_critics_see_their_part_alone():
    ppo, sac = (built(kind(central_critic=True, hidden=(8,), spec=SPEC)) for kind in (PPO, SAC))
    network = ppo.policy.network
    assert [network.actor[0].in_features, network.critic[0].in_features] == [3, 5]
    assert sac.critics.network.weights[0].shape == (2, 5 + 2, 8)
    assert sac.actor.network[0].in_features == 3
    samples = {"obs": ppo.policy.views(obs(0)), "action": torch.zeros(4, 2)}
    other = samples | {"obs": ppo.policy.views(obs(0) | {OBSERVATION: obs(1)[OBSERVATION]})}
    values = [network(each)[2] for each in (samples, other)]
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=0)
    changed = samples | {"obs": ppo.policy.views(obs(0) | {"critic": obs(1)["critic"]})}
    assert not torch.equal(values[0], network(changed)[2])


def test_statistics_are_of_both_parts():
    sac = built(SAC(central_critic=True, normalize_observation=True, spec=SPEC))
    batch = obs(2, batch=4096)
    sac.observation_norm.update(sac.views(batch))
    seen = sac._seen(batch)
    for part in (seen["actor"], seen["critic"]):
        np.testing.assert_allclose(part.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(part.std(0), 1, atol=1e-2)


@pytest.mark.parametrize("make", [ppo_legs, sac_central_critic])
def test_an_exported_policy_takes_what_the_actor_sees(make: Any, tmp_path: Path):
    learner, data = make(1)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(learner, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    policy = torch.export.load(export_policy(tmp_path / "last.ckpt", tmp_path / "policy.pt2")).module()
    seen = torch.randn(3, 48)
    expected = learner.eval().act(seen, {}, torch.zeros(3, dtype=torch.bool), greedy=True)
    torch.testing.assert_close(policy(seen), expected.action.clamp(-1, 1), rtol=0, atol=1e-6)
