"""The learner's side of the wire: admits actors, takes their chunks in order, sends weights and credit.

Only the trainer's thread changes what is learned from: the threads of this server put chunks into a queue,
from which the trainer takes them between two batches. So no transition is sampled while it is written, and no
weights are sent while an optimizer writes them.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lit_rl.remote.service import (
    HEARTBEAT_S,
    SESSION,
    SILENCE_S,
    Security,
    check_address,
    grpc_module,
    make_server,
)
from lit_rl.remote.wire import PROTOCOL, Frame, FrameReader, WireError, messages

JOIN_S = 10.0
"""An actor that was admitted must open its stream within so many seconds."""
_BEHIND = 64
"""Chunks of one actor that wait in the learner before its stream is read no further."""


@dataclass(frozen=True)
class Arrival:
    """A chunk of transitions that has arrived, in the order in which its actor played it."""

    actor: str
    incarnation: str
    seq: int
    frame: Frame


@dataclass
class Known:
    """What the learner knows of the experience of one actor.

    Args:
        incarnation: Which start of the actor this is.
        received: Number of its newest chunk that arrived.
        inserted: Number of its newest chunk that the trainer took.
        dropped: Env steps that the actor says it had to drop.
    """

    incarnation: str = ""
    received: int = 0
    inserted: int = 0
    dropped: int = 0


@dataclass
class _Session:
    """One connection of one actor."""

    key: str
    actor: str
    incarnation: str
    realtime: bool
    heard: float
    is_open: bool = False
    is_over: bool = False
    why: str = ""
    waiting: int = 0  # chunks in the queue
    has_version: int = -1  # newest policy that was sent
    credit: tuple[int, int, int] | None = None  # what was sent last
    produced: int = 0
    lock: threading.Condition = field(default_factory=threading.Condition)


class LearnerServer:
    """Serves actors from threads of its own.

    Args:
        spec: Text of what actors must agree on, from :func:`lit_rl.remote.service.spec_text`.
        run: Name of the run; a resumed one keeps it.
        chunk_steps: Steps of every environment in one chunk.
        num_envs: Environments that an actor must step.
        window: Chunks that an actor may be ahead.
        max_actors: Actors that are admitted at a time.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        security: Token and certificate.

    Raises:
        ValueError: The port is in use, or the address needs token and certificate.
    """

    def __init__(
        self, spec: str, run: str, chunk_steps: int, num_envs: int, window: int, max_actors: int,
        host: str, port: int, security: Security | None = None,
    ) -> None:  # fmt: skip
        security = security or Security()
        check_address(host, security, "host")
        if security.certificate is not None and security.key is None:
            raise ValueError("certificate needs key: the learner must have the private key, too")
        self._spec, self.run, self._security = spec, run, security
        self._welcome = {"chunk_steps": chunk_steps, "num_envs": num_envs, "window": window}
        self._max_actors = max_actors
        self.known: dict[str, Known] = {}
        self.counts = {
            "rejected_frames": 0, "duplicate_chunks": 0, "refused_actors": 0, "lost_actors": 0,
            "lost_chunks": 0,
        }  # fmt: skip
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Condition()
        self._arrivals: deque[Arrival] = deque()
        self._policy: tuple[int, bytes] | None = None
        self._credit: dict[str, tuple[int, int]] = {}
        self.num_joined = 0
        self._closing = self._says_goodbye = False
        threads = 3 * max_actors + 4
        self._server, self.port = make_server(
            host, port, self._join, self._stream, threads, security, f"port = {port}"
        )

    # The trainer's thread

    def take(self, timeout_s: float) -> Arrival | None:
        """Take the oldest chunk that has arrived; None after ``timeout_s`` without one."""
        with self._lock:
            if not self._arrivals:
                self._lock.wait(timeout_s)
            if not self._arrivals:
                return None
            arrival = self._arrivals.popleft()
            known = self.known.get(arrival.actor)
            if known is not None and known.incarnation == arrival.incarnation:
                known.inserted = arrival.seq
            for session in self._sessions.values():
                if session.actor == arrival.actor and session.incarnation == arrival.incarnation:
                    session.waiting -= 1
                    with session.lock:
                        session.lock.notify_all()
            return arrival

    @property
    def num_waiting(self) -> int:
        """Number of chunks that have arrived and were not taken yet."""
        return len(self._arrivals)

    def publish(self, version: int, frame: bytes) -> None:
        """Send a policy to all actors; those that join later get it at once, and no older one."""
        self._policy = version, frame
        self._wake()

    def grant(self, actor: str, until: int, random_until: int) -> None:
        """Let an actor play up to the chunk ``until``, the chunks up to ``random_until`` at random."""
        self._credit[actor] = until, random_until
        self._wake()

    def live(self) -> list[tuple[str, bool, Known]]:
        """List the actors that are connected: name, whether it acts in real time, what is known of it."""
        with self._lock:
            return [
                (session.actor, session.realtime, self.known[session.actor])
                for session in self._sessions.values()
                if session.is_open and not session.is_over
            ]

    def close(self, is_over: bool = True) -> None:
        """End all streams, and listen no more; may be called twice.

        Args:
            is_over: Whether actors are told that the run has ended; otherwise they wait for it to go on.
        """
        self._says_goodbye = is_over
        self._closing = True
        self._wake()
        self._server.stop(1.0).wait(3.0)

    def _wake(self) -> None:
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            with session.lock:
                session.lock.notify_all()

    # Admission

    def _join(self, request: bytes, context: Any) -> bytes:
        grpc = grpc_module()
        status = grpc.StatusCode
        if not self._security.admits(_metadata(context)):
            self._refuse(context, status.UNAUTHENTICATED, "the token is wrong or missing; give --token FILE")
        try:
            asked = json.loads(request[:200_000])
            protocol, name, incarnation = asked["protocol"], asked["name"], asked["incarnation"]
            spec, num_envs, realtime = asked["spec"], asked["num_envs"], asked["realtime"]
            oldest = int(asked["oldest"])
            good = isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable()
            if not (good and isinstance(incarnation, str) and 0 < len(incarnation) <= 100):
                raise ValueError("no name")
        except (ValueError, TypeError, KeyError, RecursionError):
            with self._lock:
                self.counts["rejected_frames"] += 1
            self._refuse(context, status.INVALID_ARGUMENT, "this is no request of lit-rl act")
            raise AssertionError from None  # abort has raised
        if protocol != PROTOCOL:
            self._refuse(
                context, status.FAILED_PRECONDITION,
                f"the actor speaks version {protocol} of the protocol, the learner {PROTOCOL}; install the "
                "same lit_rl on both sides",
            )  # fmt: skip
        if spec != self._spec:
            self._refuse(
                context, status.FAILED_PRECONDITION,
                f"the actor's environment is another one: it has {str(spec)[:400]}, the learner expects "
                f"{self._spec[:400]}; give both the same --config",
            )  # fmt: skip
        if num_envs != self._welcome["num_envs"]:
            self._refuse(
                context, status.FAILED_PRECONDITION,
                f"the actor steps {num_envs} environments, the learner expects {self._welcome['num_envs']} "
                "(data.num_envs); give both the same",
            )  # fmt: skip
        with self._lock:
            self._forget_the_silent()
            for session in [s for s in self._sessions.values() if s.actor == name]:
                newer = session.incarnation != incarnation
                self._end(session, f"another process joined as {name!r}" if newer else "it joined again")
            if len(self._sessions) >= self._max_actors:
                full = f"max_actors = {self._max_actors} actors are connected; wait, or raise data.max_actors"
            elif self._closing:
                full = "the learner is about to end"
            else:
                full = None
                known = self.known.setdefault(name, Known())
                if known.incarnation != incarnation:
                    self.known[name] = known = Known(incarnation)
                lost = max(0, oldest - 1 - known.received)  # forgotten here, and no longer kept there
                known.received += lost
                self.counts["lost_chunks"] += lost
                session = _Session(uuid.uuid4().hex, name, incarnation, bool(realtime), time.monotonic())
                session.waiting = sum((a.actor, a.incarnation) == (name, incarnation) for a in self._arrivals)
                self._sessions[session.key] = session
                self.num_joined += 1
                answer = {
                    **self._welcome, "session": session.key, "run": self.run, "received": known.received,
                    "lost": lost, "number": self.num_joined,
                }  # fmt: skip
        if full is not None:
            self._refuse(context, status.RESOURCE_EXHAUSTED, full)
        return json.dumps(answer).encode()

    def _refuse(self, context: Any, code: Any, text: str) -> None:
        with self._lock:
            self.counts["refused_actors"] += 1
        context.abort(code, text)

    def _forget_the_silent(self) -> None:
        """Free the places of actors that say nothing; the lock is held."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            limit = SILENCE_S if session.is_open else JOIN_S
            if now - session.heard > limit:
                self._end(session, f"it said nothing for {limit:g} s")

    def _end(self, session: _Session, why: str) -> None:
        """Take a session out; the lock is held, and its threads notice by ``is_over``."""
        if self._sessions.pop(session.key, None) is not None:
            session.is_over, session.why = True, why
            with session.lock:
                session.lock.notify_all()

    # A stream

    def _stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        grpc = grpc_module()
        metadata = _metadata(context)
        with self._lock:
            session = self._sessions.get(metadata.get(SESSION, ""))
            is_mine = session is not None and not session.is_open and self._security.admits(metadata)
            if session is not None and is_mine:
                session.is_open, session.heard = True, time.monotonic()
        if session is None or not is_mine:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such session; join first")
            return
        reader = threading.Thread(
            target=self._read, args=(session, requests, context), name="lit_rl-remote-reader", daemon=True
        )
        reader.start()
        try:
            yield from self._answers(session, context)
        finally:
            with self._lock:
                if not session.is_over:
                    self.counts["lost_actors"] += 1
                self._end(session, "its stream ended")
                self._lock.notify_all()

    def _answers(self, session: _Session, context: Any) -> Iterator[bytes]:
        """Yield what an actor is told, until its stream ends."""
        beat = 0.0
        while context.is_active() and not session.is_over and not self._closing:
            with self._lock:
                self._forget_the_silent()
            parts = self._news(session)
            if time.monotonic() - beat > HEARTBEAT_S:
                beat = time.monotonic()
                parts.append(Frame("heartbeat", {"produced": 0}).encode())
            if parts:
                yield from messages(parts)
                continue
            with session.lock:
                session.lock.wait(0.5)
        if session.is_over and session.why and context.is_active():
            yield from messages([Frame("refused", {"reason": session.why}).encode()])
        elif self._closing and self._says_goodbye and context.is_active():
            yield from messages([Frame("bye").encode()])

    def _news(self, session: _Session) -> list[bytes]:
        parts = []
        policy = self._policy
        if policy is not None and policy[0] != session.has_version:
            session.has_version = policy[0]
            parts.append(policy[1])
        until, random_until = self._credit.get(session.actor, (0, 0))
        known = self.known[session.actor]
        inserted = known.inserted if known.incarnation == session.incarnation else 0
        credit = inserted, until, random_until
        if (
            credit != session.credit and session.has_version >= 0
        ):  # nothing is played before there is a policy
            session.credit = credit
            said = dict(zip(("acknowledged", "until", "random_until"), credit, strict=True))
            parts.append(Frame("credit", said).encode())
        return parts

    def _read(self, session: _Session, requests: Iterator[bytes], context: Any) -> None:
        """Read what an actor sends, in a thread of its own."""
        reader = FrameReader()
        try:
            for message in requests:
                session.heard = time.monotonic()
                for frame in reader.feed(message):
                    self._receive(session, frame)
                if session.is_over:
                    return
                while session.waiting >= _BEHIND and not session.is_over and not self._closing:
                    session.heard = time.monotonic()  # it is not silent: it is not read
                    with session.lock:
                        session.lock.wait(0.5)
        except WireError as error:
            with self._lock:
                self.counts["rejected_frames"] += 1
                self._end(session, str(error))
        except Exception:  # the stream broke: gRPC raises its own classes, the session ends
            with self._lock:
                if not session.is_over:
                    self.counts["lost_actors"] += 1
                self._end(session, "its stream broke")

    def _receive(self, session: _Session, frame: Frame) -> None:
        if frame.kind == "heartbeat":
            session.produced = frame.header["produced"]
        elif frame.kind == "bye":
            with self._lock:
                self._end(session, "")
        elif frame.kind == "chunk":
            self._take_in(session, frame)
        else:
            raise WireError(f"an actor sends no frame {frame.kind}")

    def _take_in(self, session: _Session, frame: Frame) -> None:
        seq, dropped = frame.header["seq"], frame.header["dropped"]
        with self._lock:
            known = self.known.get(session.actor)
            if session.is_over or known is None or known.incarnation != session.incarnation:
                return  # a late chunk of a connection that another one has replaced
            if seq <= known.received:
                self.counts["duplicate_chunks"] += 1
                return
            if seq != known.received + 1 and dropped <= known.dropped:
                raise WireError(f"chunk {known.received + 1} is missing before {seq}, and none was dropped")
            known.received, known.dropped = seq, max(dropped, known.dropped)
            session.waiting += 1
            self._arrivals.append(Arrival(session.actor, session.incarnation, seq, frame))
            self._lock.notify_all()


def _metadata(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
