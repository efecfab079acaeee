"""Entry point: answers help and version at once, and turns every failure into one line and an exit status."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lit_rl
from lit_rl import terminal
from lit_rl.cli import launch, shipped
from lit_rl.cli.errors import CommandError, Stopped, exit_code, report
from lit_rl.cli.interrupts import Interrupts
from lit_rl.processes import stop_without_supervisor

COMMANDS = {
    "fit": "train; --ckpt_path PATH goes on with a run, --init_from PATH begins with its weights",
    "validate": "play evaluation episodes with a checkpoint",
    "test": "the same, with a confidence interval; writes eval.json, and a video with --video",
    "predict": "record trajectories of a checkpoint into trajectories.pt",
    "act": "play environments for a learner elsewhere: --config NAME --connect HOST:PORT",
    "async": "train with a learner and actors in processes of their own: --config NAME [--actors N]",
    "doctor": "check packages, cores, GPU, ports and the GO2, and say what to do",
    "export": "write the policy of a checkpoint as a file (--out), or as a bundle for a robot (--bundle)",
    "verify-policy": "check a bundle: its pairs, its contract, and how the policy does in other worlds",
    "report": "write report.html about one or several runs",
    "map-elites": "search for bodies: basic, advanced, multiprocess, shared-ppo or custom, with flags",
    "status": "say whether a run is alive, and how far it is",
    "paper": "write figures (PDF, PNG) and a LaTeX table about several runs",
    "help": "list what a configuration can name, or explain each argument of one: help PPO",
}

HELP = """\
Reinforcement learning on PyTorch Lightning.

  lit-rl fit --config NAME [--config FILE ...] [--key value ...]
  lit-rl validate|test|predict --config RUN/config.yaml --ckpt_path last|best|PATH
  lit-rl map-elites [MODE] [--num-generations 20 ...]
  lit-rl export CHECKPOINT|RUN --out policy.pt2 | --bundle DIR
  lit-rl verify-policy DIR
  lit-rl async --config NAME [--actors N]
  lit-rl act --config NAME --connect HOST:PORT
  lit-rl report|status|paper RUN [RUN ...] [--out PATH]
  lit-rl help [NAME]

Commands (lit-rl COMMAND --help lists every key):
{commands}

Configurations (--config NAME, or the path of a file; later ones and the command line win):
{configs}

Often used keys:
  --budget.total_env_steps N    when to stop         --seed_everything N   default: drawn at random, saved
  --run_dir PATH                default: runs/<configuration>/<time>-seed<seed>
  --trainer.fast_dev_run true   one batch of everything, nothing is written
  --stochastic                  validate, test and predict draw actions, in place of the most likely ones
  --print_config                show the configuration and stop
  --debug                       show the stack trace of an error, and record nothing in W&B
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: The command line without the program's name; None takes the one of this process.

    Raises:
        SystemExit: 0 is never raised; 2 for a wrong command line or configuration, 1 for other failures,
            128 + signal after a signal.
    """
    argv = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in argv
    argv = [token for token in argv if token != "--debug"]
    stop_without_supervisor()
    with Interrupts(), _without_wandb(debug):
        try:
            _dispatch(argv, debug)
            terminal.write(sys.stdout, "")  # a reader that is gone shows here, not at the exit of Python
        except (Exception, KeyboardInterrupt, Stopped) as error:
            if debug:
                traceback.print_exc()
            report(error)
            sys.exit(exit_code(error))


@contextmanager
def _without_wandb(debug: bool) -> Iterator[None]:
    """Record no run of W&B while ``--debug`` is given, here and in processes started from here."""
    before = os.environ.get("WANDB_MODE")
    if debug:
        os.environ["WANDB_MODE"] = "disabled"
    try:
        yield
    finally:
        if debug:
            os.environ.pop("WANDB_MODE")
            os.environ.update({} if before is None else {"WANDB_MODE": before})


def _dispatch(argv: list[str], debug: bool = False) -> None:
    command = argv[0] if argv else None
    if command in ("-h", "--help"):
        sys.stdout.write(_help())
    elif command == "help":
        from lit_rl.cli.class_help import show

        show(argv[1:])
    elif command in ("--version", "version"):
        sys.stdout.write(f"lit-rl {lit_rl.__version__}\n")
    elif command == "export":
        from lit_rl.cli.export import export

        export(argv[1:])
    elif command == "verify-policy":
        from lit_rl.cli.bundles import verify_policy

        verify_policy(argv[1:])
    elif command == "act":
        from lit_rl.cli.act import act

        act(argv[1:])
    elif command == "async":
        from lit_rl.cli.supervisor.supervise import supervise

        supervise(argv[1:], debug)
    elif command == "doctor":
        from lit_rl.cli.doctor import doctor

        doctor(argv[1:])
    elif command in ("report", "status", "paper"):
        from lit_rl.cli import reports

        reports.COMMANDS[command](argv[1:])
    elif command == "map-elites":
        if not {"-h", "--help"}.isdisjoint(argv):
            from lit_rl.cli.map_elites.flags import Parser

            sys.stdout.write(Parser().format_help())
            return
        from lit_rl.cli.map_elites.translate import command_of

        _dispatch(command_of(argv[1:]))
    elif command in COMMANDS:
        from lit_rl.cli import class_help

        if names := class_help.asked(argv[1:]):
            class_help.show(names)
            return
        argv = _with_policy(argv)
        shipped.resolve(argv)  # a configuration that does not exist is refused at once
        launch.end_with_first_rank()  # before the seconds that the next import takes
        from lit_rl.cli.command import run

        run(argv)
    else:
        got = f"got {command!r}" if command else "got nothing"
        raise CommandError(f"expected a command ({', '.join(COMMANDS)}) first, {got}; see lit-rl --help")


def _with_policy(argv: list[str]) -> list[str]:
    """Write ``--stochastic`` as the key that it stands for, at the end, where no configuration overrules it.

    Raises:
        CommandError: The command does not only play, or the key is given, too.
    """
    if "--stochastic" not in argv:
        return argv
    if argv[0] not in ("validate", "test", "predict"):
        raise CommandError(
            f"--stochastic is for validate, test and predict, got {argv[0]}; the evaluations of a training "
            "draw actions with --data.eval_policy sample"
        )
    if any(token.startswith("--data.") and "eval_policy" in token for token in argv):
        raise CommandError("--stochastic means --data.eval_policy sample: give one of them")
    return [*(token for token in argv if token != "--stochastic"), "--data.eval_policy", "sample"]


def _help() -> str:
    def table(rows: dict[str, str]) -> str:
        width = max(map(len, rows), default=0)
        return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())

    return HELP.format(commands=table(COMMANDS), configs=table(shipped.names()))
