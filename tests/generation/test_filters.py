"""Sampling filters against hand-computed distributions."""

import pytest
import torch

from reformer.generation import SamplingConfig, next_token_probabilities

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def probabilities(**options):
    return next_token_probabilities(LOGITS, SamplingConfig(**options)).tolist()


def test_plain_softmax_and_temperature():
    assert probabilities() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-6)
    squared = torch.tensor([0.25, 0.09, 0.0225, 0.0025])
    assert probabilities(temperature=0.5) == pytest.approx((squared / squared.sum()).tolist(), abs=1e-6)


def test_temperature_zero_is_greedy_and_ties_go_to_one_token():
    assert probabilities(temperature=0.0) == [1.0, 0.0, 0.0, 0.0]
    tied = next_token_probabilities(torch.zeros(3), SamplingConfig(temperature=0.0))
    assert tied.sum() == 1.0
    assert tied.max() == 1.0


def test_top_k_keeps_the_k_likeliest():
    assert probabilities(top_k=2) == pytest.approx([0.625, 0.375, 0.0, 0.0], abs=1e-6)
    assert probabilities(top_k=100) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=1e-6)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, 1), (0.6, 2), (0.9, 3), (1.0, 4), (1e-9, 1)], ids=lambda value: str(value)
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, kept):
    result = probabilities(top_p=top_p)
    assert [value > 0 for value in result] == [index < kept for index in range(4)]
    assert sum(result) == pytest.approx(1.0, abs=1e-6)
    assert result[0] == pytest.approx(0.5 / sum([0.5, 0.3, 0.15, 0.05][:kept]), abs=1e-6)


def test_top_p_does_not_depend_on_the_order_of_the_vocabulary():
    shuffled = next_token_probabilities(LOGITS[[2, 0, 3, 1]], SamplingConfig(top_p=0.6)).tolist()
    assert shuffled == pytest.approx([0.0, 0.625, 0.0, 0.375], abs=1e-6)


def test_min_p_is_relative_to_the_likeliest():
    assert probabilities(min_p=0.5) == pytest.approx([0.625, 0.375, 0.0, 0.0], abs=1e-6)


def test_filters_apply_in_the_documented_order():
    # Temperature first: at 0.5 the likeliest reaches 0.6 alone, so top-p keeps one token.
    assert probabilities(temperature=0.5, top_p=0.6) == [1.0, 0.0, 0.0, 0.0]
    # top-k = 2 renormalises to 0.625, 0.375 before top-p looks.
    assert probabilities(top_k=2, top_p=0.6) == [1.0, 0.0, 0.0, 0.0]


def test_filters_work_on_batches_and_low_precision():
    batch = torch.stack([LOGITS, LOGITS.flip(0)]).bfloat16()
    result = next_token_probabilities(batch, SamplingConfig(top_k=1))
    assert result.dtype == torch.float32
    assert result.tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temperature": float("nan")}, "temperature must be at least 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\]"),
        ({"min_p": 2.0}, r"min_p must be in \(0, 1\]"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        SamplingConfig(**options)


@pytest.mark.parametrize("temperature", [1e-20, 1e-40, 5e-324])
def test_however_cold_it_is_it_stays_a_distribution(temperature):
    logits = torch.tensor([1e9, -3e38, 1e9, float("-inf"), 9e8])
    found = next_token_probabilities(logits, SamplingConfig(temperature=temperature))
    assert found.tolist() == [0.5, 0.0, 0.5, 0.0, 0.0]
