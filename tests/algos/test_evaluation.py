"""Statistics of evaluation episodes, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lit_rl.algos.evaluation import summarize
from lit_rl.ranks import Ranks
from lit_rl.types import EvalEpisodes


def episodes(successes: list[float]) -> EvalEpisodes:
    returns = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    return {
        "episodes": {
            "episode_return": returns,
            "episode_length": torch.tensor([5, 5, 5, 9]),
            "env_index": torch.arange(4),
            "end_step": torch.arange(4),
            "action_norm": torch.full((4,), math.nan, dtype=torch.float64),
            "values": {},
            "last_values": {"is_success": torch.tensor(successes, dtype=torch.float64)},
        },
        "seconds": 0.0,
    }


def test_an_episode_that_ends_without_a_word_about_success_was_none():
    result, _ = summarize(episodes([1.0, math.nan, math.nan, 0.0]), Ranks(), 10)
    assert result is not None
    assert result["success_rate"] == 0.25


def test_returns_and_lengths_by_hand():
    result, values = summarize(episodes([1.0, 1.0, 0.0, 0.0]), Ranks(), 10)
    assert result is not None
    assert result["return_mean"] == 3.0
    assert result["return_std"] == pytest.approx(math.sqrt(14 / 3))  # squares 4 + 1 + 0 + 9, over 4 - 1
    assert (result["return_min"], result["return_max"], result["length_mean"]) == (1.0, 6.0, 6.0)
    assert values["eval/return_mean"] == 3.0


def test_an_evaluation_that_was_broken_off_says_nothing():
    assert summarize({**episodes([1.0] * 4), "is_broken_off": True}, Ranks(), 10) == (None, {})
