from __future__ import annotations

import pytest
import torch

from lit_rl.ranks import Ranks


def test_one_rank_communicates_nothing():
    x = torch.arange(3.0)
    ranks = Ranks()
    assert ranks.sum(x) is x
    assert ranks.mean(x) is x
    assert ranks.join(x).tolist() == [0, 1, 2]
    assert ranks.gather({"a": 1}) == [{"a": 1}]


def test_sums_and_means_leave_their_argument_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))  # two equal ranks
    x = torch.arange(3.0)
    ranks = Ranks(2, 1)
    assert ranks.sum(x).tolist() == [0, 2, 4]
    assert ranks.mean(x).tolist() == [0, 1, 2]
    assert ranks.join(x).tolist() == [0, 0, 0, 0, 2, 4]  # the second half is this rank's
    assert x.tolist() == [0, 1, 2]
