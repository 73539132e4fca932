"""Cached decoding equals the parallel pass: any model, prompt, batch, padding, and split of the tokens into calls."""

import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from reformer.models import ReformerConfig, ReformerLM

VOCAB, N_CASES, PER_TEST = 13, 200, 20


class Case(NamedTuple):
    model: ReformerLM
    tokens: Tensor
    segment_ids: Tensor | None
    calls: list[int]
    max_len: int
    seed: int


def random_model(draw: random.Random) -> ReformerLM:
    kinds = [("lsh",), ("local",), ("full",), ("local", "lsh"), ("lsh", "full", "lsh"), ("full", "local")]
    config = ReformerConfig(
        vocab_size=VOCAB,
        d_model=8 * draw.choice([1, 2]),
        d_ff=16,
        n_heads=draw.choice([1, 2]),
        d_attn=draw.choice([None, 8, 20]),
        attention=draw.choice(kinds),
        shared_qk=draw.random() < 0.6,
        n_hashes=draw.choice([1, 2, 3, 5]),
        n_buckets=draw.choice([None, 2, 4, 8, (2, 4)]),
        pattern="bucket",
        lsh_chunk_len=draw.choice([3, 8]),
        lsh_window=draw.choice([None, 1, 3, 7]),
        local_chunk_len=draw.choice([1, 3, 8, 100]),
        activation=draw.choice(["relu", "gelu", "swiglu"]),
        positions=draw.choice(["axial", "learned", "sinusoidal", "rotary", "rotary-local", "none"]),
        axial_shape=(8, 16),
        max_len=128,
        embedding_std=1.0,
        dropout=0.3,
        attention_dropout=0.3,
        ff_chunk_len=draw.choice([None, 7]),
        attention_scale=draw.choice([1.0, 0.5]),
        **draw.choice([{}, {}, {"streams": 1, "reversible": False}]),
    )
    torch.manual_seed(draw.randrange(1000))
    return ReformerLM(config).eval()


def random_padding(draw: random.Random, batch: int, length: int) -> Tensor | None:
    """Left padding, padding anywhere, both, or none; now and then a whole row."""
    kind = draw.choice(["none", "left", "anywhere", "both"])
    if kind == "none":
        return None
    segment_ids = torch.full((batch, length), draw.choice([0, 0, 5]))
    for row in segment_ids:
        if kind in ("left", "both"):
            row[: draw.randrange(length)] = -1
        if kind in ("anywhere", "both"):
            row[torch.tensor([draw.random() < 0.3 for _ in range(length)])] = -3
    if draw.random() < 0.1:
        segment_ids[0] = -1
    return segment_ids


def random_split(draw: random.Random, length: int) -> list[int]:
    """Lengths of the calls: a prompt of any length, then one or several tokens at a time."""
    calls = [draw.choice([1, draw.randint(1, length), length])]
    while sum(calls) < length:
        calls.append(min(draw.choice([1, 1, 1, 2, 5, 20]), length - sum(calls)))
    return calls


def random_case(number: int) -> Case:
    draw = random.Random(number)
    length, batch = draw.choice([1, 2, 9, 24, 47]), draw.choice([1, 2, 3])
    generator = torch.Generator().manual_seed(number)
    return Case(
        model=random_model(draw),
        tokens=torch.randint(0, VOCAB, (batch, length), generator=generator),
        segment_ids=random_padding(draw, batch, length),
        calls=random_split(draw, length),
        max_len=draw.choice([length, 100]),
        seed=draw.randrange(5),
    )


def decode_in_calls(model: ReformerLM, tokens: Tensor, segment_ids: Tensor | None, calls: list[int], state) -> Tensor:
    """Logits [B, L, V] of all tokens, ``calls[i]`` of them at a time."""
    logits, first = [], 0
    for count in calls:
        part = slice(first, first + count)
        logits.append(model.decode(tokens[:, part], state, None if segment_ids is None else segment_ids[:, part]))
        first += count
    return torch.cat(logits, dim=1)


def buckets_in(state) -> list[Tensor]:
    """Those of the real tokens of each LSH layer, [H, R, count] of each row."""
    counts = state.counts.tolist()
    return [c.buckets[b, ..., :n] for c in state.caches if c.buckets is not None for b, n in enumerate(counts)]


@pytest.mark.parametrize("first", range(0, N_CASES, PER_TEST))
def test_cached_logits_are_those_of_the_parallel_pass(first):
    flipped = 0
    for number in range(first, first + PER_TEST):
        case = random_case(number)
        state = case.model.decoding_state(case.tokens.shape[0], case.max_len, case.seed)
        found = decode_in_calls(case.model, case.tokens, case.segment_ids, case.calls, state)
        # Two products of different shapes differ in their last bits, and a vector midway between two buckets may then
        # fall into either: such a case compares two different functions.
        whole = case.model.decoding_state(case.tokens.shape[0], case.max_len, case.seed)
        case.model.decode(case.tokens, whole, case.segment_ids)
        if any(not torch.equal(a, b) for a, b in zip(buckets_in(state), buckets_in(whole), strict=True)):
            flipped += 1
            continue
        parallel = case.model.with_changes(n_buckets=state.n_buckets)
        with torch.no_grad():
            expected = parallel(case.tokens, segment_ids=case.segment_ids, seed=case.seed)
        message = f"case {number}: {case.model.config}, calls {case.calls}, padding {case.segment_ids}"
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4, msg=lambda m, t=message: f"{m}\n{t}")
        assert torch.equal(found.argmax(-1), expected.argmax(-1)), message
        assert state.length == case.tokens.shape[1]
    assert flipped <= 1
