"""The recorder process as the trainer sees it."""

from __future__ import annotations

from lit_rl.processes import Message, ModuleProcess, read_message, write_message


class RecorderProcess:
    """Runs ``python -m lit_rl.callbacks.recorder``, which answers each message before the next is sent.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self) -> None:
        self._process = ModuleProcess("lit_rl.callbacks.recorder", has_pipes=True)

    @property
    def pid(self) -> int:
        """Process id of the recorder."""
        return self._process.pid

    def handle(self, message: Message) -> Message:
        """Send one message and wait for its answer.

        Raises:
            OSError: The process is dead.
            EOFError: It died before it answered.
            ValueError: It answered nonsense.
        """
        stdin, stdout = self._process.pipes
        write_message(stdin, message)
        return read_message(stdout)

    def kill(self) -> None:
        """Kill the process at once, from any thread; who waits for an answer gets ``EOFError``."""
        self._process.kill()

    def close_pipes(self) -> None:
        """Let go of the process: it ends when nobody holds the other end of its stdin."""
        self._process.close_pipes()

    def end(self) -> int:
        """Let the process finish by itself, wait for that, and return its exit status."""
        self.close_pipes()
        return self._process.wait()
