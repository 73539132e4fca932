"""Other people's Reformers, to be measured: dropout off, otherwise as they come.

Both attend across bucket borders within a chunk and wrap around, and count a pair as often as it is seen; neither masks
by bucket, so per pair they do less than ours. transformers gets the same number of buckets as ours, factorised alike;
reformer-pytorch chooses its own, length / chunk_len.
"""

from typing import Any

from torch import Tensor, nn

from reformer.models import ReformerConfig
from reproduction.benchmarks.operations import Inputs, Operation, Shape


class _Given(nn.Module):
    """In the place of a projection: the tensor it would have returned."""

    given: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.given


def transformers_attention(shape: Shape, inputs: Inputs) -> Operation:
    """LSHSelfAttention without its projections."""
    module, _ = _transformers_modules(shape, inputs)
    given_qk, given_v = _Given(), _Given()
    module.query_key, module.value = given_qk, given_v

    def call(qk: Tensor, v: Tensor) -> Tensor:
        given_qk.given, given_v.given = qk, v
        out: Tensor = module(qk).hidden_states
        return out

    return Operation(call=call, leaves=inputs.hidden(2))


def transformers_layer(shape: Shape, inputs: Inputs) -> Operation:
    """LSHSelfAttention and the projection of its output."""
    module, output = _transformers_modules(shape, inputs)
    weights = (*module.parameters(), *output.parameters())
    return Operation(call=lambda x, *_: output(module(x).hidden_states), leaves=(*inputs.hidden(1), *weights))


def reformer_pytorch_attention(shape: Shape, inputs: Inputs) -> Operation:
    """LSHAttention of [B·H, L, D]."""
    from reformer_pytorch import LSHAttention

    module = LSHAttention(bucket_size=shape.chunk_len, n_hashes=shape.n_hashes, causal=True, dropout=0.0)
    size = (shape.batch * shape.n_heads, shape.seq_len, shape.head_dim)
    return Operation(call=lambda qk, v: module(qk, v)[0], leaves=(inputs.like(size, 0), inputs.like(size, 1)))


def reformer_pytorch_layer(shape: Shape, inputs: Inputs) -> Operation:
    """LSHSelfAttention with its projections."""
    from reformer_pytorch import LSHSelfAttention

    width = shape.n_heads * shape.head_dim
    module = LSHSelfAttention(
        width, heads=shape.n_heads, bucket_size=shape.chunk_len, n_hashes=shape.n_hashes, causal=True
    ).to(inputs.device, inputs.dtype)
    return Operation(call=lambda x, *_: module(x), leaves=(*inputs.hidden(1), *module.parameters()))


def _transformers_modules(shape: Shape, inputs: Inputs) -> tuple[Any, Any]:
    from transformers.models.reformer.modeling_reformer import LSHSelfAttention, ReformerSelfOutput

    n_hashes, chunk_len, n_buckets = shape.hashing()
    width = shape.n_heads * shape.head_dim
    sizes: dict[str, Any] = {"n_hashes": n_hashes, "lsh_chunk_len": chunk_len, "n_buckets": n_buckets}
    config = _their_config(
        ReformerConfig(d_model=width, n_heads=shape.n_heads, attention=("lsh",), **sizes), shape.seq_len
    )
    # In evaluation mode its backward pass fails.
    modules = (made(config).to(inputs.device, inputs.dtype).train() for made in (LSHSelfAttention, ReformerSelfOutput))
    attention, output = modules
    return attention, output


def transformers_model(config: ReformerConfig, seq_len: int, device: str) -> Any:
    """Their model of the same sizes, in training mode."""
    from transformers import ReformerModelWithLMHead
    from transformers.utils import logging

    # It warns that its own config names no loss.
    logging.set_verbosity_error()
    model: Any = ReformerModelWithLMHead(_their_config(config, seq_len))
    return model.to(device).train()


def _their_config(config: ReformerConfig, seq_len: int) -> Any:
    from transformers import ReformerConfig as TheirConfig

    return TheirConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        feed_forward_size=config.d_ff,
        num_attention_heads=config.n_heads,
        attention_head_size=config.head_dim or (config.d_attn or config.d_model) // config.n_heads,
        attn_layers=list(config.attention),
        num_hashes=config.n_hashes,
        num_buckets=list(config.n_buckets) if isinstance(config.n_buckets, tuple) else config.n_buckets,
        lsh_attn_chunk_length=config.lsh_chunk_len,
        local_attn_chunk_length=config.local_chunk_len,
        axial_pos_shape=list(config.axial_shape),
        axial_pos_embds_dim=list(config.axis_widths),
        max_position_embeddings=seq_len,
        hidden_act=config.activation,
        chunk_size_feed_forward=config.ff_chunk_len or 0,
        chunk_size_lm_head=0,
        is_decoder=True,
        use_cache=False,
        hidden_dropout_prob=config.dropout,
        lsh_attention_probs_dropout_prob=0.0,
        local_attention_probs_dropout_prob=0.0,
    )
