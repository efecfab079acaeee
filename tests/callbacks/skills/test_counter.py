import math

import pytest
import torch

from lit_rl.callbacks.skills.counter import SkillCounter
from lit_rl.types import AGENT_SKILLS, SKILL_START, TEAM_SKILL


def extras(team, start, agents=None):
    made = {TEAM_SKILL: torch.tensor(team), SKILL_START: torch.tensor(start, dtype=torch.bool)}
    return made if agents is None else made | {AGENT_SKILLS: torch.tensor(agents)}


def no_reset(steps, envs):
    return torch.zeros(steps + 1, envs, dtype=torch.bool)


def column(*values):
    """(T, 1) of one environment."""
    return [[value] for value in values]


def test_counts_assignments_not_steps():
    counter = SkillCounter()
    team = [[0, 2], [0, 2], [1, 2], [1, 0]]
    start = [[1, 1], [0, 0], [1, 1], [0, 1]]
    agents = [[[0, 1], [2, 2]], [[0, 1], [2, 2]], [[1, 1], [2, 0]], [[1, 1], [0, 0]]]
    counter.update(extras(team, start, agents), no_reset(4, 2))
    assert counter.team_counts == {0: 2, 1: 1, 2: 2}
    assert counter.agent_counts == {0: 4, 1: 3, 2: 3}
    assert counter.switches == 2  # 0 to 1 in the first environment, 2 to 0 in the second; 2 to 2 is none
    assert counter.has_skills


def test_an_episode_does_not_begin_with_a_switch():
    counter = SkillCounter()
    reset = no_reset(4, 1)
    reset[2] = True
    counter.update(extras(column(0, 0, 1, 2), column(1, 0, 1, 1)), reset)
    assert counter.switches == 1  # 1 to 2; 0 to 1 are two episodes


def test_switches_are_seen_across_batches():
    counter = SkillCounter()
    counter.update(extras(column(0, 0), column(1, 0)), no_reset(2, 1))
    counter.update(extras(column(1, 1), column(1, 0)), no_reset(2, 1))
    assert counter.switches == 1
    after_reset = no_reset(2, 1)
    after_reset[0] = True
    counter.update(extras(column(0, 0), column(1, 0)), after_reset)
    assert counter.switches == 1


def test_steps_that_only_reset_the_environment_are_left_out():
    counter = SkillCounter()
    reset = no_reset(3, 1)
    reset[2] = True
    valid = torch.tensor(column(True, False, True))
    counter.update(extras(column(0, 1, 2), column(1, 1, 1)), reset, valid)
    assert counter.team_counts == {0: 1, 2: 1}
    assert counter.switches == 0


def test_diversity_is_the_number_of_skills_in_even_use():
    counter = SkillCounter()
    assert counter.diversity is None
    counter.update(extras(column(*[3] * 60), column(*[1] * 60)), no_reset(60, 1))
    assert counter.diversity == pytest.approx(1.0)
    counter.update(extras(column(*[0, 1, 2, 4] * 25), column(*[1] * 100)), no_reset(100, 1))
    assert counter.diversity == pytest.approx(4.0)  # of the last 100 only
    counter.update(extras(column(*[0] * 50), column(*[1] * 50)), no_reset(50, 1))
    shares = [
        0.5 + 12 / 100,
        13 / 100,
        13 / 100,
        12 / 100,
    ]  # the newest 50 of 0, 1, 2, 4, ... begin with 2, 4
    assert counter.diversity == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)))


def test_a_policy_without_skills_counts_nothing():
    counter = SkillCounter()
    counter.update({}, no_reset(3, 1))
    assert (counter.team_counts, counter.agent_counts, counter.switches, counter.diversity) == (
        {},
        {},
        0,
        None,
    )
    assert not counter.has_skills


def test_batches_of_any_length_give_the_same_counts_as_a_slow_twin():
    steps, envs = 60, 3
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(steps, envs, generator=generator) < 0.3
    reset = torch.rand(steps + 1, envs, generator=generator) < 0.1
    start |= reset[:-1]
    start[0] = True
    drawn = torch.randint(0, 4, (steps, envs), generator=generator)
    team = torch.empty_like(drawn)
    switches = 0
    for n in range(envs):
        for t in range(steps):
            team[t, n] = drawn[t, n] if start[t, n] else team[t - 1, n]
            switches += int(bool(start[t, n]) and not reset[t, n] and t > 0 and team[t, n] != team[t - 1, n])
    for length in (1, 7, 60):
        counter = SkillCounter()
        for t in range(0, steps, length):
            part = slice(t, t + length)
            counter.update({TEAM_SKILL: team[part], SKILL_START: start[part]}, reset[t : t + length + 1])
        assert counter.switches == switches
        assert counter.team_counts.total() == int(start.sum())


def test_state_continues_and_is_plain():
    team, start = column(0, 1, 1, 2), column(1, 1, 0, 1)
    whole, first, second = SkillCounter(), SkillCounter(), SkillCounter()
    whole.update(extras(team * 2, start * 2), no_reset(8, 1))
    first.update(extras(team, start), no_reset(4, 1))
    second.set_state(first.get_state())
    second.update(extras(team, start), no_reset(4, 1))
    assert second.get_state() == whole.get_state()
    assert whole.get_state() == {
        "has_skills": True,
        "team_counts": {0: 2, 1: 2, 2: 2},
        "agent_counts": {},
        "switches": 5,
        "recent": [0, 1, 2, 0, 1, 2],
        "last": [2],
    }


def test_add_joins_ranks():
    one, two = SkillCounter(), SkillCounter()
    one.update(extras(column(0, 1), column(1, 1)), no_reset(2, 1))
    two.update(extras(column(1, 2), column(1, 1)), no_reset(2, 1))
    one.add(two)
    assert one.team_counts == {0: 1, 1: 2, 2: 1}
    assert one.switches == 2
