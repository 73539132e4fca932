"""Bits by position: each range is the mean of its own bytes, and all of them are the evaluation taken apart."""

import math

import numpy as np
import pytest
import torch
from tests.evaluation.test_mean_bits import CONFIG, nats
from tests.training.runs import TINY, tiny

from reformer.models import ReformerLM
from reproduction.experiments.positions import bits_by_position, evaluate_positions


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ReformerLM(CONFIG)


def test_by_position_each_range_is_the_mean_of_its_own_bytes(model):
    windows = [np.random.default_rng(seed).integers(0, 256, 33) for seed in range(3)]
    first, second = bits_by_position(model, windows, [5, 33])
    tails = [nats(model, window.tolist(), 28) for window in windows]
    heads = [nats(model, window.tolist(), 33) - tail for window, tail in zip(windows, tails)]
    assert first == pytest.approx(sum(heads) / 15 / math.log(2), rel=1e-5)
    assert second == pytest.approx(sum(tails) / 84 / math.log(2), rel=1e-5)


@pytest.mark.parametrize("edges", [[0, 5], [5, 5], [5, 34]])
def test_by_position_edges_lie_in_the_window_and_ascend(model, edges):
    with pytest.raises(ValueError, match="do not ascend from above 0 to at most the window's 33"):
        bits_by_position(model, [np.zeros(33, np.int64)], edges)
    with pytest.raises(ValueError, match="no window"):
        bits_by_position(model, [], [5])


def test_bits_per_byte_by_position_are_those_of_the_evaluation_taken_apart(tmp_path):
    task = tiny(tmp_path).make_task(tmp_path / "cache")
    length = TINY.seq_len
    torch.manual_seed(0)
    model = ReformerLM(TINY.model)
    # 3 whole windows and a half: the half has no position of its own.
    limit = 3 * length + length // 2
    edges = [1, length // 4, length]
    points = evaluate_positions(task, model, "validation", limit, edges)
    assert [edge for edge, _ in points] == edges
    widths = np.diff([0, *edges])
    whole = task.evaluate(model, "validation", 3 * length).value
    assert np.dot(widths, [value for _, value in points]) / length == pytest.approx(whole, rel=1e-6)
    assert len({round(value, 6) for _, value in points}) == 3
