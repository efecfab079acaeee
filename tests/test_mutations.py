"""Shipped configurations that are changed at random end in a clear line, or train what makes sense."""

from __future__ import annotations

import collections
import random

import pytest
import yaml

from tests.mutations import small
from tests.mutations.__main__ import BAD, case_of, run
from tests.mutations.arguments import cases_of_arguments
from tests.mutations.mutate import mutate
from tests.mutations.trial import judge_refusal, prepare

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

LINE = "lit-rl: error: PPO: clip = 0, expected 0 < clip <= 1\n"


@pytest.mark.parametrize(
    ("text", "names", "kind"),
    [
        (LINE, ("clip",), "refused"),
        ("a log line\n" + LINE, ("gamma", "clip"), "refused"),
        (LINE, ("gamma",), "unclear"),
        ("", ("clip",), "unclear"),
        (LINE * 2, ("clip",), "unclear"),
        (LINE + "more\n" * 3, ("clip",), "unclear"),
        ("lit-rl: error: clip " + "x" * 999, ("clip",), "unclear"),
        ("lit-rl: error: KeyError: clip (run again with --debug to see where)\n", ("clip",), "unclear"),
    ],
)
def test_a_refusal_is_one_clear_line(text: str, names: tuple[str, ...], kind: str):
    assert judge_refusal(text, names).kind == kind


def test_a_number_decides_a_mutation_and_mutations_differ():
    assert case_of(17) == case_of(17)
    config = small.small("ppo_arm")
    before = yaml.safe_dump(config, sort_keys=False)
    texts = {mutate(config, random.Random(seed)).text for seed in range(60)}
    assert len(texts) > 50
    assert yaml.safe_dump(config, sort_keys=False) == before


def test_every_shipped_configuration_is_mutated():
    assert {case_of(seed).what.split()[1].rstrip(":") for seed in range(len(small.names()))} == set(
        small.names()
    )


def bad(counts: collections.Counter[str]) -> dict[str, int]:
    return {kind: counts[kind] for kind in BAD if counts[kind]}


def test_some_mutations_and_bad_values():
    prepare()
    assert bad(run(map(case_of, (0, 3, 8, 12, 15, 17, 37, 98, 108)), False)) == {}
    assert (
        bad(run((case for number, case in enumerate(cases_of_arguments()) if number % 60 == 7), False)) == {}
    )


@pytest.mark.slow
def test_a_thousand_mutations_and_a_bad_value_of_every_argument():
    prepare()
    assert bad(run(map(case_of, range(1000)), False)) == {}
    assert bad(run(cases_of_arguments(), False)) == {}
