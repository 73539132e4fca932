"""The feed-forward layer's values and gradients against its formula, for every activation and way of slicing."""

import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from reformer.layers import FeedForward
from reformer.ops import ACTIVATIONS, as_seed, derive_seed
from reformer.ops.counter_rng import feature_keep
from reformer.testing import (
    assert_close_to_float64,
    assert_within_budget,
    exact_normal,
    largest_tensor,
    outputs_and_gradients,
    saved_tensors,
)

from .helpers import refuses


def weights(activation: str, *, d: int = 5, hidden: int = 7, length: int = 11):
    rows = 2 * hidden if activation == "swiglu" else hidden
    shapes = ((2, length, d), (rows, d), (rows,), (d, hidden), (d,))
    return [exact_normal(*shape, seed=n) for n, shape in enumerate(shapes)]


def plain(activation: str, dropout_p: float = 0.0, seed: int = 0):
    def function(x, w_in, b_in, w_out, b_out):
        hidden = x @ w_in.t() + b_in
        if activation == "swiglu":
            half = hidden.shape[-1] // 2
            gate, up = hidden[..., :half], hidden[..., half:]
            active = gate * torch.sigmoid(gate) * up
        elif activation == "gelu":
            active = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        elif activation == "gelu_tanh":
            active = hidden * 0.5 * (1 + torch.tanh((2 / math.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
        else:
            active = hidden.clamp_min(0)
        if dropout_p:
            active = active * feature_keep(active, dropout_p, derive_seed(as_seed(seed), 0), 0) / (1 - dropout_p)
        return active @ w_out.t() + b_out

    return function


NAMES = ("w_in.weight", "w_in.bias", "w_out.weight", "w_out.bias")


def chunked(activation: str, *, chunk_len: int | None = None, dropout_p: float = 0.0, seed: int = 0):
    def function(x, *parameters):
        rows = parameters[0].shape[0] // (2 if activation == "swiglu" else 1)
        layer = FeedForward(x.shape[-1], rows, activation=activation, chunk_len=chunk_len, dropout=dropout_p)
        return functional_call(layer, dict(zip(NAMES, parameters, strict=True)), (x,), {"seed": as_seed(seed)})

    return function


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_the_plain_formula(activation: str, dtype: torch.dtype):
    tensors = weights(activation)
    for chunk_len, dropout_p in itertools.product((None, 1, 4, 11, 100), (0.0, 0.4)):
        assert_close_to_float64(
            chunked(activation, chunk_len=chunk_len, dropout_p=dropout_p, seed=8),
            plain(activation, dropout_p, 8),
            tensors,
            dtype,
        )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_finite_differences(activation: str):
    leaves = [x.requires_grad_() for x in weights(activation, d=3, hidden=4, length=5)]
    for dropout_p in (0.0, 0.3):
        assert torch.autograd.gradcheck(chunked(activation, chunk_len=2, dropout_p=dropout_p, seed=1), leaves)


@pytest.mark.parametrize("chunk_len", [1, 3, 11])
def test_dropout_does_not_depend_on_the_slices(chunk_len: int):
    tensors = weights("relu")
    whole = chunked("relu", dropout_p=0.5, seed=3)(*tensors)
    torch.testing.assert_close(chunked("relu", chunk_len=chunk_len, dropout_p=0.5, seed=3)(*tensors), whole)
    assert not torch.allclose(chunked("relu", dropout_p=0.5, seed=4)(*tensors), whole)


def test_some_slices_in_bfloat16_lose_nothing():
    # As many as a CPU makes of 16,384 positions.
    tensors = weights("relu", length=400)
    assert_close_to_float64(chunked("relu", chunk_len=50), plain("relu"), tensors, torch.bfloat16)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_under_autocast_the_products_are_narrow(activation: str):
    tensors = [x.float() for x in weights(activation, length=64)]

    def under_autocast(function):
        def inner(*tensors):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return function(*tensors)

        return inner

    def linear(*tensors):
        x, w_in, b_in, w_out, b_out = tensors
        hidden = F.linear(x, w_in, b_in)
        if activation == "swiglu":
            gate, up = hidden.chunk(2, -1)
            active = F.silu(gate) * up
        else:
            functions = {"relu": F.relu, "gelu": F.gelu, "gelu_tanh": partial(F.gelu, approximate="tanh")}
            active = functions[activation](hidden)
        return F.linear(active, w_out, b_out)

    exact = outputs_and_gradients(plain(activation), *(x.double() for x in tensors))
    got = outputs_and_gradients(under_autocast(chunked(activation, chunk_len=16)), *tensors)
    low = outputs_and_gradients(under_autocast(linear), *tensors)
    assert got["out0"].dtype == torch.bfloat16
    for name, value in exact.items():
        assert got[name].dtype == low[name].dtype
        assert_within_budget(name, got[name], low[name].to(torch.bfloat16), value)


def test_the_hidden_layer_is_never_whole():
    length, hidden, chunk_len = 4096, 64, 32
    tensors = [exact_normal(*s).requires_grad_() for s in ((1, length, 4), (hidden, 4), (hidden,), (4, hidden), (4,))]

    def both_ways(chunk_len: int | None) -> int:
        return largest_tensor(lambda *t: chunked("relu", chunk_len=chunk_len)(*t).sum().backward(), *tensors)

    x = tensors[0]
    assert both_ways(chunk_len) <= x.numel() * 8 < length * hidden * 8 / 10
    # The measure can fail: in one slice the hidden layer is whole.
    assert both_ways(length) >= length * hidden * 8


def test_hidden_units_of_slices_are_not_kept():
    def kept(chunk_len: int | None) -> int:
        layer, x = FeedForward(4, 64, chunk_len=chunk_len).double(), exact_normal(1, 256, 4).requires_grad_()
        with saved_tensors() as tensors:
            layer(x)
        own = {p.data_ptr() for p in layer.parameters()}
        return sum(t.numel() for t in tensors if t.data_ptr() not in own)

    assert kept(32) <= 256 * 4 < 256 * 64 <= kept(None)


def test_a_chunk_length_below_one_is_refused():
    with refuses(ValueError, "chunk_len must be at least 1, got 0"):
        FeedForward(4, 6, chunk_len=0)
