"""The Ray cluster on which workers run: one of this process alone, on loopback, or one that is there already.

Whoever reaches the ports of a Ray cluster, and has its token where it asks for one, can run code on it.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

log = logging.getLogger("lit_rl")

_LOOPBACK = "127.0.0.1"
_CONNECT_S = 10.0
_LONGEST_PARENT = 20  # paths of sockets have at most 107 characters, of which Ray takes up to 65
_ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Variable that tells Ray whether other machines may join; otherwise it stays on loopback."""
_VARIABLES = (
    "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED", _ONE_MACHINE
)  # fmt: skip
_open: Session | None = None
_lock = threading.Lock()


def check_installed() -> None:
    """Refuse to go on without Ray.

    Raises:
        ValueError: It is not installed.
    """
    if find_spec("ray") is None:
        raise ValueError("collector = ray needs Ray, which is not installed: pip install 'lit-rl[fleet]'")


class Session:
    """A connection to Ray, shared by all who ask for one with the same address; the last one ends it.

    Made by :func:`open_session`. Where the program has called ``ray.init`` itself, that is the cluster, and
    it is left as it is.

    Args:
        address: Address of a cluster, ``auto`` for one that runs on this machine; None starts one.
        num_cpus: Workers for which a cluster that is started has room.

    Raises:
        ValueError: There is no cluster at ``address``.
    """

    def __init__(self, address: str | None, num_cpus: int) -> None:
        ray: Any = import_module("ray")  # an extra, which type checkers need not have
        self.ray = ray
        self.address, self.users, self.is_local = address, 0, False
        self._folder: Path | None = None
        self._before: dict[str, str | None] = {}  # environment variables that are changed while Ray runs
        self._is_own = not ray.is_initialized()
        if not self._is_own:
            self._check_same()
        elif address is None:
            self._start(num_cpus)
        else:
            self._connect(address)

    def _start(self, num_cpus: int) -> None:
        """Start a cluster that listens on loopback only, with a token that only this user can read."""
        parent = tempfile.gettempdir()
        parent = parent if len(parent) <= _LONGEST_PARENT else "/tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="lit_rl_ray_", dir=parent))
        self.is_local = True
        token = self._folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        self._before = {name: os.environ.get(name) for name in _VARIABLES}
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):  # Ray asks for tokens where nobody says otherwise
            os.environ.pop(name, None)
        os.environ["RAY_AUTH_TOKEN_PATH"], os.environ["RAY_USAGE_STATS_ENABLED"] = str(token), "0"
        os.environ[_ONE_MACHINE] = "0"
        _forget_token()
        try:
            with _own_signals(), _on_one_machine():
                self.ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    _node_ip_address=_LOOPBACK,
                    _temp_dir=str(self._folder),
                )
        except Exception as error:
            self.end()
            why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise RuntimeError(
                f"Ray could not be started on this machine ({why}); a machine that is very busy is too slow "
                "for it: try again, or give the ray_address of a cluster that runs"
            ) from error
        except BaseException:
            self.end()
            raise
        found = self.ray.nodes()[0]["NodeManagerAddress"]
        if found == _LOOPBACK:
            log.info("Ray is started on this machine for %d workers; it listens on loopback only", num_cpus)
        else:
            log.warning("Ray listens on all addresses of this machine (%s), not on loopback only", found)

    def _check_same(self) -> None:
        """Refuse an address other than that of the cluster to which the program has connected itself."""
        own = str(self.ray.get_runtime_context().gcs_address)
        if self.address not in (None, "auto", own):
            raise ValueError(
                f"ray_address = {self.address!r}: this program has called ray.init and is connected to "
                f"{own}; leave ray_address out"
            )

    def _connect(self, address: str) -> None:
        try:
            _check_reachable(address)  # Ray itself would try for minutes
            with _own_signals():
                self.ray.init(address=address, logging_level=logging.WARNING)
        except (OSError, ValueError, RuntimeError, self.ray.exceptions.RayError) as error:
            self.end()
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"ray_address = {address!r}: no Ray cluster can be reached there ({why}); start one with "
                "'ray start --head', or leave ray_address out to start one on this machine"
            ) from error

    @property
    def num_cpus(self) -> int:
        """Number of CPUs that the cluster has in all."""
        return int(self.ray.cluster_resources().get("CPU", 0))

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self.ray.is_initialized()

    def close(self) -> None:
        """Give up one use; the last one disconnects, and ends a cluster that was started here."""
        global _open  # noqa: PLW0603  # Ray has one connection per process
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            if _open is self:
                _open = None
            atexit.unregister(self.end)
            self.end()

    def end(self) -> None:
        """Disconnect, and end a cluster that was started here, with all its files."""
        if self._is_own:
            with _own_signals():
                self.ray.shutdown()
        if self._folder is not None:
            _kill_rest(str(self._folder))
            shutil.rmtree(self._folder, ignore_errors=True)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def open_session(address: str | None, num_cpus: int) -> Session:
    """Return the connection to Ray of this process; ``close`` it when it is no longer needed.

    Args:
        address: Address of a cluster; None starts one on this machine.
        num_cpus: Workers for which a cluster that is started has room.

    Raises:
        ValueError: Ray is not installed, there is no cluster at ``address``, or this process is connected to
            another one.
    """
    global _open  # noqa: PLW0603  # Ray has one connection per process
    check_installed()
    with _lock:
        if _open is None:
            _open = Session(address, num_cpus)
            atexit.register(_open.end)  # before Ray's own end, which was registered earlier
        elif _open.address != address:
            raise ValueError(
                f"ray_address = {address!r}: this process is connected to {_open.address!r} already, and Ray "
                "has one connection per process"
            )
        _open.users += 1
        return _open


def _check_reachable(address: str) -> None:
    """Connect to ``host:port``, and hang up.

    Raises:
        OSError: Nobody answers.
        ValueError: It is no such address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError("an address is HOST:PORT, or auto")
    socket.create_connection((host, int(port)), _CONNECT_S).close()


def _kill_rest(folder: str) -> None:
    """Kill what a cluster that was started in ``folder`` has left, as where its start failed half-way."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(folder in word for word in process.cmdline()):
                process.kill()


def _forget_token() -> None:
    """Let Ray read its token again, which it keeps for the life of a process; not all versions can."""
    with suppress(ImportError, AttributeError):
        import_module("ray._raylet").AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _on_one_machine() -> Iterator[None]:
    """Let a Ray that was imported earlier, and has read its variables, stay on loopback."""
    ray_constants: Any = import_module("ray._private.ray_constants")
    before = getattr(ray_constants, "ENABLE_RAY_CLUSTER", None)
    try:
        ray_constants.ENABLE_RAY_CLUSTER = False
        yield
    finally:
        if before is not None:
            ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces: how a run stops is the run's to say."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
