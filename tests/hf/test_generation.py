"""``generate``: with the cache as without, each row as alone, every method, and what it refuses."""

import pytest
import torch
from tests.hf.helpers import padded, wrapped
from tests.models.factory import some_tokens
from tests.models.helpers import refuses
from transformers import GenerationConfig

from reformer.hf import ReformerCache, ReformerTorchForCausalLM, ReformerTorchModel

MODELS = {
    "local-lsh": {},
    "lsh-lsh, 3 rounds": {"attention": ("lsh", "lsh"), "n_hashes": 3, "n_buckets": (2, 2)},
    "lsh, window": {"attention": ("lsh",), "lsh_window": 3},
    "full-lsh, separate keys, rotary": {"attention": ("full", "lsh"), "shared_qk": False, "positions": "rotary"},
    "local-lsh, tied, sinusoidal": {"tie_embeddings": True, "positions": "sinusoidal"},
}
METHODS = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 5, "temperature": 0.8},
    "3 beams": {"num_beams": 3},
    "2 of 4 beams": {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5},
    "repetition penalty": {"repetition_penalty": 1.7},
    "end token": {"eos_token_id": 3},
}


def language_model(**changes):
    return wrapped(ReformerTorchForCausalLM, **changes)


def continued(model, ids, mask=None, n=13, **options):
    return model.generate(ids, attention_mask=mask, max_new_tokens=n, **options)[:, ids.shape[1] :]


def generated(model, ids, mask=None, n=13, **options):
    return model.generate(
        ids, attention_mask=mask, max_new_tokens=n, return_dict_in_generate=True, output_logits=True, **options
    )


@pytest.mark.parametrize(
    ("name", "method"),
    [("local-lsh", m) for m in METHODS] + [(n, m) for n in MODELS for m in ("greedy", "3 beams")][2:],
)
def test_the_cache_changes_nothing(name, method):
    model = language_model(**MODELS[name])
    ids = some_tokens(3, 17)
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    mask[2, :16] = 0
    for given in (None, mask):
        torch.manual_seed(11)
        cached = generated(model, ids, given, **METHODS[method])
        torch.manual_seed(11)
        parallel = generated(model, ids, given, use_cache=False, **METHODS[method])
        assert torch.equal(cached.sequences, parallel.sequences)
        # Tokens may agree by chance; the logits that they come from do not.
        for found, expected in zip(cached.logits, parallel.logits, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"use_cache": False}], ids=["greedy", "beams", "no cache"])
def test_each_row_of_a_padded_batch_continues_as_alone(options):
    model = language_model()
    tokens = some_tokens(3, 12, seed=2)
    lengths = (12, 5, 1)
    ids, mask = padded(tokens, 3, 0)
    for row, length in enumerate(lengths):
        mask[row, : 15 - length] = 0
    together = generated(model, ids, mask, **options)
    for row, length in enumerate(lengths):
        alone = generated(model, ids[row : row + 1, 15 - length :], **options)
        assert torch.equal(together.sequences[row, 15:], alone.sequences[0, length:])
        beams = len(alone.logits[0])
        for found, expected in zip(together.logits, alone.logits, strict=True):
            torch.testing.assert_close(found[row * beams : (row + 1) * beams], expected, rtol=0, atol=1e-5)


def test_cached_logits_are_the_parallel_ones():
    model = language_model()
    ids = some_tokens(2, 9)
    found = model.generate(ids, max_new_tokens=12, return_dict_in_generate=True, output_logits=True)
    parallel = model(found.sequences[:, :-1]).logits[:, 8:]
    torch.testing.assert_close(torch.stack(found.logits, dim=1).double(), parallel, rtol=0, atol=1e-5)
    cache = found.past_key_values
    assert isinstance(cache, ReformerCache)
    assert (cache.get_seq_length(), cache.get_max_cache_shape()) == (20, 20)


def test_rotations_are_those_of_the_seed_and_the_global_generator_is_left_alone():
    model = language_model(attention=("lsh", "lsh"))
    ids = some_tokens(4, 30)
    before = torch.get_rng_state()
    usual = model.generate(ids, max_new_tokens=30)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(usual, model.generate(ids, max_new_tokens=30, seed=0))
    other = model.generate(ids, max_new_tokens=30, seed=5)
    assert not torch.equal(usual, other)
    assert torch.equal(other, model.generate(ids, max_new_tokens=30, seed=5, use_cache=False))
    model.config.hash_seed = 5
    assert torch.equal(other, model.generate(ids, max_new_tokens=30))
    model.train()  # No dropout here, and neither fresh rotations: a generation has one set.
    assert torch.equal(other, model.generate(ids, max_new_tokens=30))


def test_a_cache_goes_on_where_it_was():
    model = language_model()
    ids = some_tokens(2, 10)
    cache = ReformerCache(max_len=60)
    first = model.generate(ids, max_new_tokens=8, past_key_values=cache)
    assert cache.get_seq_length() == 17
    second = model.generate(first, max_new_tokens=8, past_key_values=cache)
    assert torch.equal(second, model.generate(ids, max_new_tokens=16))
    with refuses(ValueError, "max_len=60"):
        model.generate(second, max_new_tokens=40, past_key_values=cache)


def test_the_cache_by_hand():
    model = wrapped(ReformerTorchModel)
    ids, mask = padded(some_tokens(2, 20), 3, 0)
    expected = model(ids, attention_mask=mask).last_hidden_state[:, 3:]
    first = model(ids[:, :9], attention_mask=mask[:, :9], use_cache=True)
    cache = first.past_key_values
    second = model(ids[:, 9:14], attention_mask=mask[:, :14], past_key_values=cache)
    third = model(ids[:, 14:], past_key_values=cache)
    assert second.past_key_values is cache and cache.get_seq_length() == 23
    found = torch.cat([first.last_hidden_state[:, 3:], second.last_hidden_state, third.last_hidden_state], dim=1)
    torch.testing.assert_close(found, expected)
    with refuses(ValueError, "attention_mask", "[2, 24]", "got [2, 1]"):
        model(ids[:, :1], attention_mask=mask[:, :1], past_key_values=cache)
    with refuses(ValueError, "leave position_ids out"):
        model(ids[:, :1], position_ids=ids[:, :1], past_key_values=cache)


def test_rows_of_a_cache():
    model = wrapped(ReformerTorchModel)
    ids = some_tokens(3, 12)
    expected = model(ids).last_hidden_state[:, -1:]

    def last(rows, change):
        cache = ReformerCache()
        model(ids[:, :11], past_key_values=cache)
        change(cache)
        return model(ids[rows, 11:], past_key_values=cache).last_hidden_state

    rows = torch.tensor([2, 0, 0, 1])
    for name in ("reorder_cache", "batch_select_indices"):
        torch.testing.assert_close(last(rows, lambda cache, n=name: getattr(cache, n)(rows)), expected[rows])
    twice = torch.tensor([0, 0, 1, 1, 2, 2])
    torch.testing.assert_close(last(twice, lambda cache: cache.batch_repeat_interleave(2)), expected[twice])


def test_embeddings_as_a_prompt():
    model = language_model()
    ids = some_tokens(2, 10)
    vectors = model.get_input_embeddings()(ids)
    assert torch.equal(model.generate(inputs_embeds=vectors, max_new_tokens=9), continued(model, ids, n=9))


def test_without_a_prompt_it_starts_with_the_start_token():
    model = language_model()
    start = torch.tensor([[model.config.bos_token_id]])
    assert model.config.bos_token_id == 11
    assert torch.equal(model.generate(max_new_tokens=9), model.generate(start, max_new_tokens=9))


def test_up_to_the_longest_input_and_no_further():
    model = language_model(axial_shape=(4, 8))
    ids = some_tokens(1, 20)
    for options in ({}, {"use_cache": False}, {"num_beams": 2}):
        assert model.generate(ids, max_new_tokens=13, **options).shape == (1, 33)
        with refuses(ValueError, "34 tokens", "longest input, 32", "at most max_new_tokens=13"):
            model.generate(ids, max_new_tokens=14, **options)
    with refuses(ValueError, "longest input, 32", "max_length of at most 33"):
        model.generate(ids, max_length=40)
    with refuses(ValueError, "longest input, 32", "shorten the prompt"):
        model.generate(some_tokens(1, 33), max_new_tokens=1)


def test_what_generation_refuses():
    model = language_model()
    with pytest.raises(ValueError, match="not supported with stateful models"):
        model.generate(some_tokens(1, 8), max_new_tokens=3, assistant_model=model)
    with refuses(ValueError, "attention_mask", "[2, 8]", "got [2, 7]"):
        model.generate(some_tokens(2, 8), attention_mask=torch.zeros(2, 7, dtype=torch.long), max_new_tokens=3)
    with refuses(ValueError, "no longest input", "max_len"):
        wrapped(ReformerTorchModel, positions="none")(some_tokens(1, 8), use_cache=True)


def test_a_generation_config():
    model = language_model()
    ids = some_tokens(2, 8)
    config = GenerationConfig(max_new_tokens=6, num_beams=2, bos_token_id=11, pad_token_id=12)
    assert torch.equal(
        model.generate(ids, generation_config=config), model.generate(ids, max_new_tokens=6, num_beams=2)
    )
