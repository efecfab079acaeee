"""Frames, messages, spools, credit and chunks, by themselves."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from lit_rl.envs.vector import make_vector_env
from lit_rl.remote.limiter import credit
from lit_rl.remote.recording import Recording, read_chunk
from lit_rl.remote.spool import Chunk, Spool
from lit_rl.remote.wire import MESSAGE_BYTES, Frame, FrameReader, WireError, decode, messages
from tests.remote.toys import SPEC, STEPS, Counts, chunk
from tests.toys import Mixed

HEADER = {"seq": 1, "version": 0, "num_envs": 1, "at_random": False}


def through(frames: list[Frame], cut: int | None = None) -> list[Frame]:
    """Send them; ``cut`` makes messages of so many bytes instead."""
    reader = FrameReader()
    sent = list(messages([frame.encode() for frame in frames]))
    if cut is not None:
        whole = b"".join(sent)
        sent = [whole[i : i + cut] for i in range(0, len(whole), cut)]
    return [frame for message in sent for frame in reader.feed(message)]


# Frames


@pytest.mark.parametrize("cut", [None, 1, 7, 1_000])
def test_frames_arrive_as_they_were_however_they_are_cut(cut: int | None):
    frames = [Frame("chunk", HEADER, chunk(5)), Frame("heartbeat", {"produced": 3}), Frame("bye")]
    arrived = through(frames, cut)
    assert [frame.kind for frame in arrived] == ["chunk", "heartbeat", "bye"]
    assert arrived[0].header == HEADER
    for name, array in chunk(5).items():
        assert arrived[0].arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrived[0].arrays[name], array)


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4)])
def test_arrays_of_every_kind_arrive(dtype: str, shape: tuple[int, ...]):
    array = np.ones(shape, dtype)
    ((arrived,),) = [list(frame.arrays.values()) for frame in through([Frame("chunk", HEADER, {"a": array})])]
    assert arrived.dtype == array.dtype
    np.testing.assert_array_equal(arrived, array)


def test_no_message_is_longer_than_the_protocol_allows():
    large = Frame("chunk", HEADER, {"obs": np.arange(1_500_000, dtype=np.float32)}).encode()
    small = Frame("bye").encode()
    parts = list(messages([small, large, small]))
    assert max(map(len, parts)) == MESSAGE_BYTES
    assert b"".join(parts) == small + large + small
    assert len(list(messages([small] * 1_000))) == 1


def test_a_frame_that_is_too_long_is_refused_before_it_is_kept():
    reader = FrameReader(max_bytes=1_000)
    with pytest.raises(WireError, match="a frame of 5008 bytes is longer than 1000"):
        reader.feed((8).to_bytes(4, "little") + (5_000).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\x80\x04", "a header is not JSON"),
        (b"[]", "a header names no kind of frame"),
        (b'{"kind": "pickle"}', "unknown kind of frame 'pickle'"),
        (b'{"kind": "heartbeat"}', "frame heartbeat: produced must be int, got NoneType"),
        (b'{"kind": "heartbeat", "produced": true}', "frame heartbeat: produced must be int, got bool"),
        (b'{"kind": "heartbeat", "produced": -1}', "frame heartbeat: produced must be a count, got -1"),
        (b'{"kind": "heartbeat", "produced": 1e400}', "frame heartbeat: produced must be int, got float"),
    ],
)
def test_a_header_that_is_none_is_refused(header: bytes, expected: str):
    with pytest.raises(WireError, match=expected):
        decode(header, b"")


# What waits


def filled(spool: Spool, last: int, size: int = 10, first: int = 1) -> Spool:
    for seq in range(first, last + 1):
        spool.put(Chunk(seq, STEPS, bytes([seq]) * size))
    return spool


def taken(spool: Spool) -> list[int]:
    """Numbers of the chunks that are sent next; -n says that those up to n are missing."""
    found = []
    for frame in spool.take_unsent(1_000):
        is_skip = b"skip" in frame
        found.append(-json.loads(frame[8:])["seq"] if is_skip else frame[0])
    return found


def test_chunks_are_sent_once_kept_and_sent_again_after_a_rewind():
    spool = filled(Spool(None, 30), 5)
    assert taken(spool) == [1, 2, 3, 4, 5]
    assert taken(spool) == []
    spool.acknowledge(4)
    assert spool.num_waiting == 1
    assert spool.rewind(3, STEPS) == 0
    assert taken(spool) == [4, 5]
    assert spool.rewind(0, STEPS) == 1  # three are kept, the first one is not
    assert taken(spool) == [-1, 2, 3, 4, 5]
    assert spool.lost_steps == STEPS
    assert spool.rewind(0, STEPS) == 0  # counted once
    assert taken(spool) == [-1, 2, 3, 4, 5]


def test_what_does_not_fit_is_dropped_from_the_oldest_and_told_of():
    spool = filled(Spool(30, 1_000), 3)
    assert taken(spool) == [1, 2, 3]
    filled(spool, 6, first=4)
    assert spool.dropped_steps == 2 * STEPS  # the newest is never dropped, the sent are on their way
    assert taken(spool) == [-5, 6]
    assert spool.rewind(3, STEPS) == 0
    assert taken(spool) == [-5, 6]
    assert spool.lost_steps == 0


def test_a_gap_at_the_end_is_told_of_at_once():
    spool = filled(Spool(None, 0), 3)
    assert taken(spool) == [1, 2, 3]
    spool.acknowledge(3)
    assert spool.rewind(1, STEPS) == 2
    assert taken(spool) == [-3]
    assert taken(spool) == []


# How far actors may play


@pytest.mark.parametrize(
    ("received", "arrived", "needed", "actors", "expected"),
    [
        (0, 0, 40, 1, 6),  # 40 are needed, and two chunks of 10 may wait: six chunks
        (4, 40, 40, 1, 6),
        (6, 60, 40, 1, 6),
        (9, 90, 40, 1, 9),  # never back
        (0, 0, 40, 2, 3),
        (0, 0, 40, 4, 2),  # rounded up: each may play at least what is needed of it
    ],
)
def test_credit_is_what_is_needed_and_a_window(
    received: int, arrived: int, needed: int, actors: int, expected: int
):
    assert credit(received, arrived, needed, 10, 2, actors, 0)[0] == expected


def test_chunks_at_random_end_with_the_warm_up():
    assert credit(3, 30, 40, 10, 2, 1, 25)[1] == 6
    assert credit(3, 30, 40, 10, 2, 2, 25)[1] == 5
    assert credit(3, 30, 40, 10, 2, 1, 0)[1] == 3


def test_all_actors_together_reach_what_is_needed():
    """Whatever number of actors shares the room, the learner never waits for what none may play."""
    for actors in range(1, 8):
        received, arrived, needed = [0] * actors, 0, 500
        while arrived < needed:
            until = [credit(r, arrived, needed, 10, 1, actors, 0)[0] for r in received]
            assert any(u > r for u, r in zip(until, received, strict=True))
            received = until
            arrived = 10 * sum(received)
        assert arrived <= needed + 10 * (1 + actors)


# Chunks


def recorded(env: Any, num_steps: int) -> tuple[dict[str, np.ndarray], Any]:
    made = make_vector_env(env, 2, check=False)
    rng = np.random.default_rng(0)
    recording = Recording(made.reset(0), np.ones(2, bool))
    for _ in range(num_steps):
        action = rng.uniform(-1, 1, (2, *made.spec.action.shape)).astype(np.float32)
        recording.add(action, made.step(action))
    made.close()
    return recording.arrays(), made.spec


@pytest.mark.parametrize("env", [Counts, lambda: Mixed("box"), "Pendulum-v1"])
def test_what_was_recorded_is_what_is_read(env: Any):
    arrays, spec = recorded(env, 9)
    (frame,) = through([Frame("chunk", HEADER | {"num_envs": 2}, arrays)])
    parts = read_chunk(frame, spec, 2)
    np.testing.assert_array_equal(parts["reward"], arrays["reward"])
    ended = np.flatnonzero((arrays["terminated"] | arrays["truncated"]).reshape(-1))
    assert parts["final_index"].tolist() == ended.tolist()
    assert parts["reset"][0].all()
    assert parts["action"].flags.writeable


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"terminated": None}, "a chunk has no steps"),
        ({"terminated": np.zeros((0, 1), bool)}, "a chunk has no steps"),
        ({"truncated": np.zeros((4, 2), bool)}, r"chunk: truncated must be bool \(4, 1\), got bool \(4, 2\)"),
        ({"reward": np.zeros((4, 1))}, r"chunk: reward must be float32 \(4, 1\), got float64 \(4, 1\)"),
        ({"action": np.zeros((4, 1, 2), np.float32)}, r"chunk: action must be float32 \(4, 1, 1\), got"),
        ({"obs": np.zeros((5, 1, 3), np.float32)}, r"chunk: obs must be float32 \(5, 1, 2\), got float32"),
        ({"obs": None}, r"chunk: obs must be float32 \(5, 1, 2\), got nothing"),
        ({"reset": None}, r"chunk: reset must be bool \(5, 1\), got nothing"),
        ({"truncated": np.ones((4, 1), bool)}, "final_index does not name the steps at which episodes ended"),
        ({"metrics/x": np.zeros(3)}, r"chunk: metrics/x must be float32 \(4, 1\), got float64 \(3,\)"),
    ],
)
def test_a_chunk_of_something_else_is_refused(changed: dict[str, Any], expected: str):
    arrays = {name: array for name, array in (chunk() | changed).items() if array is not None}
    with pytest.raises(WireError, match=expected):
        read_chunk(Frame("chunk", HEADER, arrays), SPEC, 1)


def test_choices_that_do_not_exist_are_refused():
    arrays, spec = recorded(lambda: Mixed("box"), 3)
    arrays["obs/goal"] = np.full_like(arrays["obs/goal"], 4)
    with pytest.raises(WireError, match="chunk: obs/goal holds choices that the environment does not have"):
        read_chunk(Frame("chunk", HEADER, arrays), spec, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["obs", "action", "reward"])
def test_numbers_that_are_not_finite_are_named(name: str, value: float):
    arrays = chunk()
    arrays[name][2].fill(value)
    with pytest.raises(FloatingPointError, match=f"{name} is {value} at step 2"):
        read_chunk(Frame("chunk", HEADER, arrays), SPEC, 1)


def test_large_finite_numbers_are_taken():
    arrays = chunk()
    arrays["reward"].fill(3e38)  # their sum is beyond float32
    read_chunk(Frame("chunk", HEADER, arrays), SPEC, 1)
