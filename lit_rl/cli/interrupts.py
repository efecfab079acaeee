"""Ends a command from outside its main thread: a signal asks it to stop, or another rank has failed.

While a trainer trains, ``GracefulStop`` has the signals, and training ends with a checkpoint. Before that
(imports, environments, ranks that meet) and afterwards there is nothing to save: here a signal raises in the
main thread, so that all that was begun is cleaned up as after a failure. The main thread may be stuck in a
function of C, such as the meeting of ranks; then the cleaning up is done beside it, and the process ends.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

from lit_rl.cli.errors import Stopped, exit_code, report
from lit_rl.processes import STOP_SIGNALS
from lit_rl.terminal import give_up_dead_terminal

_STUCK_S = 5.0
"""So long the main thread may take to notice what it is told."""
_REPEAT_S = 5.0
"""Within so many seconds a signal is one more copy of the one before: ``timeout`` sends each twice."""
_TELL = signal.SIGUSR2
"""Wakes the main thread up for :func:`tell`."""

Context = TypeVar("Context")
_running: list[Interrupts] = []


class Interrupts:
    """Signals end the command inside this context, by ``Stopped`` or KeyboardInterrupt.

    A signal that is ignored, as SIGHUP under ``nohup``, stays ignored. Outside the main thread nothing is
    done: Python delivers signals to that thread only.
    """

    def __init__(self) -> None:
        self._open: list[AbstractContextManager[Any]] = []
        self._previous: dict[int, Any] = {}
        self._has_noticed = threading.Event()
        self._stopped_at = -math.inf
        self._told: BaseException | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        _running.append(self)
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._watcher = threading.Thread(target=self._watch, args=(reading,), daemon=True)
        self._watcher.start()
        self._previous_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._previous[_TELL] = signal.signal(_TELL, self._on_told)
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        if self not in _running:
            return
        self._stopped_at = math.inf  # a signal that comes now is too late
        self.give_back()
        _running.remove(self)
        os.write(self._writing, b"\0")
        self._watcher.join()
        os.close(self._writing)

    def give_back(self) -> None:
        """Let signals do what they did before."""
        for signum, handler in self._previous.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._previous_fd)

    @contextmanager
    def guarded(self, context: AbstractContextManager[Context]) -> Iterator[Context]:
        """Enter ``context``; it is left even when the command ends beside a main thread that is stuck."""
        with context as entered:
            self._open.append(context)
            try:
                yield entered
            finally:
                self._open.remove(context)

    def tell(self, error: BaseException) -> None:
        """Raise ``error`` in the main thread; another one calls it."""
        self._told = error
        signal.pthread_kill(threading.main_thread().ident or 0, _TELL)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._has_noticed.set()
        give_up_dead_terminal()
        now = time.monotonic()
        if now - self._stopped_at > _REPEAT_S:
            self._stopped_at = now
            raise _error(signum)

    def _on_told(self, signum: int, frame: FrameType | None) -> None:
        error, self._told = self._told, None
        if error is not None:
            self._has_noticed.set()
            raise error

    def _watch(self, reading: int) -> None:
        """Read which signals have come, which the kernel tells even while the main thread is stuck."""
        while signum := os.read(reading, 1)[0]:
            error = self._told if signum == _TELL else _error(signum)
            if self._is_mine(signum) and error is not None and not self._has_noticed.wait(_STUCK_S):
                self.end(error)
        os.close(reading)

    def _is_mine(self, signum: int) -> bool:
        """Whether the handler is still this one, perhaps among others in that of Lightning."""
        handler = signal.getsignal(signum)
        among = getattr(handler, "signal_handlers", [handler])
        return self._on_signal in among or self._on_told in among

    def end(self, error: BaseException) -> NoReturn:
        """Leave what is guarded, report ``error`` and end the process, beside the main thread."""
        for context in reversed(self._open):
            with suppress(Exception):
                context.__exit__(type(error), error, None)
        report(error)
        os._exit(exit_code(error))


def _error(signum: int) -> BaseException:
    return KeyboardInterrupt() if signum == signal.SIGINT else Stopped(signum)


def guarded(context: AbstractContextManager[Context]) -> AbstractContextManager[Context]:
    """Enter ``context``; it is left however the command ends, unless it is killed."""
    return _running[-1].guarded(context) if _running else context


def tell(error: BaseException, is_over: threading.Event, patience_s: float) -> None:
    """Raise ``error`` in the main thread; end the command beside it where it is stuck.

    Args:
        error: What happened.
        is_over: Set when the main thread has left what the error concerns.
        patience_s: So many seconds it has to do so.
    """
    for interrupts in _running[-1:]:
        interrupts.tell(error)
        if not is_over.wait(patience_s):
            interrupts.end(error)


def _heed_signals() -> None:
    """Let a process that is forked from this one take signals as if there were no command."""
    for interrupts in reversed(_running):
        with suppress(ValueError):  # not its main thread
            interrupts.give_back()


os.register_at_fork(after_in_child=_heed_signals)
