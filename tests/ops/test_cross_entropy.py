import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from reformer.ops import chunked_cross_entropy
from reformer.testing import (
    assert_close_to_float64,
    assert_within_budget,
    exact_normal,
    largest_tensor,
    outputs_and_gradients,
)

from .helpers import refuses

VOCAB = 9


def tensors(length: int = 13, width: int = 5):
    return [exact_normal(*s, seed=n) for n, s in enumerate(((2, length, width), (VOCAB, width), (VOCAB,)))]


def some_targets(length: int = 13, ignored: int = -100) -> torch.Tensor:
    targets = torch.randint(0, VOCAB, (2, length), generator=torch.Generator().manual_seed(0))
    targets[0, ::4] = ignored
    return targets


def plain(targets, *, label_smoothing=0.0, ignore_index=-100, reduction="mean"):
    """-Σ_v t_v log p_v with t = (1 - s) · one-hot + s / V, from the logarithm of a sum of exponentials."""

    def function(x, weight, bias):
        logits = x @ weight.t() + bias
        wide = logits.double() if x.dtype == torch.float64 else logits.float()
        log_p = wide - wide.exp().sum(-1, keepdim=True).log()
        counted = targets != ignore_index
        own = log_p.gather(-1, targets.masked_fill(~counted, 0)[..., None])[..., 0]
        loss = -((1 - label_smoothing) * own + label_smoothing * log_p.mean(-1)) * counted
        if reduction == "none":
            return loss
        return loss.sum() / (counted.sum() if reduction == "mean" else 1)

    return function


def chunked(targets, **options):
    def function(x, weight, bias):
        return chunked_cross_entropy(x, weight, bias, targets, **options)

    return function


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_equals_the_plain_formula(reduction: str, dtype: torch.dtype):
    for chunk_len, smoothing in itertools.product((None, 1, 4, 13, 50), (0.0, 0.1)):
        options = {"reduction": reduction, "label_smoothing": smoothing}
        targets = some_targets()
        assert_close_to_float64(
            chunked(targets, chunk_len=chunk_len, **options), plain(targets, **options), tensors(), dtype
        )


def test_equals_torch_cross_entropy():
    x, weight, bias = tensors()
    for smoothing, reduction in itertools.product((0.0, 0.2), ("mean", "sum")):
        expected = F.cross_entropy(
            (x @ weight.t() + bias).flatten(0, 1),
            some_targets().flatten(),
            label_smoothing=smoothing,
            reduction=reduction,
        )
        found = chunked_cross_entropy(
            x, weight, bias, some_targets(), chunk_len=3, label_smoothing=smoothing, reduction=reduction
        )
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("ignored", [-100, -1, 3, 255])
def test_another_ignore_index(ignored: int):
    targets = some_targets(ignored=ignored)
    options = {"ignore_index": ignored}
    assert_close_to_float64(
        chunked(targets, chunk_len=4, **options), plain(targets, **options), tensors(), torch.float64
    )
    loss = chunked_cross_entropy(*tensors(), targets, reduction="none", **options)
    assert loss[targets == ignored].eq(0).all() and loss[targets != ignored].gt(0).all()


def test_nothing_counted_gives_zero():
    x, weight, bias = (t.requires_grad_() for t in tensors())
    loss = chunked_cross_entropy(x, weight, bias, torch.full((2, 13), -100), chunk_len=4)
    assert loss.item() == 0.0
    for gradient in torch.autograd.grad(loss, [x, weight, bias]):
        assert gradient.eq(0).all()


def test_uniform_logits_cost_log_vocabulary():
    x, weight, bias = torch.zeros(1, 3, 4), torch.zeros(VOCAB, 4), torch.zeros(VOCAB)
    loss = chunked_cross_entropy(x, weight, bias, torch.tensor([[0, 4, 8]]))
    assert loss.item() == pytest.approx(math.log(VOCAB), rel=1e-6)


def test_gradients_are_those_of_finite_differences():
    leaves = [t.requires_grad_() for t in tensors(length=5, width=3)]
    targets = some_targets(5)
    for smoothing, reduction in itertools.product((0.0, 0.3), ("mean", "none")):
        function = chunked(targets, chunk_len=2, label_smoothing=smoothing, reduction=reduction)
        assert torch.autograd.gradcheck(function, leaves)


def test_large_logits_do_not_overflow():
    x, weight, bias = (t.float() * 1e3 for t in tensors())
    result = outputs_and_gradients(chunked(some_targets(), chunk_len=4), x, weight, bias)
    assert all(value.isfinite().all() for value in result.values())


def test_under_autocast_the_products_are_narrow_and_the_loss_is_wide():
    inputs = [t.float() for t in tensors(length=64)]
    targets = some_targets(64)

    def mean_loss(x, weight, bias):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return chunked_cross_entropy(x, weight, bias, targets, chunk_len=16)

    def torch_loss(x, weight, bias):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(F.linear(x, weight, bias).float().flatten(0, 1), targets.flatten())

    exact = outputs_and_gradients(plain(targets), *(t.double() for t in inputs))
    got, low = (outputs_and_gradients(f, *inputs) for f in (mean_loss, torch_loss))
    assert got["out0"].dtype == torch.float32
    for name, value in exact.items():
        assert got[name].dtype == torch.float32
        assert_within_budget(name, got[name], low[name].to(torch.bfloat16), value)


def test_the_logits_are_never_whole():
    length, vocab, chunk_len = 2048, 128, 16
    x, weight, bias = (exact_normal(*s) for s in ((1, length, 4), (vocab, 4), (vocab,)))
    targets = torch.zeros(1, length, dtype=torch.int64)
    whole = length * vocab * 8

    def both_ways(chunk_len: int) -> int:
        leaves = [t.requires_grad_() for t in (x, weight, bias)]
        function = chunked(targets, chunk_len=chunk_len, label_smoothing=0.1)
        return largest_tensor(lambda *t: function(*t).backward(), *leaves)

    assert both_ways(chunk_len) <= x.numel() * 8 < whole / 10
    assert both_ways(length) >= whole


X, WEIGHT, BIAS, TARGETS = torch.zeros(2, 8, 4), torch.zeros(6, 4), torch.zeros(6), torch.zeros(2, 8).long()


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        ({"x": X[0]}, ValueError, ("x must be [batch, length, width]", "got [8, 4]")),
        ({"x": X.int()}, TypeError, ("x must be floating point",)),
        ({"weight": WEIGHT[:, :3]}, ValueError, ("weight must be [vocab, width]", "[any, 4]")),
        ({"bias": BIAS[:5]}, ValueError, ("bias must be [vocab]", "got [5]")),
        ({"targets": TARGETS[:, :7]}, ValueError, ("targets must be", "[2, 8]", "got [2, 7]")),
        ({"targets": TARGETS.float()}, TypeError, ("targets must hold integers", ".long()")),
        ({"reduction": "avg"}, ValueError, ("reduction must be one of 'mean', 'sum', 'none', got 'avg'",)),
        ({"label_smoothing": 1.0}, ValueError, ("label_smoothing must be in [0, 1), got 1.0",)),
        ({"chunk_len": -1}, ValueError, ("chunk_len must be at least 1, got -1",)),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, dict) else None,
)
def test_what_does_not_fit_is_refused(changes: dict, error: type[Exception], facts: tuple[str, ...]):
    with refuses(error, *facts):
        chunked_cross_entropy(**{"x": X, "weight": WEIGHT, "bias": BIAS, "targets": TARGETS, **changes})
