from functools import partial

import pytest
import torch
import torch.nn.functional as F

from reformer.layers import FeedForward
from reformer.ops import ACTIVATIONS
from reformer.testing import exact_normal

from .helpers import refuses


@pytest.mark.parametrize("chunk_len", [None, 1, 4])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_is_two_linear_maps_around_the_activation(activation: str, chunk_len: int | None):
    layer = FeedForward(6, 10, activation=activation, chunk_len=chunk_len).double()
    assert layer.w_in.weight.shape == ((20, 6) if activation == "swiglu" else (10, 6))
    torch.nn.init.normal_(layer.w_in.bias)
    torch.nn.init.normal_(layer.w_out.bias)
    x = exact_normal(2, 9, 6)
    hidden = F.linear(x, layer.w_in.weight, layer.w_in.bias)
    if activation == "swiglu":
        hidden = F.silu(hidden[..., :10]) * hidden[..., 10:]
    else:
        functions = {"relu": F.relu, "gelu": F.gelu, "gelu_tanh": partial(F.gelu, approximate="tanh")}
        hidden = functions[activation](hidden)
    torch.testing.assert_close(layer(x), layer.w_out(hidden), rtol=1e-12, atol=1e-13)


def test_dropout_is_for_training_and_follows_the_seed():
    layer, x = FeedForward(6, 50, dropout=0.5), torch.randn(1, 20, 6)
    seed = torch.tensor(4)
    plain = layer.eval()(x)
    assert torch.equal(layer(x, seed=seed), plain)
    first = layer.train()(x, seed=seed)
    assert not torch.allclose(first, plain)
    assert not torch.equal(layer(x, seed=torch.tensor(5)), first)
    layer.chunk_len = 3
    torch.testing.assert_close(layer(x, seed=seed), first)
    torch.manual_seed(0)
    drawn = layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), drawn) and not torch.equal(layer(x), drawn)


@torch.no_grad()
def test_dropout_keeps_the_mean():
    layer, x = FeedForward(6, 64, dropout=0.3).double(), exact_normal(1, 30, 6)
    mean = sum(layer(x, seed=torch.tensor(s)) for s in range(400)) / 400
    plain = layer.eval()(x)
    spread = (layer.train()(x, seed=torch.tensor(1)) - plain).std()
    assert float((mean - plain).abs().max()) < 6 * float(spread) / 400**0.5 * 2


def test_weights_under_their_earlier_names_are_loaded():
    earlier = {"w_in.weight": "w_in", "w_in.bias": "b_in", "w_out.weight": "w_out", "w_out.bias": "b_out"}
    written, read = (torch.nn.ModuleDict({"a": FeedForward(6, 10), "b": FeedForward(6, 10)}) for _ in range(2))
    for p in written.parameters():
        torch.nn.init.normal_(p)
    state = written.state_dict()
    for name in list(state):
        prefix, _, rest = name.partition(".")
        state[f"{prefix}.{earlier[rest]}"] = state.pop(name)
    assert sorted(state) == [f"{layer}.{name}" for layer in "ab" for name in ("b_in", "b_out", "w_in", "w_out")]
    read.load_state_dict(state)
    for found, expected in zip(read.parameters(), written.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_unknown_activation():
    with refuses(ValueError, "activation must be one of 'relu', 'gelu', 'gelu_tanh', 'swiglu', got 'elu'"):
        FeedForward(4, 8, activation="elu")
