"""Generation: every token comes from the parallel pass over what is there so far."""

import pytest
import torch

from reformer.generation import SamplingConfig, generate
from reformer.models import ReformerConfig, ReformerLM

CONFIG = ReformerConfig(
    d_model=16, d_ff=16, n_heads=2, attention=("local", "lsh"), axial_shape=(4, 8), lsh_chunk_len=8, local_chunk_len=4
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ReformerLM(CONFIG)


def test_greedy_equals_the_argmax_of_the_parallel_pass(model):
    new = list(generate(model, b"abc", 12, SamplingConfig(temperature=0.0), seed=3))
    for count in range(len(new)):
        tokens = torch.tensor([[CONFIG.start_id, *b"abc", *new[:count]]])
        with torch.inference_mode():
            expected = model.eval()(tokens, seed=3)[0, -1].argmax().item()
        assert new[count] == expected


def test_the_seed_decides_the_bytes(model):
    def draw(seed):
        return list(generate(model, b"abc", 20, SamplingConfig(), seed=seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_the_global_generator_is_left_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(generate(model, b"", 3, SamplingConfig(), seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_the_longest_input_can_be_filled_and_not_exceeded(model):
    assert len(list(generate(model, b"x" * 30, 2, SamplingConfig()))) == 2
    with pytest.raises(ValueError, match="ask for at most 2 new bytes"):
        generate(model, b"x" * 30, 3, SamplingConfig())
    with pytest.raises(ValueError, match=r"prompt of 40 bytes.*longest input, 32; shorten the prompt"):
        generate(model, b"x" * 40, 1, SamplingConfig())


def test_models_that_cannot_continue_text_say_so():
    bidirectional = ReformerLM(ReformerConfig(d_model=16, d_ff=16, n_heads=2, attention=("local",), causal=False))
    with pytest.raises(ValueError, match="only a causal model"):
        generate(bidirectional, b"a", 1, SamplingConfig())
    symbols = ReformerLM(ReformerConfig(vocab_size=10, d_model=16, d_ff=16, n_heads=2, attention=("local",)))
    with pytest.raises(ValueError, match="10 symbols, not bytes"):
        generate(symbols, b"a", 1, SamplingConfig())
