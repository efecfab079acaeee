"""Several ranks learn one policy from different experience, as one process would from all of it."""

import os
import pickle
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, seed_everything
from torch import Tensor

from lit_rl import HMASD, PPO, RolloutDataModule, losses, metrics
from lit_rl.algos.module import RLModule
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.collect.inline import InlineCollector
from lit_rl.data.loaders import Batches
from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.workers import worker
from lit_rl.nested import map_nested, named_leaves
from lit_rl.types import Rollout, VectorEnv
from tests import forked
from tests.cases import CASES, few, ppo_annealed
from tests.processes import Forked, lit_rl, run_ranks
from tests.team_toys import Team
from tests.test_resume import DATA, WALL_TIMES, assert_identical, learned, load
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
    """Keeps the first batch, how many env steps this rank made, and every call of a collective."""

    def __init__(self) -> None:
        self.batch: Any = None
        self.new_steps: list[int] = []
        self.calls: list[str] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.collectives = {name: getattr(torch.distributed, name) for name in COLLECTIVES}
        for name, collective in self.collectives.items():
            setattr(torch.distributed, name, self._counted(name, collective))

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        for name, collective in self.collectives.items():
            setattr(torch.distributed, name, collective)

    def _counted(self, name: str, collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            shape = tuple(args[0].shape) if args and isinstance(args[0], Tensor) else ()
            self.calls.append(f"{name}{shape}")
            return collective(*args, **kwargs)

        return call

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.new_steps.append(batch["new_steps"])
        if self.batch is None:
            self.batch = batch


def train(directory: str, name: str, resume: str | None = None, seed: int = 5) -> dict[str, Any]:
    """Two epochs of two batches with a checkpoint after each; what a rank has to tell of it."""
    seed_everything(seed, verbose=False)
    watch, logger = Watch(), MemoryLogger()
    module, data = CASES[name](2)
    trainer = ddp_trainer(
        default_root_dir=directory,
        max_epochs=2,
        logger=logger,
        limit_val_batches=1.0,
        enable_checkpointing=True,
        callbacks=[RolloutCheckpoint(every_env_steps=1), watch],
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    return {
        "weights": parameters_of(module),
        "obs": watch.batch["obs"],
        "new_steps": watch.new_steps,
        "counters": (module.env_steps, module.policy_version, module.updates, module.num_episodes),
        "calls": watch.calls,
        "length": (len(data.train_dataloader()), trainer.num_training_batches),
        "rows": [
            (step, {k: v for k, v in row.items() if not k.startswith(WALL_TIMES)})
            for step, row in logger.rows
        ],
        "draw": torch.rand(4),
    }


def train_and_resume(directory: str, *names: str) -> dict[str, list[dict[str, Any]]]:
    """Of these cases a whole run, and one from the checkpoint of its first batch with another seed."""
    worker.ModuleProcess = forked.process  # type: ignore[misc, assignment]  # sixteen of them would import torch
    runs = {}
    for name in names:
        print(name, flush=True)  # noqa: T201  # what a failure shows last is where it was
        whole = train(f"{directory}/{name}/whole", name)
        checkpoint = f"{directory}/{name}/whole/checkpoints/step_{whole['rows'][0][0]}.ckpt"
        runs[name] = [whole, train(f"{directory}/{name}/resumed", name, checkpoint, seed=99)]
    return runs


class RanksOfAll(NamedTuple):
    """Where all cases ran, and what each of two ranks has to tell of each run."""

    directory: Path
    first: dict[str, list[dict[str, Any]]]
    second: dict[str, list[dict[str, Any]]]


ON_RANKS = few(CASES, "ppo_annealed")
"""Cases that are trained on two ranks; most of them are ``wide``."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RanksOfAll]:
    """``ranks("mappo")`` tells of that case. A pair of processes runs the few, and one all others: to start
    one takes longer than such a run."""

    def run(names: tuple[str, ...]) -> RanksOfAll:
        directory = tmp_path_factory.mktemp("ranks")
        told = run_ranks(train_and_resume, str(directory), *names, cwd=directory, timeout_s=240)
        return RanksOfAll(directory, *told)

    of_few = tuple(name for name in ON_RANKS if isinstance(name, str))
    run_once = cache(run)
    return lambda name: run_once(of_few if name in of_few else tuple(n for n in CASES if n not in of_few))


@pytest.mark.parametrize("name", ON_RANKS)
def test_ranks_play_different_episodes_and_learn_one_policy(name: str, ranks: Callable[[str], RanksOfAll]):
    told = ranks(name)
    (first, _), (second, _) = told.first[name], told.second[name]
    assert torch.equal(first["weights"], second["weights"]), name
    assert first["rows"] == second["rows"], name
    assert first["calls"] == second["calls"], name
    assert len(first["calls"]) > 4, name
    assert first["length"] == second["length"] == (2, 2), name
    own, others = dict(named_leaves(first["obs"])), dict(named_leaves(second["obs"]))
    assert own.keys() == others.keys(), name
    assert any(not torch.equal(own[path], others[path]) for path in own), name
    assert not torch.equal(first["draw"], second["draw"]), name


@pytest.mark.parametrize("name", ON_RANKS)
def test_ranks_count_together_and_log_one_row_for_each_batch(name: str, ranks: Callable[[str], RanksOfAll]):
    told = ranks(name)
    (first, _), (second, _) = told.first[name], told.second[name]
    assert first["counters"] == second["counters"], name
    steps = np.cumsum([first["new_steps"], second["new_steps"]], axis=1).sum(axis=0).tolist()
    assert first["counters"][:2] == (steps[-1], 4), name
    rows = [(step, row) for step, row in first["rows"] if metrics.GRADIENT_STEPS in row]
    assert [step for step, _ in rows] == steps, name
    assert [row[metrics.POLICY_VERSION] for _, row in rows] == [1, 2, 3, 4], name
    assert rows[-1][1][metrics.GRADIENT_STEPS] == first["counters"][2] > 0, name
    evaluated = [(step, row) for step, row in first["rows"] if metrics.EVAL_RETURN in row]
    assert [step for step, _ in evaluated] == [steps[1], steps[3]], name
    assert all(row[metrics.EVAL_EPISODES] % 2 == 0 for _, row in evaluated), name  # equally many of each rank


@pytest.mark.parametrize("name", ON_RANKS)
def test_resume_on_two_ranks_is_exact(name: str, ranks: Callable[[str], RanksOfAll]):
    told = ranks(name)
    last = f"step_{told.first[name][0]['rows'][-1][0]}.ckpt"
    whole, resumed = (told.directory / name / run / "checkpoints" / last for run in ("whole", "resumed"))
    saved = learned(load(whole))
    (data,) = (saved[key] for key in DATA & saved.keys())
    states = [{key: rank[key] for key in ("collector", "own")} for rank in data["ranks"]]
    assert len(states) == 2, name
    for part in states[0]:  # no rank keeps what is another's
        if states[0][part]:
            with pytest.raises(AssertionError, match=part):
                assert_identical(states[0][part], states[1][part], part)
    assert_identical(learned(load(resumed)), saved, name)
    for of_rank in (told.first[name], told.second[name]):
        run, later = of_rank
        assert later["rows"] == run["rows"][1:], name
        assert torch.equal(later["weights"], run["weights"]), name
        assert torch.equal(later["draw"], run["draw"]), name


def test_each_environment_of_each_rank_starts_with_a_seed_of_its_own(ranks: Callable[[str], RanksOfAll]):
    told = ranks("ppo_annealed")
    rows = [obs for rank in (told.first, told.second) for obs in rank["ppo_annealed"][0]["obs"][0]]
    assert len({tuple(row.tolist()) for row in rows}) == 8


@pytest.mark.parametrize("name", CASES)
def test_learner_and_data_can_be_sent_to_ranks_that_are_spawned(name: str):
    made = CASES[name](2)
    module, data = pickle.loads(pickle.dumps(made))
    assert (type(module), type(data)) == tuple(map(type, made)), name
    assert dict(module.hparams) == dict(made[0].hparams), name
    assert len(data.train_dataloader()) == 2, name


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
  init_args: {hidden: [8], batch_size: 32, update_epochs: 2, anneal_env_steps: 1000}
data:
  class_path: RolloutDataModule
  init_args: {env: CartPole-v1, num_envs: 4, rollout_steps: 16, rollouts_per_epoch: 2, eval_episodes: 4}
trainer: {accelerator: cpu}
budget: {total_env_steps: 1000000}
"""


def train_then_resume_from_one_rank(directory: str, of_one_rank: str) -> str:
    train(directory, "ppo_annealed")
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the text is what is looked at
        train(directory, "ppo_annealed", of_one_rank)
    return str(refused.value)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """``command("fit", ...)`` runs the command line in one process: exit code and output."""
    started: list[Forked] = []

    def run(*argv: str) -> tuple[int, str]:
        started.append(Forked(lit_rl, *argv, cwd=tmp_path, log=tmp_path / f"command{len(started)}.log"))
        return started[-1].exit_code(60), started[-1].output()

    yield run
    for rank in started:
        rank.kill()


def test_training_goes_on_with_the_same_number_of_ranks_only(
    tmp_path: Path, command: Callable[..., tuple[int, str]]
):
    module, data = ppo_annealed(2)
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
