"""Where transformers' Reformer is wrong, and by how much: the rows of docs/conversion.md. ``-s`` prints the sizes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import ReformerForSequenceClassification
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


def report(what: str, size: float) -> float:
    print(f"\n{what}: {size:.1e}")
    return size


def largest(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def error_of_their_gradient(monkeypatch: pytest.MonkeyPatch, compute: Callable, **changes) -> float:
    """Relative error of the gradient of the embeddings, against plain autograd with the draws of the forward pass."""
    model = transformers_model(small_config(**changes)).train()
    masks, buckets = [], []
    draw, hash_vectors = torch.nn.functional.dropout, LSHSelfAttention._hash_vectors

    def recorded_dropout(x, p=0.5, training=True, inplace=False):
        if p == 0.0 or not training:
            return x
        masks.append(draw(torch.ones_like(x), p))
        return x * masks[-1]

    def recorded_buckets(self, *arguments, **options):
        buckets.append(hash_vectors(self, *arguments, **options))
        return buckets[-1]

    monkeypatch.setattr(torch.nn.functional, "dropout", recorded_dropout)
    monkeypatch.setattr(LSHSelfAttention, "_hash_vectors", recorded_buckets)
    weight = model.reformer.embeddings.word_embeddings.weight
    loss = compute(lambda tokens: model(tokens).logits)
    drawn = iter(masks.copy())
    loss.backward()
    found = weight.grad.clone()
    weight.grad = None

    def replayed(tokens: Tensor) -> Tensor:
        first = second = model.reformer.embeddings(tokens)
        for layer in model.reformer.encoder.layers:
            first = first + layer.attention(hidden_states=second).hidden_states
            second = second + layer.feed_forward(first)
        return model.lm_head(model.reformer.encoder.layer_norm(torch.cat([first, second], -1)))

    hashed = iter(buckets.copy())
    monkeypatch.setattr(
        torch.nn.functional,
        "dropout",
        lambda x, p=0.5, training=True, inplace=False: x if p == 0.0 else x * next(drawn),
    )
    monkeypatch.setattr(LSHSelfAttention, "_hash_vectors", lambda *_, **__: next(hashed))
    compute(replayed).backward()
    return ((found - weight.grad).norm() / weight.grad.norm()).item()


def once(logits: Callable[[Tensor], Tensor]) -> Tensor:
    return logits(some_ids(50, 48)).square().mean()


def twice(logits: Callable[[Tensor], Tensor]) -> Tensor:
    return logits(some_ids(50, 48)).square().mean() + logits(some_ids(50, 48).flip(1)).square().mean()


def test_gradients_under_dropout(monkeypatch: pytest.MonkeyPatch):
    # Ours: tests/models/test_reversible.py::test_equals_plain_autograd, and below in float32.
    with monkeypatch.context() as patch:
        assert error_of_their_gradient(patch, once, attn_layers=["lsh", "lsh"]) < 1e-9
    with monkeypatch.context() as patch:
        assert (
            error_of_their_gradient(patch, once, attn_layers=["local"], local_attention_probs_dropout_prob=0.1) < 1e-9
        )
    wrong = {"attn_layers": ["lsh", "lsh"], "lsh_attention_probs_dropout_prob": 0.1}
    assert report("gradient, LSH with dropout 0.1", error_of_their_gradient(monkeypatch, once, **wrong)) > 0.01


def test_two_forwards_before_a_backward(monkeypatch: pytest.MonkeyPatch):
    # Ours: tests/models/test_reversible.py::test_two_forwards_before_one_backward.
    changes = {"attn_layers": ["local"], "local_attention_probs_dropout_prob": 0.1}
    assert report("gradient, two forwards", error_of_their_gradient(monkeypatch, twice, **changes)) > 0.01


def test_our_gradient_of_a_converted_model_under_dropout_is_that_of_plain_autograd():
    config = small_config(attn_layers=["lsh", "lsh"], lsh_attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1)
    ours = converted(transformers_model(config, torch.float32)).train()
    gradients = []
    for model in (ours, ours.with_changes(reversible=False)):
        once(lambda tokens, m=model: m(tokens, seed=1)).backward()
        gradients.append(model.embedding.weight.grad)
    assert ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item() <= 1e-5


def test_the_bias_of_the_head():
    theirs = transformers_model(small_config())
    tokens = some_ids(50, 21)
    with same_rotations(), torch.no_grad():
        before = theirs(tokens).logits
        theirs.lm_head.bias.add_(1.0)
        assert torch.equal(theirs(tokens).logits, before)
        found = converted(theirs)(tokens)
    torch.testing.assert_close(found, before + theirs.lm_head.bias, rtol=0.0, atol=1e-5)
    assert report("lm_head.bias left out", theirs.lm_head.bias.abs().max().item()) > 1.0


def decoded(model, tokens: Tensor) -> Tensor:
    """Logits of the last token with a cache of those before."""
    with same_rotations(), torch.no_grad():
        past = model(tokens[:, :-1], use_cache=True).past_buckets_states
        return model(tokens[:, -1:], past_buckets_states=past, use_cache=True).logits[:, -1]


def test_rows_of_cached_decoding():
    # Ours: tests/models/test_decoding.py and tests/hf.
    theirs = transformers_model(small_config(attn_layers=["lsh", "lsh"]))
    tokens = some_ids(50, 33)
    alone, together = decoded(theirs, tokens[1:]), decoded(theirs, tokens)
    torch.testing.assert_close(together[0], decoded(theirs, tokens[:1])[0])
    assert report("decoding: row 1 of a batch and alone", largest(together[1], alone[0])) > 0.05


def test_the_mask_of_generate():
    theirs = transformers_model(small_config(), torch.float32)
    tokens, mask = some_ids(50, 12, batch=1), torch.ones(1, 12, dtype=torch.int64)
    mask[:, :6] = 0
    options = {"max_new_tokens": 3, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with same_rotations():
        masked = theirs.generate(tokens, attention_mask=mask, **options).logits[0]
        unmasked = theirs.generate(tokens, attention_mask=torch.ones_like(mask), **options).logits[0]
        assert torch.equal(masked, unmasked)
        with torch.no_grad():
            right = theirs(tokens, attention_mask=mask, use_cache=False).logits[:, -1]
    assert report("generate: attention_mask dropped", largest(masked, right)) > 0.05


def test_hash_seed_and_the_global_generator():
    tokens = some_ids(50, 21)
    theirs = transformers_model(small_config(hash_seed=5))
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        theirs(tokens)
        draws.append(torch.rand(3))
    assert torch.equal(*draws)
    ours = converted(theirs)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    ours(tokens)
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_repeats():
    theirs = transformers_model(small_config())
    tokens = some_ids(50, 48)
    ours = converted(theirs)
    with torch.no_grad():
        size = largest(theirs(tokens).logits, theirs(tokens).logits)
        assert torch.equal(ours(tokens), ours(tokens))
    assert report("two evaluations without hash_seed", size) > 0.05


def test_automatic_buckets():
    theirs = transformers_model(small_config(num_buckets=None, hash_seed=0, axial_pos_shape=[64, 64],
                                             max_position_embeddings=4096))  # fmt: skip
    with torch.no_grad():
        theirs(some_ids(50, 16, batch=1))
        assert theirs.config.num_buckets == 4
        theirs(some_ids(50, 1024, batch=1))
    assert theirs.config.num_buckets == 4, "the paper's 2·L/chunk would be 256"


def test_classification_of_a_causal_model():
    # Ours: tests/hf, the last real token.
    torch.manual_seed(0)
    theirs = ReformerForSequenceClassification(small_config(hash_seed=0)).eval()
    tokens = some_ids(50, 48, batch=1)
    changed = tokens.clone()
    changed[:, 1:] = (changed[:, 1:] + 7) % 50
    with torch.no_grad():
        assert torch.equal(theirs(tokens).logits, theirs(changed).logits)


def test_backward_in_evaluation_mode():
    theirs = transformers_model(small_config())
    tokens = some_ids(50, 48)
    with pytest.raises(AssertionError, match="make sure to use"):
        once(lambda t: theirs(t).logits).backward()
    ours = converted(theirs)
    ours(tokens).sum().backward()
    assert ours.embedding.weight.grad.abs().sum() > 0


def test_the_amount_of_padding():
    theirs = transformers_model(small_config(is_decoder=False, num_hashes=1))
    ours = converted(theirs)
    inert = ours.with_changes(pattern="paper", local_wrap=False)
    tokens = some_ids(50, 48)
    results: dict[str, list[Tensor]] = {"theirs": [], "ours": [], "inert": []}
    for length in (24, 48):
        mask = right_padding(length, 0)
        mask[:, :20], mask[:, 20:] = 1, 0
        given = tokens[:, :length]
        results["theirs"].append(their_logits(theirs, given, mask)[:, :20])
        results["ours"].append(our_logits(ours, given, mask)[:, :20])
        results["inert"].append(our_logits(inert, given, mask)[:, :20])
    assert report("20 tokens padded to 24 or to 48", largest(*results["theirs"])) > 0.05
    # The pattern they were trained with has this; the paper's has not.
    torch.testing.assert_close(results["ours"][1], results["theirs"][1], rtol=0.0, atol=1e-5)
    assert largest(*results["inert"]) < 1e-9


def test_chunks_of_filling():
    theirs = transformers_model(small_config(lsh_attn_chunk_length=8, local_attn_chunk_length=12, num_hashes=1))
    ours, tokens = converted(theirs), some_ids(50, 14)
    expected = their_logits(theirs, tokens)
    assert report("14 tokens filled up to 24, not to 16", largest(our_logits(ours, tokens), expected)) > 0.01
    filled = torch.cat([tokens, torch.zeros(2, 10, dtype=torch.int64)], 1)
    mask = torch.cat([torch.ones_like(tokens), torch.zeros(2, 10, dtype=torch.int64)], 1)
    torch.testing.assert_close(our_logits(ours, filled, mask)[:, :14], expected, rtol=0.0, atol=1e-5)


def test_look_back_around_a_short_input():
    theirs = transformers_model(small_config(attn_layers=["local"], local_num_chunks_before=3))
    ours = converted(theirs)
    with torch.no_grad():
        short, long = some_ids(50, 16), some_ids(50, 32)
        size = largest(our_logits(ours, short), their_logits(theirs, short))
        torch.testing.assert_close(our_logits(ours, long), their_logits(theirs, long), rtol=0.0, atol=1e-5)
    assert report("3 chunks back in an input of 2: a chunk counts twice", size) > 1e-3


def test_holes_in_the_mask():
    theirs = transformers_model(small_config(attn_layers=["local"]))
    ours, tokens = converted(theirs), some_ids(50, 24)
    mask = torch.ones(2, 24, dtype=torch.int64)
    mask[:, 3:9] = 0
    kept = mask > 0
    found, expected = our_logits(ours, tokens, mask), their_logits(theirs, tokens, mask)
    assert report("holes in the mask, local", largest(found[kept], expected[kept])) > 1e-3
    # Ours: a hole is as if nothing had stood there.
    without = ours(tokens[:, mask[0] > 0])
    torch.testing.assert_close(ours(tokens, segment_ids=mask - 1)[kept].view_as(without), without)


def test_a_token_that_sees_nobody_in_float32():
    changes = {"attn_layers": ["lsh"], "num_hashes": 4, "is_decoder": True}
    theirs = transformers_model(small_config(**changes), torch.float32)
    exact = transformers_model(small_config(**changes))
    tokens = some_ids(50, 48)
    expected = their_logits(exact, tokens)[:, 0]
    found, ours = their_logits(theirs, tokens)[:, 0], our_logits(converted(theirs), tokens)[:, 0]
    assert report("first token in float32, 4 rounds", largest(found, expected)) > 1e-5
    assert largest(ours, expected) < 1e-5


def test_keys_of_tiny_queries():
    theirs = transformers_model(small_config(attn_layers=["lsh"]))
    with torch.no_grad():
        theirs.reformer.encoder.layers[0].attention.self_attention.query_key.weight.mul_(0.01)
    tokens = some_ids(50, 48)
    size = largest(our_logits(converted(theirs), tokens), their_logits(theirs, tokens))
    # Attention is then nearly uniform either way.
    assert 1e-6 < report("queries of norm about 0.01", size) < 1e-3
