from __future__ import annotations

from collections import Counter

import torch

from lit_rl.algos.sac.critic_subset import draw_subsets
from lit_rl.ranks import Ranks


def draw(num_minibatches: int, ranks: Ranks | None = None) -> torch.Tensor:
    return draw_subsets(num_minibatches, 4, 2, ranks or Ranks(), torch.device("cpu"))


def test_subsets_have_distinct_critics_and_come_equally_often():
    torch.manual_seed(0)
    drawn = Counter(tuple(sorted(subset)) for subset in draw(6000).tolist())
    assert drawn.keys() == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert all(900 < count < 1100 for count in drawn.values())  # 1,000 +- 3.4 standard deviations


def test_every_rank_takes_what_the_first_one_drew():
    class Two(Ranks):
        """The second of two ranks; the first one drew ``first``."""

        def sum(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor + first

    torch.manual_seed(1)
    first = draw(5)
    torch.manual_seed(2)
    assert not torch.equal(draw(5), first)
    torch.manual_seed(2)
    assert torch.equal(draw(5, Two(2, 1)), first)
