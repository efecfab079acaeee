"""``lit-rl act``: plays environments for a learner elsewhere. It imports neither torch nor Lightning."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from lit_rl.checks import nearest
from lit_rl.cli.actor_log import MODES, ActorLog, wandb_options
from lit_rl.cli.errors import CommandError
from lit_rl.cli.flags import FlagParser, count
from lit_rl.cli.layers import callback_arguments, pairs, read_layers
from lit_rl.envs.class_path import factory
from lit_rl.envs.factories import name_of
from lit_rl.envs.faults import no_exit
from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.without_compiler import leave_out_compiler
from lit_rl.processes import STOP_SIGNALS
from lit_rl.remote.actor import Actor
from lit_rl.remote.link import Link, Refused
from lit_rl.remote.service import DEFAULT_PORT, Security, check_address, parse_address
from lit_rl.types import VectorEnv

_log = logging.getLogger("lit_rl")

TIMED_OUT, REFUSED = 3, 4
"""Exit codes: no learner was found in time; the learner does not take this actor."""
_OF_ENVIRONMENT = (
    "vectorization", "env_kwargs", "wrappers", "record", "num_workers", "step_timeout_s", "num_envs", "env",
    "seed", "check",
)  # fmt: skip
_FLUSH_S = 2.0


def act(argv: Sequence[str]) -> None:
    """Play until the learner ends.

    Args:
        argv: The command line after ``act``.

    Raises:
        CommandError: The command line or the configuration is wrong.
        SystemExit: 3 when no learner was found in time, 4 when it refuses this actor, 128 + signal.
    """
    given, overrides = _parser().parse_known_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a user's own environments lie there
    data, seed = read_data(given.config, overrides)
    host, port = parse_address(given.connect)
    security = Security(given.token, given.certificate)
    check_address(host, security, "--connect")
    leave_out_compiler(data.get("env"), int(data.get("num_envs", 1)))
    env = make_env(data)
    name = given.name or f"actor-{secrets.token_hex(3)}"
    link = Link(host, port, name, env.spec, env.num_envs, given.realtime, security, int(given.spool_mb * 1e6))
    stop = _Stop(link, given.connect_timeout)
    wandb = _wandb(given, name)
    directory = given.log_dir or ("runs/actors" if wandb is not None else None)
    told = ActorLog(name, directory, given.log_period, wandb)
    code = 1
    try:
        link.start()
        actor = Actor(env, link, seed, given.rate_hz, given.swap, told)
        actor.run(given.max_steps, stop)
        link.flush(_FLUSH_S)
        code = 128 + stop.signum if stop.signum else 0
    except Refused as error:
        code = REFUSED
        raise CommandError(f"the learner does not take {name}: {error}", REFUSED) from error
    finally:
        link.close()
        env.close()
        told.close(code)
    _say_goodbye(name, link, stop)


def _wandb(given: argparse.Namespace, name: str) -> dict[str, Any] | None:
    """Return what the run of W&B is to be; None without one, as ``--debug`` wants it."""
    config = read_layers(given.config)
    configured = callback_arguments(config, "WandbRun")
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    return wandb_options(
        name, configured, config,
        mode=given.wandb, project=given.wandb_project, group=given.wandb_group, run=given.wandb_name,
    )  # fmt: skip


def _say_goodbye(name: str, link: Link, stop: _Stop) -> None:
    if link.learner_has_ended:
        _log.info("the learner has ended")
    lost = f", {link.dropped_steps} of them dropped" if link.dropped_steps else ""
    waiting = f"; {link.num_waiting} chunks were not needed any more" if link.num_waiting else ""
    _log.info("%s played %d env steps%s%s", name, link.produced_steps, lost, waiting)
    if stop.timed_out:
        raise CommandError(
            f"--connect_timeout {stop.timeout_s:g}: no learner was found in that time; start lit-rl fit with "
            "--config data/remote, or give 0 to wait for ever", TIMED_OUT,
        )  # fmt: skip
    if stop.signum:
        sys.exit(128 + stop.signum)


class _Stop:
    """Tells when to stop: after a signal, or when no learner was found in time."""

    def __init__(self, link: Link, timeout_s: float) -> None:
        self.signum = 0
        self.timeout_s, self.timed_out = timeout_s, False
        self._link, self._alone = link, time.monotonic()
        for signum in STOP_SIGNALS:
            signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise KeyboardInterrupt
        self.signum = signum

    def __call__(self) -> bool:
        if self._link.is_connected:
            self._alone = time.monotonic()
        elif self.timeout_s and time.monotonic() - self._alone > self.timeout_s:
            self.timed_out = True
        return bool(self.signum) or self.timed_out


def make_env(data: Mapping[str, Any]) -> VectorEnv:
    """Make the environments that a configuration describes.

    Args:
        data: Arguments of its data module.

    Raises:
        CommandError: It names no environment.
    """
    if "env" not in data:
        raise CommandError("the configuration has no data.env; give --config with the one of the learner")
    has_workers = data.get("vectorization") == "async"
    env = factory(data["env"], "env")
    with no_exit(name_of(env)):
        return make_vector_env(
            env,
            int(data.get("num_envs", 1)),
            vectorization=data.get("vectorization") or "auto",
            env_kwargs=data.get("env_kwargs") or {},
            wrappers=[factory(wrapper, "wrappers") for wrapper in data.get("wrappers") or ()],
            record=data.get("record") or (),
            check=bool(data.get("check", True)),
            num_workers=data.get("num_workers") if has_workers else None,
            step_timeout_s=data.get("step_timeout_s") if has_workers else None,
        )


def read_data(configs: Sequence[str], overrides: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Read the arguments of the data module, and the seed, from configurations and the command line.

    Args:
        configs: Names or paths of configurations; later ones win.
        overrides: Further arguments: ``--data.KEY value``, ``--data.init_args.KEY value`` or
            ``--seed_everything N``.

    Raises:
        CommandError: A configuration cannot be read, or an argument is none of these.
    """
    merged = read_layers(configs)
    given = merged.get("data") or {}
    data = dict(given.get("init_args") or {})
    seed = merged.get("seed_everything")
    for key, value in pairs(overrides, "act"):
        parts = key.removeprefix("data.").removeprefix("init_args.").split(".")
        if key == "seed_everything":
            seed = value
        elif key.startswith("data.") and parts[0] in _OF_ENVIRONMENT:
            place = data
            for part in parts[:-1]:
                below = place.get(part)
                place[part] = dict(below) if isinstance(below, dict) else {}
                place = place[part]
            place[parts[-1]] = value
        elif not key.startswith("data."):
            raise CommandError(
                f"--{key}: an actor has only data.* and seed_everything of a configuration; the rest is the "
                f"learner's.{nearest(key, [a.dest for a in _parser()._actions])}"
            )
    seed = data.get("seed") if data.get("seed") is not None else seed
    return data, int(seed) if isinstance(seed, int) and not isinstance(seed, bool) else 0


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser(
        "act",
        description="Play environments for a learner that runs lit-rl fit --config data/remote. Further "
        "arguments: --data.KEY VALUE and --seed_everything N, as of lit-rl fit.",
    )
    add = parser.add_argument
    add("--config", "-c", action="append", required=True, help="configuration of the learner, or its name")
    add("--connect", default=f"127.0.0.1:{DEFAULT_PORT}", metavar="HOST:PORT", help="default: %(default)s")
    add("--name", default=None, help="name of this actor; a learner has one actor of a name")
    add(
        "--rate_hz",
        type=_positive,
        default=None,
        help="control steps per second; default: as fast as allowed",
    )
    add(
        "--realtime", action="store_true", help="never wait for the learner (a robot): drop and count instead"
    )
    add("--swap", choices=("step", "episode"), default="step", help="when newer weights are used")
    add("--max_steps", type=count, default=None, help="env steps after which this actor ends")
    add(
        "--spool_mb", type=_positive, default=32.0, help="what may wait for the learner; default: %(default)s"
    )
    add("--connect_timeout", type=_not_negative, default=0.0, help="seconds without learner; 0: for ever")
    add("--token", default=None, help="file with the secret of the learner")
    add("--certificate", default=None, help="file with the certificate of the learner")
    add(
        "--log_dir",
        default=None,
        help="folder of actor_NAME.csv (a row per episode) and of TensorBoard events",
    )
    add("--wandb", choices=MODES, default=None, help="W&B; default: as WandbRun of the configuration, if any")
    add("--wandb_project", default=None, help="default: that of WandbRun of the configuration, or lit_rl")
    add("--wandb_group", default=None, help="default: that of WandbRun of the configuration")
    add("--wandb_name", default=None, help="default: Actor-... where the learner's run is Learner-...")
    add(
        "--log_period",
        type=_not_negative,
        default=10.0,
        help="seconds between two lines; default: %(default)s",
    )
    return parser


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number, at least 0, got {text}")
    return value
