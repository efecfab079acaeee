"""The process of the TensorBoard server, which ``TensorBoardServer`` starts."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from typing import Any

from lit_rl.callbacks import companion
from lit_rl.callbacks.companion import Channel

PORTS = 21
"""So many ports are tried, from the one asked for."""


def main() -> None:
    """Serve until the trainer says that it is over, or is gone."""
    channel, trainer = companion.attach()
    options = next(companion.messages(channel, trainer), None)
    watch = threading.Thread(target=_end_with_trainer, args=(channel, trainer), daemon=True)
    watch.start()  # before the seconds that the import of TensorBoard takes
    if options is not None:
        try:
            companion.reply(channel, "started", serve(**options))
        except Exception as error:
            companion.reply(channel, "failed", companion.describe(error))
            return
    watch.join()


def serve(host: str, port: int, **flags: Any) -> str:
    """Serve in a thread, on the first free port; returns the address.

    Raises:
        OSError: All ports are taken, or ``host`` is no address of this machine.
    """
    from tensorboard.program import TensorBoard, TensorBoardPortInUseError

    server = TensorBoard()
    last = min(port + PORTS, 65536) - 1
    for candidate in range(port, last + 1):
        if is_free(host, candidate):
            server.configure(host=host, port=candidate, **flags)
            try:
                return server.launch()
            except TensorBoardPortInUseError:
                continue  # somebody was quicker
    raise OSError(f"ports {port} to {last} are all taken; give another port")


def is_free(host: str, port: int) -> bool:
    """Whether a server may listen there.

    Raises:
        OSError: For another reason than that the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
            trial.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _end_with_trainer(channel: Channel, trainer: int) -> None:
    for _ in companion.messages(channel, trainer):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)  # of this process and the data server that TensorBoard starts


if __name__ == "__main__":
    main()
