"""A mask under which nothing is allowed is refused, where somebody acts by it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from lit_rl import PPO, RolloutDataModule
from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.masks import check_masks
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from lit_rl.envs.vector import Autoreset, Vectorization, make_vector_env
from lit_rl.seeds import derive
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, VectorEnv
from tests.mask_toys import Forbids, ForbidsB
from tests.toys import fit

NOTHING = "Forbids: action_mask allows no action at step {} of {}, environment 1; wherever somebody acts the"


def collect(env: VectorEnv, *lengths: int) -> None:
    collector = InlineCollector(env, 0)
    try:
        for num_steps in lengths:
            collector.collect(UniformPolicy(env.spec), num_steps, 0)
    finally:
        collector.close()


@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_step_and_environment_are_named(vectorization: Vectorization, autoreset: Autoreset) -> None:
    make = partial(make_vector_env, num_envs=2, vectorization=vectorization, autoreset=autoreset)
    collect(make(partial(Forbids, at=-1)), 12)  # masks of observations that nobody acts on allow nothing
    with pytest.raises(ValueError, match=NOTHING.format(2, "this rollout")) as caught:
        collect(make(Forbids), 12)
    assert "\n" not in str(caught.value)


def test_it_is_refused_by_the_rollout_that_acts_on_it() -> None:
    collect(make_vector_env(Forbids, 2), 1, 1)
    with pytest.raises(ValueError, match=NOTHING.format(0, "this rollout")):
        collect(make_vector_env(Forbids, 2), 1, 1, 1)


def test_the_entry_of_a_multi_discrete_action_is_named() -> None:
    with pytest.raises(ValueError, match="environment 1, in entry 1 of the action; wherever"):
        collect(make_vector_env(partial(Forbids, entries=(2, 3)), 2), 12)


def test_the_agent_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"leavers_v0: action_mask allows no action at step 1 of .*, environment 0, agent b;"
    ):
        collect(ParallelVectorEnv(ForbidsB, 2, check=False), 6)


def test_training_stops() -> None:
    second = partial(Forbids, bad_seed=derive(0, "training") + 1)
    with pytest.raises(ValueError, match=NOTHING.format(2, "this rollout")):
        fit(PPO(hidden=(4,), batch_size=8), RolloutDataModule(second, 2, 8, seed=0, check=False))


@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
def test_evaluations_stop(autoreset: Autoreset) -> None:
    env = make_vector_env(Forbids, 2, autoreset=autoreset)
    evaluate(UniformPolicy(env.spec), env, seed=2)
    with pytest.raises(ValueError, match=NOTHING.format(2, "the evaluation")):
        evaluate(UniformPolicy(env.spec), env, seed=0)
    agents = ParallelVectorEnv(ForbidsB, 1, check=False)
    with pytest.raises(ValueError, match="at step 1 of the evaluation, environment 0, agent b;"):
        evaluate(UniformPolicy(agents.spec), agents, seed=0)


def team(**others: np.ndarray) -> tuple[EnvSpec, dict[str, Any]]:
    """Two steps of three environments with two agents; the first agent of the last one may do nothing."""
    leaves: dict[str, Any] = {"observation": LeafSpec([1]), "action_mask": LeafSpec([2], "int8", [2, 2])}
    spec = EnvSpec("team", leaves, ActionSpec("discrete", categories=[2]), ["left", "right"])
    mask = np.ones((2, 3, 2, 2), np.int8)
    mask[1, 2, 0] = 0
    return spec, {"action_mask": mask, **others}


def test_only_those_who_act_need_a_choice() -> None:
    acts, alive = np.ones((2, 3), bool), np.ones((2, 3, 2), np.float32)
    message = "team: action_mask allows no action at step 1 of a test, environment 2, agent left;"
    for obs in ({}, {"alive": alive}):
        for who in (None, acts):
            with pytest.raises(ValueError, match=message):
                check_masks(*team(**obs), who, "a test")
    with pytest.raises(ValueError, match="at step 8 of"):
        check_masks(*team(), None, "a test", first_step=7)
    alive[1, 2, 0] = 0  # it left the episode
    check_masks(*team(alive=alive), acts, "a test")
    acts[1, 2] = False  # its environment is only reset
    check_masks(*team(), acts, "a test")
