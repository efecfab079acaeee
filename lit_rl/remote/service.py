"""The gRPC service between actors and a learner: its calls, and the channels and servers that carry them.

``Join`` (one message each way) admits an actor, or says why not. ``Stream`` then carries frames both ways
until one side ends it. Messages are bytes, so that no generated code is needed. gRPC is imported when a
channel or a server is made, never before, and is told not to follow forks.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lit_rl.remote.wire import MESSAGE_BYTES

SERVICE = "lit_rl.Experience"
JOIN, STREAM = f"/{SERVICE}/Join", f"/{SERVICE}/Stream"
SESSION, AUTHORIZATION = "lit-rl-session", "authorization"
"""Keys of the metadata of a call."""
DEFAULT_PORT = 5488
HEARTBEAT_S = 1.0
SILENCE_S = 6.0
"""An actor that said nothing for so long is taken to be gone, and its place is free."""

_ROOM = 65_536  # bytes around the longest message of the protocol
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 3_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES + _ROOM),
    ("grpc.max_send_message_length", MESSAGE_BYTES + _ROOM),
]
_OF_SERVER = [
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),  # else long streams end with "too many pings"
    ("grpc.so_reuseport", 0),  # a second learner on the same port must be told
]
_OF_CHANNEL = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True)
class Security:
    """Files by which the two sides trust each other.

    Args:
        token: File with a secret that every actor must show; None asks for none.
        certificate: File with the certificate of the learner (PEM). The learner shows it; an actor trusts it.
        key: File with the learner's private key (PEM); actors need none.

    Raises:
        ValueError: A file cannot be read, or a part is missing.
    """

    token: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        for name in ("token", "certificate", "key"):
            if (path := getattr(self, name)) is not None and not _read(path, name):
                raise ValueError(f"{name} = {path} is an empty file; it must hold the {name}")
        if self.key is not None and self.certificate is None:
            raise ValueError("key needs certificate: give both files, or neither")
        if self.token is not None and not self.secret:
            raise ValueError(f"token = {self.token} holds only white space; it must hold the token")

    @cached_property
    def secret(self) -> str | None:
        """The token itself, as text that a call may carry.

        Raises:
            ValueError: It is not printable ASCII.
        """
        if self.token is None:
            return None
        secret = _read(self.token, "token").decode("utf-8", "replace").strip()
        if not (secret.isascii() and secret.isprintable()):
            raise ValueError(f"token = {self.token} must hold one line of printable ASCII")
        return secret

    def admits(self, metadata: Mapping[str, str]) -> bool:
        """Tell whether a call shows the token, in constant time."""
        secret = self.secret
        return secret is None or hmac.compare_digest(
            metadata.get(AUTHORIZATION, "").encode(), f"Bearer {secret}".encode()
        )


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{name} = {path} cannot be read: {error.strerror}") from error


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, security: Security, who: str) -> None:
    """Refuse to speak in the clear, or to strangers, beyond this machine.

    Raises:
        ValueError: ``host`` is not of the loopback, and token or certificate is missing.
    """
    if not is_loopback(host) and (security.token is None or security.certificate is None):
        raise ValueError(
            f"{who} = {host} is reached by other machines, so token and certificate are needed, too: a file "
            "with a secret, and the learner's certificate (docs/actor_learner.md says how to make them); or "
            "use 127.0.0.1"
        )


def parse_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``HOST``.

    Raises:
        ValueError: It is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(DEFAULT_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"--connect {text}: expected HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}")
    return host.strip("[]"), int(port)


def grpc_module() -> Any:
    """Import gRPC, which must not follow forks of this process."""
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would write to the terminal from its own threads
    import grpc

    return grpc


def make_server(
    host: str, port: int, join: Callable[..., bytes], stream: Callable[..., Any], threads: int,
    security: Security, what: str,
) -> tuple[Any, int, ThreadPoolExecutor]:  # fmt: skip
    """Start a server.

    Args:
        host: Address to listen at.
        port: Port; 0 takes a free one.
        join: Serves ``Join``: bytes and context to bytes.
        stream: Serves ``Stream``: iterator of bytes and context to iterator of bytes.
        threads: Threads that serve calls; a stream keeps one.
        security: Token and certificate.
        what: Name of the argument that gives the port, for messages.

    Returns:
        The server, its port, and its threads, which end only when they are shut down.

    Raises:
        ValueError: The port is in use, or the address is none of this machine.
    """
    grpc = grpc_module()
    handlers = {
        "Join": grpc.unary_unary_rpc_method_handler(join),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lit_rl-remote")
    server = grpc.server(pool, options=[*_KEEPALIVE, *_OF_SERVER])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if security.certificate is None:
            bound = server.add_insecure_port(address)
        else:
            pair = (_read(security.key or "", "key"), _read(security.certificate, "certificate"))
            bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise ValueError(_taken(address, what)) from error
    if bound == 0:
        raise ValueError(_taken(address, what))
    server.start()
    return server, bound, pool


def _taken(address: str, what: str) -> str:
    return (
        f"{what}: nothing can listen at {address}; another process holds the port (another learner?), or it "
        "is no address of this machine; give another port, or 0 for a free one"
    )


def make_channel(host: str, port: int, security: Security) -> Any:
    """Open a channel to a learner; it connects when it is first used."""
    grpc = grpc_module()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [*_KEEPALIVE, *_OF_CHANNEL]
    if security.certificate is None:
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(_read(security.certificate, "certificate"))
    return grpc.secure_channel(address, credentials, options)


def call_metadata(security: Security, session: str | None = None) -> list[tuple[str, str]]:
    """Return the metadata of a call: the token, and the session that ``Join`` gave."""
    metadata = [] if security.secret is None else [(AUTHORIZATION, f"Bearer {security.secret}")]
    return metadata if session is None else [*metadata, (SESSION, session)]


def spec_text(spec: Mapping[str, Any]) -> str:
    """Return as text what both sides must agree on of an ``EnvSpec.to_dict()``: not names, nor mirrors."""
    kept = {name: spec[name] for name in ("observation", "action", "agents", "state")}
    return json.dumps(kept, sort_keys=True)
