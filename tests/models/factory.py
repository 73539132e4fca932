"""Tiny models in float64, and ways to compare two of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from reformer.models import ReformerConfig, ReformerLM

VOCAB = 11


def tiny(**changes) -> ReformerLM:
    """A model of two layers, by default local and LSH, float64; weights do not depend on what ``changes`` leaves alone."""
    options = {
        "vocab_size": VOCAB,
        "d_model": 8,
        "d_ff": 16,
        "n_heads": 2,
        "attention": ("local", "lsh"),
        "n_buckets": 4,
        "lsh_chunk_len": 8,
        "local_chunk_len": 8,
        "axial_shape": (8, 16),
        "ff_chunk_len": 7,
        "loss_chunk_len": 5,
    }
    torch.manual_seed(0)
    model = ReformerLM(ReformerConfig(**{**options, **changes})).double()
    with torch.no_grad():
        # The initial embedding is small, biases are zero and norms one: make every parameter matter.
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64) * 0.3)
    return model


def some_tokens(batch: int = 2, length: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def loss_and_gradients(model: ReformerLM, compute: Callable[[ReformerLM], Tensor]) -> dict[str, Tensor | None]:
    """The loss and every parameter's gradient (None: none arrived)."""
    model.zero_grad()
    loss = compute(model)
    loss.backward()
    found: dict[str, Tensor | None] = {"loss": loss.detach()}
    return found | {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_same(found: dict[str, Tensor | None], expected: dict[str, Tensor | None], *, rtol=1e-9, atol=1e-11) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        got = found[name]
        assert (got is None) == (value is None), f"{name}: {'no' if got is None else 'a'} gradient"
        if value is not None and got is not None:
            torch.testing.assert_close(got, value, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")
