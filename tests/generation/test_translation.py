"""Translation: beams against trying every text, batches, and greedy."""

import itertools

import pytest
import torch

from reformer.generation import translate, translate_packed
from reformer.models import EncoderDecoderConfig, ReformerConfig, ReformerEncoderDecoder, ReformerLM

V, END = 4, 0
SOURCES = [[1, 2, 3, 0], [3, 0], [2, 2, 1, 3, 1, 0], [1, 0]]


def model_of(seed: int, **changes) -> ReformerEncoderDecoder:
    options = {"vocab_size": V, "d_model": 8, "d_ff": 16, "n_heads": 2, "positions": "sinusoidal", "embedding_std": 2.0}
    torch.manual_seed(seed)
    return ReformerEncoderDecoder(EncoderDecoderConfig(**{**options, **changes})).eval()


def log_probabilities(
    model: ReformerEncoderDecoder, source: list[int], texts: list[tuple[int, ...]]
) -> dict[tuple[int, ...], float]:
    found = {}
    for n in {len(text) for text in texts}:
        alike = [text for text in texts if len(text) == n]
        tokens = torch.tensor(alike)
        sources = torch.tensor([source]).expand(len(alike), -1)
        with torch.no_grad():
            loss = model(sources, model.shift_right(tokens), targets=tokens, reduction="none", seed=0)
        found |= dict(zip(alike, (-loss.double().sum(1)).tolist()))
    return found


def every_text(length: int) -> list[tuple[int, ...]]:
    """All that end with END, and all of full length."""
    texts = [t for n in range(1, length + 1) for t in itertools.product(range(V), repeat=n)]
    return [t for t in texts if END not in t[:-1] and (t[-1] == END or len(t) == length)]


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_wide_beams_find_what_trying_everything_finds(seed: int, alpha: float):
    model, extra = model_of(seed), 1
    for source, found in zip(
        SOURCES[1::2], translate(model, SOURCES[1::2], end_id=END, num_beams=30, alpha=alpha, extra_tokens=extra)
    ):
        n = len(source) + extra
        log_p = log_probabilities(model, source, every_text(n))
        scored = sorted(((p / ((5 + len(text)) / 6) ** alpha, text) for text, p in log_p.items()), reverse=True)
        expected = scored[: len(found)]
        assert [h.score(alpha) for h in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
        assert found[0].tokens == expected[0][1]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_rows_of_a_batch_are_independent(num_beams: int):
    model = model_of(5, attention=("full", "local"), local_chunk_len=4)
    together = translate(model, SOURCES, end_id=END, num_beams=num_beams, extra_tokens=6)
    for source, found in zip(SOURCES, together):
        (alone,) = translate(model, [source], end_id=END, num_beams=num_beams, extra_tokens=6)
        assert [h.tokens for h in found] == [h.tokens for h in alone]
        expected = [h.log_probability for h in alone]
        assert [h.log_probability for h in found] == pytest.approx(expected, abs=1e-4)


def test_one_beam_is_greedy():
    model = model_of(1)
    for source, (best,) in zip(SOURCES, translate(model, SOURCES, end_id=END, num_beams=1, extra_tokens=3)):
        text: list[int] = []
        while len(text) < len(source) + 3 and END not in text:
            with torch.no_grad():
                logits = model(torch.tensor([source]), torch.tensor([[model.config.start_id, *text]]), seed=0)
            text.append(int(logits[0, -1].argmax()))
        assert best.tokens == tuple(text)


@pytest.mark.parametrize("seed", range(5))
def test_beams_score_at_least_as_well_as_greedy(seed: int):
    """Not a theorem for one sentence, but here with beams as many as the vocabulary it holds on the average."""
    model = model_of(seed)
    totals = []
    for num_beams in (1, 4):
        found = translate(model, SOURCES, end_id=END, num_beams=num_beams, alpha=0.6, extra_tokens=4)
        totals.append(sum(hypotheses[0].score(0.6) for hypotheses in found))
    assert totals[1] >= totals[0] - 1e-6


def test_a_translation_ends_with_its_end_token_or_at_its_limit():
    for source, hypotheses in zip(SOURCES, translate(model_of(2), SOURCES, end_id=END, num_beams=3, extra_tokens=2)):
        for h in hypotheses:
            assert END not in h.tokens[:-1]
            assert h.tokens[-1] == END or len(h.tokens) == len(source) + 2
    longest = model_of(2, positions="learned", max_len=5)
    found = translate(longest, [[1, 2, 0]], end_id=END, num_beams=8, extra_tokens=50)
    assert max(len(h.tokens) for h in found[0]) == 5


def test_an_empty_source_and_negative_extra_tokens_are_refused():
    with pytest.raises(ValueError, match="every source must have at least one token"):
        translate(model_of(0), [[1, 0], []], end_id=END)
    with pytest.raises(ValueError, match="extra_tokens must be at least 0, got -1"):
        translate(model_of(0), [[1, 0]], end_id=END, extra_tokens=-1)


def test_packed_rows_keep_their_own_room_whatever_the_others():
    torch.manual_seed(0)
    config = ReformerConfig(
        vocab_size=8, d_model=8, d_ff=8, n_heads=2, attention=("local", "lsh"), pattern="bucket", n_buckets=2,
        lsh_chunk_len=8, local_chunk_len=8, positions="rotary", max_len=32, embedding_std=2.0,
    )  # fmt: skip
    model = ReformerLM(config).eval()
    # Token 7 is never the likeliest end by chance alone: texts run to their limits.
    options = {"end_id": 7, "num_beams": 2, "extra_tokens": 5}
    with torch.no_grad():
        model.head.bias[7] = -1e4
    sources = [[1, 2, 3], [4] * 29, [5] * 12]
    found = translate_packed(model, sources, **options)
    assert [len(best[0].tokens) for best in found] == [8, 3, 17]
    alone = [translate_packed(model, [source], **options)[0] for source in sources]
    assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in row] for row in alone]
    with pytest.raises(ValueError, match=r"a source of 32 tokens leaves no room .* longest input of 32"):
        translate_packed(model, [[1], [4] * 32], **options)
    # The start, 31 tokens, and one more that nobody reads: that is all the room.
    assert [len(h.tokens) for h in translate_packed(model, [[4] * 31], **options)[0]] == [1, 1]
