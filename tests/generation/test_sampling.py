"""Sampling: a row is its own prompt, seed and logits, whatever stands beside it."""

import pytest
import torch

from reformer.generation import SamplingConfig, Stopping, generate, sample_tokens, stream
from reformer.models import ReformerConfig, ReformerLM

from .helpers import CONFIG, MarkovChain, MarkovState, byte_model

GREEDY = SamplingConfig(temperature=0.0)


@pytest.fixture(scope="module")
def model():
    return byte_model()


def one(model, prompt, n, sampling=GREEDY, seed=0, **options):
    return generate(model, [prompt], n, sampling, seeds=[seed], **options)[0]


def test_greedy_equals_the_argmax_of_the_parallel_pass(model):
    new = one(model, b"abc", 12, rotation_seed=3)
    for count in range(len(new)):
        tokens = torch.tensor([[CONFIG.start_id, *b"abc", *new[:count]]])
        with torch.inference_mode():
            expected = model.eval()(tokens, seed=3)[0, -1].argmax().item()
        assert new[count] == expected


def test_a_row_is_the_same_alone_and_in_any_batch(model):
    prompts, seeds = [b"abcdef", b"", b"xy", b"abcdef"], [5, 6, 7, 5]
    together = generate(model, prompts, 14, SamplingConfig(), seeds=seeds)
    assert together == [one(model, p, 14, SamplingConfig(), s) for p, s in zip(prompts, seeds)]
    assert together[0] == together[3] and together[0] != together[1]


def test_a_row_is_the_same_when_others_are_over_before(model):
    alone = [one(model, p, 16, SamplingConfig(), s) for s, p in enumerate((b"ab", b"c"))]
    # The first row ends with its own third byte, unless the second one happens to hold it.
    stop = bytes(alone[0][1:3])
    assert stop not in bytes(alone[1])
    rows = generate(model, [b"ab", b"c"], 16, SamplingConfig(), seeds=[0, 1], stop=[stop])
    assert rows == [alone[0][:3], alone[1]]


def test_the_seed_decides_the_bytes(model):
    assert one(model, b"abc", 20, SamplingConfig(), 1) == one(model, b"abc", 20, SamplingConfig(), 1)
    assert one(model, b"abc", 20, SamplingConfig(), 1) != one(model, b"abc", 20, SamplingConfig(), 2)


def test_rows_come_step_by_step_and_all_over_is_the_end():
    # 0 → 1 → 2 → 0 without choice.
    table = torch.full((3, 3), -100.0).scatter_(1, torch.tensor([[1], [2], [0]]), 0.0)
    steps = sample_tokens(
        MarkovChain(table),
        MarkovState(2),
        torch.tensor([[0, 1], [0, 0]]),
        torch.tensor([[0, 0], [0, -1]]),
        9,
        GREEDY,
        seeds=[0, 0],
        # The string ends in the middle of the second token.
        stopping=Stopping((b"cx",), lambda token: (b"ab", b"cd", b"xc")[token]),
    )
    assert list(steps) == [[2, 1], [0, 2], [1, 0], [2, 1], [0, 2], [1, 0], [2, 1], [0, 2], [1, 0]]
    steps = sample_tokens(
        MarkovChain(table),
        MarkovState(2),
        torch.tensor([[1], [0]]),
        None,
        9,
        GREEDY,
        seeds=[0, 0],
        stopping=Stopping((b"bcd", b"never"), lambda token: (b"ab", b"cd", b"xc")[token]),
    )
    # Rows: xc ab cd, and cd xc ab cd.
    assert list(steps) == [[2, 1], [0, 2], [1, 0], [None, 1]]


def test_repetition_penalty_counts_prompt_and_continuation_but_no_padding():
    table = torch.tensor([[3.0, 2.9, 2.8, 1.0]]).expand(4, 4)

    def tokens(prompt, segment_ids):
        sampling = SamplingConfig(temperature=0.0, repetition_penalty=1.2)
        state, n, options = MarkovState(1), 3, {"seeds": [0], "stopping": Stopping()}
        prompt, segments = torch.tensor([prompt]), torch.tensor([segment_ids])
        steps = sample_tokens(MarkovChain(table), state, prompt, segments, n, sampling, **options)
        return [token for (token,) in steps]

    assert tokens([3], [0]) == [0, 1, 2]
    assert tokens([0, 3], [-1, 0]) == [0, 1, 2]
    assert tokens([0, 3], [0, 0]) == [1, 2, 0]
    # The start token, beyond the vocabulary, is nobody's repetition.
    table = torch.cat([table, table[:1]])
    assert tokens([4], [0]) == [0, 1, 2]


def test_the_global_generator_is_left_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one(model, b"", 3, SamplingConfig())
    assert torch.equal(before, torch.get_rng_state())


def test_the_longest_input_can_be_filled_and_not_exceeded(model):
    assert len(one(model, b"x" * 30, 2)) == 2
    with pytest.raises(ValueError, match="ask for at most 2 new bytes"):
        stream(model, [b"", b"x" * 30], 3, GREEDY)
    with pytest.raises(ValueError, match=r"prompt of 40 bytes.*longest input, 32; shorten the prompt"):
        stream(model, [b"x" * 40], 1, GREEDY)
    with pytest.raises(ValueError, match="prompt of 5 and 4 new ones exceed max_len=8"):
        stream(model, [b"", b"x" * 5], 4, GREEDY, max_len=8)


def test_token_ids_continue_a_model_of_symbols():
    torch.manual_seed(1)
    symbols = ReformerLM(
        ReformerConfig(vocab_size=10, d_model=16, d_ff=16, n_heads=2, attention=("lsh",), positions="none")
    )
    rows = generate(symbols, [[1, 2, 3], [], [9]], 5, SamplingConfig())
    assert [len(row) for row in rows] == [5, 5, 5] and max(map(max, rows)) < 10
    with pytest.raises(ValueError, match=r"token ids must be in \[0, 10\), got 3 to 10"):
        stream(symbols, [[3, 10]], 1, GREEDY)
    with pytest.raises(ValueError, match=r"10 symbols: give stop=Stopping"):
        stream(symbols, [[3]], 1, GREEDY, stop=[b"a"])


def test_models_that_cannot_continue_text_say_so():
    bidirectional = ReformerLM(ReformerConfig(d_model=16, d_ff=16, n_heads=2, attention=("local",), causal=False))
    with pytest.raises(ValueError, match="only a causal model"):
        stream(bidirectional, [b"a"], 1, GREEDY)
    symbols = ReformerLM(ReformerConfig(vocab_size=10, d_model=16, d_ff=16, n_heads=2, attention=("local",)))
    with pytest.raises(ValueError, match="10 symbols, not bytes"):
        stream(symbols, [b"a"], 1, GREEDY)
    with pytest.raises(ValueError, match="one seed for each, got 2 prompts, 1 seeds"):
        stream(symbols, [[1], [2]], 1, GREEDY, seeds=[1])
