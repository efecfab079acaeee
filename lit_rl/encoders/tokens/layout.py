"""Features of a whole and of each of its joints, joined to one vector, and the networks that follow it.

Axes: B samples, J tokens, F features, H hidden units; ... stands for any leading axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_rl.encoders.tokens.reader import Tokens, restore
from lit_rl.nets import mlp

Build = Callable[..., nn.Module]
"""Makes a network through the sizes that are its first argument."""


class Layout:
    """Joins features of the whole (H) and of each joint (F) to a vector ``[whole | joint 1 | joint 2 ...]``.

    Learners need one vector per observation, and a policy with an action per joint needs to know the joints
    apart. Where actions are of another kind the vector holds the whole alone.

    Args:
        owner: Name of the encoder, for messages.
        whole: Number H of features of the whole.
        joint: Number of features of a joint, without its own token.
        reader: What reads observations.

    Attributes:
        num_joints: Number J of joints that are decided one by one; 0 where there are none.
        joint: Number F of features of a joint, which end in its own token.
        out_features: Length of the vector.
    """

    def __init__(self, owner: str, whole: int, joint: int, reader: nn.Module) -> None:
        self._owner, self.whole = owner, whole
        self.num_joints: int = reader.num_tokens if reader.moves_tokens else 0  # type: ignore[assignment]
        self.joint: int = joint + reader.token_features  # type: ignore[operator]
        self.out_features = whole + self.num_joints * self.joint

    def join(self, tokens: Tokens, whole_BH: Tensor, joint_BJF: Tensor) -> Tensor:
        """Return the vector (..., features); what is no joint is zero in it.

        Args:
            tokens: What was read.
            whole_BH: Features of the whole.
            joint_BJF: Features of each joint, to which its token is added here.
        """
        if not self.num_joints:
            return restore(whole_BH, tokens.lead)
        seen = torch.cat([joint_BJF, tokens.token.to(joint_BJF.dtype)], -1)
        seen = seen.masked_fill(~tokens.exists.unsqueeze(-1), 0.0)
        return restore(torch.cat([whole_BH, seen.flatten(1)], -1), tokens.lead)

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Take the vector (..., features) apart: the whole (..., H), and the joints (..., J, F)."""
        whole, joints = features[..., : self.whole], features[..., self.whole :]
        return whole, joints.unflatten(-1, (self.num_joints, self.joint))

    def of_whole(self, sizes: Sequence[int], *arguments: Any, build: Build = mlp) -> nn.Module:
        """Make a network on the features of the whole, such as a critic.

        Args:
            sizes: Sizes of its layers, of which the first is that of the vector.
            *arguments: What ``build`` takes beside the sizes.
            build: Makes the network.
        """
        if not self.num_joints:
            return build(sizes, *arguments)
        self._check(sizes)
        return OnWhole(build([self.whole, *sizes[1:]], *arguments), self.whole)

    def of_joints(self, sizes: Sequence[int], *arguments: Any, build: Build = mlp) -> nn.Module:
        """Make one network for all joints, which sees a joint and the whole, and decides for that joint.

        Args:
            sizes: Sizes of its layers: the first is that of the vector, the last the number of joints times
                the outputs for each of them.
            *arguments: What ``build`` takes beside the sizes.
            build: Makes the network.
        """
        if not self.num_joints:
            return build(sizes, *arguments)
        self._check(sizes)
        inputs, outputs = self.joint + self.whole, sizes[-1] // self.num_joints
        return OnJoints(build([inputs, *sizes[1:-1], outputs], *arguments), self)

    def _check(self, sizes: Sequence[int]) -> None:
        if sizes[0] != self.out_features:
            raise ValueError(
                f"{self._owner} tells {self.num_joints} joints apart by {self.out_features} features, "
                f"which must reach the layers that decide, but {sizes[0]} do: leave gru = null"
            )


class OnWhole(nn.Module):
    """A network on the features of the whole."""

    def __init__(self, network: nn.Module, whole: int) -> None:
        super().__init__()
        self.network, self.whole = network, whole

    def forward(self, features: Tensor) -> Tensor:
        """Evaluate the network on the first H entries of (..., features)."""
        return self.network(features[..., : self.whole])


class OnJoints(nn.Module):
    """One network for all joints; outputs of one kind stand together, joint after joint."""

    def __init__(self, network: nn.Module, layout: Layout) -> None:
        super().__init__()
        self.network, self.layout = network, layout

    def forward(self, features: Tensor) -> Tensor:
        """Decide for every joint: from (..., features) to (..., outputs * J)."""
        whole, joint = self.layout.split(features)
        whole = whole.unsqueeze(-2).expand(*joint.shape[:-1], whole.shape[-1])
        return self.network(torch.cat([joint, whole], -1)).transpose(-1, -2).flatten(-2)
