"""Learners that train on the experience of actors elsewhere, by the trainer itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from lit_rl import SAC, TD3, RemoteReplayDataModule, ReplayDataModule
from lit_rl.algos.module import RLModule
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.graceful_stop import GracefulStop
from lit_rl.envs.vector import make_vector_env
from lit_rl.remote.actor import Actor
from lit_rl.remote.link import Link
from lit_rl.remote.policy import digest
from lit_rl.types import ReplayBatch
from tests.remote.toys import Counts, eventually
from tests.toys import MemoryLogger, Mixed, make_trainer

STEPS = 8


@pytest.fixture(autouse=True)
def keep_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


# In this process


def mixed_box() -> Mixed:
    return Mixed("box")


SYNCHRONOUS: dict[str, tuple[Callable[[], RLModule], Any, int]] = {
    "sac": (partial(SAC, hidden=(16, 16), learning_rate=1e-3), "Pendulum-v1", 1),
    "td3": (partial(TD3, hidden=(16, 16), learning_rate=1e-3), "Pendulum-v1", 2),
    "dict": (partial(SAC, hidden=(16,), normalize_observation=True), mixed_box, 2),
}


def losses_and_weights(
    name: str, data_module: type[ReplayDataModule], batches: int, **kwargs: Any
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    make, env, num_envs = SYNCHRONOUS[name]
    seed_everything(3, verbose=False)
    learner, logger = make(), MemoryLogger()
    data = data_module(
        env, num_envs, steps_per_batch=20 // num_envs, batch_size=16, warmup_steps=40, capacity=300,
        n_step=2 if name == "td3" else 1, batches_per_epoch=batches, seed=4, check=False, **kwargs,
    )  # fmt: skip
    make_trainer(logger=logger).fit(learner, data)
    assert learner.policy_version == batches
    names = ("loss/", "value/", "policy/", "actor/episode")
    rows = [{k: v for k, v in values.items() if k.startswith(names)} for _, values in logger.rows]
    return rows, learner.state_dict()


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_updates_in_this_process_are_those_without_a_wire_bit_for_bit(name: str):
    """SAC has 500 of them, the others 100."""
    batches = 25 if name == "sac" else 5
    rows, weights = losses_and_weights(name, ReplayDataModule, batches)
    others, other = losses_and_weights(
        name, RemoteReplayDataModule, batches, transport="in_process", window=1
    )
    assert sum("loss/critic" in row for row in rows) == batches
    assert str(rows) == str(others)  # NaN is NaN
    assert weights.keys() == other.keys()
    for key, value in weights.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[key]), key


# Elsewhere


class Published(Callback):
    """Keeps what is published, by its version, and ends the fit with an exception at one."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.digests: dict[int, str] = {}
        self._dies_at = dies_at

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep(pl_module)

    def _keep(self, learner: Any) -> None:
        assert isinstance(learner, SAC)
        self.digests[learner.policy_version] = digest(learner.portable_policy().arrays)
        if learner.policy_version == self._dies_at:
            raise RuntimeError("the learner is killed")


class Elsewhere:
    """Actors in threads that play ``Counts`` for the learner at a port."""

    def __init__(self, port: int, num_actors: int = 1) -> None:
        self.sent: dict[float, list[float]] = {}
        self.policies: dict[int, str] = {}
        self.links: list[Link] = []
        self._is_over = False
        self._threads = []
        for number in range(num_actors):
            env = make_vector_env(Counts, 1, check=False)
            link = Link("127.0.0.1", port, f"actor-{number}", env.spec, 1)
            send = link.send

            def recorded(arrays: Any, version: int, turn: Any, send: Any = send, link: Link = link) -> None:
                before = link.next_seq
                send(arrays, version, turn)
                if link.next_seq > before:
                    mark = float(arrays["obs"][0, 0, 0])
                    self.sent.setdefault(mark, []).extend(arrays["reward"].flatten().tolist())
                    self.policies[turn.policy.version] = turn.policy.digest

            link.send = recorded  # type: ignore[method-assign]
            actor = Actor(env, link, number)
            thread = threading.Thread(target=actor.run, args=(None, lambda: self._is_over), daemon=True)
            link.start()
            thread.start()
            self.links.append(link)
            self._threads.append(thread)

    def stop(self) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join(5.0)
        for link in self.links:
            link.close()


@pytest.fixture
def port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def elsewhere(port: int) -> Iterator[Elsewhere]:
    actors = Elsewhere(port)
    yield actors
    actors.stop()


def make_learner(port: int, batches: int, **kwargs: Any) -> tuple[SAC, RemoteReplayDataModule]:
    data = RemoteReplayDataModule(
        Counts, 1, port=port, window=2, steps_per_batch=STEPS, batch_size=8, warmup_steps=20, capacity=400,
        updates_per_step=0.5, batches_per_epoch=batches, seed=4, check=False, **kwargs,
    )  # fmt: skip
    return SAC(hidden=(8,)), data


def make_run(
    folder: Path, port: int, batches: int, callbacks: tuple[Callback, ...] = (), resume: Path | None = None,
    **kwargs: Any,
) -> tuple[SAC, RemoteReplayDataModule, Trainer]:  # fmt: skip
    seed_everything(3, verbose=False)
    learner, data = make_learner(port, batches, **kwargs)
    trainer = make_trainer(
        default_root_dir=folder,
        enable_checkpointing=True,
        callbacks=[RolloutCheckpoint(every_batches=1, every_env_steps=1), *callbacks],
    )
    trainer.fit(learner, data, ckpt_path=resume, weights_only=True)
    return learner, data, trainer


def in_ring(data: ReplayDataModule) -> dict[float, list[float]]:
    """The rewards of each environment in the ring, which count its steps."""
    found: dict[float, list[float]] = {}
    fields = data.ring.get_state()["fields"]
    obs, reward = fields["obs"].reshape(-1, 2), fields["reward"].reshape(-1)
    for mark, step in zip(obs[:, 0].tolist(), reward.tolist(), strict=True):
        found.setdefault(mark, []).append(step)
    return found


def check_counters(data: ReplayDataModule, elsewhere: Elsewhere) -> None:
    """The ring holds the first steps of all that was played: none twice, none left out, in order."""
    ring = in_ring(data)
    assert ring.keys() <= elsewhere.sent.keys()
    for mark, steps in ring.items():
        assert steps == elsewhere.sent[mark][: len(steps)]


def with_key(part: Any, key: str) -> Any:
    """Find the dict below ``part`` that has a key."""
    if isinstance(part, dict) and key in part:
        return part
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return next((found for below in parts if (found := with_key(below, key)) is not None), None)


def test_a_learner_trains_on_what_an_actor_plays(tmp_path: Path, port: int, elsewhere: Elsewhere):
    published = Published()
    learner, data, trainer = make_run(tmp_path, port, 6, (published,))
    assert learner.policy_version == 6
    check_counters(data, elsewhere)
    assert learner.env_steps == 72 == sum(map(len, in_ring(data).values()))  # 20 and 6 of 8, in chunks of 8
    eventually(lambda: elsewhere.links[0].learner_has_ended)
    assert trainer.current_epoch == 1
    for version, found in elsewhere.policies.items():  # of every snapshot the checksum is the learner's
        assert published.digests[version] == found


def test_a_killed_learner_goes_on_from_an_older_checkpoint(tmp_path: Path, port: int, elsewhere: Elsewhere):
    """No transition is lost or doubled, and everything else is that of the checkpoint."""
    published = Published(dies_at=5)
    with pytest.raises(RuntimeError, match="the learner is killed"):
        make_run(tmp_path / "a", port, 8, (published,))
    older = sorted((tmp_path / "a/checkpoints").glob("step_*.ckpt"), key=lambda p: int(p.stem[5:]))[2]
    saved = torch.load(older, weights_only=True)

    class Compare(Published):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            super().on_train_start(trainer, pl_module)
            again = pl_module.state_dict()
            for key, value in saved["state_dict"].items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(again[key], value), key
            for optimizer, state in zip(trainer.optimizers, saved["optimizer_states"], strict=True):
                assert str(optimizer.state_dict()) == str(state)
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            now = data.local_state()
            then = with_key(saved["RemoteReplayDataModule"], "remote")
            assert str(now["remote"]) == str(then["remote"])
            for key, value in then["ring"]["fields"].items():
                assert torch.equal(now["ring"]["fields"][key], value), key

    again = Compare()
    learner, data, _ = make_run(tmp_path / "b", port, 8, (again,), older)
    first = min(again.digests)
    assert again.digests[first] == published.digests[first]  # the weights that are published next
    assert learner.policy_version == 8
    check_counters(data, elsewhere)
    assert sum(map(len, in_ring(data).values())) == learner.env_steps == data.receiver.inserted_steps == 88
    assert data.receiver.missing_steps == 0


def test_random_generators_go_on_where_the_checkpoint_left_them(
    tmp_path: Path, port: int, elsewhere: Elsewhere
):
    class Draws(Callback):
        """Looks at the generators where a block begins, without drawing from them."""

        def __init__(self) -> None:
            self.before: list[tuple[bytes, str]] = []

        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            numbers = np.random.get_state()[1].tobytes()  # type: ignore[index,union-attr]  # noqa: NPY002
            self.before.append((torch.get_rng_state().numpy().tobytes(), numbers.hex()))

    whole, rest = Draws(), Draws()
    make_run(tmp_path / "a", port, 4, (whole,))
    path = sorted((tmp_path / "a/checkpoints").glob("step_*.ckpt"), key=lambda p: int(p.stem[5:]))[1]
    again = Elsewhere(port)  # the actor of before has ended with the run
    try:
        make_run(tmp_path / "b", port, 4, (rest,), path)
    finally:
        again.stop()
    assert rest.before == whole.before[2:]


def test_two_actors_feed_one_learner(tmp_path: Path, port: int):
    elsewhere = Elsewhere(port, 2)
    try:
        _, data, _ = make_run(tmp_path, port, 12)
        check_counters(data, elsewhere)
        assert data.receiver is not None
    finally:
        elsewhere.stop()


def test_a_full_ring_keeps_the_newest(tmp_path: Path, port: int, elsewhere: Elsewhere):
    seed_everything(3, verbose=False)
    data = RemoteReplayDataModule(
        Counts, 1, port=port, steps_per_batch=STEPS, batch_size=8, warmup_steps=16, capacity=24,
        updates_per_step=0.5, batches_per_epoch=6, seed=4, check=False,
    )  # fmt: skip
    make_trainer(default_root_dir=tmp_path).fit(SAC(hidden=(8,)), data)
    (steps,) = in_ring(data).values()
    assert len(steps) == 24
    assert sorted(steps) == [float(i) for i in range(41, 65)]


def test_the_ratio_of_updates_to_env_steps_is_what_was_asked_for(
    tmp_path: Path, port: int, elsewhere: Elsewhere
):
    """A known peer was asked for 8 under its asynchronous runner and got 1.43."""
    ratios: list[float] = []

    class Watch(Callback):
        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: ReplayBatch, batch_idx: int
        ) -> None:
            ratios.append(batch["collector"]["learner/utd"])

    make_run(tmp_path, port, 12, (Watch(),))
    assert ratios[-1] == pytest.approx(0.5, rel=0.1)


def test_a_busy_port_is_one_line(tmp_path: Path, port: int):
    import socket

    learner, data = make_learner(port, 2)
    expected = f"port = {port}: nothing can listen at 127.0.0.1"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ValueError, match=expected) as error:
        make_trainer(default_root_dir=tmp_path).fit(learner, data)
    assert "\n" not in str(error.value)


def test_ten_unusable_chunks_stop_training_with_a_checkpoint(
    tmp_path: Path, port: int, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
):
    class Breaks(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
        ) -> None:
            monkeypatch.setattr(Counts, "_obs", lambda self: np.full(2, np.nan, np.float32))

    with pytest.raises(FloatingPointError, match="the last 10 chunks of transitions were unusable"):
        make_run(tmp_path, port, 100, (Breaks(),))
    assert (tmp_path / "checkpoints" / "interrupted.ckpt").exists()


# Signals


def send_soon(signum: int, condition: Callable[[], Any]) -> None:
    def wait() -> None:
        eventually(condition)
        os.kill(os.getpid(), signum)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_actors(tmp_path: Path, port: int, signum: int):
    stop = GracefulStop()
    send_soon(signum, lambda: stop._pid)
    learner, _, _ = make_run(tmp_path, port, 5, (stop,))
    assert stop.exit_code == 128 + signum
    assert learner.policy_version == 0
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").iterdir())


def test_a_signal_while_it_waits_again_saves_once_what_was_trained(tmp_path: Path, port: int):
    stop, elsewhere = GracefulStop(), Elsewhere(port)
    saved: list[int] = []

    class Ends(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any, **kwargs: Any) -> None:
            if pl_module.policy_version == 2:
                elsewhere.stop()
                send_soon(signal.SIGTERM, lambda: True)

        def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
            saved.append(pl_module.policy_version)

    seed_everything(3, verbose=False)
    learner, data = make_learner(port, 50)
    trainer = make_trainer(
        default_root_dir=tmp_path,
        enable_checkpointing=True,
        callbacks=[RolloutCheckpoint(every_batches=1_000), stop, Ends()],
    )
    trainer.fit(learner, data)
    assert stop.exit_code == 143
    assert saved == [learner.policy_version]
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["state_dict"]["_extra_state"]["env_steps"] == learner.env_steps
    check_counters(data, elsewhere)


@pytest.mark.parametrize(
    ("name", "value"), [("port", 5499), ("window", 2), ("max_actors", 1), ("host", "localhost")]
)
def test_in_process_refuses_what_only_actors_elsewhere_need(name: str, value: object):
    with pytest.raises(ValueError, match=f"{name} = .* needs transport = grpc"):
        RemoteReplayDataModule("Pendulum-v1", transport="in_process", **{name: value})
