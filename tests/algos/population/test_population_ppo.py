"""A population is so many PPOs: the same numbers, and what it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor

from lit_rl import PPO, PopulationPPO, RolloutDataModule
from lit_rl.algos.export import export_policy
from lit_rl.algos.population.members import check_environments, of_members, rows_of_members
from lit_rl.collect.inline import InlineCollector
from lit_rl.data.loaders import Batches
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import EnvSpec, Rollout
from tests.token_toys import Joints
from tests.toys import Episodes57, make_trainer

SETTINGS: dict[str, Any] = {"hidden": (8,), "batch_size": 20, "update_epochs": 3, "learning_rate": 1e-2}
EVERYTHING: dict[str, Any] = {
    "clip_value": 0.2, "entropy_coef": 0.01, "huber_delta": 1.0, "value_norm": True,
    "normalize_observation": True, "normalize_return": True, "anneal_env_steps": 1200,
}  # fmt: skip


class Recording(RolloutDataModule):
    """Keeps the rollouts, which a single PPO is then given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept: list[Rollout] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.kept.append(batch)
        return batch


def robots(num_envs: int = 6, **changes: Any) -> Recording:
    given = {"env_kwargs": {"numbers": 3}, "seed": 1, "check": False, **changes}
    return Recording(Joints, num_envs, 20, 4, **given)


def learned(module: PopulationPPO, data: Recording) -> None:
    make_trainer().fit(module, datamodule=data)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        EVERYTHING,
        {"max_grad_norm": None, "normalize_advantage": False, "batch_size": 40},
        {"encoder": partial(PerceptronEncoder, hidden=(8,)), "share_encoder": True, "max_grad_norm": 0.05},
    ],
    ids=["plain", "everything", "whole rollouts", "shared encoder"],
)
def test_a_population_of_three_is_three_ppos(changes: dict[str, Any]):
    """Weights and statistics after four batches, from the same weights, rollouts and shuffles, to 1e-6."""
    torch.manual_seed(0)
    given = {**SETTINGS, **changes}
    data = robots()
    population = PopulationPPO(**given, spec=data.spec)
    population.configure_model()
    alone = [population.member(m) for m in range(3)]
    starts: list[Tensor] = []

    class Seeded(PopulationPPO):
        def training_step(self, rollout: Rollout, batch_idx: int) -> None:
            starts.append(torch.get_rng_state())
            super().training_step(rollout, batch_idx)

    trained = Seeded(**given, spec=data.spec)
    trained.configure_model()
    trained.load_state_dict(population.state_dict())
    learned(trained, data)
    index_ME = check_environments(data.kept[0]["obs"]["body_number"], 3, "body_number")
    for m, single in enumerate(alone):

        class Replaying(PPO):
            def training_step(self, rollout: Rollout, batch_idx: int) -> None:
                torch.set_rng_state(starts[batch_idx])
                super().training_step(rollout, batch_idx)

        single.__class__ = Replaying
        if single.anneal_env_steps:
            single.anneal_env_steps //= 3  # a member alone counts its own steps
        seen = [
            of_members(
                kept, index_ME, *({k: v for k, v in kept[name].items() if k != "body_number"} for name in OBS)
            )[m]
            for kept in data.kept
        ]
        make_trainer().fit(single, datamodule=Given(seen))
        ours, theirs = trained.policies[m].state_dict(), single.policy.state_dict()
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-6)
        assert trained.updates == single.updates > 0
    moved = [
        not torch.equal(now, before)
        for now, before in zip(trained.parameters(), population.parameters(), strict=True)
    ]
    assert all(moved)


OBS = ("obs", "final_obs")


class Given(LightningDataModule):
    """Batches made beforehand."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Batches:
        return Batches(lambda: iter(self.batches), len(self.batches))

    def val_dataloader(self) -> Batches:
        return Batches(lambda: iter(()), 1)


def test_members_have_the_environments_of_their_number_and_their_episode_ends():
    """Five environments in the order 1 0 1 0 0 are refused; 1 0 0 1 go to (1, 2) and (0, 3)."""
    number_TN = torch.tensor([[1, 0, 0, 1]]).repeat(3, 1)
    index_ME = check_environments(number_TN, 2, "n")
    assert index_ME.tolist() == [[1, 2], [0, 3]]
    value_TN = torch.arange(8.0).view(2, 4)
    rollout: Any = {
        "reset": torch.zeros(3, 4, dtype=torch.bool), "action": value_TN, "reward": value_TN,
        "terminated": value_TN > 5, "truncated": value_TN > 6, "valid": None,
        "final_index": torch.tensor([2, 4, 7]), "new_steps": 8, "num_envs": 4,
    }  # fmt: skip
    obs, final_obs = torch.arange(12.0).view(3, 4), torch.tensor([20.0, 21.0, 22.0])
    first, second = of_members(rollout, index_ME, obs, final_obs)
    assert first["reward"].tolist() == [[1, 2], [5, 6]]
    assert second["reward"].tolist() == [[0, 3], [4, 7]]
    assert (first["final_index"].tolist(), first["final_obs"].tolist()) == (
        [1],
        [20],
    )  # step 0, second of two
    assert (second["final_index"].tolist(), second["final_obs"].tolist()) == ([2, 3], [21, 22])
    assert second["obs"].tolist() == [[0, 3], [4, 7], [8, 11]]
    assert (first["num_envs"], first["new_steps"], first["valid"]) == (2, 4, None)


def test_unequal_shares_and_changing_members_are_refused():
    with pytest.raises(ValueError, match="2 members must have the same number of environments, got 1 to 2"):
        check_environments(torch.tensor([[0, 1, 0]]), 2, "n")
    with pytest.raises(ValueError, match="n changed within a rollout, but environments must keep"):
        check_environments(torch.tensor([[0, 1], [1, 0]]), 2, "n")


@pytest.mark.parametrize(
    ("env", "arguments", "message"),
    [
        (Episodes57, {}, r"at 'body_number', .* shows one array\. Name another key"),
        (Joints, {"env_kwargs": {}}, "shows joint_tokens, joint_mask, global_token"),
    ],
)
def test_environments_without_numbers_are_refused(env: Any, arguments: dict[str, Any], message: str):
    data = RolloutDataModule(env, 6, 20, check=False, **arguments)
    with pytest.raises(ValueError, match=message):
        make_trainer().fit(PopulationPPO(**SETTINGS), datamodule=data)


def test_arguments_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="share_encoder = true needs an encoder"):
        PopulationPPO(share_encoder=True)
    with pytest.raises(ValueError, match="batch_size = 1 contradicts"):
        PopulationPPO(batch_size=1)
    with pytest.raises(ValueError, match="batch_size = 30 must divide 40, the transitions of each of 3"):
        learned(PopulationPPO(**{**SETTINGS, "batch_size": 30}), robots())


def test_each_environment_is_steered_by_its_own_policy_in_any_order():
    env = make_vector_env(Joints, 6, env_kwargs={"numbers": 3})
    torch.manual_seed(0)
    population = PopulationPPO(**SETTINGS, spec=env.spec)
    population.configure_model()
    with torch.no_grad():
        obs = InlineCollector(env, 0).collect(population, 3, 0)["obs"]
        order = torch.tensor([4, 4, 0, 2, 5])
        seen = {key: leaf[1][order] for key, leaf in obs.items()}
        together = population.act(seen, {}, torch.zeros(5, dtype=torch.bool), greedy=True).action
        for row, number in enumerate(seen.pop("body_number").tolist()):
            own = {key: leaf[row : row + 1] for key, leaf in seen.items()}
            expected = population.member(number).act(own, {}, torch.zeros(1, dtype=torch.bool), greedy=True)
            torch.testing.assert_close(together[row], expected.action[0])
    env.close()
    with pytest.raises(IndexError, match="member must be from 0 to 2, got 3"):
        population.member(3)


def test_the_exported_file_holds_all_policies(tmp_path: Path):
    data = robots()
    population = PopulationPPO(**SETTINGS)
    trainer = make_trainer()
    trainer.fit(population, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    policy = torch.export.load(export_policy(tmp_path / "last.ckpt", tmp_path / "policy.pt2")).module()
    obs = {key: leaf[3] for key, leaf in data.kept[0]["obs"].items()}
    with torch.no_grad():
        expected = population.act(obs, {}, torch.zeros(6, dtype=torch.bool), greedy=True).action
    torch.testing.assert_close(policy(obs), expected.clamp(-1, 1), rtol=1e-5, atol=1e-6)


def test_steps_that_are_no_transitions_do_not_count():
    """Weights are those of a rollout without these steps, whatever stands in them."""
    spec: EnvSpec = robots().spec
    torch.manual_seed(0)
    population = PopulationPPO(**SETTINGS, spec=spec)
    population.configure_model()
    data = robots()
    learned(population, data)
    rollout = data.kept[-1]
    rollout["valid"] = torch.ones_like(rollout["terminated"])
    rollout["valid"][3] = False
    from lit_rl.algos.population.members import samples_of_members

    index_ME = check_environments(rollout["obs"]["body_number"], 3, "n")
    parts = of_members(
        rollout, index_ME, *({k: v for k, v in rollout[name].items() if k != "body_number"} for name in OBS)
    )
    samples, _ = samples_of_members(population.policies, parts, population.ranks)
    assert samples["weight"].shape == (40, 3)
    assert (samples["weight"] == 0).nonzero()[:, 0].unique().tolist() == [6, 7]  # step 3 of two environments


def test_rows_of_members_are_filled_with_what_nobody_reads():
    """Numbers 1 0 1 1: member 0 decides for environment 1, member 1 for 0, 2 and 3, member 2 for none."""
    number_N = torch.tensor([1, 0, 1, 1])
    rows_VE, place_N = rows_of_members(number_N, 3)
    assert rows_VE.tolist() == [[1, 0, 0], [0, 2, 3], [0, 0, 0]]
    assert place_N.tolist() == [0, 0, 1, 2]
    assert rows_VE[number_N, place_N].tolist() == [0, 1, 2, 3]


def test_members_begin_anew_with_other_weights_and_an_empty_adam():
    torch.manual_seed(0)
    population, data = PopulationPPO(**SETTINGS, **EVERYTHING), robots()

    class Anew(Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.before = [p.detach().clone() for p in population.parameters()]
            population.begin_anew()
            (optimizer,) = population.raw_optimizers()
            self.states = len(optimizer.state)

    watch = Anew()
    make_trainer(callbacks=[watch]).fit(population, datamodule=data)
    now = list(population.parameters())
    biased = [p for p in now if p.ndim == 1]
    assert all(torch.equal(p, torch.zeros_like(p)) for p in biased), "biases and spreads begin at 0"
    assert all(not torch.equal(p, old) for p, old in zip(now, watch.before, strict=True)), (
        "nothing is left of what was learned"
    )
    assert not torch.equal(now[1], now[1 + len(now) // 3]), "members differ"
    assert watch.states == 0
    assert population.policies[0].local_state() == {"return_scale": {}}
