"""What ``lit-rl map-elites`` asks on a terminal."""

from __future__ import annotations

import sys
from typing import Any

from lit_rl import terminal
from lit_rl.cli.errors import CommandError
from lit_rl.cli.map_elites.flags import BY_NAME, MODES, convert

QUESTIONS = (
    "num_generations",
    "individuals_per_generation",
    "num_initial_random",
    "training_steps_per_individual",
    "enable_rendering",
    "use_genetic_fitness",
    "save_dir",
)
"""Flags that ``advanced`` asks for, where they are not given."""
_CONTRARY = {"enable_rendering": "no_render", "use_genetic_fitness": "no_genetic_fitness"}
_YES, _NO = ("y", "yes"), ("n", "no")


def ask_mode() -> str:
    """Ask which mode is meant.

    Raises:
        CommandError: Nobody is there to answer.
    """
    if not sys.stdin.isatty():
        raise CommandError(
            f"lit-rl map-elites expects a mode ({', '.join(MODES)}), got none, and asks only on a terminal"
        )
    while True:
        answer = _read(f"Mode ({', '.join(MODES)}) [basic]: ") or "basic"
        if answer in MODES:
            return answer
        terminal.write(sys.stdout, f"expected one of {', '.join(MODES)}, got {answer!r}\n")


def ask(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Ask for the flags of ``QUESTIONS`` that are not given.

    Args:
        given: Flags that are.
        defaults: What an empty answer means.

    Returns:
        The flags with the answers.

    Raises:
        CommandError: Nobody is there to answer, or the input ends.
    """
    open_ones = [name for name in QUESTIONS if name not in given and _CONTRARY.get(name) not in given]
    if open_ones and not sys.stdin.isatty():
        example = " ".join(_as_flag(name, defaults[name]) for name in open_ones)
        raise CommandError(
            f"lit-rl map-elites advanced asks on a terminal, and stdin is none: give {example}, or take the "
            "mode custom"
        )
    return {**given, **{name: _ask_one(name, defaults[name]) for name in open_ones}}


def _as_flag(name: str, value: Any) -> str:
    """Show how a value is given on the command line."""
    if isinstance(value, bool):
        return BY_NAME[name if value else _CONTRARY[name]].option
    return f"{BY_NAME[name].option} {value}"


def _ask_one(name: str, default: Any) -> Any:
    flag = BY_NAME[name]
    shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
    while True:
        answer = _read(f"{flag.help} ({flag.option}) [{shown}]: ")
        if not answer:
            return default
        if flag.kind is bool:
            if answer.lower() in (*_YES, *_NO):
                return answer.lower() in _YES
            terminal.write(sys.stdout, f"expected yes or no, got {answer!r}\n")
            continue
        try:
            return convert(flag, answer)
        except CommandError as error:
            terminal.write(sys.stdout, f"{error}\n")


def _read(question: str) -> str:
    """Show a question and read a line.

    Raises:
        CommandError: The input has ended.
    """
    terminal.write(sys.stdout, question)
    line = sys.stdin.readline()
    if not line:
        raise CommandError("lit-rl map-elites: the input ended before all questions were answered")
    return line.strip()
