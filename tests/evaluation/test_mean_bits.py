"""Bits of held-out tokens against hand computation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reformer.data import duplication_batch, evaluation_windows, masked_batch
from reformer.evaluation.mean_bits import masked_mean_bits, mean_bits, scored_accuracy
from reformer.evaluation.variants import attention_variant
from reformer.models import ReformerConfig, ReformerLM

CONFIG = ReformerConfig(
    d_model=16, d_ff=16, n_heads=2, attention=("local", "lsh"), axial_shape=(8, 8), lsh_chunk_len=8, local_chunk_len=8
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ReformerLM(CONFIG)


def nats(model, window, scored):
    """The negative log-likelihood of the last ``scored`` bytes of one window, the plain way."""
    tokens = torch.tensor([window])
    inputs = torch.tensor([[CONFIG.start_id, *window[:-1]]])
    with torch.inference_mode():
        logits = model.eval()(inputs, seed=0)
    return F.cross_entropy(logits[0, -scored:].double(), tokens[0, -scored:], reduction="sum").item()


@pytest.mark.parametrize("overlap", [0, 20])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_byte_is_scored_once_from_its_own_window(model, overlap, batch_size):
    data = np.frombuffer(np.random.default_rng(0).bytes(150), np.uint8)
    windows = list(evaluation_windows(data, 64, overlap=overlap))
    result = mean_bits(model, windows, batch_size=batch_size)
    expected = sum(nats(model, window.tolist(), scored) for window, scored in windows)
    assert result.n == 150
    assert result.bits == pytest.approx(expected / 150 / math.log(2), rel=1e-5)


def test_a_uniform_model_needs_eight_bits(model):
    uniform = ReformerLM(CONFIG)
    with torch.no_grad():
        uniform.head.weight.zero_()
        uniform.head.bias.zero_()
    data = np.arange(100, dtype=np.uint8)
    assert mean_bits(uniform, evaluation_windows(data, 64)).bits == pytest.approx(8.0, rel=1e-6)


def test_evaluation_repeats_and_leaves_mode_and_generator_alone(model):
    data = np.arange(100, dtype=np.uint8)
    model.train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = mean_bits(model, evaluation_windows(data, 64))
    assert first == mean_bits(model, evaluation_windows(data, 64))
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_nothing_to_score_is_refused(model):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        mean_bits(model, [])


def test_masked_bits_count_only_the_hidden_bytes():
    torch.manual_seed(0)
    model = ReformerLM(ReformerConfig(d_model=16, d_ff=16, n_heads=2, attention=("local",), causal=False))
    windows = np.random.default_rng(1).integers(0, 256, (2, 50))
    inputs, mask = masked_batch(windows, mask_id=model.config.mask_id, seed=0, step=0)
    result = masked_mean_bits(model, [(inputs, windows, mask)])
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(inputs), seed=0)
    scored = torch.from_numpy(mask)
    expected = F.cross_entropy(logits[scored], torch.from_numpy(windows)[scored]).item() / math.log(2)
    assert result.n == mask.sum()
    assert result.bits == pytest.approx(expected, rel=1e-5)


def test_accuracy_is_over_the_second_half():
    torch.manual_seed(0)
    config = ReformerConfig(vocab_size=8, d_model=16, d_ff=16, n_heads=2, attention=("full",), axial_shape=(8, 8))
    model = ReformerLM(config)
    sequence, mask = duplication_batch(6, 4, seed=0, step=0, n_symbols=7)
    result = scored_accuracy(model, [(sequence, mask)])
    tokens = torch.from_numpy(sequence)
    with torch.inference_mode():
        guesses = model.eval()(model.shift_right(tokens), seed=0).argmax(-1)
    assert result.n == 4 * 6
    assert result.accuracy == (guesses[:, 8:] == tokens[:, 8:]).float().mean().item()


def test_attention_variants_keep_the_weights_and_change_the_attention(model):
    full = attention_variant(model, "full")
    assert full.config.attention == ("local", "full")
    assert attention_variant(full, "lsh-3").config.attention == ("local", "lsh")
    four = attention_variant(model, "lsh-4")
    assert (four.config.attention, four.config.n_hashes) == (("local", "lsh"), 4)
    assert all(torch.equal(a, b) for a, b in zip(four.state_dict().values(), model.state_dict().values()))
    assert attention_variant(model, "as-trained") is model
    # Enough rounds see every pair: LSH attention becomes full attention.
    tokens = torch.randint(0, 256, (1, 16))
    many = attention_variant(model, "lsh-64").eval()
    with torch.inference_mode():
        torch.testing.assert_close(many(tokens), full.eval()(tokens), rtol=1e-4, atol=1e-4)
    for name in ("lsh-0", "lsh", "dense"):
        with pytest.raises(ValueError, match="unknown attention"):
            attention_variant(model, name)


def test_a_model_of_local_layers_has_nothing_to_replace():
    local = ReformerLM(ReformerConfig(d_model=16, d_ff=16, n_heads=2, attention=("local",), axial_shape=(4, 4)))
    for name in ("full", "lsh-2"):
        with pytest.raises(ValueError, match=f"local layers only: there is none to make '{name}'"):
            attention_variant(local, name)
    assert attention_variant(local, "as-trained") is local
