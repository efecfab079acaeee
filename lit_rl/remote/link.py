"""The actor's side of the wire: keeps a connection to the learner, and what was played until it is there.

The thread that plays only puts chunks in and looks at what came back; one thread connects, and connects
again. Chunks are numbered. They are kept until the learner has taken them, and for a while after, so that a
learner that goes on from an older checkpoint gets again what it has forgotten.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lit_rl.remote.policy import NumpyPolicy, Unfit
from lit_rl.remote.service import (
    HEARTBEAT_S,
    JOIN,
    SILENCE_S,
    STREAM,
    Security,
    call_metadata,
    grpc_module,
    make_channel,
    spec_text,
)
from lit_rl.remote.spool import Chunk, Spool
from lit_rl.remote.wire import PROTOCOL, Frame, FrameReader, WireError, messages
from lit_rl.types import EnvSpec

_log = logging.getLogger("lit_rl")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_CALL_S = 5.0
_AT_ONCE = 4_000_000  # bytes of chunks that are taken for sending together


class Refused(Exception):  # noqa: N818  # no fault of this program: the learner said no
    """The learner does not take this actor, and says why."""


class Turn(NamedTuple):
    """Leave to play one chunk.

    Args:
        run: Run of the learner for which it is played.
        steps: Steps of every environment.
        at_random: Whether actions are drawn uniformly.
        policy: Newest policy.
    """

    run: str
    steps: int
    at_random: bool
    policy: NumpyPolicy


class Link:
    """A connection to a learner that outlives both its network and the learner.

    Args:
        host: Address of the learner.
        port: Its port.
        name: Name of this actor; a learner has one actor of a name.
        spec: Observation and action of the environment here.
        num_envs: Environments here.
        realtime: Whether this actor never waits for the learner: it drops the oldest experience, and counts
            it, when more than ``spool_bytes`` wait.
        security: Token and certificate.
        spool_bytes: Largest size of what waits to be taken, in bytes, of an actor in real time.
        keep_bytes: Largest size of what was taken and is kept for a learner that forgot it.
    """

    def __init__(
        self, host: str, port: int, name: str, spec: EnvSpec, num_envs: int, realtime: bool = False,
        security: Security | None = None, spool_bytes: int = 32_000_000, keep_bytes: int = 24_000_000,
    ) -> None:  # fmt: skip
        self._host, self._port, self._security = host, port, security or Security()
        self._spec, self._realtime = spec, realtime
        self._spool = Spool(spool_bytes if realtime else None, keep_bytes)
        self._request = {
            "protocol": PROTOCOL, "name": name, "spec": spec_text(spec.to_dict()), "num_envs": num_envs,
            "realtime": realtime,
        }  # fmt: skip
        self._changed = threading.Condition()
        self._incarnation, self._run = uuid.uuid4().hex, ""
        self._stream = 0  # number of the present stream
        self._closing = False
        self._failure: BaseException | None = None
        self.next_seq = 1
        self.acknowledged = 0
        self.until = self.random_until = 0
        self.chunk_steps = self.number = 0
        self.produced_steps = self.connections = 0
        self._may_play = False  # whether the learner has said how far to play at random
        self._trouble = "nothing listens there"
        self.policy: NumpyPolicy | None = None
        self.policy_at = time.monotonic()
        self.is_connected = self.learner_has_ended = False
        self._thread = threading.Thread(target=self._keep_connected, name="lit_rl-link", daemon=True)

    # The thread that plays

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def turn(self, timeout_s: float) -> Turn | None:
        """Wait until the next chunk may be played; None after ``timeout_s``.

        Raises:
            Refused: The learner does not take this actor.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._failure:
                is_due = self._may_play if self._realtime else self.next_seq <= self.until
                if is_due and self.policy is not None and self.chunk_steps:
                    at_random = self.next_seq <= self.random_until
                    return Turn(self._run, self.chunk_steps, at_random, self.policy)
                rest = deadline - time.monotonic()
                if rest <= 0:
                    return None
                self._changed.wait(rest)
            raise self._failure

    def send(self, arrays: dict[str, np.ndarray], version: int, turn: Turn) -> None:
        """Put in the next chunk, which is sent as soon as there is a connection; never waits.

        A chunk of a run that has been replaced by another one meanwhile is not kept.

        Args:
            arrays: Arrays of a chunk, from ``Recording.arrays``.
            version: Version of the policy that played it.
            turn: Turn for which the chunk was played.
        """
        steps = int(arrays["terminated"].size)
        with self._changed:
            if turn.run != self._run:
                return
            header = {
                "seq": self.next_seq, "version": version, "num_envs": arrays["terminated"].shape[1],
                "at_random": turn.at_random,
            }  # fmt: skip
            self._spool.put(Chunk(self.next_seq, steps, Frame("chunk", header, arrays).encode()))
            self.next_seq += 1
            self.produced_steps += steps
            self._changed.notify_all()

    @property
    def dropped_steps(self) -> int:
        """Env steps that the learner will never have: dropped here, or no longer kept when it forgot them."""
        return self._spool.dropped_steps + self._spool.lost_steps

    def flush(self, timeout_s: float) -> bool:
        """Wait until the learner has taken all; False if it has not after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self.acknowledged < self.next_seq - 1 and time.monotonic() < deadline and not self._failure:
                self._changed.wait(0.1)
            return self.acknowledged >= self.next_seq - 1

    @property
    def num_waiting(self) -> int:
        """Number of chunks that the learner has not taken yet."""
        return self._spool.num_waiting

    def close(self) -> None:
        """Say goodbye and end the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(3.0)

    # The thread that connects

    def _keep_connected(self) -> None:
        grpc = grpc_module()
        pause, since, told = _FIRST_PAUSE_S, time.monotonic(), 0.0
        while not self._closing and not self.learner_has_ended:
            channel = make_channel(self._host, self._port, self._security)
            before = self.connections
            try:
                self._connect(grpc, channel)
            except grpc.RpcError as error:
                if (why := _refusal(grpc, error, f"{self._host}:{self._port}")) is not None:
                    return self._fail(Refused(why))
                self._trouble = str(error.details()).splitlines()[0][:200]
            except Unfit as error:
                return self._fail(Refused(str(error)))
            except WireError as error:
                _log.warning("what the learner sent cannot be read (%s); connecting again", error)
            except Refused as error:
                return self._fail(error)
            except Exception as error:  # it is raised where the actor plays
                return self._fail(error)
            finally:
                self.is_connected = False
                channel.close()
            if self.connections > before:
                pause, since = _FIRST_PAUSE_S, time.monotonic()
                if not self._closing and not self.learner_has_ended:
                    _log.info("the connection to the learner ended; connecting again")
            elif time.monotonic() - max(since, told) > (3.0 if told == 0 else 30.0):
                told = time.monotonic()
                _log.info(
                    "no learner at %s:%d yet: start lit-rl fit with --config data/remote there; still trying "
                    "(%s)", self._host, self._port, self._trouble,
                )  # fmt: skip
            with self._changed:
                if not self._closing:
                    self._changed.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return None

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _connect(self, grpc: Any, channel: Any) -> None:
        """Join, and stream until the stream ends."""
        join = channel.unary_unary(JOIN)
        while True:
            request = json.dumps({**self._request, "incarnation": self._incarnation}).encode()
            answer = json.loads(join(request, timeout=_CALL_S, metadata=call_metadata(self._security)))
            if not self._run or answer["run"] == self._run:
                break
            with self._changed:  # another run: what was played for the one before is not for it
                self._incarnation, self.next_seq, self.acknowledged = uuid.uuid4().hex, 1, 0
                self._run, self.policy = "", None
                self.until = self.random_until = 0
                self._may_play = False
                self._spool.clear()
        with self._changed:
            self._run, self.chunk_steps = answer["run"], int(answer["chunk_steps"])
            self.number = self.number or int(answer["number"])
            self._begin_after(int(answer["received"]))
            self._stream += 1
            self.connections += 1
            self.is_connected = True
            number = self._stream
        stream = channel.stream_stream(STREAM)
        call = stream(self._outgoing(number), metadata=call_metadata(self._security, answer["session"]))
        heard = [time.monotonic()]
        threading.Thread(target=self._watch, args=(call, heard, number), daemon=True).start()
        reader = FrameReader()
        try:
            for message in call:
                heard[0] = time.monotonic()
                for frame in reader.feed(message):
                    self._receive(frame)
        finally:
            with self._changed:
                self._stream += 1  # ends what sends and what watches
                self._changed.notify_all()
            call.cancel()

    def _begin_after(self, received: int) -> None:
        """Send again what the learner does not have; the condition is held."""
        if lost := self._spool.rewind(received, self.chunk_steps * int(self._request["num_envs"])):
            _log.warning("the learner lacks %d chunks that are no longer kept here; they are lost", lost)
        self.acknowledged = min(self.acknowledged, received)
        self.until = 0  # the learner says anew how far to go

    def _outgoing(self, number: int) -> Iterator[bytes]:
        """Yield messages with all chunks that were not sent yet, and heartbeats, while the stream lives."""
        beat = 0.0
        while True:
            with self._changed:
                is_over = self._stream != number
                parts = [] if is_over else self._spool.take_unsent(_AT_ONCE)
                if not parts and not is_over and not self._closing and time.monotonic() - beat < HEARTBEAT_S:
                    self._changed.wait(HEARTBEAT_S / 2)
            if is_over:
                return
            if parts:
                yield from messages(parts)
            elif self._closing:
                yield from messages([Frame("bye").encode()])
                return
            if time.monotonic() - beat >= HEARTBEAT_S:
                beat = time.monotonic()
                yield from messages([Frame("heartbeat", {"produced": self.produced_steps}).encode()])

    def _watch(self, call: Any, heard: list[float], number: int) -> None:
        """End a stream over which nothing was heard for too long, although the learner speaks often."""
        while self._stream == number:
            time.sleep(0.5)
            if time.monotonic() - heard[0] > SILENCE_S or self._closing:
                if self._closing:
                    time.sleep(0.5)  # let the goodbye out
                call.cancel()
                return

    def _receive(self, frame: Frame) -> None:
        if frame.kind == "policy":
            policy = NumpyPolicy(self._spec, frame)
            with self._changed:
                self.policy, self.policy_at = policy, time.monotonic()
                self._changed.notify_all()
        elif frame.kind == "credit":
            with self._changed:
                self.acknowledged = max(self.acknowledged, frame.header["acknowledged"])
                self._spool.acknowledge(self.acknowledged)
                self.until, self.random_until = frame.header["until"], frame.header["random_until"]
                self._may_play |= self.until > 0
                self._changed.notify_all()
        elif frame.kind == "refused":
            raise Refused(frame.header["reason"])
        elif frame.kind == "bye":
            self.learner_has_ended = True
        elif frame.kind != "heartbeat":
            raise WireError(f"a learner sends no frame {frame.kind}")


def _refusal(grpc: Any, error: Any, address: str) -> str | None:
    """Return why a learner refuses; None where the network, or its start, is to blame."""
    code = grpc.StatusCode
    if error.code() == code.UNIMPLEMENTED:
        return f"what listens at {address} is no learner of lit_rl; look at --connect"
    final = (code.UNAUTHENTICATED, code.FAILED_PRECONDITION, code.RESOURCE_EXHAUSTED, code.INVALID_ARGUMENT)
    return error.details() if error.code() in final else None
