"""Slow networks, and such that break: a proxy on the loopback delays what passes, and cuts connections."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress

import pytest

from lit_rl.remote import link as link_module
from lit_rl.remote import server as server_module
from tests.remote.toys import STEPS, ByHand, Learner, Player, closing, eventually


class Proxy:
    """Passes bytes on after ``delay_s``, and cuts all connections when asked to."""

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self._target, self._delay_s = port, delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_over = False
        self.is_stuck = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                continue
            self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        waiting: deque[tuple[float, bytes]] = deque()
        with suppress(OSError, ValueError):  # one of the two was closed
            while not self._is_over:
                if not self.is_stuck and select.select([source], [], [], 0.005)[0]:
                    if not (data := source.recv(65_536)):
                        break
                    waiting.append((time.monotonic() + self._delay_s, data))
                while waiting and waiting[0][0] <= time.monotonic():
                    sink.sendall(waiting.popleft()[1])
        for part in (source, sink):
            part.close()

    def cut(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for part in pair:
                with suppress(OSError):
                    part.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._is_over = True
        self._listener.close()
        self.cut()


def test_a_slow_network_slows_down_and_loses_nothing():
    learner = Learner(window=8)
    proxy = Proxy(learner.port, delay_s=0.2)
    player = Player(proxy.port)
    with closing(player, proxy, learner):
        learner.publish()
        learner.take(40 * STEPS, 20.0)
        assert learner.rewards() == [float(i) for i in range(1, 40 * STEPS + 1)]
        assert learner.server.counts["rejected_frames"] == 0


def test_a_network_that_breaks_loses_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "_LONGEST_PAUSE_S", 0.1)
    learner = Learner(window=8)
    proxy = Proxy(learner.port, delay_s=0.01)
    player = Player(proxy.port)
    with closing(player, proxy, learner):
        learner.publish()
        for count in range(1, 6):
            learner.take(30 * count)
            proxy.cut()
        learner.take(200)
        assert learner.rewards() == [float(i) for i in range(1, len(learner.rewards()) + 1)]
        assert player.link.connections >= 3


def test_a_network_that_swallows_everything_is_noticed_by_both(monkeypatch: pytest.MonkeyPatch):
    """No end of the connection arrives anywhere; what was on its way is sent again."""
    monkeypatch.setattr(link_module, "SILENCE_S", 1.0)
    monkeypatch.setattr(server_module, "SILENCE_S", 1.0)
    monkeypatch.setattr(server_module, "HEARTBEAT_S", 0.3)
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.3)
    learner = Learner(window=50)
    proxy = Proxy(learner.port)
    actor = ByHand(proxy.port)
    with closing(actor, proxy, learner):
        learner.publish()
        learner.allow(actor)
        actor.send()
        learner.take(STEPS)
        learner.allow(actor)
        proxy.is_stuck = True
        for _ in range(3):
            actor.send()
        start = time.monotonic()
        eventually(lambda: not learner.server.live() and not actor.link.is_connected)
        assert time.monotonic() - start < 4.0
        proxy.is_stuck = False
        learner.take(4 * STEPS)
        assert learner.rewards() == [float(i) for i in range(1, 4 * STEPS + 1)]
