"""A batch that keeps to the protocol passes; each way to break it is refused in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl import check_vector_env
from lit_rl.envs.alice_bob import AliceAndBob
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step
from tests.team_toys import Roles
from tests.worker_toys import Clocks


class Walks:
    """N walks on a line, each from its own generator: episodes of 3 to 6 steps, some choices forbidden."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        leaves: dict[str, Any] = {
            "at": LeafSpec([2]),
            "kind": LeafSpec([], "int64", [3]),
            "action_mask": LeafSpec([4], "int8", [2, 2, 2, 2]),
        }
        self.spec = EnvSpec("walks", leaves, ActionSpec("discrete", categories=[4]))
        self.closed = 0

    def reset(self, seed: int) -> Any:
        self.rngs = [np.random.default_rng(seed + i) for i in range(self.num_envs)]
        self.x = np.zeros(self.num_envs)
        self.t, self.length = np.zeros((2, self.num_envs), np.int64)
        for i in range(self.num_envs):
            self.begin(i)
        return self.look()

    def begin(self, i: int) -> None:
        self.x[i], self.t[i], self.length[i] = self.rngs[i].random(), 0, self.rngs[i].integers(3, 7)

    def look(self) -> Any:
        at = np.stack([self.x, self.t], -1).astype(np.float32)
        return {"at": at, "kind": self.length % 3, "action_mask": self.mask()}

    def mask(self) -> np.ndarray:
        return (np.arange(4) != self.t[:, None] % 4).astype(np.int8)

    def step(self, action: np.ndarray) -> Step:
        assert self.mask()[np.arange(self.num_envs), action].all()
        self.x += action + [rng.random() for rng in self.rngs]
        self.t += 1
        truncated = self.t == self.length
        obs, ended = self.look(), np.flatnonzero(truncated)
        final = {key: leaf[ended] for key, leaf in obs.items()} if len(ended) else None
        reward = self.x.astype(np.float32)
        for i in ended:
            self.begin(i)
        return Step(
            self.look(), reward, np.zeros_like(truncated), truncated, final, None, self.report(reward)
        )

    def report(self, reward: np.ndarray) -> dict[str, np.ndarray]:
        return {"height": np.where(reward > 5, reward, np.float32(np.nan))}

    def get_state(self) -> dict[str, Any] | None:
        arrays = {name: torch.tensor(getattr(self, name)) for name in ("x", "t", "length")}
        return {**arrays, "rngs": [copy.deepcopy(rng.bit_generator.state) for rng in self.rngs]}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in ("x", "t", "length"):
            getattr(self, name)[:] = state[name].numpy()
        for rng, saved in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved

    def close(self) -> None:
        self.closed += 1


def refused(make: Callable[[int], Any], message: str, **arguments: Any) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_vector_env(make, **{"num_steps": 30, **arguments})
    assert "\n" not in str(caught.value)


def changed(change: Callable[[Step], Step], base: Any = Walks) -> Any:
    """Batches whose steps come out changed."""

    class Changed(base):
        def step(self, action: np.ndarray) -> Step:
            return change(super().step(action))

    return Changed


def with_obs(**leaves: Callable[[np.ndarray], Any]) -> Callable[[Step], Step]:
    return lambda step: step._replace(obs=step.obs | {key: fn(step.obs[key]) for key, fn in leaves.items()})


def test_good_batches_pass_and_are_closed():
    made: list[Walks] = []

    def make(num_envs: int) -> Walks:
        made.append(Walks(num_envs))
        return made[-1]

    check_vector_env(make, num_steps=30)
    assert [env.num_envs for env in made] == [3, 3, 1]
    assert all(env.closed for env in made)
    check_vector_env(Clocks, num_envs=5, num_steps=20)  # it resets with the next step
    check_vector_env(Roles, num_steps=5, is_random=False)  # all observations are equal


def set_first(array: np.ndarray, value: Any) -> np.ndarray:
    array.reshape(-1)[0] = value
    return array


ARRAYS: list[tuple[Callable[[Step], Any], str]] = [
    (tuple, r"step must return a lit_rl\.types\.Step, got a tuple"),
    (with_obs(at=lambda at: at.tolist()), r"obs\['at'\] of step 0 is a list, expected a numpy array"),
    (with_obs(at=lambda at: at[:, :1]), r"obs\['at'\] of step 0 has shape \(3, 1\), expected \(3, 2\)"),
    (with_obs(at=lambda at: at.astype(float)), r"obs\['at'\] of step 0 has dtype float64, expected float32"),
    (with_obs(at=lambda at: set_first(at, np.nan)), r"obs\['at'\] of step 0 has values that are NaN or inf"),
    (with_obs(kind=lambda k: set_first(k, 3)), r"obs\['kind'\] of step 0 is 3, expected 0 to 2$"),
    (with_obs(action_mask=lambda m: m * np.int8(0)), r"\['action_mask'\] of step 0 allows no action at all"),
    (lambda step: step._replace(obs=step.obs["at"]), "obs of step 0 must be a dict with the keys .*'kind'"),
    (lambda step: step._replace(reward=step.reward.astype(float)), "reward of step 0 has dtype float64"),
    (lambda step: step._replace(reward=step.reward[:, None]), r"reward .* shape \(3, 1\), expected \(3,\)$"),
    (lambda step: step._replace(reward=set_first(step.reward, np.inf)), "reward of step 0 has values that"),
    (
        lambda step: step._replace(terminated=step.terminated.astype(np.int64)),
        "terminated of step 0 has dtype int64, expected bool",
    ),
    (lambda step: step._replace(truncated=step.truncated[:1]), r"truncated of step 0 has shape \(1,\)"),
    (lambda step: step._replace(final_obs=step.obs), "final_obs of step 0 must be None where no episode"),
    (lambda step: step._replace(final_obs=None), r"final_obs of step \d is None, expected the last obs"),
    (
        lambda step: step._replace(final_obs=step.final_obs and step.obs),
        r"final_obs\['at'\] of step \d+ has shape \(3, 2\), expected \(1, 2\)",
    ),
    (
        lambda step: step._replace(metrics={"height": step.metrics["height"].astype(float)}),
        r"metrics\['height'\] of step 0 has dtype float64",
    ),
    (
        lambda step: step._replace(valid=~step.truncated),
        r"valid of step \d+ is .*, expected False exactly where the step before ended an episode",
    ),
]


@pytest.mark.parametrize(("change", "message"), ARRAYS)
def test_arrays_that_do_not_fit_the_spec(change: Any, message: str):
    refused(changed(change), r"walks( \(environment 0\))?: .*" + message)


TEAM: list[tuple[Callable[[Step], Any], str]] = [
    (
        with_obs(observation=lambda o: o[:, 0]),
        r"obs\['observation'\] of step 0 has shape \(3, 11\), expected \(3, 2, 11\)",
    ),
    (
        with_obs(state=lambda s: s[:, 1:]),
        r"\['state'\] of step 0 has shape \(3, 99\), expected \(3, 100\)",
    ),
    (
        lambda step: step._replace(obs={"observation": step.obs["observation"]}),
        "obs of step 0 must be a dict with 'state', because spec.state is 100",
    ),
    (
        lambda step: step._replace(reward=np.zeros((3, 3), np.float32)),
        r"reward of step 0 has shape \(3, 3\), expected \(3,\) or \(3, 2\)",
    ),
]


@pytest.mark.parametrize(("change", "message"), TEAM)
def test_arrays_of_several_agents(change: Any, message: str):
    refused(changed(change, AliceAndBob), message)


class AfterReset(Walks):
    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        final = {key: leaf[step.truncated] for key, leaf in step.obs.items()}
        return step._replace(final_obs=final if step.truncated.any() else None)


class Stale(Walks):
    def step(self, action: np.ndarray) -> Step:
        before = self.look()
        step = super().step(action)
        final = {key: leaf[step.truncated] for key, leaf in before.items()}
        return step._replace(final_obs=final if step.truncated.any() else None)


class Reversed(Walks):
    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        final = step.final_obs and {key: leaf[::-1].copy() for key, leaf in step.final_obs.items()}
        return step._replace(final_obs=final)


class AfterNextReset(Clocks):
    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        if step.final_obs is not None:
            step.final_obs["seed"] += 1
        return step


def test_final_observations():
    refused(AfterReset, r"final_obs equals the observation after the reset in all \d+ episodes")
    refused(Stale, r"final_obs equals the observation before the last step in all \d+ episodes")
    refused(Reversed, r"final_obs of step \d+ has its rows in another order than the environments")
    refused(AfterNextReset, r"step \d comes with valid, .* that of environment \d differs")
    refused(Walks, "no episode ended within 2 steps, so final_obs cannot be checked", num_steps=2)


class SeedIgnored(Walks):
    def reset(self, seed: int) -> Any:
        return super().reset(0)


class Resumed(Walks):
    """Its second reset does not start the generators again."""

    def reset(self, seed: int) -> Any:
        rngs = getattr(self, "rngs", None)
        obs = super().reset(seed)
        self.rngs = rngs or self.rngs
        return obs


class DifferentCopies(Walks):
    made = 0

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        DifferentCopies.made += 1
        self.number = DifferentCopies.made

    def reset(self, seed: int) -> Any:
        return super().reset(seed + 100 * self.number)


class OneStream(Walks):
    def reset(self, seed: int) -> Any:
        super().reset(seed)
        self.rngs = [self.rngs[0]] * self.num_envs
        return self.look()


def test_seeds():
    refused(SeedIgnored, r"reset\(0\) and reset\(1009\) give equal episodes; use the seed", own_streams=False)
    refused(Resumed, r"a second reset\(0\), of the same batch, gives other episodes, first in obs")
    refused(DifferentCopies, r"a second reset\(0\), of another batch, gives other episodes, first in the obs")
    refused(
        OneStream,
        r"environment 0 after reset\(0\) differs from a single one after reset\(0\), first in obs of step \d",
    )
    check_vector_env(OneStream, num_steps=30, own_streams=False)
    check_vector_env(SeedIgnored, num_steps=30, own_streams=False, is_random=False)


class Forgetful(Walks):
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state | {"rngs": [rng.bit_generator.state for rng in self.rngs]})


class LiveState(Walks):
    def get_state(self) -> dict[str, Any]:
        return super().get_state() | {"x": torch.from_numpy(self.x)}  # type: ignore[operator]


class NumpyState(Walks):
    def get_state(self) -> dict[str, Any]:
        return {"walks": self}


def test_exact_state():
    refused(Forgetful, r"after set_state\(get_state\(\)\) before step 15 episodes continue otherwise")
    refused(LiveState, r"what get_state\(\) returned is written to by later steps; it must hold copies")
    refused(NumpyState, r"get_state\(\) must hold tensors and plain types, .* weights_only=True")

    class Unknown(Walks):
        def get_state(self) -> None:
            return None

    check_vector_env(Unknown, num_steps=30)


class Reuses(Walks):
    def look(self) -> Any:
        if not hasattr(self, "at") or len(self.at) != self.num_envs:
            self.at = np.zeros((self.num_envs, 2), np.float32)
        self.at[:] = np.stack([self.x, self.t], -1)
        return super().look() | {"at": self.at}


class ReusesInReset(Walks):
    """Its steps return new arrays, the last of which the next reset fills once more."""

    def reset(self, seed: int) -> Any:
        obs, last = super().reset(seed), getattr(self, "last", None)
        if last is not None:
            last["at"][:] = obs["at"]
        return obs

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        self.last = step.obs
        return step


class WritesAction(Walks):
    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        action[:] = 0
        return step


class ClosedOnce(Walks):
    def close(self) -> None:
        del self.closed


def test_arrays_that_are_written_to_and_other_faults():
    refused(Reuses, "obs of reset is written to by a later step or reset; return new arrays")
    refused(ReusesInReset, r"obs of step \d+ is written to by a later step or reset; return new arrays")
    refused(WritesAction, r"step \d+ writes into the action it is given; it must copy it first")
    refused(ClosedOnce, r"close\(\) may be called twice, but its second call raises AttributeError")
    refused(lambda num_envs: Walks(num_envs + 1), r"make\(3\) must make 3 environments, num_envs is 4")
    refused(lambda num_envs: [], "the environment: a VectorEnv has num_envs, spec, .* which list has not")
    refused(Walks, "num_envs must be at least 2, got 1", num_envs=1)

    class NoSpec(Walks):
        def __init__(self, num_envs: int) -> None:
            super().__init__(num_envs)
            self.spec = self.spec.to_dict()

    refused(NoSpec, r"spec must be a lit_rl\.EnvSpec, got a dict")


def test_any_kind_of_action_is_played():
    class Anything(Walks):
        def __init__(self, num_envs: int) -> None:
            super().__init__(num_envs)
            leaves = {key: leaf for key, leaf in self.spec.observation.items() if key != "action_mask"}
            self.spec = replace(self.spec, observation=leaves, action=ACTIONS[kind])
            self.seen: list[np.ndarray] = []

        def look(self) -> Any:
            return {key: leaf for key, leaf in super().look().items() if key != "action_mask"}

        def mask(self) -> np.ndarray:
            return np.ones((self.num_envs, 4), np.int8)

        def step(self, action: np.ndarray) -> Step:
            seen.append(action)
            return super().step(np.zeros(self.num_envs, np.int64))

    for kind in ACTIONS:
        seen: list[np.ndarray] = []
        check_vector_env(Anything, num_steps=30)
        played = np.stack([action for action in seen if len(action) == 3])
        if kind == "box":
            assert played.shape[1:] == (3, 2)
            assert (played.min((0, 1)) >= [-1, 0]).all()
            assert (played.max((0, 1)) <= [1, 5]).all()
            assert played[..., 1].max() > 4
        else:
            assert played.shape[1:] == (3, 2)
            assert {tuple(pair) for pair in played.reshape(-1, 2).tolist()} == {
                (a, b) for a in range(3) for b in range(2)
            }


ACTIONS = {
    "box": ActionSpec("box", [2], low=[float("-inf"), 0.0], high=[float("inf"), 5.0]),
    "multi": ActionSpec("multi_discrete", [2], categories=[3, 2]),
}
