"""The plan of ``lit-rl async``: it makes the command lines of the learner and of its actors."""

from __future__ import annotations

import argparse
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_rl.cli import shipped
from lit_rl.cli.actor_log import MODES
from lit_rl.cli.errors import CommandError
from lit_rl.cli.flags import FlagParser
from lit_rl.cli.layers import callback_arguments, pairs, read_layers
from lit_rl.cli.run_directory import make_unique, unmade
from lit_rl.remote.service import DEFAULT_PORT

LAYER = "data/remote"
_MODULE = "RemoteReplayDataModule"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass
class Plan:
    """How the processes are started.

    Args:
        learner: Arguments of ``lit-rl fit``, without the run directory.
        actor: Arguments of ``lit-rl act``, without name and folder.
        num_actors: Number of actors.
        host: Address at which the learner listens.
        port: Port at which it listens.
        root: Folder of runs.
        name: Name of the configuration.
        seed: Seed of the run.
        given: Run directory that was asked for; None takes a new one in ``root``.
        resumed: Run that is gone on with; None begins one.
    """

    learner: list[str]
    actor: list[str]
    num_actors: int
    host: str
    port: int
    root: Path
    name: str
    seed: int
    given: Path | None = None
    resumed: Path | None = None

    def make_run_directory(self) -> Path:
        """Return the directory of the run; a new one is made here, so that all processes know it.

        Raises:
            CommandError: It cannot be made.
        """
        if self.resumed is not None:
            return self.resumed
        if self.given is not None:
            return self.given
        path = unmade(self.root, self.name, self.seed)
        try:
            return make_unique(path)
        except OSError as error:
            raise CommandError(
                f"the run directory {path} cannot be made: {error.strerror}; choose one by --run_dir PATH", 1
            ) from error

    def learner_of(self, run: Path) -> list[str]:
        """Return the whole command line of the learner after ``lit-rl``, for the run directory ``run``."""
        where = [] if self.resumed is not None else ["--run_dir", str(run)]
        return ["fit", *self.learner, *where]

    def actor_of(self, run: Path, number: int) -> list[str]:
        """Return the whole command line of one actor after ``lit-rl``; they are numbered from 1."""
        return ["act", *self.actor, "--name", actor_name(number), "--log_dir", str(run / "actors")]


def actor_name(number: int) -> str:
    """Return the name of an actor that the supervisor starts."""
    return f"actor-{number}"


def make_plan(argv: Sequence[str]) -> Plan:
    """Read the command line after ``async``.

    Raises:
        CommandError: It, or a configuration, is wrong.
    """
    given, rest = _parser().parse_known_args(argv)
    _refuse(rest)
    config = read_layers(given.config)
    tokens = pairs(rest, "async")
    module = config.get("data") or {}
    data = {**(module.get("init_args") or {}), **_data_of(tokens)}
    configs = list(given.config)
    if str(module.get("class_path", "")).rpartition(".")[2] != _MODULE:
        configs.append(LAYER)
    files = [token for name in configs for token in ("--config", name)]
    own = _wandb_of_learner(given.wandb, config)
    host, port = str(data.get("host") or "127.0.0.1"), _port(data)
    if port != data.get("port", DEFAULT_PORT):
        own += ["--data.port", str(port)]
    if given.actors > int(data.get("max_actors") or 4):
        own += ["--data.max_actors", str(given.actors)]
    chosen = dict(tokens)
    resumed = _resumed(given, chosen)
    seed = chosen.get("seed_everything", config.get("seed_everything"))
    if not isinstance(seed, int) or isinstance(seed, bool):
        seed = secrets.randbelow(2**31)
        own += [] if resumed else ["--seed_everything", str(seed)]
    root = chosen.get("trainer.default_root_dir") or (config.get("trainer") or {}).get("default_root_dir")
    return Plan(
        learner=[*files, *rest, *own],
        actor=[*files, *_of_actor(given, rest, data, host, port), "--seed_everything", str(seed)],
        num_actors=given.actors,
        host=host,
        port=port,
        root=Path(root or "runs"),
        name=_name(given.config),
        seed=seed,
        given=Path(given.run_dir) if given.run_dir else None,
        resumed=resumed,
    )


def _refuse(rest: Sequence[str]) -> None:
    for token in rest:
        option = token.partition("=")[0]
        if option in ("--print_config", "--trainer.fast_dev_run"):
            raise CommandError(f"{option}: lit-rl async trains; give it to lit-rl fit --config {LAYER}")
        if option == "--connect":
            raise CommandError("--connect: the actors of lit-rl async play here; elsewhere, use lit-rl act")


def _data_of(tokens: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [(key.removeprefix("data.").removeprefix("init_args."), value) for key, value in tokens
             if key.startswith("data.")]  # fmt: skip
    return {name: value for name, value in names if "." not in name}


def _port(data: dict[str, Any]) -> int:
    """Return the port of the learner; a free one where 0 was asked for, since actors must know it."""
    port = data.get("port", DEFAULT_PORT)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65_536:
        raise CommandError(f"data.port must be a whole number from 0 to 65535, got {port!r}")
    if port:
        return port
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _resumed(given: argparse.Namespace, chosen: dict[str, Any]) -> Path | None:
    """Find the run that is gone on with: the last ``config.yaml`` of a run, where a checkpoint is given."""
    if chosen.get("ckpt_path") is None or given.run_dir:
        return None
    path = shipped.find(given.config[-1])
    return path.parent if path.name == "config.yaml" and (path.parent / "checkpoints").is_dir() else None


def _of_actor(
    given: argparse.Namespace, rest: list[str], data: dict[str, Any], host: str, port: int
) -> list[str]:
    reached = _ANYWHERE.get(host, host)
    own = ["--connect", f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"]
    for name in ("token", "certificate"):
        if data.get(name):
            own += [f"--{name}", str(data[name])]
    for name in ("rate_hz", "swap", "spool_mb", "log_period", "wandb"):
        if (value := getattr(given, name)) is not None:
            own += [f"--{name}", value]
    own += ["--realtime"] if given.realtime else []
    tokens = list(rest)
    while tokens:
        token = tokens.pop(0)
        value = [] if "=" in token or not tokens else [tokens.pop(0)]
        if token.startswith("--data."):
            own += [token, *value]
    return own


def _wandb_of_learner(mode: str | None, config: dict[str, Any]) -> list[str]:
    """Give the learner's run of W&B the mode that was asked for.

    Raises:
        CommandError: The configuration has no ``WandbRun``, or not as its last callback, so that the command
            line cannot reach it.
    """
    if mode is None:
        return []
    callbacks = (config.get("trainer") or {}).get("callbacks") or []
    if not callbacks or callback_arguments({"trainer": {"callbacks": callbacks[-1:]}}, "WandbRun") is None:
        raise CommandError(
            f"--wandb {mode}: the last callback of the configuration must be WandbRun; add --config "
            "callbacks/wandb_go2_learner, or one of your own like it"
        )
    return ["--trainer.callbacks.mode", mode]


def _name(configs: Sequence[str]) -> str:
    """Name the run as ``lit-rl fit`` does: after its first configuration, or the run that it is of."""
    first = shipped.find(configs[0]).resolve()
    return first.parent.parent.name if first.name == "config.yaml" else first.stem


def check_port(host: str, port: int) -> None:
    """Refuse a port that another process holds, before seconds are spent on starting a learner.

    Raises:
        CommandError: Nothing can listen at ``host`` and ``port``.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CommandError(
            f"port {port} of {host} cannot be used ({error.strerror}): another process, perhaps another "
            "learner, may hold it; give another port by --data.port N, or 0 for a free one"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser(
        "async",
        description="Train with a learner and its actors in processes of their own. A lost process is "
        "started again, at most three times in a row; the learner then goes on from its last checkpoint. All "
        "further arguments are those of lit-rl fit.",
    )
    add = parser.add_argument
    add("--config", "-c", action="append", required=True, help="configuration with SAC or TD3, or its name")
    add("--actors", type=_count, default=1, help="number of actors; default: %(default)s")
    add("--run_dir", default=None, help="new or empty run directory; default: as of lit-rl fit")
    for name, text in (
        ("rate_hz", "control steps per second of each actor; default: as fast as allowed"),
        ("swap", "when actors use newer weights: step or episode"),
        ("spool_mb", "what may wait in an actor for the learner"),
        ("log_period", "seconds between two lines of an actor"),
    ):
        add(f"--{name}", default=None, help=text)
    add(
        "--wandb", choices=MODES, default=None, help="mode of W&B for learner and actors; default: WandbRun's"
    )
    add("--realtime", action="store_true", help="actors never wait for the learner: they drop and count")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, got {text!r}")
    return int(text)
