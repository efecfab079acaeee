"""What each network sees of an observation, and from which experience of an agent it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.algos.multi_agent import AgentIds, Views
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Rollout
from tests.team_toys import Team
from tests.toys import MatchingPair

MASK = LeafSpec([2], "int8", [2, 2])


def spec_of(observation: Any, agents: tuple[str, ...] = ("a", "b", "c"), state: int = 0) -> EnvSpec:
    return EnvSpec("Toy", observation, ActionSpec("discrete", categories=[2]), list(agents), state)


def full() -> tuple[EnvSpec, dict[str, torch.Tensor]]:
    """Everything an observation of three agents may hold, of five environments."""
    leaves = {"observation": LeafSpec([4]), "action_mask": MASK, "alive": LeafSpec([])}
    obs = {
        "state": torch.randn(5, 7),
        "observation": torch.randn(5, 3, 4),
        "action_mask": torch.ones(5, 3, 2, dtype=torch.int8),
        "alive": torch.ones(5, 3),
    }
    return spec_of(leaves, state=7), obs


def test_a_single_agent_sees_everything_also_what_is_called_state():
    leaves = {"state": LeafSpec([2]), "alive": LeafSpec([]), "observation": LeafSpec([1])}
    views = Views(spec_of(leaves, ()))
    obs = {name: torch.zeros(4, *leaf.shape) for name, leaf in leaves.items()}
    assert views(obs) is obs
    assert views.observation is leaves
    assert views.alive(obs) is None
    assert (views.num_agents, views.critic, views.shared_value) == (0, None, False)


def test_state_and_alive_never_reach_the_actor():
    spec, obs = full()
    views = Views(spec)
    assert views.observation == {"observation": LeafSpec([4]), "action_mask": MASK}
    assert views.actor.has_action_mask
    seen = views(obs)
    assert list(seen) == ["observation", "action_mask"]
    assert all(seen[name] is obs[name] for name in seen)
    assert views.alive(obs | {"alive": torch.tensor([[1.0, 0, 1]])}).tolist() == [[True, False, True]]  # type: ignore[union-attr]


def test_a_lone_observation_needs_no_dict():
    spec = spec_of({"observation": LeafSpec([4]), "alive": LeafSpec([])}, state=7)
    obs = full()[1]
    views = Views(spec)
    assert views.actor.observation == LeafSpec([4])
    assert views({name: obs[name] for name in ("observation", "state", "alive")}) is obs["observation"]


@pytest.mark.parametrize("is_dict", [False, True])
def test_an_agents_number_is_one_more_discrete_leaf(is_dict: bool):
    leaves = {"observation": LeafSpec([4]), "alive": LeafSpec([])}
    views = Views(spec_of(leaves if is_dict else LeafSpec([4])), agent_ids=True)
    number = LeafSpec([], "int64", [3])
    assert views.observation == {"observation": LeafSpec([4]), "agent_id": number}
    for lead in ((3,), (5, 3), (9, 5, 3)):
        own = torch.randn(*lead, 4)
        seen = views({"alive": torch.ones(lead), "observation": own} if is_dict else own)
        assert seen["observation"] is own
        assert seen["agent_id"].tolist() == np.broadcast_to([0, 1, 2], lead).tolist()


@pytest.mark.parametrize("agent_ids", [False, "actor"])
def test_a_central_critic_sees_the_state_once(agent_ids: AgentIds):
    spec, obs = full()
    shared = Views(spec, agent_ids, central_critic=True)
    assert shared.shared_value
    assert shared(obs)["critic"] is obs["state"]
    assert shared.observation["critic"] == LeafSpec([7])  # type: ignore[index]
    assert ("agent_id" in shared(obs)["actor"]) == (agent_ids == "actor")
    without = {name: leaf for name, leaf in obs.items() if name != "state"}
    assert list(shared(without, with_critic=False)) == ["actor"]  # acting needs no state


def test_a_central_critic_sees_the_state_with_each_number():
    spec, obs = full()
    each = Views(spec, agent_ids=True, central_critic=True)
    assert not each.shared_value
    critic = each(obs)["critic"]
    assert critic["state"].shape == (5, 3, 7)
    assert (critic["state"] == obs["state"][:, None]).all()
    assert critic["agent_id"].tolist() == [[0, 1, 2]] * 5
    assert list(each(obs, with_critic=False)) == ["actor"]


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (spec_of(LeafSpec([1]), ()), {"agent_ids": True}, "agent_ids = true needs .* Toy has no agent axis"),
        (spec_of(LeafSpec([1]), ()), {"agent_ids": "actor"}, "agent_ids = actor needs .* Toy has no"),
        (spec_of(LeafSpec([1])), {"central_critic": True}, "central_critic = true needs .* Toy has neither"),
    ],
)
def test_arguments_that_do_not_fit_the_environment(spec: EnvSpec, arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Views(spec, **arguments)


# Rows


def collected(env: MatchingPair, steps: int = 9) -> Rollout:
    return InlineCollector(env, 0).collect(UniformPolicy(env.spec), steps, 0)


@pytest.mark.parametrize("team", [False, True])
def test_what_a_team_shares_is_spread_over_its_agents(team: bool):
    env = MatchingPair(3, team=team)
    rollout = collected(env)
    rows = Views(env.spec).rows(rollout)
    for a in range(2):
        assert torch.equal(rows.reward[..., a], rollout["reward"] if team else rollout["reward"][..., a])
        assert torch.equal(rows.done[..., a], rollout["truncated"])
    assert rows.reward.shape == rows.terminated.shape == (9, 3, 2)
    assert not rows.terminated.any()
    assert rows.valid is rows.acted is None


def test_a_single_agent_keeps_its_rows():
    rollout = collected(MatchingPair(3, team=True))
    rollout["valid"] = torch.rand(9, 3) > 0.5
    rows = Views(spec_of(LeafSpec([3]), ())).rows(rollout)
    assert rows.reward is rollout["reward"]
    assert rows.valid is rows.acted is rollout["valid"]


@pytest.mark.parametrize("team", [False, True])
@pytest.mark.parametrize("central_critic", [False, True])
def test_who_leaves_terminates_unless_the_team_earns_on(team: bool, central_critic: bool):
    env = Team(1, team=team, length=4, leaves_after=2)
    rows = Views(env.spec, central_critic=central_critic).rows(collected(env, 8))
    left, right = rows.done[:, 0].unbind(-1)
    assert left.tolist() == [False, False, False, True] * 2
    goes_on = team and central_critic
    assert right.tolist() == [False, not goes_on, False, True] * 2
    assert rows.terminated[:, 0].tolist() == [[False, t % 4 == 1 and not goes_on] for t in range(8)]
    assert rows.acted is not None
    assert rows.acted[:, 0].tolist() == [[True, t % 4 < 2] for t in range(8)]


def test_no_transition_counts_for_nobody():
    env = Team(2, leaves_after=2)
    rollout = collected(env)
    views, alive = Views(env.spec), rollout["obs"]["alive"][:-1] > 0
    rollout["valid"] = torch.rand(9, 2) > 0.5
    expected = alive & rollout["valid"][..., None]
    assert torch.equal(views.acted(rollout), expected)  # type: ignore[arg-type]
