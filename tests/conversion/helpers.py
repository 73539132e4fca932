"""transformers' Reformer beside ours: the same weights and the same rotations."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import ReformerForMaskedLM, ReformerModelWithLMHead

from reformer.conversion import Converted, TextFormat, convert_config, convert_weights
from reformer.layers import attention as attention_layers
from reformer.models import ReformerLM
from reformer.ops import bucket_factors, hash_vectors, seeded_buckets

ROTATION_SEED = 3

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "attention_head_size": 8,
    "feed_forward_size": 32,
    "hidden_act": "relu",
    "attn_layers": ["local", "lsh"],
    "num_hashes": 2,
    "num_buckets": 4,
    "lsh_attn_chunk_length": 8,
    "local_attn_chunk_length": 8,
    "axial_pos_shape": [6, 8],
    "axial_pos_embds_dim": [4, 12],
    "max_position_embeddings": 48,
    "hidden_dropout_prob": 0.0,
    "lsh_attention_probs_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
    "is_decoder": True,
}


def small_config(**changes) -> transformers.ReformerConfig:
    """A transformers Reformer of two layers."""
    return transformers.ReformerConfig(**{**SMALL, **changes})


def transformers_model(config: transformers.ReformerConfig, dtype: torch.dtype = torch.float64):
    """Their model with weights about as large as trained ones: theirs start small, with zero biases."""
    torch.manual_seed(0)
    model = (ReformerModelWithLMHead if config.is_decoder else ReformerForMaskedLM)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.to(dtype).eval()


def converted(model) -> ReformerLM:
    """Our model with the weights of theirs."""
    config = convert_config(model.config.to_dict())
    return Converted(
        config=config, weights=convert_weights(config, model.state_dict()), text=TextFormat(kind="ids")
    ).model()


@contextmanager
def same_rotations(seed: int = ROTATION_SEED) -> Iterator[None]:
    """Both libraries hash with the rotations of one seed, in every layer, whatever dtype they compute in."""
    draw = torch.randn

    def rotations(shape, device=None, dtype=None) -> Tensor:
        return draw(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)

    def buckets(x: Tensor, _: Tensor, *, n_hashes: int, n_buckets, **options) -> Tensor:
        columns = sum(bucket_factors(n_buckets)) // 2
        return hash_vectors(x, rotations((x.shape[1], x.shape[3], n_hashes, columns)), n_buckets)

    # Their models call torch.randn for rotations and nothing else.
    torch.randn, attention_layers.seeded_buckets = rotations, buckets
    try:
        yield
    finally:
        torch.randn, attention_layers.seeded_buckets = draw, seeded_buckets


def their_logits(model, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits with the head's bias, which transformers 5 leaves out."""
    with same_rotations(), torch.no_grad():
        return model(tokens, attention_mask=mask, use_cache=False).logits + model.lm_head.bias


def our_logits(model: ReformerLM, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits at the positions that transformers gives the tokens: padding in between counts there."""
    positions = None if mask is None else torch.arange(tokens.shape[1]).expand_as(tokens)
    with same_rotations(), torch.no_grad():
        return model(tokens, segment_ids=None if mask is None else mask - 1, position_ids=positions)


def some_ids(vocab_size: int, length: int, batch: int = 2) -> Tensor:
    return torch.randint(0, vocab_size, (batch, length), generator=torch.Generator().manual_seed(length))


def right_padding(length: int, real: int) -> Tensor:
    """A mask of two rows, the second one with ``real`` tokens only."""
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[1, real:] = 0
    return mask


def trax_tree(model) -> tuple:
    """The weights of a transformers model as the authors' trax ReformerLM nests them; () where a layer has none."""
    body = model.reformer
    layers = [part for layer in body.encoder.layers for part in _trax_layer(layer)]
    head = (_array(model.lm_head.decoder.weight.t()), _array(model.lm_head.bias))
    positions = tuple((_array(table),) for table in body.embeddings.position_embeddings.weights)
    norm = _trax_pair(body.encoder.layer_norm)
    return ((), _array(body.embeddings.word_embeddings.weight), (), positions, (), tuple(layers), (), norm, (), head)


def _trax_layer(layer) -> tuple:
    attention, feed_forward = layer.attention.self_attention, layer.feed_forward
    heads = attention.num_attention_heads
    names = ("query_key", "value") if hasattr(attention, "query_key") else ("query", "key", "value")
    weights = [getattr(attention, name).weight.unflatten(0, (heads, -1)).transpose(1, 2) for name in names]
    weights.append(layer.attention.output.dense.weight.t().unflatten(0, (heads, -1)))
    inner = [feed_forward.dense.dense, feed_forward.output.dense]
    first, second = ((_array(dense.weight.t()), _array(dense.bias)) for dense in inner)
    dense = [_trax_pair(feed_forward.layer_norm), first, (), (), second, ()]
    # Between the two stand the swaps of the streams.
    return ((_trax_pair(layer.attention.layer_norm),), tuple(map(_array, weights))), (), (((), ((), (), dense)),), ()


def _trax_pair(norm) -> tuple:
    return _array(norm.weight), _array(norm.bias)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()
