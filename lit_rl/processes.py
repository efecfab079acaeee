"""Processes beside the trainer: how they are started, how they yield to it, and the messages between them.

This is the one way to start a Python process of this package. Messages are JSON and plain numbers, so that
nothing that arrives is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, TypeAlias

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# Starting and ending

_PR_SET_PDEATHSIG = 1


class ModuleProcess:
    """``python -m MODULE ARGS`` in a process of its own, with this very package.

    The process leads a session, so that Ctrl-C at the terminal does not reach it, and a process group, so
    that it is killed together with all that it has started. It imports from where this process imports, and
    not from its working directory; the standard library comes first, so that a ``types.py`` or ``random.py``
    beside the script of a user is not taken for Python's. Its module ends by itself when the work is done, or
    when the process that started it is gone, which :func:`is_orphaned` tells.

    Args:
        module: Name of the module.
        *args: Arguments of its command line.
        is_background: True for a process that works beside the trainer: it has one thread and prints nothing,
            and its first line is :func:`yield_to_the_trainer`. False for a process that the trainer waits
            for: what it prints is shown, and it has one thread unless the environment (``OMP_NUM_THREADS``
            and its like) says otherwise.
        has_pipes: Whether its stdin and stdout are pipes to this process.
        pass_fds: File descriptors that it inherits under the same numbers.
        is_supervised: True for a command of ``lit-rl`` that this process supervises: what it prints comes
            through :attr:`printed`, its number of threads is its own choice, and it stops as if by SIGTERM
            when this process is gone (:func:`stop_without_supervisor`).

    Raises:
        OSError: The process could not be started.
    """

    def __init__(
        self,
        module: str,
        *args: object,
        is_background: bool = True,
        has_pipes: bool = False,
        pass_fds: Sequence[int] = (),
        is_supervised: bool = False,
    ) -> None:
        silent = subprocess.DEVNULL if is_background and not is_supervised else None
        environment = {**os.environ, **_ONE_THREAD} if is_background else {**_ONE_THREAD, **os.environ}
        if is_supervised:
            environment = {**os.environ, _SUPERVISOR: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, module, *map(str, args)],
            stdin=subprocess.PIPE if has_pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if has_pipes or is_supervised else silent,
            stderr=subprocess.PIPE if is_supervised else silent,
            env={**environment, _IMPORT_PATH: os.pathsep.join(_import_path())},
            pass_fds=pass_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Number of the process, of its session and of its process group."""
        return self._process.pid

    @property
    def pipes(self) -> tuple[int, int]:
        """File descriptors of this process that are connected with its stdin and its stdout."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ValueError("a ModuleProcess has pipes if it was started with has_pipes=True")
        return stdin.fileno(), stdout.fileno()

    @property
    def printed(self) -> tuple[IO[bytes], IO[bytes]]:
        """The stdout and the stderr of a supervised process, to read from."""
        stdout, stderr = self._process.stdout, self._process.stderr
        if stdout is None or stderr is None:
            raise ValueError(
                "what a ModuleProcess prints comes here if it was started with is_supervised=True"
            )
        return stdout, stderr

    def close_pipes(self) -> None:
        """Close this end of the pipes; whoever reads its stdin sees the end of it. May be called twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def poll(self) -> int | None:
        """Exit status, ``-N`` if signal N killed the process; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end of the process and return its exit status.

        Raises:
            TimeoutError: It still runs after ``timeout_s`` seconds.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"process {self.pid} still runs after {timeout_s:g} s") from error

    def send(self, signum: int) -> None:
        """Send a signal to the process alone; nothing happens when it has ended."""
        self._process.send_signal(signum)

    def kill(self) -> None:
        """Send SIGKILL to the process and to its group, without waiting for the end. May be called twice."""
        if self._process.returncode is None:  # otherwise the number may be that of another process by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def is_orphaned(starter: int) -> bool:
    """Whether this process has lost the one that started it, whose process id was ``starter``.

    A pipe or socket alone does not tell: processes that the starter forked may hold its other end.
    """
    return os.getppid() != starter


def go_on_when_orphaned() -> None:
    """Let the end of the process that started this one wake it, should it be stopped (SIGSTOP).

    It can then notice that it is orphaned and end. Only Linux can do so.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


_SUPERVISOR = "LIT_RL_SUPERVISOR"
"""Environment variable that tells a supervised process the number of the one that started it."""
_LOOK_S, _PATIENCE_S = 0.5, 120.0


def stop_without_supervisor() -> None:
    """Begin to watch for the end of the supervisor, if this process has one.

    When it is gone, by whatever signal, this process gets SIGTERM, which ends a training with a checkpoint;
    if it still runs two minutes later, it is killed together with its group.
    """
    supervisor = os.environ.pop(_SUPERVISOR, None)  # what this process starts is not supervised
    if supervisor is not None:
        go_on_when_orphaned()
        threading.Thread(target=_stop_when_orphaned, args=(int(supervisor),), daemon=True).start()


def _stop_when_orphaned(supervisor: int) -> None:
    while not is_orphaned(supervisor):
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_S)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


_IMPORT_PATH = "LIT_RL_IMPORT_PATH"
"""Environment variable that tells a process that is started from where it imports. PYTHONPATH cannot: what it
names comes before the standard library."""
_START = (
    f"import os, runpy, sys; sys.path[:] = os.environ.pop({_IMPORT_PATH!r}).split(os.pathsep); "
    "del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
"""Program that runs a module as ``python -m`` does, and with ``-P`` leaves out the working directory."""


def _import_path() -> list[str]:
    """The folders from which this process imports, the standard library first.

    The folder of this package is always among them.
    """
    library = Path(sysconfig.get_path("stdlib"))
    standard = {library, Path(sysconfig.get_path("platstdlib")), library / "lib-dynload"}
    folders = [Path(folder).absolute() for folder in sys.path]
    first = [folder for folder in folders if folder in standard or _is_zip_of(library, folder)]
    others = [folder for folder in folders if folder not in first]
    return [str(folder) for folder in (*first, *others, Path(__file__).parents[1])]


def _is_zip_of(library: Path, folder: Path) -> bool:
    """Whether it is where Python looks for a zipped standard library, such as ``python311.zip``."""
    return folder.suffix == ".zip" and folder.parent == library.parent


# Signals

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
"""Signals by which terminals and schedulers ask a run to stop: SIGHUP comes when the terminal is closed, and
SIGUSR1 when a scheduler says that time is nearly up."""
_MEANT_FOR_THE_RUN = (*STOP_SIGNALS, *([signal.SIGUSR2] if hasattr(signal, "SIGUSR2") else []))


def outlive_signals(with_children: bool = False) -> None:
    """Let this process go on when the whole job is asked to stop: it ends with the one that started it.

    Args:
        with_children: Whether the programs that this process starts are to go on as well. Otherwise they, and
            processes that are forked from this one, heed signals as usual, so that ``terminate()`` ends them.
    """
    for signum in _MEANT_FOR_THE_RUN:
        signal.signal(signum, signal.SIG_IGN if with_children else _ignore)
    if not with_children:
        os.register_at_fork(after_in_child=_heed_signals)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Do nothing; programs that are started do not inherit a handler, but they would inherit SIG_IGN."""


def _heed_signals() -> None:
    for signum in _MEANT_FOR_THE_RUN:
        if signal.getsignal(signum) is _ignore:
            is_ctrl_c = signum == signal.SIGINT
            signal.signal(signum, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)


# Cores and priority

NICENESS = 19
SESSION_NICENESS = 10
"""Gives a session a tenth of the weight of others: on a machine that is full, its work still gets done."""
_TRIES = 20


def allowed_cores() -> int:
    """Number of cores that this process may run on; all of them where the system cannot say (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def yield_to_the_trainer() -> None:
    """Give this process, and all that it starts in its session, a low priority, and outlive stop signals.

    Linux shares the cores among sessions first, and only within a session by niceness: a process in a session
    of its own would take as much as the trainer, however nice it is. So the session's weight is lowered, too.
    """
    outlive_signals(with_children=True)
    with contextlib.suppress(OSError, AttributeError):  # Windows has no nice
        os.nice(NICENESS)
    _lower_session(os.getpid())


def lower_children() -> None:
    """Lower the sessions of the processes that this one has started, each perhaps in a session of its own."""
    import psutil  # only the process that runs wandb needs it

    for child in psutil.Process().children():
        _lower_session(child.pid)


def _lower_session(pid: int) -> None:
    for _ in range(_TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(SESSION_NICENESS))
        except BlockingIOError:  # the kernel takes such a wish ten times a second only
            time.sleep(0.1)
        except OSError:  # no Linux, a kernel that does not group by session, or the process has ended
            return
        else:
            return


# Messages

Message: TypeAlias = Any
"""What JSON can say: text, numbers (also NaN and infinities), booleans, None, lists, dicts with text keys."""

MAX_MESSAGE_BYTES = 64 * 2**20
"""Longer messages are refused: they can only come from a stream that is out of step."""
_HEADER = struct.Struct("<II")  # bytes of JSON ``[message]`` or ``[message, names]``, bytes of float64
_ENCODER = json.JSONEncoder(separators=(",", ":"), skipkeys=True)


def pack(message: Message, numbers: Mapping[str, float] | None = None) -> bytes:
    """One message as bytes.

    Args:
        message: Plain data; tuples arrive as lists. Keys of dicts that JSON does not know are left out.
        numbers: Named numbers that arrive as one more item of ``message``, which is a list or tuple then.
            They travel as eight bytes each, because writing a number as text takes ten times as long.
    """
    parts, values = [message], b""
    if numbers is not None:
        parts, values = [message, [*numbers]], array("d", numbers.values()).tobytes()
    body = _ENCODER.encode(parts).encode()
    return _HEADER.pack(len(body), len(values)) + body + values


def unpack(received: bytearray) -> list[Message]:
    """The messages that ``received`` begins with, which are removed from it; the start of the next one stays.

    Raises:
        ValueError: The bytes are no messages.
    """
    messages = []
    while len(received) >= _HEADER.size:
        sizes = _sizes(received[: _HEADER.size])
        end = _HEADER.size + sum(sizes)
        if len(received) < end:
            break
        messages.append(_decode(bytes(received[_HEADER.size : end]), sizes[0]))
        del received[:end]
    return messages


def write_message(fd: int, message: Message) -> None:
    """Write one message to a file descriptor, and wait until the other side has room for it.

    Raises:
        OSError: The other side is gone.
    """
    data = memoryview(pack(message))
    while data:
        data = data[os.write(fd, data) :]


def read_message(fd: int) -> Message:
    """Wait for one message on a file descriptor.

    Raises:
        EOFError: The other side is gone, maybe in the middle of a message.
        ValueError: The bytes are no message.
    """
    sizes = _sizes(_read(fd, _HEADER.size))
    return _decode(_read(fd, sum(sizes)), sizes[0])


def is_readable(fd: int, timeout_s: float) -> bool:
    """Whether a message, or the end of the stream, arrives within ``timeout_s``."""
    return bool(select.select([fd], [], [], timeout_s)[0])


def _sizes(header: bytes | bytearray) -> tuple[int, int]:
    body, values = _HEADER.unpack(header)
    if body + values > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of at most {MAX_MESSAGE_BYTES} bytes expected, got {body + values}")
    return body, values


def _decode(data: bytes, body: int) -> Message:
    message, *names = json.loads(data[:body])
    if not names:
        return message
    return [*message, dict(zip(names[0], array("d", data[body:]), strict=True))]


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            raise EOFError(f"the stream ended {size - len(data)} bytes before the end of a message")
        data += chunk
    return data
