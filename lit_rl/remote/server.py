"""The learner's side of the wire: admits actors, takes their chunks in order, sends weights and credit.

Only the trainer's thread changes what is learned from: the threads of this server put chunks into a queue,
from which the trainer takes them between two batches. So no transition is sampled while it is written, and no
weights are sent while an optimizer writes them.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
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
from lit_rl.remote.sessions import Arrival, Known, Session
from lit_rl.remote.wire import PROTOCOL, Frame, FrameReader, WireError, messages

_log = logging.getLogger("lit_rl")

JOIN_S = 10.0
"""An actor that was admitted must open its stream within so many seconds."""
_BEHIND = 64
"""Chunks of one actor that wait in the learner before its stream is read no further."""
_TOGETHER = 16
"""Chunks that are acknowledged together while more of them wait."""
_REMEMBERED = 1_000
"""Starts of actors that are remembered at least."""


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
        known: Counts of actors from a checkpoint, by their incarnations: a learner that goes on has them
            before the first actor comes back.
        num_joined: Times that actors were admitted before.

    Raises:
        ValueError: The port is in use, or the address needs token and certificate.
    """

    def __init__(
        self, spec: str, run: str, chunk_steps: int, num_envs: int, window: int, max_actors: int,
        host: str, port: int, security: Security | None = None, known: dict[str, Known] | None = None,
        num_joined: int = 0,
    ) -> None:  # fmt: skip
        security = security or Security()
        check_address(host, security, "host")
        if security.certificate is not None and security.key is None:
            raise ValueError("certificate needs key: the learner must have the private key, too")
        self._spec, self.run, self._security = spec, run, security
        self._welcome = {"chunk_steps": chunk_steps, "num_envs": num_envs, "window": window}
        self._max_actors = max_actors
        self._known: dict[str, Known] = dict(known or {})
        self.counts = dict.fromkeys(
            ("rejected_frames", "duplicate_chunks", "refused_actors", "lost_actors"), 0
        )
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Condition()
        self._arrivals: deque[Arrival] = deque()
        self._policy: tuple[int, bytes] | None = None
        self._credit: dict[str, tuple[int, int]] = {}
        self.num_joined = num_joined
        self._closing = self._says_goodbye = False
        threads = 3 * max_actors + 4
        self._server, self.port, self._pool = make_server(
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
            self._known[arrival.incarnation].inserted = arrival.seq
            for session in self._sessions.values():
                if session.incarnation == arrival.incarnation:
                    session.waiting -= 1
                    if not self._arrivals or session.waiting % _TOGETHER == 0:
                        session.tell()
            return arrival

    @property
    def known(self) -> dict[str, Known]:
        """Copies of what is known of actors, by their incarnations."""
        with self._lock:
            return {incarnation: replace(known) for incarnation, known in self._known.items()}

    @property
    def num_waiting(self) -> int:
        """Number of chunks that have arrived and were not taken yet."""
        return len(self._arrivals)

    def publish(self, version: int, frame: bytes) -> None:
        """Send a policy to all actors; those that join later get it at once, and no older one."""
        self._policy = version, frame
        self._wake()

    def grant(self, incarnation: str, until: int, random_until: int) -> None:
        """Let an actor play up to the chunk ``until``, the chunks up to ``random_until`` at random."""
        with self._lock:
            if self._credit.get(incarnation) == (until, random_until):
                return
            self._credit[incarnation] = until, random_until
            for session in self._sessions.values():
                if session.incarnation == incarnation:
                    session.tell()

    def live(self) -> list[tuple[str, bool, int]]:
        """List the actors that are connected.

        Returns:
            Incarnation of each, whether it acts in real time, and its newest chunk that arrived.
        """
        with self._lock:
            return [
                (session.incarnation, session.realtime, self._known[session.incarnation].received)
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
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.tell()

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
            if not context.is_active():  # it has waited too long for this answer, and asks again
                return b""
            self._forget_the_silent()
            for session in [s for s in self._sessions.values() if s.actor == name]:
                newer = session.incarnation != incarnation
                self._end(session, "it joined again", f"another process joined as {name!r}" if newer else "")
            code, full, answer = status.RESOURCE_EXHAUSTED, None, None
            if len(self._sessions) >= self._max_actors:
                full = f"max_actors = {self._max_actors} actors are connected; wait, or raise data.max_actors"
            elif self._closing:
                full, code = "the learner is about to end", status.UNAVAILABLE  # it may go on: ask again
            else:
                answer = self._admit(name, incarnation, bool(realtime))
        if full is not None:
            self._refuse(context, code, full)
        _log.info("actor %s joined", name)
        return json.dumps(answer).encode()

    def _admit(self, name: str, incarnation: str, realtime: bool) -> dict[str, Any]:
        """Open a session; the lock is held."""
        known = self._known.setdefault(incarnation, Known(name))
        session = Session(uuid.uuid4().hex, name, incarnation, realtime, time.monotonic())
        session.waiting = sum(arrival.incarnation == incarnation for arrival in self._arrivals)
        self._sessions[session.key] = session
        self.num_joined += 1
        self._forget_the_oldest()
        return {
            **self._welcome, "session": session.key, "run": self.run, "received": known.received,
            "number": self.num_joined,
        }  # fmt: skip

    def _forget_the_oldest(self) -> None:
        """Bound what is remembered of actors that ended; the lock is held."""
        needed = {session.incarnation for session in self._sessions.values()}
        needed |= {arrival.incarnation for arrival in self._arrivals}
        for incarnation in list(self._known)[: len(self._known) - _REMEMBERED]:
            if incarnation not in needed:
                del self._known[incarnation]
                self._credit.pop(incarnation, None)

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
                self.counts["lost_actors"] += session.is_open
                self._end(session, f"it said nothing for {limit:g} s")

    def _end(self, session: Session, why: str, refusal: str = "") -> None:
        """Take a session out; the lock is held, and its threads notice by ``is_over``.

        Args:
            session: The session.
            why: Reason, for the log.
            refusal: Reason for which its actor must not come back, which it is told.
        """
        if self._sessions.pop(session.key, None) is not None:
            session.is_over, session.refusal = True, refusal
            session.tell()
            _log.info("actor %s is gone: %s", session.actor, refusal or why)

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

    def _answers(self, session: Session, context: Any) -> Iterator[bytes]:
        """Yield what an actor is told, until its stream ends."""
        beat = 0.0
        while context.is_active() and not session.is_over and not self._closing:
            with self._lock:
                self._forget_the_silent()
            before = session.changes
            parts = self._news(session)
            if time.monotonic() - beat > HEARTBEAT_S:
                beat = time.monotonic()
                parts.append(Frame("heartbeat", {"produced": 0}).encode())
            if parts:
                yield from messages(parts)
                continue
            with session.lock:
                if session.changes == before:
                    session.lock.wait(0.5)
        if session.is_over and session.refusal and context.is_active():
            yield from messages([Frame("refused", {"reason": session.refusal}).encode()])
        elif self._closing and self._says_goodbye and context.is_active():
            yield from messages([Frame("bye").encode()])

    def _news(self, session: Session) -> list[bytes]:
        parts = []
        policy = self._policy
        if policy is not None and policy[0] != session.has_version:
            session.has_version = policy[0]
            parts.append(policy[1])
        with self._lock:
            until, random_until = self._credit.get(session.incarnation, (0, 0))
            known = self._known.get(session.incarnation, Known())
            credit = known.inserted, until, random_until
        if credit != session.credit and session.has_version >= 0:  # none plays before there is a policy
            session.credit = credit
            said = {"acknowledged": known.inserted, "until": until, "random_until": random_until}
            parts.append(Frame("credit", said).encode())
        return parts

    def _read(self, session: Session, requests: Iterator[bytes], context: Any) -> None:
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
                self._end(session, "", str(error))
        except Exception:  # the stream broke: gRPC raises its own classes, the session ends
            with self._lock:
                if not session.is_over:
                    self.counts["lost_actors"] += 1
                self._end(session, "its stream broke")

    def _receive(self, session: Session, frame: Frame) -> None:
        if frame.kind == "heartbeat":
            session.produced = frame.header["produced"]
        elif frame.kind == "bye":
            with self._lock:
                self._end(session, "it said goodbye")
        elif frame.kind in ("chunk", "skip"):
            self._take_in(session, frame)
        else:
            raise WireError(f"an actor sends no frame {frame.kind}")

    def _take_in(self, session: Session, frame: Frame) -> None:
        seq, is_chunk = frame.header["seq"], frame.kind == "chunk"
        with self._lock:
            if session.is_over:
                return  # a late chunk of a connection that another one has replaced
            known = self._known[session.incarnation]
            if seq <= known.received:
                self.counts["duplicate_chunks"] += is_chunk
                return
            if is_chunk and seq != known.received + 1:
                raise WireError(f"chunk {seq} came after chunk {known.received}")
            missing = 0 if is_chunk else seq - known.received
            known.received = seq
            session.waiting += 1
            self._arrivals.append(Arrival(session.actor, session.incarnation, seq, frame, missing))
            self._lock.notify_all()


def _metadata(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
