from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from lit_rl.flat import FlatParameters
from lit_rl.nets import (
    Flatten,
    GRUCore,
    NumpyMLP,
    linear,
    mlp,
)
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec


def spec(observation: Any) -> EnvSpec:
    return EnvSpec("Toy-v0", observation, ActionSpec("discrete", categories=[2]))


# Perceptrons


def test_linear_is_orthogonal_with_its_gain():
    layer = linear(8, 3, gain=0.5)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 0.25 * torch.eye(3))
    assert (layer.bias == 0).all()


def test_mlp_layers_and_gains():
    network = mlp([6, 5, 4, 2], "elu", out_gain=0.01)
    assert [type(layer).__name__ for layer in network] == ["Linear", "ELU", "Linear", "ELU", "Linear"]
    gains = [
        torch.linalg.matrix_norm(layer.weight, 2).item() for layer in network if isinstance(layer, nn.Linear)
    ]
    assert gains == pytest.approx([math.sqrt(2), math.sqrt(2), 0.01])
    assert len(mlp([6, 2], "tanh", 1.0)) == 1  # no hidden layer, no activation


def test_an_unknown_activation_is_named():
    with pytest.raises((ValueError, KeyError), match="gelu9"):
        mlp([2, 2, 2], "gelu9", 1.0)  # type: ignore[arg-type]


# Encoder


def test_flatten_encodes_every_kind_of_leaf():
    encoder = Flatten(
        spec(
            {
                "action_mask": LeafSpec([2], "int64", [2, 2]),
                "choice": LeafSpec([], "int64", [3]),
                "inner": {"pair": LeafSpec([2], "int64", [2, 3]), "grid": LeafSpec([2, 2], "uint8")},
                "real": LeafSpec([2]),
                "scalar": LeafSpec([]),
            }
        )
    )
    obs = {
        "action_mask": torch.tensor([[1, 0]]),
        "choice": torch.tensor([2]),
        "inner": {
            "pair": torch.tensor([[1, 0]]),
            "grid": torch.tensor([[[1, 2], [3, 255]]], dtype=torch.uint8),
        },
        "real": torch.tensor([[0.5, -0.5]]),
        "scalar": torch.tensor([9.0]),
    }
    expected = [0, 0, 1, 0, 1, 1, 0, 0, 1, 2, 3, 255, 0.5, -0.5, 9]
    assert encoder.out_features == len(expected)
    assert encoder(obs).tolist() == [expected]
    assert encoder(obs).dtype == torch.float32


@pytest.mark.parametrize("lead", [(), (4,), (3, 4), (2, 3, 4)])
def test_flatten_takes_any_leading_axes(lead: tuple[int, ...]):
    encoder = Flatten(spec({"a": LeafSpec([2, 3]), "b": LeafSpec([], "int64", [5])}))
    assert encoder({"a": torch.zeros(*lead, 2, 3), "b": torch.zeros(lead, dtype=torch.int64)}).shape == (
        *lead,
        11,
    )


def test_a_single_vector_is_its_own_feature():
    x = torch.randn(3, 4)
    assert Flatten(spec(LeafSpec([4])))(x) is x
    assert Flatten(spec(LeafSpec([2, 2])))(x.view(3, 2, 2)).tolist() == x.tolist()
    hot = Flatten(spec(LeafSpec([2], "int64", [2, 3])))(torch.tensor([[1, 2]]))
    assert hot.tolist() == [[0, 1, 0, 0, 1]]


def test_bytes_become_reals():
    """A vector of uint8 is a feature vector too, but no layer takes it as it is."""
    encoded = Flatten(spec(LeafSpec([3], "uint8")))(torch.tensor([[0, 7, 255]], dtype=torch.uint8))
    assert encoded.dtype == torch.float32
    assert encoded.tolist() == [[0, 7, 255]]


# Memory


def test_gru_equals_the_equations():
    """Cho 2014 as in torch.nn.GRUCell: r, z, n gates; h' = (1 - z) n + z h."""
    core = GRUCore(3, 4)
    nn.init.normal_(core.cell.bias_ih)
    nn.init.normal_(core.cell.bias_hh)
    x, h = torch.randn(5, 3), torch.randn(5, 4)
    gates_x = (x @ core.cell.weight_ih.T + core.cell.bias_ih).chunk(3, -1)
    gates_h = (h @ core.cell.weight_hh.T + core.cell.bias_hh).chunk(3, -1)
    r, z = torch.sigmoid(gates_x[0] + gates_h[0]), torch.sigmoid(gates_x[1] + gates_h[1])
    n = torch.tanh(gates_x[2] + r * gates_h[2])
    torch.testing.assert_close(core.step(x, h, torch.zeros(5, dtype=torch.bool)), (1 - z) * n + z * h)


def test_gru_forgets_where_an_episode_starts():
    core = GRUCore(3, 4)
    x_LBF, hidden = torch.randn(6, 2, 3), torch.randn(2, 4)
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[3, 1] = True
    whole = core(x_LBF, hidden, reset)
    assert whole.shape == (6, 2, 4)
    assert not torch.allclose(whole[3, 1], core(x_LBF, hidden, torch.zeros_like(reset))[3, 1])
    fresh = core(x_LBF[3:, 1:], torch.zeros(1, 4), torch.zeros(3, 1, dtype=torch.bool))
    torch.testing.assert_close(whole[3:, 1:], fresh)
    # in two parts, from the hidden state between
    parts = torch.cat([core(x_LBF[:2], hidden, reset[:2]), core(x_LBF[2:], whole[1], reset[2:])])
    torch.testing.assert_close(parts, whole)


def test_gru_takes_an_axis_of_agents():
    core = GRUCore(3, 4)
    x, h, reset = torch.randn(5, 2, 3), torch.randn(5, 2, 4), torch.rand(5, 2) < 0.5
    folded = core.step(x.flatten(0, 1), h.flatten(0, 1), reset.flatten())
    torch.testing.assert_close(core.step(x, h, reset), folded.view(5, 2, 4))


# Numpy


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("lead", [(5,), (4, 5)])
@torch.no_grad()
def test_numpy_equals_torch_and_leaves_its_input_alone(activation: Any, lead: tuple[int, ...]):
    module = mlp([3, 8, 8, 2], activation, 1.0)
    x = torch.randn(*lead, 3)
    kept = x.clone()
    out = NumpyMLP(module)(x.numpy())
    torch.testing.assert_close(torch.from_numpy(out), module(x))
    assert torch.equal(x, kept)


@torch.no_grad()
def test_numpy_follows_the_weights():
    """Through optimizer steps, loading, flattening and a copy of the whole module."""
    module = mlp([3, 8, 2], "tanh", 1.0)
    fast = NumpyMLP(module)
    x = torch.randn(5, 3)

    def same(network: nn.Module, fast: NumpyMLP) -> bool:
        return torch.allclose(torch.from_numpy(fast(x.numpy())), network(x), atol=1e-6)

    for parameter in module.parameters():
        parameter += 1
    assert same(module, fast)
    module.load_state_dict(mlp([3, 8, 2], "tanh", 1.0).state_dict())
    assert same(module, fast)
    flat = FlatParameters(module)
    flat.tensor += 1
    assert same(module, fast)

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module
            self.fast = fast

    twin = copy.deepcopy(Holder())
    for parameter in twin.network.parameters():
        parameter -= 1
    assert same(twin.network, twin.fast)
    assert same(module, fast)


def test_layers_without_a_numpy_twin():
    module = mlp([3, 8, 2], "silu", 1.0)
    assert not NumpyMLP.supports(module)
    with pytest.raises(TypeError, match="NumpyMLP evaluates Linear, Tanh and ReLU layers, got Sequential"):
        NumpyMLP(module)


def test_weights_may_be_made_on_a_device_that_numpy_cannot_read():
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        fast = NumpyMLP(network)  # Lightning builds networks on a GPU where there is one
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(5, 3)
    torch.testing.assert_close(torch.from_numpy(fast(x.numpy())), network(x))
