"""``RemoteReplayDataModule``: minibatches of transitions that actors elsewhere send.

Axes: T steps, N environments.
"""

from __future__ import annotations

import inspect
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from lit_rl.arguments import (
    Copies,
    Count,
    EpisodeCount,
    Number,
    Port,
    Range,
    Seconds,
    Seed,
    SmallCount,
    Steps,
    check_arguments,
)
from lit_rl.collect.evaluate import MAX_STEPS
from lit_rl.data.arguments import EnvFactory, EvalPolicy
from lit_rl.data.made_with import describe
from lit_rl.data.replay import ReplayDataModule, transitions
from lit_rl.data.stopping import exit_code, is_asked_to_stop
from lit_rl.envs.vector import Vectorization
from lit_rl.remote.receiver import Receiver, known_actors, through_the_wire
from lit_rl.remote.server import LearnerServer
from lit_rl.remote.service import DEFAULT_PORT, Security, check_address, spec_text
from lit_rl.types import Policy, ReplayBatch, Rollout

_log = logging.getLogger("lit_rl")

Transport: TypeAlias = Literal["grpc", "in_process"]
"""``grpc`` serves actors in other processes; ``in_process`` plays here, as ``ReplayDataModule`` does."""
_LOOK_S = 0.2


class RemoteReplayDataModule(ReplayDataModule):
    """A ``ReplayDataModule`` whose transitions actors elsewhere send: ``lit-rl act --connect HOST:PORT``.

    The learner listens; actors join whenever they like, before or after it, and again after either of the
    two was ended. Each plays ``num_envs`` environments and sends chunks of ``steps_per_batch`` steps; it
    acts by the newest policy that it has, without torch. A batch waits until its env steps are there, so that
    there are never more than ``updates_per_step`` minibatches per env step; an actor waits when it is
    ``window`` chunks ahead, so that there are not fewer either, unless it acts in real time.

    Evaluations play here, on environments of this process, while actors go on.

    Args:
        env: Gymnasium id, ``class_path`` of an environment class, or a Python callable: for evaluations, and
            to know what observations and actions are. Actors must have the same.
        num_envs: Environments of each actor.
        host: Address at which the learner listens. One that other machines reach needs ``token``,
            ``certificate`` and ``key``.
        port: Port at which it listens; 0 takes a free one, which the log names.
        max_actors: Actors that are admitted at a time; one more is told so at once.
        window: Chunks that all actors together may be ahead of what the learner needs next.
        token: File with a secret that actors must show.
        certificate: File with the learner's certificate (PEM), which encrypts what is sent.
        key: File with the private key of the certificate.
        transport: ``grpc`` serves actors; ``in_process`` plays here, and only sends all transitions through
            the encoding of the wire: the numbers are those of ``ReplayDataModule``, bit for bit.
        steps_per_batch: Steps of a chunk, and steps times ``num_envs`` between two batches.
        updates_per_step: As of ``ReplayDataModule``.
        batch_size: As of ``ReplayDataModule``.
        capacity: As of ``ReplayDataModule``.
        warmup_steps: Env steps of uniformly random actions, of all actors together.
        n_step: As of ``ReplayDataModule``.
        batches_per_epoch: As of ``ReplayDataModule``.
        memmap: As of ``ReplayDataModule``.
        vectorization: As of ``ReplayDataModule``.
        env_kwargs: Keyword arguments of the environment.
        wrappers: As of ``ReplayDataModule``.
        record: As of ``ReplayDataModule``.
        eval_episodes: As of ``ReplayDataModule``.
        eval_policy: As of ``ReplayDataModule``.
        seed: As of ``ReplayDataModule``.
        check: As of ``ReplayDataModule``.
        playback: As of ``ReplayDataModule``.
        num_workers: As of ``ReplayDataModule``.
        step_timeout_s: As of ``ReplayDataModule``.
        training_starts: As of ``ReplayDataModule``.
        eval_max_steps: As of ``ReplayDataModule``.

    Raises:
        ValueError: An argument is out of its range, or the address needs token, certificate and key.
    """

    def __init__(
        self,
        env: str | EnvFactory,
        num_envs: Copies = 1,
        host: str = "127.0.0.1",
        port: Port = DEFAULT_PORT,
        max_actors: SmallCount = 4,
        window: SmallCount = 8,
        token: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        transport: Transport = "grpc",
        steps_per_batch: Steps = 64,
        updates_per_step: Annotated[float, Range(above=0, at_most=10_000)] = 1.0,
        batch_size: Count = 256,
        capacity: Annotated[int, Range(at_least=1, at_most=10**10)] = 1_000_000,
        warmup_steps: Number = 1_000,
        n_step: Annotated[int, Range(at_least=1, at_most=1000)] = 1,
        batches_per_epoch: Count = 100,
        memmap: str | None = None,
        vectorization: Vectorization = "auto",
        env_kwargs: dict[str, Any] | None = None,
        wrappers: list[EnvFactory] | None = None,
        record: list[str] | None = None,
        eval_episodes: EpisodeCount = 10,
        eval_policy: EvalPolicy = "greedy",
        seed: Seed | None = None,
        check: bool = True,
        playback: bool = False,
        num_workers: SmallCount | None = None,
        step_timeout_s: Seconds | None = None,
        training_starts: Number | None = None,
        eval_max_steps: Steps = MAX_STEPS,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        check_arguments(RemoteReplayDataModule, given)
        self._security = Security(token, certificate, key)
        check_address(host, self._security, "host")
        of_wire = ("host", "port", "max_actors", "window", "token", "certificate", "key", "transport")
        if transport == "in_process":
            _refuse_unused(given, [name for name in of_wire if name != "transport"])
        super().__init__(**{name: value for name, value in given.items() if name not in of_wire})
        self.made_with = describe(type(self), given)
        self.host, self.port, self.max_actors, self.window = host, port, max_actors, window
        self.transport = transport
        self._receiver: Receiver | None = None
        self._pending_remote: dict[str, Any] | None = None
        self._num_blocks = self._taken_steps = 0

    def setup(self, stage: str) -> None:
        """Bind the environments to the trainer; several ranks, which would need servers each, are refused."""
        super().setup(stage)
        if stage != "fit" or self.transport != "grpc":
            return
        if self.environments.world_size > 1:
            raise ValueError(
                f"RemoteReplayDataModule feeds one learner process, trainer.devices gives "
                f"{self.environments.world_size}; set trainer.devices = 1"
            )
        if not hasattr(self.environments.learner, "portable_policy"):
            raise ValueError(
                f"RemoteReplayDataModule: {type(self.environments.learner).__name__} cannot act elsewhere; "
                "use SAC or TD3"
            )
        self.environments.look()

    @property
    def receiver(self) -> Receiver:
        """The receiver of transitions; it listens from the first time on that it is asked for.

        Raises:
            ValueError: Nothing can listen at ``host`` and ``port``.
        """
        if self._receiver is None:
            saved, self._pending_remote = self._pending_remote, None
            run = saved["run"] if saved else uuid.uuid4().hex
            server = LearnerServer(
                spec_text(self.spec.to_dict()), run, self.steps_per_batch, self.num_envs, self.window,
                self.max_actors, self.host, self.port, self._security, known_actors(saved),
                saved["num_joined"] if saved else 0,
            )  # fmt: skip
            self._receiver = Receiver(server, self.spec, self.num_envs, self.steps_per_batch, self.window)
            if saved:
                self._receiver.set_state(saved)
                self._num_blocks, self._taken_steps = saved["num_blocks"], saved["taken_steps"]
            _log.info("actors are awaited at %s:%d", self.host, server.port)
        return self._receiver

    # Batches

    def _blocks(self) -> Iterator[ReplayBatch]:
        try:
            yield from super()._blocks()
        except _AskedToStop:  # while it waited for actors; the epoch ends before its time
            return

    def _begin(self, lost: str) -> bool:
        if self.transport == "in_process":
            return super()._begin(lost)
        self.environments.begin_elsewhere(lost)
        return True  # an actor that begins anew says so itself

    def _play(self) -> tuple[list[Rollout], int]:
        """Take the env steps of one block from actors into the ring, and wait for them where needed."""
        if self.transport == "in_process":
            return super()._play()
        start = time.perf_counter()
        receiver, learner = self.receiver, self.environments.learner
        before = sum(self._before_updates) * self.num_envs
        of_block = self.steps_per_batch * self.num_envs
        needed = before + self._taken_steps + of_block
        receiver.publish(learner.policy_version, *learner.portable_policy())  # type: ignore[attr-defined]
        played: list[Rollout] = []
        num_random = 0
        while (is_short := receiver.inserted_steps < needed) or not played or self._is_behind():
            receiver.grant(needed, self.warmup_steps)
            taken = receiver.take(_LOOK_S)
            if taken is None:
                if is_asked_to_stop(self.trainer):
                    raise _AskedToStop
                continue
            rollout, at_random, follows = taken
            if not is_short:
                self._taken_steps += rollout["new_steps"]
                needed += rollout["new_steps"]
            if not follows:
                self.ring.end_episodes()  # what comes is of another actor, or of another start of it
            self.ring.add(transitions(rollout))
            num_random += rollout["new_steps"] if at_random else 0
            played.append(rollout)
        self._num_blocks += 1
        self._taken_steps += of_block
        receiver.grant(needed + of_block, self.warmup_steps)
        played[0]["collect_s"] = time.perf_counter() - start
        played[-1]["collector"] = receiver.report(
            learner.policy_version,
            [rollout["policy_version"] for rollout in played],
            self._num_blocks * self.minibatches,
            before,
        )
        return played, num_random

    def _collect(self, policy: Policy, num_steps: int) -> Rollout:
        """Play here, and send what was played through the encoding of the wire."""
        rollout = super()._collect(policy, num_steps)
        return through_the_wire(rollout, self.spec)

    def _is_behind(self) -> bool:
        """Tell whether more waits here than actors in real time are given; it is taken without an update."""
        waiting = self.receiver.server.num_waiting
        return waiting > self.window and self.receiver.has_realtime

    # State

    def local_state(self) -> dict[str, Any]:
        """Return the ring, and what was taken from which actor."""
        state = super().local_state()
        if self.transport == "in_process":
            return state
        if self._receiver is None:
            return {**state, "remote": self._pending_remote}
        own = {"num_blocks": self._num_blocks, "taken_steps": self._taken_steps}
        return {**state, "remote": {**self._receiver.get_state(), **own}}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until the next batch; actors send again what came after it."""
        super().load_local_state(state)
        self._pending_remote = state.get("remote")

    def forget(self) -> None:
        """Drop the ring, and begin a run of its own, of which actors hear when they connect again."""
        super().forget()
        self._close_server(is_over=False)
        self._pending_remote = None
        self._num_blocks = self._taken_steps = 0

    def teardown(self, stage: str) -> None:
        """Stop listening. Actors are told that the run has ended; they wait for one that was interrupted."""
        if self._receiver is not None and stage == "fit":
            self._pending_remote = self.local_state()["remote"]
            self._close_server(is_over=exit_code(self.trainer) is None)
        super().teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        """Stop listening, and close everything else; actors wait for the run to go on."""
        if self._receiver is not None:
            self._pending_remote = self.local_state()["remote"]
        self._close_server(is_over=False)
        super().on_exception(exception)

    def _close_server(self, is_over: bool = True) -> None:
        if self._receiver is not None:
            self._receiver.server.close(is_over)
            self._receiver = None


def _refuse_unused(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse arguments of actors in other processes where there are none.

    Raises:
        ValueError: One of them has another value than its default.
    """
    declared = inspect.signature(RemoteReplayDataModule).parameters
    for name in names:
        is_lockstep = name == "window" and given[name] == 1  # which is how this process plays
        if given[name] != declared[name].default and not is_lockstep:
            raise ValueError(
                f"{name} = {given[name]!r} needs transport = grpc: in_process has no actors elsewhere; "
                "leave it out"
            )


class _AskedToStop(Exception):  # noqa: N818  # no error: the run is to end
    """A signal asked to stop while there was nothing to train on."""
