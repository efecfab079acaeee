"""Ranges beside the arguments of a class, and where the command line shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import pytest

from lit_rl.algos.module import RLModule
from lit_rl.cli.signatures import argument_names, argument_ranges

if TYPE_CHECKING:
    from nowhere import Missing  # pyright: ignore[reportMissingImports]


class UpTo(NamedTuple):
    """A range as it is declared beside a type."""

    limit: float

    def describe(self, name: str) -> str:
        return f"0 < {name} <= {self.limit:g}"


class Trusting(RLModule):
    """A learner with a range.

    Args:
        clip: Half width of the trusted interval.
        kl: Limit of the divergence; None has none.
        hidden: Widths.
    """

    def __init__(
        self,
        clip: Annotated[float, UpTo(1)] = 0.2,
        kl: Annotated[float, UpTo(9)] | None = None,
        hidden: tuple[Annotated[int, "no range", UpTo(512)], ...] = (8,),
        **kwargs: int,
    ) -> None:
        super().__init__()
        if not 0 < clip <= 1:
            raise ValueError(f"Trusting: clip = {clip:g}, expected {UpTo(1).describe('clip')}")


class HandsOn(Trusting):
    def __init__(
        self, own: Annotated[int, UpTo(3)] = 1, clip: Annotated[float, UpTo(2)] = 0.1, **kwargs: int
    ):
        super().__init__(clip=clip, **kwargs)


class HandsNothingOn(Trusting):
    def __init__(self, own: int = 1):
        super().__init__()


class ForTypeCheckers:
    def __init__(self, missing: Missing, clip: Annotated[float, UpTo(1)]) -> None: ...


def test_ranges_of_arguments_and_of_what_they_hold():
    expected = {"clip": "0 < clip <= 1", "kl": "0 < kl <= 9", "hidden": "0 < hidden <= 512"}
    assert argument_ranges(Trusting) == expected
    assert argument_ranges(HandsOn) == {**expected, "own": "0 < own <= 3", "clip": "0 < clip <= 2"}


def test_a_class_that_hands_nothing_on_has_no_arguments_of_its_base():
    assert argument_names(HandsNothingOn) == {"self", "own"}
    assert {"own", "clip", "kl", "hidden"} < argument_names(HandsOn)
    assert argument_ranges(HandsNothingOn) == argument_ranges(object) == {}


def test_types_that_exist_for_type_checkers_only_stop_nothing():
    assert argument_ranges(ForTypeCheckers) == {}


def test_help_says_which_values_are_expected(run, capsys):
    assert run("fit", "--model.help", f"{__name__}.Trusting") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Half width of the trusted interval. Expected: 0 < clip <= 1. (type: float, default: 0.2)" in text
    assert "Limit of the divergence; None has none. Expected: 0 < kl <= 9. (type:" in text
    assert "Annotated" not in text


@pytest.mark.parametrize("args", [("--model.clip", "0"), ("--model.init_args.clip", "0")])
def test_a_value_out_of_its_range_is_one_line(error, args):
    message = error(2, "fit", "--config", "tiny.yaml", "--model", f"{__name__}.Trusting", *args)
    assert message == "Trusting: clip = 0, expected 0 < clip <= 1"
