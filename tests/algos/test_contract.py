"""The contract of learner and data: no lag, a ratio of exactly 1, exact counters, true ends of episodes.

What every learner must keep to runs over the cases of ``tests/cases.py``; what only some have follows.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor

from lit_rl import PPO, RolloutDataModule, load_policy, metrics
from lit_rl.algos.module import RLModule
from lit_rl.algos.numpy_policy import NumpyPolicy
from lit_rl.arguments import constructors
from lit_rl.checks import is_plain
from lit_rl.collect.inline import InlineCollector
from lit_rl.data.loaders import Batches
from lit_rl.data.replay import transitions
from lit_rl.env_units import ActionToEnv, observation_to_env
from lit_rl.envs.vector import Autoreset, make_vector_env
from lit_rl.nested import map_nested, named_leaves
from lit_rl.normalize import ObservationNorm, ReturnScale
from lit_rl.ranks import Ranks
from lit_rl.types import (
    AGENT_SKILLS,
    TEAM_SKILL,
    Decision,
    EnvSpec,
    Episodes,
    ReplayBatch,
    Rollout,
    as_learner,
    without_critic,
)
from tests.cases import CASES, few
from tests.toys import (
    ContinuousEpisodes57,
    Episodes57,
    MemoryLogger,
    WatchedPPO,
    fit,
    make_trainer,
    samples_of,
)

MODES: list[Autoreset] = ["same_step", "next_step", "disabled"]


# The contract of every case


@pytest.mark.parametrize("case", few(CASES, "mappo", "ppo_cartpole"))
def test_no_evaluation_is_endless(case: str):
    """Every policy, of one agent or many, recurrent or not, is cut where its data module says."""
    module, data = CASES[case](1)
    cast("Any", data).evaluation._max_steps = 2
    make_trainer(limit_val_batches=1.0).validate(module, datamodule=data, verbose=False)
    assert module.eval_result is not None
    assert module.eval_result["length_mean"] == 2


class Watch(Callback):
    """Notes what each batch said, and how far it moved each parameter that is trained."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.lags: list[int] = []
        self.counters: list[tuple[int, int, int]] = []  # env steps, version and updates after each batch
        self.moved: list[dict[str, float]] = []
        self.gradients: dict[str, float] = {}  # the largest of each parameter, in any batch
        self.optimizers_of: dict[str, int] = {}
        self.strangers = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Count by memory, because an optimizer may hold one flat tensor of which parameters are views."""
        held = [p for optimizer in trainer.optimizers for g in optimizer.param_groups for p in g["params"]]
        spans = [(p.data_ptr(), p.data_ptr() + p.numel() * p.element_size()) for p in held]
        trained = 0
        for name, parameter in pl_module.named_parameters():
            found = sum(start <= parameter.data_ptr() < end for start, end in spans)
            self.optimizers_of[name] = found
            trained += parameter.numel() if found else 0
        self.strangers = sum(p.numel() for p in held) - trained

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        self.lags.append(pl_module.policy_version - batch["policy_version"])
        self.before = {name: p.detach().clone() for name, p in trained_parameters(pl_module)}

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.counters.append((pl_module.env_steps, pl_module.policy_version, pl_module.updates))
        now = trained_parameters(pl_module)
        self.moved.append({name: (p - self.before[name]).abs().max().item() for name, p in now})
        for name, parameter in trained_parameters(pl_module):
            largest = 0.0 if parameter.grad is None else parameter.grad.abs().max().item()
            self.gradients[name] = max(largest, self.gradients.get(name, 0.0))


def trained_parameters(module: RLModule) -> list[tuple[str, Tensor]]:
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]


class Trained(NamedTuple):
    """A learner after its run, with what was seen of it."""

    learner: RLModule
    data: LightningDataModule
    rows: list[tuple[int | None, dict[str, float]]]
    watch: Watch
    checkpoint: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """``trained("sac_pendulum")`` is that case after two epochs of two batches; each runs once."""

    @cache
    def run(name: str) -> Trained:
        torch.manual_seed(1)
        learner, data = CASES[name](2)
        watch, logger = Watch(), MemoryLogger()
        trainer = make_trainer(logger=logger, max_epochs=2, limit_val_batches=1.0, callbacks=[watch])
        trainer.fit(learner, datamodule=data)
        path = tmp_path_factory.mktemp(name) / "last.ckpt"
        trainer.save_checkpoint(path)
        return Trained(learner, data, logger.rows, watch, path)

    return run


def is_replayed(batch: Any) -> bool:
    """Whether a batch holds transitions of earlier versions of the policy."""
    return "replay_size" in batch


@pytest.mark.parametrize("name", CASES)
def test_every_learner_is_one(name: str, trained: Callable[[str], Trained]):
    learner = trained(name).learner
    assert as_learner(learner, name) is learner
    assert learner.automatic_optimization is False, name
    assert learner.is_updating is False, name


@pytest.mark.parametrize("name", CASES)
def test_every_batch_says_what_a_batch_must(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    kind = ReplayBatch if is_replayed(run.watch.batches[0]) else Rollout
    for batch in run.watch.batches:
        assert set(kind.__annotations__) <= set(batch), name
        assert set(Episodes.__annotations__) == set(batch["episodes"]), name
        assert batch["new_steps"] > 0, name
        assert batch["new_steps"] % batch["num_envs"] == 0, name
        ends = batch["episodes"]["end_step"]
        assert ((ends > 0) & (ends <= batch["new_steps"])).all(), name
        assert (batch["episodes"]["env_index"] < batch["num_envs"]).all(), name
    assert len(run.data.train_dataloader()) == 2, name


@pytest.mark.parametrize("name", CASES)
def test_no_batch_lags_and_all_counters_are_exact(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    steps = np.cumsum([batch["new_steps"] for batch in run.watch.batches]).tolist()
    assert run.watch.lags == [0] * 4, name
    assert [env_steps for env_steps, _, _ in run.watch.counters] == steps, name
    assert [version for _, version, _ in run.watch.counters] == [1, 2, 3, 4], name
    updates = [updates for _, _, updates in run.watch.counters]
    assert updates == sorted({0, *updates})[1:], name  # more after each batch
    of_batches = [(step, row) for step, row in run.rows if metrics.GRADIENT_STEPS in row]
    assert [step for step, _ in of_batches] == steps, name  # one row for each
    assert [row[metrics.GRADIENT_STEPS] for _, row in of_batches] == updates, name
    assert [row[metrics.POLICY_VERSION] for _, row in of_batches] == [1, 2, 3, 4], name
    episodes = np.cumsum([len(batch["episodes"]["end_step"]) for batch in run.watch.batches]).tolist()
    assert [row[metrics.EPISODES] for _, row in of_batches] == episodes, name
    assert run.learner.num_episodes == episodes[-1], name


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_its_optimizer(name: str, trained: Callable[[str], Trained]):
    """Each that requires a gradient is in exactly one, no other is in any, and nothing else is trained."""
    run = trained(name)
    expected = {key: int(p.requires_grad) for key, p in run.learner.named_parameters()}
    assert run.watch.optimizers_of == expected, name
    assert run.watch.strangers == 0, name


LOST_IN_ROUNDING = 1e-12
"""Gradients that are smaller do not move a float32 weight: Adam divides them by at least its epsilon of 1e-8
(of HMASD 1e-5), and weights near 0.01 are 1e-9 apart. Attention that begins near the identity has such."""


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
@pytest.mark.parametrize("name", CASES)
def test_every_weight_moves_in_every_training_step(name: str, precision: Any):
    """In every precision that learners support, and in float64 without exception."""
    torch.manual_seed(2)
    learner, data = CASES[name](2)
    watch = Watch()
    logger = fit(learner, data, precision=precision, callbacks=[watch], limit_val_batches=1.0)
    assert len(watch.moved) == 2, name
    smallest = 0.0 if precision == "64-true" else LOST_IN_ROUNDING
    for moved in watch.moved:
        still = [key for key, by in moved.items() if not by > 0 and watch.gradients[key] >= smallest]
        assert still == [], name
        assert max(moved.values()) > 1e-4, name
    dtypes = {p.dtype for p in learner.parameters()}
    assert dtypes == {torch.float64 if precision == "64-true" else torch.float32}, name
    assert all(math.isfinite(value) for _, row in logger.rows for value in row.values()), name


@pytest.mark.parametrize("name", CASES)
def test_evaluation_of_every_learner(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    evaluations = [row for _, row in run.rows if metrics.EVAL_RETURN in row]
    result = run.learner.eval_result
    assert len(evaluations) == 2, name  # one after each epoch
    assert result is not None
    assert all(math.isfinite(value) for value in result.values()), name
    last = evaluations[-1]
    assert last[metrics.EVAL_EPISODES] == result["episodes"] >= 2, name
    assert last[metrics.EVAL_RETURN] == pytest.approx(result["return_mean"]), name
    assert result["return_min"] <= result["return_mean"] <= result["return_max"], name
    assert result["length_mean"] >= 1, name
    assert result["env_steps"] == run.learner.env_steps, name


class Spy:
    """Stands in for a learner's ``act``, and notes what was asked and decided."""

    def __init__(self, learner: RLModule) -> None:
        self._act = learner.act
        self.asked: list[bool] = []
        self.decisions: list[Decision] = []

    def __call__(self, *args: Any, greedy: bool = False) -> Decision:
        self.asked.append(greedy)
        self.decisions.append(self._act(*args, greedy=greedy))
        return self.decisions[-1]


@pytest.mark.parametrize("name", CASES)
def test_every_evaluation_of_the_sampled_policy_is_repeatable_and_unnoticed(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    """It decides as the learner does to explore, skills included, and draws from a seed of its own."""
    learner, data = CASES[name](1)
    trainer, played = make_trainer(limit_val_batches=1.0), []
    for seed, policy in enumerate(("greedy", "sample", "sample")):
        cast(Any, data).evaluation.policy = policy
        monkeypatch.setattr(learner, "act", spy := Spy(learner))
        torch.manual_seed(seed)
        expected = torch.rand(3)
        torch.manual_seed(seed)
        trainer.validate(learner, datamodule=data, verbose=False)
        assert torch.equal(torch.rand(3), expected) or not played, name  # the first one makes the networks
        assert set(spy.asked) == {policy == "greedy"}, name
        played.append(spy.decisions)
        monkeypatch.undo()
    actions = [torch.cat([d.action.flatten() for d in decisions]) for decisions in played]
    assert torch.equal(actions[1], actions[2]), name
    assert not torch.equal(actions[0], actions[1]), name
    for skill in {TEAM_SKILL, AGENT_SKILLS} & played[0][0].extras.keys():  # where all see the same
        likely, drawn = (torch.stack([d.extras[skill] for d in decisions[:8]]) for decisions in played[:2])
        assert not torch.equal(likely, drawn), f"{name}, {skill}"


# Acting


def observations_of(batch: Any, num_envs: int, at: int) -> Any:
    """True observations of a batch ``(num_envs, ...)``, from row ``at`` on."""
    return map_nested(lambda leaf: leaf.flatten(0, 1)[at : at + num_envs], batch["obs"])


def acted(learner: RLModule, batch: Any, rows: slice = slice(0, 5), steps: int = 3) -> list[Any]:
    """Greedy decisions of so many steps for some of five environments; the second restarts at step 2."""
    num_envs = len(range(5)[rows])
    carry, decisions = learner.initial_carry(num_envs), []
    for t in range(steps):
        obs = map_nested(lambda leaf: leaf[rows], observations_of(batch, 5, 5 * t))
        reset = torch.tensor([t == 0, t in (0, 2), t == 0, t == 0, t == 0])[rows]
        with torch.no_grad():
            decisions.append(learner.act(obs, carry, reset, greedy=True))
        carry = decisions[-1].carry
    return decisions


@pytest.mark.parametrize("name", CASES)
def test_every_learner_acts_in_the_shapes_of_its_environment(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    spec, batch = run.learner.spec, run.watch.batches[-1]
    assert spec is not None, name
    assert spec == run.data.spec, name
    lead = [len(spec.agents)] if spec.agents else []
    for num_envs in (1, 5):
        before = run.learner.initial_carry(num_envs)
        for decision in acted(run.learner, batch, slice(0, num_envs)):
            assert decision.action.shape == (num_envs, *lead, *spec.action.shape), name
            assert decision.action.is_floating_point() == (spec.action.kind == "box"), name
            carried = [(path, leaf.shape, leaf.dtype) for path, leaf in named_leaves(decision.carry)]
            assert carried == [(path, leaf.shape, leaf.dtype) for path, leaf in named_leaves(before)], name
            assert all(leaf.shape[0] == num_envs for leaf in decision.extras.values()), name
            if spec.action.kind == "discrete":
                assert 0 <= decision.action.min() <= decision.action.max() < spec.action.categories[0], name
            assert torch.isfinite(decision.action).all(), name


@pytest.mark.parametrize("name", CASES)
def test_greedy_decisions_are_repeatable(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    first = acted(run.learner, run.watch.batches[-1])
    torch.manual_seed(99)
    second = acted(run.learner, run.watch.batches[-1])
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.action, other.action), name
    assert any(not torch.equal(first[0].action, later.action) for later in first[1:]), name


@pytest.mark.parametrize("name", CASES)
def test_environments_do_not_see_each_other(name: str, trained: Callable[[str], Trained]):
    """What an environment is told, what is remembered of it and recorded is not that of those beside it."""
    run = trained(name)
    together = acted(run.learner, run.watch.batches[-1])
    for n in range(5):
        alone = acted(run.learner, run.watch.batches[-1], slice(n, n + 1))
        for t in range(len(alone)):
            beside = dict(named_leaves(together[t]._asdict()))
            for path, leaf in named_leaves(alone[t]._asdict()):
                is_close = torch.isclose(leaf[0].float(), beside[path][n].float(), rtol=1e-5, atol=1e-5)
                assert is_close.all(), f"{name}, environment {n}, step {t}, {path}"


@pytest.mark.parametrize("name", CASES)
def test_every_learner_explores(name: str, trained: Callable[[str], Trained]):
    """Decisions that are not greedy are drawn from torch's generator."""
    run = trained(name)
    obs, carry = observations_of(run.watch.batches[-1], 5, 0), run.learner.initial_carry(5)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            several = [run.learner.act(obs, carry, torch.ones(5, dtype=torch.bool)) for _ in range(8)]
        drawn.append(torch.stack([decision.action for decision in several]))
    assert torch.equal(drawn[0], drawn[1]), name
    assert not torch.equal(drawn[0], drawn[2]), name


# Checkpoints


@pytest.mark.parametrize("name", CASES)
def test_every_checkpoint_is_plain_and_public(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    learner = type(run.learner)
    assert is_plain(dict(run.learner.hparams)), name
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    assert checkpoint["lit_rl"]["class_path"] == f"lit_rl.{learner.__name__}", name
    assert EnvSpec.from_dict(checkpoint["lit_rl"]["spec"]) == run.learner.spec, name
    given = [each for made in constructors(learner) for each in inspect.signature(made).parameters.values()]
    parameters = {each.name for each in given if each.kind is not each.VAR_KEYWORD} - {"self", "spec"}
    assert set(checkpoint["hyper_parameters"]) == parameters, name
    assert checkpoint["state_dict"]["_extra_state"]["env_steps"] == run.learner.env_steps, name


@pytest.mark.parametrize("name", CASES)
def test_every_loaded_policy_is_the_one_that_was_written(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    loaded = load_policy(run.checkpoint)
    assert type(loaded) is type(run.learner), name
    assert dict(loaded.hparams) == dict(run.learner.hparams), name
    for counter in ("env_steps", "policy_version", "updates", "num_episodes"):
        assert getattr(loaded, counter) == getattr(run.learner, counter) > 0 or counter == "num_episodes"
    batch = run.watch.batches[-1]
    for ours, theirs in zip(acted(loaded, batch), acted(run.learner, batch), strict=True):
        assert torch.equal(ours.action, theirs.action), name
        assert list(named_leaves(ours.carry)) or not list(named_leaves(theirs.carry)), name
        for (path, leaf), (_, other) in zip(
            named_leaves(ours.carry), named_leaves(theirs.carry), strict=True
        ):
            assert torch.equal(leaf, other), f"{name}: {path}"


@pytest.mark.parametrize("name", CASES)
def test_every_policy_predicts_in_numpy_what_it_decides(name: str, trained: Callable[[str], Trained]):
    run = trained(name)
    policy, spec = NumpyPolicy(run.learner), run.learner.spec
    assert spec is not None
    carry = run.learner.initial_carry(5)
    for t in range(2):
        obs = observations_of(run.watch.batches[-1], 5, 5 * t)
        with torch.no_grad():
            decision = run.learner.act(obs, carry, torch.full((5,), t == 0), greedy=True)
        carry = decision.carry
        theirs = observation_to_env(spec.of_actor().observation, without_critic(obs))
        action = policy.predict(map_nested(lambda leaf: leaf.numpy(), theirs))
        np.testing.assert_allclose(
            action, ActionToEnv(spec.action)(decision.action).numpy(), rtol=1e-5, atol=1e-6, err_msg=name
        )


# What is refused, and what breaks off


class Given(LightningDataModule):
    """Batches made beforehand."""

    def __init__(self, spec: EnvSpec, batches: list[Any]) -> None:
        super().__init__()
        self.spec, self.batches = spec, batches

    def train_dataloader(self) -> Batches:
        return Batches(lambda: iter(self.batches), len(self.batches))

    def val_dataloader(self) -> Batches:
        return Batches(lambda: iter(()), 1)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_an_older_version_is_refused_unless_it_is_replayed(
    name: str, trained: Callable[[str], Trained]
):
    first = trained(name).watch.batches[0]
    assert first["policy_version"] == 0
    torch.manual_seed(1)  # the weights that acted in this batch
    learner, data = CASES[name](1)
    twice = Given(data.spec, [first, first])
    data.teardown("fit")
    watch, logger = Watch(), MemoryLogger()
    trainer = make_trainer(logger=logger, callbacks=[watch])
    if is_replayed(first):
        trainer.fit(learner, datamodule=twice)
        assert learner.policy_version == 2, name
        return
    with pytest.raises(RuntimeError, match="batch expected of policy version 1, got 0"):
        trainer.fit(learner, datamodule=twice)
    assert watch.lags == [0, 1], name
    assert (learner.policy_version, learner.env_steps) == (1, first["new_steps"]), name
    assert learner.updates == watch.counters[0][2], name
    assert all(torch.equal(p, watch.before[key]) for key, p in trained_parameters(learner)), name
    assert len(logger.rows) == 1, name


class BreaksOff(Watch):
    """Raises in the second batch, in the backward pass before the second step of the first optimizer."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if batch_idx == 1:
            calls = []

            def failing(grad: Tensor) -> None:
                calls.append(grad)
                if len(calls) == 2:
                    hook.remove()
                    raise ConnectionError("it breaks off")

            held = trainer.optimizers[0].param_groups[0]["params"][0]
            parameters = [p for _, p in trained_parameters(pl_module) if p.data_ptr() == held.data_ptr()]
            hook = parameters[0].register_hook(failing)


@pytest.mark.parametrize("name", CASES)
def test_training_goes_on_after_a_prediction(name: str):
    """The rollout of a prediction is of the policy that is trained next; no batch of training knows of it."""
    learner, data = CASES[name](1)
    first, again = Watch(), Watch()
    make_trainer(callbacks=[first]).fit(learner, datamodule=data)
    predicted = make_trainer().predict(learner, datamodule=data) or []
    assert [batch["policy_version"] for batch in predicted] == [1], name
    make_trainer(callbacks=[again]).fit(learner, datamodule=data)
    assert again.lags == [0], name
    steps = [watch.batches[0]["new_steps"] for watch in (first, again)]
    assert (learner.env_steps, learner.policy_version) == (sum(steps), 2), name


@pytest.mark.parametrize("name", CASES)
def test_an_update_that_breaks_off_counts_for_nothing_and_must_be_begun_anew(name: str):
    learner, data = CASES[name](3)
    watch, logger = BreaksOff(), MemoryLogger()
    with pytest.raises(ConnectionError, match="it breaks off"):
        make_trainer(logger=logger, callbacks=[watch]).fit(learner, datamodule=data)
    assert [batch["policy_version"] for batch in watch.batches] == [0, 1], name
    assert any(not torch.equal(p, watch.before[key]) for key, p in trained_parameters(learner)), name
    first = watch.batches[0]["new_steps"]
    assert (learner.env_steps, learner.policy_version) == (first, 1), name
    assert learner.updates == watch.counters[0][2], name
    assert [step for step, _ in logger.rows] == [first], name
    # nothing is collected with the half of an update ...
    assert learner.is_updating, name
    with pytest.raises(RuntimeError, match="in the middle of an update"):
        next(iter(data.train_dataloader()))
    # ... until somebody trains again, on new experience
    again = Watch()
    make_trainer(logger=logger, callbacks=[again], limit_train_batches=2).fit(learner, datamodule=data)
    assert again.lags == [0, 0], name
    assert learner.policy_version == 3, name
    assert learner.env_steps == first + sum(batch["new_steps"] for batch in again.batches), name
    assert [step for step, _ in logger.rows] == [first, *(steps for steps, _, _ in again.counters)], name


# Special cases


def cartpole(**kwargs: Any) -> RolloutDataModule:
    defaults: dict[str, Any] = {"num_envs": 4, "rollout_steps": 16, "rollouts_per_epoch": 3, "check": False}
    return RolloutDataModule("CartPole-v1", **(defaults | kwargs))


def test_a_loader_without_length_is_prefetched_and_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(Batches, "__len__")
    module = WatchedPPO(hidden=(8,), batch_size=32)
    message = "expected of policy version 1, got 0: the dataloader was prefetched"
    with pytest.raises(RuntimeError, match=message):
        fit(module, cartpole())
    assert module.lags == [0, 1]


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize(
    ("env", "arguments"),
    [("CartPole-v1", {}), ("Pendulum-v1", {"normalize_observation": True}), ("CartPole-v1", {"gru": 8})],
)
def test_ratio_is_exactly_one_before_the_first_update(env: str, arguments: dict[str, Any], precision: str):
    """A recurrent policy is cut into chunks: the same numbers in another order, so equal up to rounding."""
    module = WatchedPPO(hidden=(16,), batch_size=64, update_epochs=3, learning_rate=0.01, **arguments)
    fit(module, RolloutDataModule(env, 4, 16, rollouts_per_epoch=3, check=False), precision=precision)
    first = torch.stack(module.log_ratios[::3])
    rounding = {"32-true": 1e-5, "64-true": 1e-12, "bf16-mixed": 1e-2}[precision]
    assert first.exp().sub(1).abs().max() <= (rounding if "gru" in arguments else 0)
    later = torch.stack(module.log_ratios[2::3])  # the forward really sees the weights of the last step
    assert (later.flatten(1).abs().amax(1) > 1e-4).all()


def test_acting_and_learning_compute_the_same_log_probability():
    """The batched forward at the head of ``training_step`` is the policy that acted."""
    env = make_vector_env("CartPole-v1", 3)
    module = PPO(hidden=(8,), spec=env.spec)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        rollout = InlineCollector(env, 0).collect(module, 2000, 0)
        samples, _ = samples_of(module, rollout)
    # E[1 / p(action)] is the number of actions, where p is the probability with which they were taken
    inverse = samples["log_prob"].neg().exp()
    assert inverse.mean().item() == pytest.approx(2, abs=4 * inverse.std().item() / 6000**0.5)
    env.close()


@pytest.mark.parametrize("name", CASES)
def test_networks_may_be_made_on_another_device(name: str):
    """Lightning makes them on the accelerator at once: ``meta`` stands for one that numpy cannot read."""
    module, data = CASES[name](1)
    module.spec = data.spec
    with torch.device("meta"):
        module.configure_model()
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    data.teardown("fit")


def test_counters_are_exact():
    module = PPO(hidden=(8,), batch_size=16, update_epochs=2)
    logger = fit(module, cartpole(), max_epochs=2)
    assert module.policy_version == 6
    assert module.env_steps == 6 * 16 * 4
    assert module.updates == 6 * 2 * 4  # rollouts * epochs * minibatches
    assert [step for step, _ in logger.rows] == [64, 128, 192, 256, 320, 384]
    assert logger.column("update/gradient_steps") == [8, 16, 24, 32, 40, 48]
    assert logger.column("update/policy_version") == [1, 2, 3, 4, 5, 6]
    assert module.trainer.global_step == 6 * 16 * 4  # Lightning's own counter follows


def collect(
    mode: Autoreset, env: Any = Episodes57, num_steps: int = 60, **arguments: Any
) -> tuple[PPO, Rollout]:
    envs = make_vector_env(env, 3, autoreset=mode)
    torch.manual_seed(5)
    module = PPO(hidden=(16,), spec=envs.spec, gamma=0.9, gae_lambda=0.8, **arguments)
    module.configure_model()
    with torch.no_grad():
        rollout = InlineCollector(envs, seed=0).collect(module, num_steps, 0)
    envs.close()
    return module, rollout


def complete_episodes(values: Tensor, rollout: Rollout) -> dict[tuple[int, int], list[float]]:
    """``values`` (T, N) of true transitions by (environment, episode), complete episodes only."""
    steps, envs = values.shape
    valid = torch.ones(steps, envs, dtype=torch.bool) if rollout["valid"] is None else rollout["valid"]
    done = rollout["terminated"] | rollout["truncated"]
    episodes: dict[tuple[int, int], list[float]] = {}
    for n in range(envs):
        running = []
        for t in range(steps):
            if valid[t, n]:
                running.append(values[t, n].item())
            if done[t, n]:
                episodes[n, round(rollout["obs"][t, n, 0].item() * 8)] = running
                running = []
    return episodes


@pytest.mark.parametrize("arguments", [{}, {"gru": 8, "chunk_length": 20}])
def test_advantages_are_equal_under_all_autoresets(arguments: dict[str, Any]):
    """Of true transitions; episodes of 5 truncated and 7 terminated steps."""
    by_mode = []
    for mode in MODES:
        module, rollout = collect(mode, batch_size=60, **arguments)
        with torch.no_grad():
            samples, _ = samples_of(module, rollout)
        advantage = samples["advantage"]
        if "gru" in arguments:  # chunks (T/L * N, L) back to (T, N)
            advantage = advantage.unflatten(0, (3, 3)).transpose(1, 2).flatten(0, 1)
        by_mode.append(complete_episodes(advantage.reshape(60, 3), rollout))
    common = set.intersection(*(set(episodes) for episodes in by_mode))
    assert len(common) >= 22
    for key in common:
        assert len(by_mode[0][key]) == (7 if key[1] % 2 else 5)
        for other in by_mode[1:]:
            assert other[key] == pytest.approx(by_mode[0][key], rel=1e-5, abs=1e-5)


def test_advantages_against_a_slow_twin():
    """delta and lambda sums written out per episode, with the value of the true last observation."""
    module, rollout = collect("next_step")
    with torch.no_grad():
        samples, _ = samples_of(module, rollout)
    episodes = complete_episodes(samples["advantage"].view(60, 3), rollout)
    network = module.policy.network

    def value(episode: int, t: int) -> float:
        obs = torch.tensor([[episode / 8, t / 8, 1]])
        return network.critic(obs).item()

    for (_, k), got in episodes.items():
        length, terminates = (7, True) if k % 2 else (5, False)
        advantage, expected = 0.0, []
        for t in reversed(range(length)):
            following = 0.0 if terminates and t == length - 1 else value(k, t + 1)
            advantage = t + 10 * k + 0.9 * following - value(k, t) + 0.9 * 0.8 * advantage
            expected.insert(0, advantage)
        assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("arguments", [{}, {"gru": 8, "chunk_length": 20}])
def test_rows_that_only_reset_are_never_trained_on(arguments: dict[str, Any]):
    module, rollout = collect("next_step", batch_size=60, **arguments)
    assert rollout["valid"] is not None
    with torch.no_grad():
        samples, _ = samples_of(module, rollout)
    if "gru" in arguments:
        assert samples["weight"].sum() == rollout["valid"].sum()
        return
    marked = samples | {"valid": rollout["valid"].flatten()}
    for minibatches in module.policy.minibatches(marked, rollout["valid"], Ranks(), 60):
        assert [len(minibatch["valid"]) for minibatch in minibatches] == [60, 60, 60]
        assert all(minibatch["valid"].all() for minibatch in minibatches)


@pytest.mark.parametrize("normalize", ["normalize_observation", "normalize_return"])
def test_statistics_see_true_transitions_only(normalize: str):
    """Normalizers end with the moments of the rows that are transitions, whatever the autoreset."""
    data = RolloutDataModule(Episodes57, 2, 24, rollouts_per_epoch=1)
    module = PPO(hidden=(8,), batch_size=12, spec=data.spec, **{normalize: True})
    env = make_vector_env(Episodes57, 2, autoreset="next_step")
    data.environments._collector = InlineCollector(env, seed=0)
    seen: list[Rollout] = []
    collect_rollout = data.environments.collect
    data.environments.collect = lambda *args: seen.append(collect_rollout(*args)) or seen[-1]  # type: ignore[method-assign]
    fit(module, data)
    (rollout,) = seen
    assert rollout["valid"] is not None
    valid = rollout["valid"].numpy()
    if normalize == "normalize_observation":
        samples = rollout["obs"][:-1].numpy()[valid]
        moments = cast(ObservationNorm, module.policy.observation_norm).norms["leaf:obs"]
    else:
        running, samples = np.zeros(2), []
        for t in range(24):
            running = 0.99 * running + rollout["reward"][t].numpy()
            samples += running[valid[t]].tolist()
            running[(rollout["terminated"] | rollout["truncated"])[t].numpy()] = 0
        moments = cast(ReturnScale, module.policy.return_scale).moments
    assert moments.count == valid.sum()
    np.testing.assert_allclose(moments.mean, np.mean(samples, 0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, np.var(samples, 0), rtol=1e-6)


def test_replayed_transitions_are_equal_under_all_autoresets():
    sets = []
    for mode in MODES:
        _, rollout = collect(mode, ContinuousEpisodes57)
        fields = transitions(rollout)
        rows = set()
        for t, n in fields["valid"].nonzero().tolist():
            ends = (fields["terminated"][t, n].item(), fields["truncated"][t, n].item())
            obs, next_obs = (
                tuple((fields[name][t, n] * 8).round().int().tolist()) for name in ("obs", "next_obs")
            )
            rows.add((n, obs, next_obs, fields["reward"][t, n].item(), *ends))
        # environments whose every fifth or seventh call only resets come less far
        sets.append({row for row in rows if row[1][0] < 8})
    assert sets[0] == sets[1] == sets[2]
    assert all(obs[:1] == next_obs[:1] and next_obs[1] == obs[1] + 1 for _, obs, next_obs, *_ in sets[0])
    assert len(sets[0]) == sum(7 if k % 2 else 5 for start in range(3) for k in range(start, 8))


def test_the_message_of_an_old_batch_names_both_versions():
    module = PPO(hidden=(8,))
    module.policy_version = 7
    batch: Any = {"policy_version": 7}
    module.begin_batch(batch, is_on_policy=True)
    batch["policy_version"] = 5
    module.begin_batch(batch, is_on_policy=False)
    with pytest.raises(RuntimeError, match=re.escape("policy version 7, got 5")):
        module.begin_batch(batch, is_on_policy=True)
