"""Beam search equals trying everything, where there are as many beams as beginnings."""

import itertools
import math

import pytest
import torch

from reformer.generation import SamplingConfig, Stopping, beam_search, generate, search_beams
from reformer.models import ReformerConfig, ReformerLM

from .helpers import MarkovChain, MarkovState, byte_model

V, N = 3, 4


def texts(ends_with: int | None) -> list[tuple[int, ...]]:
    """All of N tokens, and all shorter ones that end with the token ``ends_with``, which stands nowhere else."""
    found = []
    for n in range(1, N + 1):
        for text in itertools.product(range(V), repeat=n):
            if ends_with not in text[:-1] and (n == N or text[-1] == ends_with):
                found.append(text)
    return found


def by_trying_everything(log_probability, alpha: float, ends_with: int | None) -> list[tuple[float, tuple[int, ...]]]:
    scored = [(log_probability(text) / ((5 + len(text)) / 6) ** alpha, text) for text in texts(ends_with)]
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("ends_with", [None, 1])
@pytest.mark.parametrize("seed", range(4))
def test_exhaustive_beams_find_the_best_of_a_markov_chain(seed, ends_with, alpha):
    table = torch.randn(V, V, generator=torch.Generator().manual_seed(seed)) * 2
    log_p = torch.log_softmax(table.double(), dim=-1)

    def log_probability(text):
        return sum(log_p[a, b].item() for a, b in zip((2, *text), text))

    stopping = Stopping(() if ends_with is None else (bytes([ends_with]),))
    options = {"num_beams": V ** (N - 1), "alpha": alpha, "stopping": stopping}
    found = search_beams(MarkovChain(table), MarkovState(1), torch.tensor([[0, 2]]), [N], **options)[0]
    expected = by_trying_everything(log_probability, alpha, ends_with)[: V ** (N - 1)]
    # A chain's texts with the same transitions are equally likely: which of them comes first is rounding.
    assert len({h.tokens for h in found}) == len(found) == len(expected)
    assert {h.tokens for h in found} <= set(texts(ends_with))
    assert [h.score(alpha) for h in found] == pytest.approx([score for score, _ in expected])
    assert [h.log_probability for h in found] == pytest.approx([log_probability(h.tokens) for h in found])


def test_exhaustive_beams_find_the_best_of_a_model():
    torch.manual_seed(2)
    config = ReformerConfig(
        vocab_size=V, d_model=8, d_ff=8, n_heads=2, attention=("lsh", "local"), pattern="bucket", n_buckets=2,
        lsh_chunk_len=4, local_chunk_len=2, axial_shape=(4, 4), embedding_std=2.0,
    )  # fmt: skip
    model = ReformerLM(config)

    def log_probability(text):
        with torch.no_grad():
            logits = model(torch.tensor([[config.start_id, 0, 2, *text[:-1]]]), seed=1)[0, 2:]
        return torch.log_softmax(logits.double(), -1)[range(len(text)), list(text)].sum().item()

    found = beam_search(model, [0, 2], N, num_beams=V ** (N - 1), rotation_seed=1)
    expected = by_trying_everything(log_probability, 0.0, None)[: V ** (N - 1)]
    assert [h.tokens for h in found] == [text for _, text in expected]
    assert [h.log_probability for h in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_one_beam_is_greedy():
    model = byte_model()
    (greedy,) = generate(model, [b"ab"], 9, SamplingConfig(temperature=0.0))
    assert [h.tokens for h in beam_search(model, b"ab", 9, num_beams=1)] == [tuple(greedy)]


def test_the_search_goes_on_while_a_longer_text_may_still_be_better():
    # The end, token 1, is likelier at once; token 0 goes on with certainty, and length is rewarded.
    table = torch.tensor([[0.0, -100.0, -100.0], [0.0, 0.0, 0.0], [math.log(0.4), math.log(0.6), -100.0]])
    options = {"num_beams": 2, "stopping": Stopping((b"\x01",))}
    long, short = (
        search_beams(MarkovChain(table), MarkovState(1), torch.tensor([[2]]), [N], alpha=alpha, **options)[0][0]
        for alpha in (3.0, 0.0)
    )
    assert long.tokens == (0,) * N and long.score(3.0) == pytest.approx(math.log(0.4) / 1.5**3)
    assert short.tokens == (1,)


def test_the_search_goes_on_though_as_many_texts_as_beams_have_ended():
    # 1 ends a text. After 0 comes 1 or 3 with equal chances, after 3 nothing but 3: the longest text has a score of -0.23.
    table = torch.full((4, 4), -100.0)
    table[2, [0, 1]] = table[0, [1, 3]] = table[3, 3] = 0.0
    options = {"num_beams": 2, "alpha": 3.0, "stopping": Stopping((b"\x01",))}
    (found,) = search_beams(MarkovChain(table), MarkovState(1), torch.tensor([[2]]), [6], **options)
    assert [h.tokens for h in found] == [(0, 3, 3, 3, 3, 3), (1,)]
    assert [h.score(3.0) for h in found] == pytest.approx([2 * math.log(0.5) / (11 / 6) ** 3, math.log(0.5)])


def test_equals_are_kept_in_the_order_of_tokens():
    options = {"num_beams": 4, "stopping": Stopping()}
    found = search_beams(MarkovChain(torch.zeros(V, V)), MarkovState(1), torch.tensor([[0]]), [2], **options)[0]
    assert [h.tokens for h in found] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_numbers_that_make_no_sense_are_refused():
    model = byte_model()
    with pytest.raises(ValueError, match="num_beams must be at least 1, got 0"):
        beam_search(model, b"", 1, num_beams=0)
    with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
        beam_search(model, b"", 1, num_beams=1, alpha=-1.0)


def test_a_model_that_has_diverged_is_named():
    model = byte_model()
    with torch.no_grad():
        model.head.bias.fill_(math.nan)
    with pytest.raises(ValueError, match="logits are not numbers"):
        beam_search(model, b"a", 3, num_beams=2)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("seed", range(6))
def test_one_beam_is_greedy_search(seed, alpha):
    table = torch.randn(V, V, generator=torch.Generator().manual_seed(seed))
    greedy, here = [], 2
    while len(greedy) < 12 and here != 1:
        here = int(table[here].argmax())
        greedy.append(here)
    options = {"num_beams": 1, "alpha": alpha, "stopping": Stopping((b"\x01",))}
    ((found,),) = search_beams(MarkovChain(table), MarkovState(1), torch.tensor([[0, 2]]), [12], **options)
    assert found.tokens == tuple(greedy)


@pytest.mark.parametrize("limits", [[0, 3], [3, 0, 2], [0, 0, 1], [0, 0]], ids=str)
def test_a_prompt_of_no_tokens_leaves_the_others_their_own_rows(limits):
    table = torch.randn(V, V, generator=torch.Generator().manual_seed(1)) * 2
    options = {"num_beams": 2, "stopping": Stopping(())}
    prompts = [[0, row % V] for row in range(len(limits))]
    found = search_beams(MarkovChain(table), MarkovState(len(limits)), torch.tensor(prompts), limits, **options)
    for prompt, limit, hypotheses in zip(prompts, limits, found):
        alone = search_beams(MarkovChain(table), MarkovState(1), torch.tensor([prompt]), [limit], **options)[0]
        assert [h.tokens for h in hypotheses] == [h.tokens for h in alone]
        assert [h.log_probability for h in hypotheses] == pytest.approx([h.log_probability for h in alone])
    with pytest.raises(ValueError, match="n_tokens must be one number for each of the"):
        search_beams(MarkovChain(table), MarkovState(len(limits)), torch.tensor(prompts), [*limits, 1], **options)
