"""What workers on Ray import by name in tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lit_rl.types import Decision, Nested
from tests.worker_toys import HangsAt, Steps


class Random(nn.Module):
    """Takes random actions, with a weight that it shows in ``extras``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def initial_carry(self, num_envs: int) -> Nested:
        return {}

    def act(self, obs: Nested, carry: Nested, reset: torch.Tensor, *, greedy: bool = False) -> Decision:
        action = (torch.rand(len(reset)) < self.weight).long()
        return Decision(action, {}, {"weight": self.weight.detach().expand(len(reset)).clone()})


class Fails(Steps):
    """Fails at its second step."""

    def step(self, action: int) -> Any:
        if self.done:
            raise ZeroDivisionError("division by zero")
        return super().step(action)


class Hangs(HangsAt):
    """Hangs in its third step."""

    def __init__(self) -> None:
        super().__init__(2)
