"""Encoder of robots by one attention over descriptions of joints, the recipe of URMA (arXiv:2409.06366).

Axes: B samples, J tokens, H hidden units, F features; ... stands for any leading axes.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lit_rl.arguments import Number, Width, check_arguments
from lit_rl.encoders.tokens.layout import Layout
from lit_rl.encoders.tokens.reader import ReaderFactory, TokenReader, width_of
from lit_rl.types import EnvSpec, Nested


class EmbodimentEncoder(LightningModule):
    """Gathers all joints by one attention that their descriptions decide, and decides all in one pass.

    z = sum over joints of softmax(k(description) / temperature) * v(observation), for each entry of z by
    itself; a core network makes of z and the whole what a decoder needs of the robot, which sees the
    description, the observation and the raw token of a joint besides. This is the architecture of the
    embodiment scaling laws (arXiv:2505.05753); its cost grows with the number of joints, not with its square.

    Args:
        spec: The environment; it observes the keys that ``TokenReader`` reads.
        width: Features of a joint and of the whole.
        description: Columns of a token that describe the joint and do not change while it moves, such as
            length and gear; the others are what is observed of it. None takes the whole token for both.
        reader: Reads parts out of other observations, given by its ``class_path``; None reads Dicts with
            ``joint_tokens``.

    Raises:
        ValueError: An argument is outside its range, or the observation has no parts.
    """

    loss_name = "attention"
    """Network to which the loss of an encoder that is trained alone belongs."""

    describing: Tensor
    observed: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        width: Width = 64,
        description: tuple[Number, ...] | None = None,
        reader: ReaderFactory | None = None,
    ) -> None:
        check_arguments(EmbodimentEncoder, locals())
        super().__init__()
        self.reader = (reader or TokenReader)(spec)
        features, context = width_of(self.reader, "token_features"), width_of(self.reader, "context_features")
        columns = range(features)
        describing = list(columns) if description is None else list(description)
        observed = [column for column in columns if description is None or column not in describing]
        if not describing or not observed or not set(describing) <= set(columns):
            raise ValueError(
                f"EmbodimentEncoder: description = {description} must name some of the columns 0 to "
                f"{features - 1} of a token, and leave others that are observed"
            )
        self.register_buffer("describing", torch.tensor(describing), persistent=False)
        self.register_buffer("observed", torch.tensor(observed), persistent=False)
        self.describe, self.observe = _perceptron(len(describing), width), _perceptron(len(observed), width)
        self.key = nn.Linear(width, width, bias=False)  # a bias would shift all joints alike
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.core = _perceptron(width + context, width)
        self.layout = Layout("EmbodimentEncoder", width, 2 * width, self.reader)
        self.out_features = self.layout.out_features
        self.of_joints, self.of_whole = self.layout.of_joints, self.layout.of_whole

    def forward(self, obs: Nested) -> Tensor:
        """Turn an observation into features (..., F)."""
        tokens = self.reader(obs)
        description_BJH = self.describe(tokens.token.index_select(-1, self.describing))
        observed_BJH = self.observe(tokens.token.index_select(-1, self.observed))
        score = self.key(description_BJH) * torch.exp(-self.log_temperature)
        lowest = torch.finfo(score.dtype).min
        share = score.masked_fill(~tokens.exists.unsqueeze(-1), lowest).softmax(1)
        gathered = (share * observed_BJH).sum(1)
        whole = self.core(torch.cat([gathered, tokens.context.to(gathered.dtype)], -1))
        return self.layout.join(tokens, whole, torch.cat([description_BJH, observed_BJH], -1))


def _perceptron(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, width), nn.LayerNorm(width), nn.ELU(), nn.Linear(width, width), nn.ELU()
    )
