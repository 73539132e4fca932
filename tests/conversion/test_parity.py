"""A converted model computes what transformers computes, where transformers is right (docs/conversion.md has the rest)."""

import pytest
import torch
from torch import Tensor
from transformers.models.reformer.modeling_reformer import LSHSelfAttention

from .helpers import (
    converted,
    our_logits,
    right_padding,
    same_rotations,
    small_config,
    some_ids,
    their_logits,
    transformers_model,
)

# google/reformer-crime-and-punishment and google/reformer-enwik8 with widths, chunks and axes scaled down.
NOVEL = {
    "attn_layers": ["local", "lsh"] * 3,
    "vocab_size": 320,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "attention_head_size": 8,
    "feed_forward_size": 64,
    "num_hashes": 1,
    "num_buckets": [4, 8],
    "axial_pos_shape": [4, 16],
    "axial_pos_embds_dim": [8, 24],
    "max_position_embeddings": 64,
}
ENWIK8 = {
    "attn_layers": ["local", "local", "lsh", "local"] * 3,
    "vocab_size": 258,
    "hidden_size": 32,
    "num_attention_heads": 8,
    "attention_head_size": 4,
    "feed_forward_size": 128,
    "num_hashes": 4,
    "num_buckets": 16,
    "local_attn_chunk_length": 8,
    "lsh_attn_chunk_length": 16,
    "axial_pos_shape": [4, 16],
    "axial_pos_embds_dim": [8, 24],
    "max_position_embeddings": 64,
}
MODELS = {
    "novel": NOVEL,
    "enwik8": ENWIK8,
    "lsh-1": {"attn_layers": ["lsh"], "num_hashes": 1},
    "lsh-2": {"attn_layers": ["lsh", "lsh"]},
    "lsh-4 factors": {"attn_layers": ["lsh", "lsh"], "num_hashes": 4, "num_buckets": [2, 4]},
    "lsh three factors": {"attn_layers": ["lsh"], "num_buckets": [2, 2, 4], "hidden_act": "gelu"},
    "lsh without neighbours": {"attn_layers": ["lsh"], "lsh_num_chunks_before": 0},
    "lsh far": {"attn_layers": ["lsh"], "lsh_num_chunks_before": 3, "num_hashes": 3},
    "local": {"attn_layers": ["local", "local"], "hidden_act": "gelu"},
    "local without neighbours": {"attn_layers": ["local"], "local_num_chunks_before": 0},
    "learned positions": {"axial_pos_embds": False, "hidden_act": "gelu_new"},
    "odd widths": {"num_attention_heads": 3, "attention_head_size": 5, "layer_norm_eps": 1e-3},
    "odd chunks": {"local_attn_chunk_length": 4, "lsh_attn_chunk_length": 12},
    "bidirectional": {"is_decoder": False},
    "bidirectional both sides": {"is_decoder": False, "local_num_chunks_after": 1, "lsh_num_chunks_after": 1},
    "bidirectional lsh": {
        "is_decoder": False,
        "attn_layers": ["lsh"],
        "lsh_num_chunks_after": 2,
        "num_buckets": [2, 4],
    },
    "bidirectional local far": {"is_decoder": False, "attn_layers": ["local"], "local_num_chunks_before": 2},
}
# Float64: what is left is that their keys are x / sqrt(|x|² + D·1e-6). Nothing here is near 1e-4 but would be a defect.
CLOSE = {"rtol": 0.0, "atol": 1e-5}


@pytest.mark.parametrize("name", MODELS)
def test_logits(name: str):
    theirs = transformers_model(small_config(**MODELS[name]))
    ours = converted(theirs)
    longest = ours.config.longest_input
    for length in (1, 5, 8, 9, 21, longest):
        tokens = some_ids(ours.config.vocab_size, length)
        torch.testing.assert_close(our_logits(ours, tokens), their_logits(theirs, tokens), **CLOSE)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "bidirectional local far"])
def test_logits_of_real_tokens_beside_padding(name: str):
    theirs = transformers_model(small_config(**MODELS[name]))
    ours = converted(theirs)
    for length, real in ((5, 3), (21, 18), (ours.config.longest_input, 37)):
        tokens, mask = some_ids(ours.config.vocab_size, length), right_padding(length, real)
        found, expected = our_logits(ours, tokens, mask), their_logits(theirs, tokens, mask)
        torch.testing.assert_close(found[mask > 0], expected[mask > 0], **CLOSE)


@pytest.mark.parametrize("name", ["lsh-1", "lsh-4 factors", "bidirectional lsh"])
def test_lsh_layers_with_holes_in_the_mask(name: str):
    theirs = transformers_model(small_config(**MODELS[name]))
    ours = converted(theirs)
    for length in (7, 21, 48):
        tokens = some_ids(50, length)
        mask = (torch.rand(2, length, generator=torch.Generator().manual_seed(length)) > 0.4).long()
        found, expected = our_logits(ours, tokens, mask), their_logits(theirs, tokens, mask)
        torch.testing.assert_close(found[mask > 0], expected[mask > 0], **CLOSE)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("padded", [False, True])
def test_gradients(name: str, padded: bool):
    theirs = transformers_model(small_config(**MODELS[name])).train()
    ours = converted(theirs).train()
    # In training they take inputs of exactly the axial shape.
    length = ours.config.longest_input
    tokens, mask = some_ids(ours.config.vocab_size, length), right_padding(length, length - 5) if padded else None
    weights = torch.randn(2, length, ours.config.vocab_size, generator=torch.Generator().manual_seed(1)).double()
    if mask is not None:
        weights = weights * mask[..., None]
    positions = torch.arange(length).expand(2, length)
    with same_rotations():
        (theirs(tokens, attention_mask=mask).logits * weights).sum().backward()
        segments = None if mask is None else mask - 1
        (ours(tokens, segment_ids=segments, position_ids=positions) * weights).sum().backward()
    expected = theirs.reformer.embeddings.word_embeddings.weight.grad
    found = ours.embedding.weight.grad[: ours.config.vocab_size]
    assert relative_error(found, expected) < 1e-4
    for index, layer in enumerate(theirs.reformer.encoder.layers):
        expected = layer.attention.self_attention.value.weight.grad
        found = ours.stack.layers[index].attention.inner.to_v.weight.grad
        assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize("name", ["novel", "enwik8"])
def test_logits_in_float32(name: str):
    theirs = transformers_model(small_config(**MODELS[name]), torch.float32)
    ours = converted(theirs)
    # At their -1e5 a float32 has steps of 1/128: what that does is in test_transformers_differences.
    for layer in theirs.reformer.encoder.layers:
        if isinstance(layer.attention.self_attention, LSHSelfAttention):
            layer.attention.self_attention.self_mask_value_float32.fill_(-100.0)
    tokens = some_ids(ours.config.vocab_size, 64)
    torch.testing.assert_close(our_logits(ours, tokens), their_logits(theirs, tokens), rtol=0.0, atol=1e-4)
