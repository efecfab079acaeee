"""Encoders: features for any leading axes, Dict and discrete leaves, images, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lit_rl.encoders.image import ImageEncoder
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.normalize import ObservationNorm
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec

TWO = ActionSpec("discrete", categories=[2])


def test_perceptron_encodes_dict_and_discrete_leaves_over_any_leading_axes():
    spec = EnvSpec("toy", {"x": LeafSpec([3]), "kind": LeafSpec([], "int64", [4])}, TWO)
    encoder = PerceptronEncoder(spec, hidden=(8, 5), activation="relu")
    obs = {"x": torch.randn(2, 6, 3), "kind": torch.randint(4, (2, 6))}
    features = encoder(obs)
    assert features.shape == (2, 6, encoder.out_features) == (2, 6, 5)
    single = encoder({"x": obs["x"][1, 4], "kind": obs["kind"][1, 4]})
    torch.testing.assert_close(features[1, 4], single)
    assert (features >= 0).all(), "the activation follows the last layer too"


def test_perceptron_needs_a_width():
    with pytest.raises(ValueError, match="hidden must name at least one width"):
        PerceptronEncoder(EnvSpec("toy", LeafSpec([3]), TWO), hidden=())


@pytest.mark.parametrize("shape", [[3, 40, 44], [40, 44, 3]])
def test_image_takes_channels_first_or_last_and_scales_bytes(shape: list[int]):
    encoder = ImageEncoder(EnvSpec("toy", LeafSpec(shape, "uint8"), TWO), features=7)
    image = torch.randint(256, (2, 5, *shape), dtype=torch.uint8)
    features = encoder(image)
    assert features.shape == (2, 5, 7)
    torch.testing.assert_close(features[1, 3], encoder(image[1, 3][None])[0])
    as_real = ImageEncoder(EnvSpec("toy", LeafSpec(shape, "float32"), TWO), features=7)
    as_real.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(as_real(image.float() / 255), features, rtol=1e-4, atol=1e-5)


def test_an_image_that_is_normalised_already_is_not_divided_by_255():
    """``normalize_observation`` of a learner makes real numbers of unit deviation of the bytes."""
    spec = EnvSpec("toy", LeafSpec([3, 40, 44], "uint8"), TWO)
    encoder, norm = ImageEncoder(spec, features=7), ObservationNorm(spec.observation)
    images = torch.randint(256, (50, 3, 40, 44), dtype=torch.uint8)
    norm.update(images)
    seen: Any = norm(images)
    assert seen.std().item() == pytest.approx(1.0, abs=0.02)
    inputs: list[torch.Tensor] = []
    encoder.convolutions.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    encoder(seen)
    encoder(images)
    assert torch.equal(inputs[0], seen)
    torch.testing.assert_close(inputs[1], images / 255)


def test_image_by_its_key_and_what_it_refuses():
    spec = EnvSpec("toy", {"camera": LeafSpec([3, 36, 36], "uint8"), "speed": LeafSpec([1])}, TWO)
    assert ImageEncoder(spec, features=4, key="camera")({"camera": torch.zeros(1, 3, 36, 36)}).shape == (1, 4)
    with pytest.raises(ValueError, match="name the image with key="):
        ImageEncoder(spec)
    with pytest.raises(ValueError, match="at least 36 x 36 pixels"):
        ImageEncoder(EnvSpec("toy", LeafSpec([3, 20, 20]), TWO))
