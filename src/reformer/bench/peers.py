"""Other people's Reformers as operations to be measured: dropout off, otherwise as they come.

Both attend across bucket borders within a chunk and wrap around, and count a pair as often as it is seen; neither masks
by bucket, so per pair they do less than ours. transformers gets the same number of buckets as ours, factorised alike;
reformer-pytorch chooses its own, length / chunk_len.
"""

from __future__ import annotations

from torch import Tensor, nn

from reformer.bench.case import Case, Inputs, Operation
from reformer.bench.contenders import DTYPES


class _Given(nn.Module):
    """In the place of a projection: the tensor it would have returned."""

    given: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.given


def transformers_attention(case: Case, inputs: Inputs, device: str) -> Operation:
    """LSHSelfAttention without its projections."""
    module, _ = _transformers_modules(case, device)
    given_qk, given_v = _Given(), _Given()
    module.query_key, module.value = given_qk, given_v

    def call(qk, v):
        given_qk.given, given_v.given = qk, v
        return module(qk).hidden_states

    return Operation(call=call, leaves=(inputs.hidden(0), inputs.hidden(1)))


def transformers_layer(case: Case, inputs: Inputs, device: str) -> Operation:
    """LSHSelfAttention and the projection of its output."""
    module, output = _transformers_modules(case, device)
    weights = (*module.parameters(), *output.parameters())
    return Operation(call=lambda x, *_: output(module(x).hidden_states), leaves=(inputs.hidden(), *weights))


def reformer_pytorch_attention(case: Case, inputs: Inputs, device: str) -> Operation:
    """LSHAttention of [B·H, L, D]."""
    from reformer_pytorch import LSHAttention

    module = LSHAttention(bucket_size=case.chunk_len, n_hashes=case.n_hashes, causal=True, dropout=0.0)
    shape = (case.batch * case.n_heads, case.seq_len, case.head_dim)
    return Operation(call=lambda qk, v: module(qk, v)[0], leaves=(inputs.like(shape, 0), inputs.like(shape, 1)))


def reformer_pytorch_layer(case: Case, inputs: Inputs, device: str) -> Operation:
    """LSHSelfAttention with its projections."""
    from reformer_pytorch import LSHSelfAttention

    module = LSHSelfAttention(
        case.n_heads * case.head_dim,
        heads=case.n_heads,
        bucket_size=case.chunk_len,
        n_hashes=case.n_hashes,
        causal=True,
    ).to(device, DTYPES[case.dtype])
    return Operation(call=lambda x, *_: module(x), leaves=(inputs.hidden(), *module.parameters()))


def _transformers_modules(case: Case, device: str) -> tuple[nn.Module, nn.Module]:
    from transformers import ReformerConfig
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention, ReformerSelfOutput

    assert case.n_hashes is not None and case.chunk_len is not None
    config = ReformerConfig(
        hidden_size=case.n_heads * case.head_dim,
        num_attention_heads=case.n_heads,
        attention_head_size=case.head_dim,
        num_hashes=case.n_hashes,
        num_buckets=case.buckets if isinstance(case.buckets, int) else list(case.buckets),
        lsh_attn_chunk_length=case.chunk_len,
        attn_layers=["lsh"],
        is_decoder=True,
        use_cache=False,
        lsh_attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    dtype = DTYPES[case.dtype]
    # In evaluation mode its backward pass fails.
    return LSHSelfAttention(config).to(device, dtype).train(), ReformerSelfOutput(config).to(device, dtype).train()
