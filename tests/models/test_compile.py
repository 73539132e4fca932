"""torch.compile(fullgraph=True) of a whole model (invariant 6)."""

import pytest
import torch
from torch import nn

from reformer.models import EncoderDecoderConfig, ReformerEncoderDecoder

from .factory import assert_same, loss_and_gradients, some_tokens, tiny


def test_a_compiled_model_equals_the_eager_one():
    torch._dynamo.reset()
    model = tiny(dropout=0.2, attention_dropout=0.2, n_hashes=2)
    switch = torch._dynamo.config.trace_autograd_ops
    tokens = some_tokens()
    segments = torch.zeros(2, 20, dtype=torch.int64)
    segments[1, :6] = -1
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)

    def compute(m):
        return m(tokens, targets=tokens, segment_ids=segments, seed=torch.tensor(4))

    expected = loss_and_gradients(model, compute)
    model.zero_grad()
    loss = compute(compiled)
    loss.backward()
    found = {"loss": loss.detach()} | {name: p.grad for name, p in model.named_parameters()}
    assert_same(found, expected)
    # What dynamo is told while it traces holds for nobody else.
    assert torch._dynamo.config.trace_autograd_ops == switch


def test_random_numbers_that_a_compiled_backward_cannot_draw_again_are_refused():
    torch._dynamo.reset()
    model = tiny()
    model.stack.layers[0].attention.norm = nn.Sequential(model.stack.layers[0].attention.norm, nn.Dropout(0.1))
    compiled = torch.compile(model, backend="aot_eager", dynamic=False)
    with pytest.raises(Exception, match="compiled backward pass cannot draw again"):
        compiled(some_tokens(), seed=torch.tensor(4))


def test_a_compiled_encoder_decoder_equals_the_eager_one():
    torch._dynamo.reset()
    torch.manual_seed(0)
    config = EncoderDecoderConfig(
        vocab_size=9,
        d_model=8,
        d_ff=8,
        n_heads=2,
        positions="sinusoidal",
        attention_dropout=0.2,
        attention=("full",),
        encoder_attention=("full",),
    )
    model = ReformerEncoderDecoder(config).double()
    source, target = some_tokens(2, 7) % 9, some_tokens(2, 11, 1) % 9
    segments = torch.tensor([[0] * 7, [0] * 4 + [-1] * 3])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=False)

    def compute(m):
        return m(source, target, targets=target, source_segment_ids=segments, seed=torch.tensor(4))

    expected = loss_and_gradients(model, compute)
    model.zero_grad()
    loss = compute(compiled)
    loss.backward()
    found = {"loss": loss.detach()} | {name: p.grad for name, p in model.named_parameters()}
    assert_same(found, expected)
