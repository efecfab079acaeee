"""Actions of every kind of space, from training over evaluation and prediction to the exported file.

A learner of one agent needs an entry in ``LEARNERS``; then all of this tries it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_rl import (
    HMASD,
    PPO,
    SAC,
    TD3,
    PopulationPPO,
    PredictivePPO,
    Predictor,
    ReplayDataModule,
    RolloutDataModule,
)
from lit_rl.algos.export import export_policy, load_policy
from lit_rl.algos.module import RLModule
from lit_rl.envs.vector import make_vector_env
from lit_rl.nested import map_nested
from lit_rl.types import LeafSpec
from tests.cases import shipped_learners
from tests.parallel_toys import Leavers
from tests.toys import make_trainer

BIG = float(np.finfo(np.float64).max)


class Takes(gymnasium.Env):
    """Episodes of 4 steps; it keeps the actions it receives, and wants them inside of its space."""

    observation_space: spaces.Space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, space: spaces.Space, received: list[Any]) -> None:
        self.action_space, self.received = space, received

    def _obs(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert np.shape(action) == self.action_space.shape
        assert np.asarray(action).dtype == self.action_space.dtype
        assert self.action_space.contains(np.asarray(action)), action
        self.received.append(action)
        self.t += 1
        return self._obs(), float(np.sign(np.ravel(action)[0])), False, self.t == 4, {}


def on_policy(make: type[PPO], env: Any) -> tuple[RLModule, LightningDataModule]:
    data = RolloutDataModule(env, 2, 12, 1, eval_episodes=2)
    return make(hidden=(4,), batch_size=24, update_epochs=1), data


def replayed(make: Callable[..., RLModule], env: Any) -> tuple[RLModule, LightningDataModule]:
    data = ReplayDataModule(
        env, 2, steps_per_batch=4, batch_size=8, warmup_steps=8, batches_per_epoch=2, eval_episodes=2
    )
    return make(hidden=(4,)), data


LEARNERS: dict[str, Callable[[Any], tuple[RLModule, LightningDataModule]]] = {
    "PPO": partial(on_policy, PPO),
    "PredictivePPO": partial(on_policy, PredictivePPO),
    "SAC": partial(replayed, SAC),
    "TD3": partial(replayed, TD3),
}
SCALING = [name for name in LEARNERS if "PPO" not in name]
"""Learners that scale actions to [-1, 1]."""


def test_every_learner_of_one_agent_is_tried() -> None:
    others = {HMASD, Predictor, PopulationPPO}  # several agents, no policy of its own, several policies
    assert {cls.__name__ for cls in shipped_learners() - others} == LEARNERS.keys()


Fitted = tuple[RLModule, LightningDataModule, list[Any]]


def fitted(name: str, space: spaces.Space, env: Any = Takes) -> Fitted:
    """A learner after training and an evaluation, its data, and the actions of all its environments."""
    received: list[Any] = []
    learner, data = LEARNERS[name](partial(env, space, received))
    make_trainer(limit_val_batches=1.0).fit(learner, datamodule=data)
    assert learner.updates > 0
    assert learner.eval_result is not None
    assert all(torch.isfinite(parameter).all() for parameter in learner.parameters())
    return learner, data, received


def check_prediction(learner: RLModule, data: LightningDataModule, received: list[Any]) -> None:
    """The trajectories hold the actions that the environments received."""
    received.clear()
    (rollout,) = make_trainer().predict(learner, datamodule=data) or []
    predicted = rollout["action"].flatten(0, 1).numpy()
    assert predicted.dtype == np.asarray(received[0]).dtype
    np.testing.assert_array_equal(predicted, np.stack(received))


BOXES = {
    "one number": spaces.Box(-2, 3, ()),
    "a matrix": spaces.Box(-1, 1, (2, 3)),
    "float64": spaces.Box(0.1, 0.3, (2,), np.float64),
    "wide": spaces.Box(-1e38, 1e38, (2,)),
    "high": spaces.Box(2e38, 3e38, (2,)),
}
UNSCALED = {
    "no bound": spaces.Box(-np.inf, np.inf, (2,)),
    "one bound": spaces.Box(np.array([-1.0, -np.inf], np.float32), np.array([1.0, 0.5], np.float32)),
    "one value": spaces.Box(np.array([-1.0, 0.5], np.float32), np.array([1.0, 0.5], np.float32)),
    "beyond float32": spaces.Box(np.array([-1.0, -1e39]), np.array([1.0, 1e39]), dtype=np.float64),
    "all of float64": spaces.Box(np.array([-1.0, -BIG]), np.array([1.0, BIG]), dtype=np.float64),
    "all of float32": spaces.Box(np.array([-1.0, -3.4e38], np.float32), np.array([1.0, 3.4e38], np.float32)),
    "too fine for float32": spaces.Box(np.array([-1.0, 1e8]), np.array([1.0, 1e8 + 1]), dtype=np.float64),
}
FINITE, FLOAT32 = "needs finite action bounds", r"computes .* 3\.4e\+38"
DIFFER = "needs action bounds that differ in float32"
WHY = {
    "no bound": rf"{FINITE}; entry \[0\] of the action of Takes goes from -inf to inf: declare finite",
    "one bound": rf"{FINITE}; entry \[1\] of the action of Takes goes from -inf to 0\.5: declare finite",
    "one value": rf"{DIFFER}; entry \[1\] of .* from 0\.5 to 0\.5: .*leave the entry out",
    "beyond float32": rf"{FLOAT32}; entry \[1\] of .* from -1e\+39 to 1e\+39: declare narrower",
    "all of float64": rf"{FLOAT32}; entry \[1\] of .* goes from -1\.797.*e\+308 to 1\.797",
    "all of float32": rf"{FLOAT32}; entry \[1\] of .* goes from -3\.39.*e\+38 to 3\.39",
    "too fine for float32": rf"{DIFFER}; entry \[1\] of .* 100000000\.0 to 100000001\.0",
}


@pytest.mark.filterwarnings("ignore:.*infinite bounds")
@pytest.mark.parametrize(
    ("name", "space"),
    [(name, space) for name in LEARNERS for space in BOXES] + [("PPO", space) for space in UNSCALED],
)
def test_boxes_are_learned_and_predicted(name: str, space: str) -> None:
    learner, data, received = fitted(name, (BOXES | UNSCALED)[space])
    assert len(received) > 16
    check_prediction(learner, data, received)


@pytest.mark.filterwarnings("ignore:.*infinite bounds")
@pytest.mark.parametrize("space", UNSCALED)
@pytest.mark.parametrize("name", SCALING)
def test_an_entry_that_cannot_be_scaled_is_named(name: str, space: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} {WHY[space]}") as caught:
        fitted(name, UNSCALED[space])
    assert "\n" not in str(caught.value)


CHOICES = {
    "from 5": spaces.Discrete(3, start=5),
    "each from elsewhere": spaces.MultiDiscrete([2, 3], start=[5, -1]),
    "bits": spaces.MultiBinary(2),
}


@pytest.mark.parametrize("space", CHOICES)
def test_choices_are_learned_and_predicted(space: str) -> None:
    learner, data, received = fitted("PPO", CHOICES[space])
    check_prediction(learner, data, received)
    spec = learner.spec
    assert spec is not None
    assert spec == spec.from_dict(spec.to_dict())
    assert spec.from_dict(spec.to_dict()).action.start == spec.action.start


def exported(learner: RLModule, data: LightningDataModule, folder: Path) -> Any:
    """The policy of the file that is written from a checkpoint."""
    trainer = make_trainer()
    trainer.fit(learner, datamodule=data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return torch.export.load(export_policy(folder / "last.ckpt", folder / "policy.pt2")).module()


@torch.no_grad()
def play(policy: Any, env: gymnasium.Env, steps: int = 12) -> list[Any]:
    """What a machine without this library does: feed what the environment returns, play what comes."""

    def as_tensor(leaf: Any) -> Tensor:
        tensor = torch.as_tensor(leaf)[None]
        return tensor.float() if tensor.is_floating_point() else tensor

    obs, played = env.reset(seed=1)[0], []
    for t in range(steps):
        action = policy(map_nested(as_tensor, obs))[0].numpy()
        played.append(action)
        obs = env.step(action)[0] if t % 4 < 3 else env.reset()[0]
    return played


def push(learner: RLModule, by: float) -> None:
    """Move the outputs of the last layer of the actor, so that they leave the bounds."""
    network: Any = learner.policy.network.actor if isinstance(learner, PPO) else learner.actor.network  # type: ignore[union-attr]
    with torch.no_grad():
        network[-1].bias += by


@pytest.mark.parametrize(
    ("name", "space", "by"),
    [
        ("PPO", BOXES["one number"], 9.0),
        ("PPO", BOXES["float64"], 9.0),
        ("PPO", UNSCALED["all of float64"], 9.0),
        ("SAC", spaces.Box(-0.1, 0.7, (2,)), 30.0),
        ("TD3", BOXES["one number"], 30.0),
    ],
)
def test_an_exported_box_policy_clips_as_the_environment_does(
    tmp_path: Path, name: str, space: Any, by: float
) -> None:
    received: list[Any] = []
    learner, data = LEARNERS[name](partial(Takes, space, received))
    make_trainer().fit(learner, datamodule=data)
    push(learner, by)
    play(exported(learner, data, tmp_path), Takes(space, received))  # which refuses what is outside
    obs = torch.tensor([[0.3, -0.5]])
    loaded, reset = load_policy(tmp_path / "last.ckpt"), torch.ones(1, dtype=torch.bool)
    policy = torch.export.load(tmp_path / "policy.pt2").module()
    with torch.no_grad():
        action, given = loaded.act(obs, {}, reset, greedy=True).action.numpy(), policy(obs)[0].numpy()
    env = make_vector_env(partial(Takes, space, received), 1)
    env.reset(0)
    env.step(action)
    assert (action > space.high - 1e-6).any()
    np.testing.assert_allclose(given, received[-1], rtol=1e-6)
    assert (np.asarray(received[-1]) == space.high).any()
    assert (given == space.high).any()


class Sees(Takes):
    """Observations of every dtype; the choices that it sees begin with 3."""

    observation_space = spaces.Dict(
        image=spaces.Box(0, 255, (2, 2), np.uint8),
        count=spaces.Box(-99, 99, (2,), np.int32),
        kind=spaces.Discrete(4, start=3),
        real=spaces.Box(-1, 1, (2,), np.float64),
        action_mask=spaces.Box(0, 1, (3,), np.int8),
    )

    def _obs(self) -> Any:
        draw = self.np_random.integers
        mask = np.array([0, 1, 1], np.int8)
        return {
            "image": draw(0, 256, (2, 2), np.uint8),
            "count": draw(-99, 100, 2, np.int32),
            "kind": draw(3, 7),
            "real": self.np_random.uniform(-1, 1, 2),
            "action_mask": self.np_random.permutation(mask),
        }


def test_an_exported_policy_speaks_the_numbers_of_the_environment(tmp_path: Path) -> None:
    space = spaces.Discrete(3, start=5)
    learner, data, received = fitted("PPO", space, Sees)
    policy = exported(learner, data, tmp_path)
    received.clear()
    played = play(policy, Sees(space, []))
    twin = make_vector_env(partial(Sees, space, received), 1)
    obs, reset = twin.reset(1), torch.zeros(1, dtype=torch.bool)
    for t in range(12):
        action = learner.act(map_nested(torch.as_tensor, obs), {}, reset, greedy=True).action
        obs = twin.step(action.numpy()).obs
        assert received[-1] == played[t] in (5, 6, 7)
        assert played[t].dtype == np.int64
        if t % 4 == 3:
            break  # the other one was reset before its fourth step
    assert len(set(map(int, (action for action in play(policy, Sees(space, []), 40))))) > 1


class From5(Leavers):
    """Its choices are 5, 6 and 7."""

    def __init__(self) -> None:
        super().__init__(masks="observation")
        self.action_spaces = {agent: spaces.Discrete(3, start=5) for agent in self.possible_agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        assert all(self.action_space(agent).contains(action) for agent, action in actions.items())
        return super().step(actions)


def test_choices_of_several_agents_are_counted_by_their_space(tmp_path: Path) -> None:
    learner, data = on_policy(PPO, From5)
    policy = exported(learner, data, tmp_path)
    (rollout,) = make_trainer().predict(learner, datamodule=data) or []
    assert set(rollout["action"].unique().tolist()) <= {5, 6, 7}
    seen = map_nested(lambda leaf: leaf[0], rollout["obs"])
    assert seen["action_mask"].dtype == torch.int8
    np.testing.assert_array_equal(policy(seen).numpy(), rollout["action"][0].numpy())
    assert policy(seen).min() >= 5


def test_a_checkpoint_from_before_the_start_was_kept_still_fits() -> None:
    """The weights are the same; a learner that goes on knows the start from its data."""
    learner, _, _ = fitted("PPO", CHOICES["from 5"])
    assert learner.spec is not None
    plain = learner.spec.to_dict()
    for name in ("start", "dtype"):
        del plain["action"][name]
    del plain["observation"]["space_dtype"], plain["observation"]["start"]
    old = learner.spec.from_dict(plain)
    assert (old.action.start, old.action.dtype, old.observation) == ([], "", LeafSpec([2]))
    old.check_same(learner.spec)
