"""Several ranks learn one policy from different experience, as one process would from all of it."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, seed_everything
from torch import Tensor

from lit_rl import HMASD, PPO, SAC, ReplayDataModule, RolloutDataModule, losses
from lit_rl.algos.module import RLModule
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.collect.inline import InlineCollector
from lit_rl.data.loaders import Batches
from lit_rl.envs.vector import make_vector_env
from lit_rl.nested import map_nested
from lit_rl.types import Rollout, VectorEnv
from tests.processes import Forked, lit_rl, run_ranks
from tests.team_toys import Team
from tests.test_resume import assert_identical, learned, load
from tests.toys import MemoryLogger, make_trainer, parameters_of

pytestmark = pytest.mark.ddp

COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_object",
    "broadcast",
    "broadcast_object_list",
    "barrier",
    "reduce",
)


@pytest.fixture(autouse=True)
def keep_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``seed_everything`` writes an environment variable, which must not outlive a test."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


def ddp_trainer(**kwargs: Any) -> Any:
    """A quiet Trainer of two ranks."""
    return make_trainer(strategy="ddp", devices=2, use_distributed_sampler=False, **kwargs)


# One update of two ranks is the update of one process with the union of their rollouts


class Given(LightningDataModule):
    """Rollouts made beforehand: for each rank, one per batch."""

    def __init__(self, rollouts: list[list[Rollout]]) -> None:
        super().__init__()
        self.rollouts = rollouts

    def train_dataloader(self) -> Batches:
        assert self.trainer is not None
        own = self.rollouts[self.trainer.global_rank]
        return Batches(lambda: iter(own), len(own))

    def val_dataloader(self) -> Batches:
        return Batches(lambda: iter(()), 1)


def select_envs(rollout: Rollout, first: int, last: int) -> Rollout:
    """Environments ``first`` to ``last - 1`` of a rollout."""
    num_envs = rollout["reward"].shape[1]
    t, n = rollout["final_index"] // num_envs, rollout["final_index"] % num_envs
    inside = (n >= first) & (n < last)
    part: dict[str, Any] = dict(rollout)
    for name in ("obs", "reset", "action", "reward", "terminated", "truncated", "extras"):
        part[name] = map_nested(lambda leaf: leaf[:, first:last].clone(), rollout[name])
    part["final_index"] = t[inside] * (last - first) + n[inside] - first
    part["final_obs"] = map_nested(lambda leaf: leaf[inside], rollout["final_obs"])
    part["carry"] = map_nested(lambda leaf: leaf[first:last], rollout["carry"])
    ended = rollout["episodes"]["env_index"]
    is_part = (ended >= first) & (ended < last)
    part["episodes"] = map_nested(lambda leaf: leaf[is_part], rollout["episodes"])
    return part  # type: ignore[return-value]


def update(
    rollouts: list[list[Rollout]], module: RLModule, trainer: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    trainer.fit(module, datamodule=Given(rollouts))
    logger: MemoryLogger = trainer.logger
    values = [{k: v for k, v in row.items() if not k.startswith("time/")} for _, row in logger.rows]
    return {name: p.clone() for name, p in module.state_dict().items() if isinstance(p, Tensor)}, values


def update_in_a_rank(case: str) -> Any:
    torch.manual_seed(int(os.environ["LOCAL_RANK"]))  # weights of the second rank must not matter
    given = torch.load(case, weights_only=False)
    module = given["learner"](spec=given["spec"], **given["arguments"])
    module.configure_model()
    if os.environ["LOCAL_RANK"] == "0":
        module.load_state_dict(given["weights"])
    return update(given["rollouts"], module, ddp_trainer(precision="64-true", logger=MemoryLogger()))


@pytest.mark.parametrize(
    "arguments",
    [
        {"normalize_advantage": False, "max_grad_norm": 0.1},
        {"normalize_advantage": True, "entropy_coef": 0.01},
        {"normalize_observation": True, "normalize_return": True},
        {"gru": 4},
        {"value_norm": True, "huber_delta": 0.5},
    ],
    ids=["plain", "advantages", "running statistics", "memory", "values"],
)
def test_two_ranks_update_like_one_process_with_all_data(arguments: dict[str, Any], tmp_path: Path):
    env = make_vector_env("CartPole-v1", 4, vectorization="sync")  # every row is a transition
    arguments = {"hidden": (8,), "update_epochs": 3, "learning_rate": 0.01, **arguments}
    whole = PPO(spec=env.spec, batch_size=4 * 32, **arguments)
    whole.configure_model()
    compare(tmp_path, whole, {"batch_size": 2 * 32, **arguments}, env)


def test_two_ranks_update_all_networks_of_hmasd_like_one_process(tmp_path: Path):
    env = Team(4, length=7)
    arguments: dict[str, Any] = {"hidden": (8,), "embedding": 8, "gru": 4, "k": 4, "update_epochs": 3,
                                 "learning_rate": 0.01, "replay_tolerance": None}  # fmt: skip
    whole = HMASD(spec=env.spec, **arguments)
    whole.configure_model()
    compare(tmp_path, whole, arguments, env)


def compare(tmp_path: Path, whole: RLModule, arguments: dict[str, Any], env: VectorEnv) -> None:
    """Two updates of two ranks with half of the environments each, and of one process with all four."""
    weights = {name: p.clone() if isinstance(p, Tensor) else p for name, p in whole.state_dict().items()}
    collector, rollouts = InlineCollector(env, seed=1), []
    for version in range(2):
        whole.policy_version = version
        rollouts.append(collector.collect(whole, 32, version))
    whole.policy_version = 0
    halves = [[select_envs(rollout, first, first + 2) for rollout in rollouts] for first in (0, 2)]
    assert all(len(half["final_index"]) for rank in halves for half in rank)
    case = {
        "learner": type(whole),
        "spec": env.spec,
        "arguments": arguments,
        "weights": weights,
        "rollouts": halves,
    }
    torch.save(case, tmp_path / "case.pt")
    env.close()

    expected, logged = update([rollouts], whole, make_trainer(precision="64-true", logger=MemoryLogger()))
    ranks = run_ranks(update_in_a_rank, str(tmp_path / "case.pt"), cwd=tmp_path)
    for state, values in ranks:
        for name, value in expected.items():
            torch.testing.assert_close(
                state[name], value, rtol=0, atol=1e-6 if value.is_floating_point() else 0
            )
        for ours, theirs in zip(values, logged, strict=True):
            assert ours.keys() == theirs.keys()
            for name in ("loss/policy", "loss/value", "policy/kl", "policy/entropy", "episode/return_mean"):
                assert ours[name] == pytest.approx(theirs[name], abs=1e-6), name
    moved = max((expected[name] - weights[name]).abs().max() for name in weights if name in expected)
    assert moved > 0.01


# Real runs of two ranks


class Watch(Callback):
    """Keeps the first batch, and every call of a collective."""

    def __init__(self) -> None:
        self.batch: Any = None
        self.calls: list[str] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        for name in COLLECTIVES:
            setattr(torch.distributed, name, self._counted(name, getattr(torch.distributed, name)))

    def _counted(self, name: str, collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            shape = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else ()
            self.calls.append(f"{name}{shape}")
            return collective(*args, **kwargs)

        return call

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.batch is None:
            self.batch = batch


def ppo() -> tuple[RLModule, LightningDataModule]:
    return (
        PPO(hidden=(8,), batch_size=32, update_epochs=2, normalize_observation=True, normalize_return=True),
        RolloutDataModule("CartPole-v1", 4, 16, rollouts_per_epoch=2, eval_episodes=4),
    )


def sac() -> tuple[RLModule, LightningDataModule]:
    data = ReplayDataModule(
        "Pendulum-v1",
        2,
        steps_per_batch=16,
        batch_size=16,
        warmup_steps=40,
        capacity=120,
        n_step=2,
        batches_per_epoch=2,
        eval_episodes=2,
    )
    return SAC(hidden=(8, 8)), data


def train(
    directory: str, make: Callable[[], Any], resume: str | None = None, seed: int = 5
) -> dict[str, Any]:
    """Two epochs of two batches with a checkpoint after each; what a rank has to tell of it."""
    seed_everything(seed, verbose=False)
    watch, logger = Watch(), MemoryLogger()
    module, data = make()
    trainer = ddp_trainer(
        default_root_dir=directory,
        max_epochs=2,
        logger=logger,
        limit_val_batches=1.0,
        enable_checkpointing=True,
        callbacks=[RolloutCheckpoint(every_env_steps=1), watch],
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    ring = getattr(data, "_ring", None)
    return {
        "weights": parameters_of(module),
        "batch": watch.batch,
        "calls": watch.calls,
        "length": (len(data.train_dataloader()), trainer.num_training_batches),
        "rows": [
            (step, {k: v for k, v in row.items() if not k.startswith("time/")}) for step, row in logger.rows
        ],
        "draw": torch.rand(4),
        "ring": ring,
    }


@pytest.mark.parametrize("make", [ppo, sac])
def test_ranks_play_different_episodes_and_learn_one_policy(make: Callable[[], Any], tmp_path: Path):
    first, second = run_ranks(train, str(tmp_path), make, cwd=tmp_path)
    assert torch.equal(first["weights"], second["weights"])
    assert first["rows"] == second["rows"]
    assert first["calls"] == second["calls"]
    assert len(first["calls"]) > 4
    assert first["length"] == second["length"] == (2, 2)
    assert not torch.equal(first["batch"]["obs"], second["batch"]["obs"])
    assert not torch.equal(first["draw"], second["draw"])
    if make is ppo:
        rows = [obs for rank in (first, second) for obs in rank["batch"]["obs"][0]]
        assert (
            len({tuple(row.tolist()) for row in rows}) == 8
        )  # each environment starts with a seed of its own


@pytest.mark.parametrize("make", [ppo, sac])
def test_learner_and_data_can_be_sent_to_ranks_that_are_spawned(make: Callable[[], Any]):
    module, data = pickle.loads(pickle.dumps(make()))
    assert type(module) in (PPO, SAC)
    assert len(data.train_dataloader()) == 2


def train_and_resume(directory: str, make: Callable[[], Any]) -> list[tuple[int, dict[str, Any]]]:
    """A whole run, then one from each of its earlier checkpoints, with another seed."""
    whole = train(f"{directory}/whole", make)
    results = [(0, whole)]
    for step in sorted({step for step, _ in whole["rows"]})[:-1]:
        checkpoint = f"{directory}/whole/checkpoints/step_{step}.ckpt"
        results.append((step, train(f"{directory}/from-{step}", make, checkpoint, seed=99)))
    return results


@pytest.mark.parametrize("make", [ppo, sac])
def test_resume_on_two_ranks_is_exact(make: Callable[[], Any], tmp_path: Path):
    ranks = run_ranks(train_and_resume, str(tmp_path), make, cwd=tmp_path)
    last = f"step_{ranks[0][0][1]['rows'][-1][0]}.ckpt"
    saved = learned(load(tmp_path / "whole" / "checkpoints" / last))
    data = saved.get("RolloutDataModule") or saved["ReplayDataModule"]
    assert len(data["ranks"]) == 2
    assert not torch.equal(*(state["collector"]["obs"] for state in data["ranks"]))
    if make is sac:
        assert not torch.equal(*(state["own"]["ring"]["fields"]["obs"] for state in data["ranks"]))
    for rank in ranks:
        (_, whole), *resumed = rank
        assert len(resumed) == 3
        for step, run in resumed:
            assert run["rows"] == [row for row in whole["rows"] if row[0] > step]
            assert torch.equal(run["weights"], whole["weights"])
            assert torch.equal(run["draw"], whole["draw"])
            assert_identical(learned(load(tmp_path / f"from-{step}" / "checkpoints" / last)), saved)


def train_with_target_kl() -> tuple[int, list[float], Tensor]:
    """On rank 1, and only there, the policy seems to have moved after the second epoch."""
    asked = []

    def seeming_kl(log_ratio: Tensor, weight: Tensor | None = None) -> Tensor:
        asked.append(log_ratio)
        return log_ratio.new_tensor(float(os.environ["LOCAL_RANK"] == "1" and len(asked) == 2))

    losses.approximate_kl = seeming_kl
    module = PPO(hidden=(8,), batch_size=32, update_epochs=5, target_kl=0.1)
    logger = MemoryLogger()
    data = RolloutDataModule("CartPole-v1", 4, 16, rollouts_per_epoch=1)
    ddp_trainer(logger=logger).fit(module, datamodule=data)
    return module.updates, logger.column("update/epochs"), parameters_of(module)


def test_ranks_stop_together_when_the_policy_moved_too_far_on_one(tmp_path: Path):
    (updates, epochs, weights), (other_updates, other_epochs, other_weights) = run_ranks(
        train_with_target_kl, cwd=tmp_path
    )
    assert epochs == other_epochs == [2.0]
    assert updates == other_updates == 2 * 2
    assert torch.equal(weights, other_weights)


# Checkpoints and the number of ranks

RUN = """\
model:
  class_path: PPO
  init_args: {hidden: [8], batch_size: 32, normalize_observation: true, normalize_return: true}
data:
  class_path: RolloutDataModule
  init_args: {env: CartPole-v1, num_envs: 4, rollout_steps: 16, rollouts_per_epoch: 2, eval_episodes: 4}
trainer: {accelerator: cpu}
budget: {total_env_steps: 1000000}
"""


def train_then_resume_from_one_rank(directory: str, of_one_rank: str) -> str:
    train(directory, ppo)
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the text is what is looked at
        train(directory, ppo, of_one_rank)
    return str(refused.value)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """``command("fit", ...)`` runs the command line in one process: exit code and output."""
    started: list[Forked] = []

    def run(*argv: str) -> tuple[int, str]:
        started.append(Forked(lit_rl, *argv, cwd=tmp_path, log=tmp_path / f"command{len(started)}.log"))
        return started[-1].exit_code(60), started[-1].output()

    yield run
    for forked in started:
        forked.kill()


def test_training_goes_on_with_the_same_number_of_ranks_only(
    tmp_path: Path, command: Callable[..., tuple[int, str]]
):
    module, data = ppo()
    make_trainer(
        default_root_dir=tmp_path / "one", enable_checkpointing=True, callbacks=[RolloutCheckpoint()]
    ).fit(module, datamodule=data)
    of_one, of_two = (f"{tmp_path}/{name}/checkpoints/last.ckpt" for name in ("one", "two"))
    refused = run_ranks(train_then_resume_from_one_rank, str(tmp_path / "two"), of_one, cwd=tmp_path)
    remedy = "resume with the same trainer.devices"
    assert refused == [f"the checkpoint was written by 1 ranks, this run has 2; {remedy}"] * 2

    (tmp_path / "run.yaml").write_text(RUN)
    code, output = command("fit", "--config", "run.yaml", "--ckpt_path", of_two)
    assert code == 1
    errors = [line for line in output.splitlines() if "error" in line]
    assert errors == [f"lit-rl: error: the checkpoint was written by 2 ranks, this run has 1; {remedy}"]
    assert "Traceback" not in output

    code, output = command("test", "--config", "run.yaml", "--ckpt_path", of_two)  # only the policy is needed
    assert code == 0, output
    assert "over 4 episodes" in output
