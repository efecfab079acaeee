"""Runs the TensorBoard server, in a process that ``TensorBoardServer`` starts."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
from typing import Any

from lit_rl.callbacks.companions import companion
from lit_rl.callbacks.companions.channel import Channel

PORTS = 21
"""So many ports are tried, from the one asked for."""


def main() -> None:
    """Serve until the trainer says that it is over, or is gone.

    TensorBoard itself starts when its page is first asked for: loading it takes a core, which the trainer
    would miss, and most runs nobody looks at while they last.
    """
    channel, trainer = companion.attach()
    options = next(companion.messages(channel, trainer), None)
    if options is None:
        return
    watch = threading.Thread(target=_end_with_trainer, args=(channel, trainer), daemon=True)
    watch.start()
    try:
        with listen(options.pop("host"), options.pop("port")) as listening:
            host, port = listening.getsockname()[:2]
            companion.reply(channel, "started", f"http://{f'[{host}]' if ':' in host else host}:{port}/")
            select.select([listening], [], [])  # the first visitor waits at the door meanwhile
            serve(listening, **options)
            watch.join()
    except Exception as error:
        companion.reply(channel, "failed", companion.describe(error))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on the first free port.

    Raises:
        OSError: All ports are taken, or ``host`` is no address of this machine.
    """
    last = min(port + PORTS, 65536) - 1
    for candidate in range(port, last + 1):
        family, kind, protocol, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return listening
    raise OSError(f"ports {port} to {last} are all taken; give another port")


def serve(listening: socket.socket, **flags: Any) -> None:
    """TensorBoard with the command line's ``flags``, in a thread, on a socket that listens already."""
    from tensorboard.program import TensorBoard
    from werkzeug.serving import ThreadedWSGIServer

    host, port = listening.getsockname()[:2]

    class Server(ThreadedWSGIServer):
        def __init__(self, app: Any, flags: Any) -> None:
            super().__init__(host, port, app, fd=listening.fileno())

        def get_url(self) -> str:
            return ""  # the trainer knows it already

    board = TensorBoard(server_class=Server)
    board.configure(host=host, port=port, **flags)
    board.launch()


def _end_with_trainer(channel: Channel, trainer: int) -> None:
    for _ in companion.messages(channel, trainer):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)  # this process and the data server that TensorBoard starts


if __name__ == "__main__":
    main()
