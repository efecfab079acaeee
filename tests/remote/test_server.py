"""The learner's server: whom it admits, whom it lets go, and what strangers send to it."""

from __future__ import annotations

import json
import pickle
import random
import re
import socket
import subprocess
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lit_rl.remote import link as link_module
from lit_rl.remote import server as server_module
from lit_rl.remote.link import Link, Refused
from lit_rl.remote.recording import read_chunk
from lit_rl.remote.service import JOIN, SESSION, STREAM, parse_address
from lit_rl.remote.wire import FIELDS, PROTOCOL, Frame, FrameReader, WireError
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.remote.toys import SPEC, STEPS, ByHand, Learner, Player, chunk, closing, eventually, security


def refused(link: Link, timeout_s: float = 5.0) -> str:
    """What a link is told, once it is refused."""
    link.start()
    try:
        eventually(lambda: link._failure, timeout_s)
        with pytest.raises(Refused) as error:
            link.turn(0.0)
        return str(error.value)
    finally:
        link.close()


def link_to(
    learner: Learner, name: str = "x", spec: EnvSpec = SPEC, num_envs: int = 1, **kwargs: Any
) -> Link:
    return Link("127.0.0.1", learner.port, name, spec, num_envs, **kwargs)


# Admission


def test_one_actor_more_than_the_limit_is_told_so_at_once():
    learner = Learner(max_actors=2)
    actors = [ByHand(learner.port, name) for name in "ab"]
    with closing(*actors, learner):
        eventually(lambda: len(learner.server.live()) == 2)
        start = time.monotonic()
        expected = "max_actors = 2 actors are connected; wait, or raise data.max_actors"
        assert refused(link_to(learner, "c")) == expected
        assert time.monotonic() - start < 2.0
        assert learner.server.counts["refused_actors"] == 1


def test_a_place_is_free_again_after_a_goodbye():
    learner = Learner(max_actors=1)
    with closing(learner):
        learner.publish()
        for name in "abc":
            actor = ByHand(learner.port, name)
            with closing(actor):
                eventually(lambda name=name: [s.actor for s in learner.server._sessions.values()] == [name])
                eventually(learner.server.live)
            eventually(lambda: not learner.server.live())
        assert learner.server.counts["lost_actors"] == 0


def test_another_environment_is_refused():
    learner = Learner()
    other = EnvSpec("Other", LeafSpec([3]), ActionSpec("box", [1], low=[-2.0], high=[2.0]))
    with closing(learner):
        text = refused(link_to(learner, spec=other))
        assert "the actor's environment is another one: it has" in text
        assert "give both the same --config" in text


def test_another_number_of_environments_is_refused():
    learner = Learner()
    with closing(learner):
        expected = "the actor steps 3 environments, the learner expects 1 (data.num_envs); give both the same"
        assert refused(link_to(learner, num_envs=3)) == expected


def test_another_version_of_the_protocol_is_refused(monkeypatch: pytest.MonkeyPatch):
    learner = Learner()
    monkeypatch.setattr(link_module, "PROTOCOL", PROTOCOL + 1)
    with closing(learner):
        text = refused(link_to(learner))
        assert text.startswith(
            f"the actor speaks version {PROTOCOL + 1} of the protocol, the learner {PROTOCOL};"
        )


def test_a_policy_for_another_environment_is_refused():
    learner = Learner()
    with closing(learner):
        from tests.remote.toys import DESCRIPTION, arrays_of

        learner.receiver.publish(0, DESCRIPTION, arrays_of(features=5))
        text = refused(link_to(learner))
        assert text == "a layer of shape (5, 2) takes no 2 features; give the same --config"


def test_what_listens_but_is_no_learner_is_refused():
    from concurrent.futures import ThreadPoolExecutor

    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    try:
        text = refused(Link("127.0.0.1", port, "x", SPEC, 1))
        assert text == f"what listens at 127.0.0.1:{port} is no learner of lit_rl; look at --connect"
    finally:
        other.stop(None)


def test_a_peer_that_accepts_and_never_answers_is_no_learner(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "_CALL_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        actor = ByHand(silent.getsockname()[1])
        with closing(actor):
            time.sleep(0.8)
            assert not actor.link.is_connected
            assert actor.link.turn(0.0) is None


def test_a_second_learner_on_the_port_is_told_in_one_line():
    learner = Learner()
    with closing(learner):
        expected = (
            f"port = {learner.port}: nothing can listen at 127.0.0.1:{learner.port}; another process holds"
        )
        with pytest.raises(ValueError, match=re.escape(expected)) as error:
            Learner(port=learner.port)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "host:", "host:0", "host:65536", "host:a", ":5488"])
def test_an_address_that_is_none_is_refused(text: str):
    with pytest.raises(ValueError, match=r"expected HOST:PORT, such as 127\.0\.0\.1:5488"):
        parse_address(text)


def test_addresses_are_split():
    assert parse_address("robot") == ("robot", 5488)
    assert parse_address("10.0.0.2:99") == ("10.0.0.2", 99)
    assert parse_address("[::1]:99") == ("::1", 99)


# Security


def test_an_address_beyond_this_machine_needs_token_and_certificate(tmp_path: Path):
    (tmp_path / "token").write_text("secret")
    for allowed in (None, security(token=tmp_path / "token")):
        with pytest.raises(ValueError, match=r"host = 0\.0\.0\.0 is reached by other machines, so token and"):
            Learner(host="0.0.0.0", security=allowed)


def test_a_wrong_token_is_refused_and_the_right_one_is_not(tmp_path: Path):
    for name, text in (("right", "secret\n"), ("wrong", "other")):
        (tmp_path / name).write_text(text)
    learner = Learner(security=security(token=tmp_path / "right"))
    with closing(learner):
        expected = "the token is wrong or missing; give --token FILE"
        assert refused(link_to(learner, security=security(token=tmp_path / "wrong"))) == expected
        assert refused(link_to(learner)) == expected
        actor = ByHand(learner.port, security=security(token=tmp_path / "right"))
        with closing(actor):
            eventually(learner.server.live)
        channel = grpc.insecure_channel(f"127.0.0.1:{learner.port}")
        with pytest.raises(grpc.RpcError) as error:  # a session that was guessed does not help
            next(channel.stream_stream(STREAM)(iter([b""]), metadata=[(SESSION, "0" * 32)], timeout=5))
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
        channel.close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "is an empty file"), (b" \n", "only white space"), (b"\xff\xfe", "printable")],
)
def test_a_token_that_cannot_be_shown_is_refused(tmp_path: Path, content: bytes, expected: str):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        security(token=tmp_path / "token")


def make_certificate(folder: Path, name: str) -> None:
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=learner "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


def test_with_a_certificate_only_those_who_trust_it_connect(tmp_path: Path):
    for name in ("ours", "theirs"):
        make_certificate(tmp_path, name)
    (tmp_path / "token").write_text("secret")
    token = tmp_path / "token"
    secured = security(token=token, certificate=tmp_path / "ours.pem", key=tmp_path / "ours.key")
    learner = Learner(host="0.0.0.0", security=secured)
    with closing(learner):
        learner.publish()
        actor = ByHand(learner.port, security=security(token=token, certificate=tmp_path / "ours.pem"))
        others = [
            ByHand(learner.port, "b", security=security(token=token, certificate=tmp_path / "theirs.pem")),
            ByHand(learner.port, "c", security=security(token=token)),
        ]
        with closing(actor, *others):
            learner.allow(actor)
            actor.send()
            learner.take(STEPS)
            assert learner.rewards() == [1, 2, 3, 4]
            assert [other.link.is_connected for other in others] == [False, False]
            assert len(learner.server.live()) == 1


# Connections that end


def test_a_peer_that_says_nothing_loses_its_place(monkeypatch: pytest.MonkeyPatch):
    """It joined, and opens no stream; or its stream stays silent, as that of a stopped process does."""
    monkeypatch.setattr(server_module, "JOIN_S", 0.5)
    monkeypatch.setattr(server_module, "SILENCE_S", 0.5)
    learner = Learner(max_actors=2)
    channel = grpc.insecure_channel(f"127.0.0.1:{learner.port}")
    wake = threading.Event()
    try:
        request = {
            "protocol": PROTOCOL, "name": "a", "incarnation": "1", "num_envs": 1, "realtime": False,
            "spec": learner.server._spec,
        }  # fmt: skip
        join = channel.unary_unary(JOIN)
        join(json.dumps(request).encode(), timeout=5)
        answer = json.loads(join(json.dumps(request | {"name": "b"}).encode(), timeout=5))
        call = channel.stream_stream(STREAM)(iter(wake.wait, True), metadata=[(SESSION, answer["session"])])
        eventually(lambda: len(learner.server.live()) == 1)
        start = time.monotonic()
        eventually(lambda: not learner.server._sessions)
        assert time.monotonic() - start < 3.0
        assert learner.server.counts["lost_actors"] == 1
        call.cancel()
    finally:
        wake.set()
        channel.close()
        learner.close()


def test_an_actor_that_was_frozen_comes_back(monkeypatch: pytest.MonkeyPatch):
    """It lost its place for its silence, which must not end it."""
    learner = Learner()
    actor = ByHand(learner.port)
    with closing(actor, learner):
        learner.publish()
        learner.allow(actor)
        actor.send()
        learner.take(STEPS)
        with learner.server._lock:
            for session in list(learner.server._sessions.values()):
                session.heard -= 100.0
            learner.server._forget_the_silent()
        eventually(lambda: actor.link.connections == 2)
        learner.allow(actor)
        actor.send()
        learner.take(2 * STEPS)
        assert learner.rewards() == [float(i) for i in range(1, 9)]
        assert learner.server.counts["lost_actors"] == 1


def test_a_frozen_learner_is_left_and_found_again(monkeypatch: pytest.MonkeyPatch):
    """Nothing arrives any more although the connection stands; the actor connects anew."""
    monkeypatch.setattr(link_module, "SILENCE_S", 0.6)
    monkeypatch.setattr(server_module, "HEARTBEAT_S", 100.0)
    learner = Learner()
    actor = ByHand(learner.port)
    with closing(actor, learner):
        learner.publish()
        eventually(lambda: actor.link.connections >= 2)


def test_nothing_stays_behind():
    before = set(threading.enumerate())
    learner = Learner()
    player = Player(learner.port)
    learner.publish()
    learner.take(40)
    player.stop()
    learner.close()
    eventually(lambda: not [t for t in threading.enumerate() if t not in before and "lit_rl" in t.name])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", learner.port), 1.0)


def test_everything_that_listens_is_on_the_loopback():
    import psutil

    learner = Learner()
    with closing(learner):
        listening = [
            c.laddr for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN
        ]
        ours = [a.ip.removeprefix("::ffff:") for a in listening if a.port == learner.port]
        assert ours == ["127.0.0.1"]


# Weights


def test_every_version_that_arrives_is_the_one_that_was_published():
    """A snapshot is taken between two updates: later changes of the arrays do not reach it."""
    from lit_rl.remote.policy import digest
    from tests.remote.toys import DESCRIPTION, arrays_of

    learner = Learner()
    actor = ByHand(learner.port)
    with closing(actor, learner):
        arrays = arrays_of()
        for version in range(5):
            arrays["bias/0"] += 1.0
            expected = digest(arrays)
            learner.receiver.publish(version, DESCRIPTION, arrays)
            arrays["bias/0"] += 1.0  # the optimizer writes on
            eventually(lambda v=version: actor.link.policy is not None and actor.link.policy.version == v)
            assert actor.link.policy is not None
            assert actor.link.policy.digest == expected


def test_who_joins_late_gets_the_newest_weights_at_once():
    learner = Learner()
    with closing(learner):
        for version in range(3):
            learner.publish(version)
        actor = ByHand(learner.port)
        with closing(actor):
            eventually(lambda: actor.link.policy is not None)
            assert actor.link.policy is not None
            assert actor.link.policy.version == 2


def test_news_reach_an_actor_at_once():
    """A change between the look at it and the wait for it was told half a second late."""
    learner = Learner()
    actor = ByHand(learner.port)
    with closing(actor, learner):
        learner.publish()
        learner.allow(actor)
        start = time.monotonic()
        for version in range(1, 40):
            learner.publish(version)
            eventually(lambda v=version: actor.link.policy is not None and actor.link.policy.version == v)
        assert time.monotonic() - start < 10.0


def test_an_actor_says_that_its_weights_are_old(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("lit_rl.remote.actor.STALE_S", 0.2)
    learner = Learner()
    player = Player(learner.port, realtime=True, rate_hz=200)
    with closing(player, learner):
        learner.publish()
        learner.take(8)
        eventually(lambda: "s old, and no newer ones come; look at the learner" in caplog.text)
        assert player.error is None


def test_old_policies_are_told_of():
    learner = Learner(window=100)
    actor = ByHand(learner.port)
    with closing(actor, learner):
        learner.publish(3)
        learner.allow(actor)
        actor.send()
        learner.take(STEPS)
        versions = [rollout["policy_version"] for rollout in learner.taken]
        told = learner.receiver.report(10, versions, 0, 0)
        assert told["learner/policy_lag"] == told["learner/policy_lag_max"] == 7


# Strangers


def hostile(rng: random.Random, count: int) -> list[bytes]:
    """Random bytes, pickles, cut and altered frames, wrong kinds and lengths; none is whole experience."""
    whole = Frame("chunk", {"seq": 1, "version": 0, "num_envs": 1, "at_random": False}, chunk()).encode()
    pickled = pickle.dumps({"chunk": np.zeros(3), "code": print})
    parts = []
    for _ in range(count):
        kind = rng.randrange(8)
        if kind == 0:
            parts.append(rng.randbytes(rng.randrange(200)))
        elif kind == 1:
            parts.append(len(pickled).to_bytes(4, "little") + bytes(4) + pickled)
        elif kind == 2:
            parts.append(whole[: rng.randrange(len(whole))] + b"\xff" * 9)
        elif kind == 3:
            at = rng.randrange(8, len(whole))
            altered = whole[:at] + rng.randbytes(3) + whole[at + 3 :]
            parts.append(whole[:9] if is_experience(altered) else altered)
        elif kind == 4:
            header = json.dumps(
                {"kind": rng.choice([*FIELDS, "x", 1, None])}
                | {name: rng.choice([-1, 2**80, True, None, "x", [], {}, 1.5]) for name in ("seq", "version")}
            ).encode()
            parts.append(len(header).to_bytes(4, "little") + bytes(4) + header)
        elif kind == 5:
            parts.append(rng.randbytes(4) + b"\xff\xff\xff\x7f")
        elif kind == 6:
            header = b"[" * 50_000
            parts.append(len(header).to_bytes(4, "little") + bytes(4) + header)
        else:
            header = b'{"kind": "chunk", "seq": 1, "version": 0, "num_envs": 1, "at_random": false}'
            shape = rng.choice(["[0, 4611686018427387904, 8]", "[-1]", "[1.5]", "[" * 40 + "]" * 40, "[]"])
            body = f'{{"a": {{"dtype": "{rng.choice(["F32", "F8_E4M3", "O", "BF16"])}", "shape": {shape}, '
            body += '"data_offsets": [0, 0]}}'
            arrays = len(body).to_bytes(8, "little") + body.encode()
            lengths = len(header).to_bytes(4, "little") + len(arrays).to_bytes(4, "little")
            parts.append(lengths + header + arrays)
    return parts


def is_experience(sent: bytes) -> bool:
    """Whether a learner may take it: altered numbers within a whole chunk are another robot's experience."""
    try:
        (frame,) = FrameReader().feed(sent)
        return frame.kind == "chunk" and bool(read_chunk(frame, SPEC, 1))
    except (WireError, FloatingPointError, ValueError):
        return False


def check_hostile_frames(
    count: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    learner = Learner(max_actors=4)
    channel = grpc.insecure_channel(f"127.0.0.1:{learner.port}")
    join, stream = channel.unary_unary(JOIN), channel.stream_stream(STREAM)
    request = {
        "protocol": PROTOCOL, "incarnation": "1", "num_envs": 1, "realtime": False, "name": "evil",
        "spec": learner.server._spec,
    }  # fmt: skip
    frames = hostile(random.Random(0), count)
    in_joins = frames[: count // 20]
    good = Player(learner.port, "good")
    try:
        learner.publish()
        for frame in in_joins:
            with pytest.raises(grpc.RpcError):
                join(frame, timeout=5)
        for kind, values in {
            "name": [3, "", "\n", "x" * 101],
            "spec": [None, []],
            "protocol": ["x", -1],
        }.items():
            for value in values:
                with pytest.raises(grpc.RpcError):
                    join(json.dumps(request | {kind: value}).encode(), timeout=5)
        codes: set[Any] = set()
        size = 25  # frames of one stream: it ends with the first that is none
        for start in range(len(in_joins), count, size):
            answer = json.loads(join(json.dumps(request).encode(), timeout=5))
            sent = frames[start : start + size]
            for i in range(size):  # every frame is the first that is read of a reader of its own
                session = server_module.Session("k", "evil", "1", False, 0.0)
                learner.server._read(session, iter(sent[i : i + 1]), None)
            call = stream(iter(sent), metadata=[(SESSION, answer["session"])], timeout=5)
            try:
                list(call)
            except grpc.RpcError as error:
                codes.add(error.code())
        assert learner.server.counts["rejected_frames"] > count / 4
        learner.take(learner.receiver.inserted_steps + 40)
        rewards = learner.rewards()
        assert rewards == [float(i) for i in range(1, len(rewards) + 1)]
        assert failures == []
        assert codes <= {grpc.StatusCode.CANCELLED}
    finally:
        good.stop()
        channel.close()
        learner.close()
    assert "Traceback" not in capsys.readouterr().err


def test_3000_hostile_frames_change_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    check_hostile_frames(3_000, capsys, monkeypatch)


@pytest.mark.slow
def test_10000_hostile_frames_change_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    check_hostile_frames(10_000, capsys, monkeypatch)


def test_a_fork_after_the_server_has_started_is_harmless():
    """The child does nothing with gRPC and ends; learner and actor go on."""
    import os

    learner = Learner()
    player = Player(learner.port)
    with closing(player, learner):
        learner.publish()
        learner.take(20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads and fork
            pid = os.fork()
        if pid == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        subprocess.run(["true"], check=True)
        learner.take(60)
        assert learner.rewards() == [float(i) for i in range(1, 61)]
