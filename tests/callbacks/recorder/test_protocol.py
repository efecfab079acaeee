import json
import math
import os
import struct
import threading
from contextlib import suppress

import pytest

from lit_rl.callbacks.recorder.protocol import MAX_FRAME_BYTES, is_readable, read_frame, write_frame


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_messages_come_out_as_they_went_in(pipe):
    message = {"kind": "rows", "rows": [["ppo", 1, 2.5, {"verlust ä": math.inf}]]}
    write_frame(pipe[1], message)
    write_frame(pipe[1], {})
    assert read_frame(pipe[0]) == message
    assert read_frame(pipe[0]) == {}


def test_nan_survives(pipe):
    write_frame(pipe[1], {"value": math.nan})
    assert math.isnan(read_frame(pipe[0])["value"])


def test_message_larger_than_a_pipe(pipe):
    message = {"rows": ["x" * 1000] * 1000}
    writer = threading.Thread(target=write_frame, args=(pipe[1], message))
    writer.start()
    assert read_frame(pipe[0]) == message
    writer.join()


def test_end_of_stream(pipe):
    body = json.dumps({"kind": "close"}).encode()
    os.write(pipe[1], struct.pack("<I", len(body)) + body[:3])
    os.close(pipe[1])
    with pytest.raises(EOFError, match=f"ended {len(body) - 3} bytes before the end of a frame"):
        read_frame(pipe[0])


def test_stream_out_of_step(pipe):
    os.write(pipe[1], b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match=f"at most {MAX_FRAME_BYTES} bytes expected, got 4294967295"):
        read_frame(pipe[0])


def test_is_readable(pipe):
    assert not is_readable(pipe[0], 0)
    os.write(pipe[1], b"x")
    assert is_readable(pipe[0], 0)
