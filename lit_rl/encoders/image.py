"""Encoder for images: the convolutions of the first Atari results (Mnih 2015, doi:10.1038/nature14236).

Axes: F features; ... stands for any leading axes.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lit_rl.arguments import Width, check_arguments
from lit_rl.nets import linear
from lit_rl.types import EnvSpec, LeafSpec, Nested


class ImageEncoder(nn.Module):
    """Three convolutions and a linear layer over one image, with its channels first or last.

    Integer images are divided by 255; real ones stay, also those that ``normalize_observation`` of a learner
    has made of integers. Further entries of a Dict observation are not seen.

    Args:
        spec: The environment; its observation is one image of at least 36 x 36 pixels, or a Dict with
            ``key``.
        features: Number of features F.
        key: Key of the image in a Dict observation; None when the observation is the image.

    Raises:
        ValueError: The observation holds no such image.
    """

    def __init__(self, spec: EnvSpec, features: Width = 512, key: str | None = None) -> None:
        check_arguments(ImageEncoder, locals())
        super().__init__()
        leaf = (
            spec.observation[key]
            if key is not None and isinstance(spec.observation, dict)
            else spec.observation
        )
        if not isinstance(leaf, LeafSpec) or len(leaf.shape) != 3 or min(sorted(leaf.shape)[1:]) < 36:
            raise ValueError(
                f"ImageEncoder expects an image of at least 36 x 36 pixels, {spec.name} observes {leaf}; "
                "name the image with key=... in a Dict observation"
            )
        self.key = key
        self.channels_last = leaf.shape[-1] < leaf.shape[0]
        channels, height, width = (
            leaf.shape if not self.channels_last else (leaf.shape[2], leaf.shape[0], leaf.shape[1])
        )
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
        )  # fmt: skip
        for layer in self.convolutions:
            if isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight, 2**0.5)
                nn.init.constant_(cast("Tensor", layer.bias), 0.0)
        with torch.no_grad():
            flat = self.convolutions(torch.zeros(1, channels, height, width)).numel()
        self.head = linear(flat, features, 2**0.5)
        self.out_features = features

    def forward(self, obs: Nested) -> Tensor:
        """Turn images with any leading axes into features ``(..., F)``."""
        image = obs if self.key is None else obs[self.key]  # type: ignore[index]  # a key is given for Dicts only
        lead = image.shape[:-3]
        image = image.flatten(0, -4) if len(lead) > 1 else image
        if self.channels_last:
            image = image.movedim(-1, -3)
        scale = 1.0 if image.is_floating_point() else 1.0 / 255.0
        x = self.convolutions(image.to(self.head.weight.dtype) * scale)
        return self.head(x.flatten(1)).relu().view(*lead, -1)
