import select
import socket
from collections.abc import Iterator

import pytest

from lit_rl.callbacks.companions.channel import Channel


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    one, other = socket.socketpair()
    with one, other:
        yield Channel(one, max_unsent=1 << 20), Channel(other)


def test_messages_arrive_in_order_in_whatever_pieces(pair):
    sender, receiver = pair
    sent = [{"size": size, "data": "x" * size} for size in (0, 1, 3, 100_000, 300_000, 7)]
    assert all(sender.send(message) for message in sent)
    assert sender.unsent  # more than a socket takes at once
    received: list = []
    while len(received) < len(sent):
        received += receiver.receive()
        sender.push()
    assert received == sent
    assert not sender.unsent


def test_refuses_what_would_take_too_much_memory_and_counts_it(pair):
    sender, receiver = pair
    taken = [sender.send((number, "x" * 100_000)) for number in range(40)]
    assert sender.refused == taken.count(False) > 0
    assert len(sender.unsent) <= sender.max_unsent
    received: list = []
    while sender.unsent or select.select([receiver.socket], [], [], 0)[0]:
        received += receiver.receive()
        sender.push()
    assert [number for number, _ in received] == [number for number, fits in enumerate(taken) if fits]


def test_hands_over_only_now_and_then(pair):
    sender, receiver = pair
    sender.push_interval_s = 1000.0
    for message in (1, 2, 3):
        assert sender.send(message)
    assert receiver.receive() == [1]  # the first at once
    sender.push()
    assert receiver.receive() == [2, 3]


def test_end_of_the_other_side(pair):
    sender, receiver = pair
    sender.send("last")
    sender.socket.close()
    assert receiver.receive() == ["last"]
    assert receiver.is_open
    assert receiver.receive() == []
    assert not receiver.is_open
    with pytest.raises(OSError, match="Broken pipe"):
        receiver.send("too late")
