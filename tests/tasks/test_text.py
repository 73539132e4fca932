"""What a trained model is looked at on: the inputs of held-out windows."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.training.runs import TINY, tiny

from reformer.models import ReformerLM


def test_a_causal_model_reads_successive_windows_behind_the_start_id(tmp_path):
    task = tiny(tmp_path).make_task(tmp_path / "cache")
    text = np.frombuffer((tmp_path / "text.txt").read_bytes(), dtype=np.uint8)
    first, second = task.held_out("validation", 2)
    assert first.tolist() == [TINY.model.start_id, *text[18_000 : 18_000 + TINY.seq_len - 1]]
    assert second.tolist()[1:] == text[18_000 + TINY.seq_len : 18_000 + 2 * TINY.seq_len - 1].tolist()
    # A split of 1,000 bytes ends with a shorter window, and has no more.
    lengths = [len(window) for window in task.held_out("test", 100)]
    assert sum(lengths) == 1000 and set(lengths[:-1]) == {TINY.seq_len}


def test_a_bidirectional_model_reads_the_window_with_hidden_bytes(tmp_path):
    model = dataclasses.replace(TINY.model, causal=False)
    task = tiny(tmp_path, objective="masked", model=model).make_task(tmp_path / "cache")
    text = np.frombuffer((tmp_path / "text.txt").read_bytes(), dtype=np.uint8)[18_000:]
    (window,) = task.held_out("validation", 1)
    hidden = window == model.mask_id
    assert 0 < hidden.sum() < len(window)
    assert (window == text[: len(window)]).sum() > len(window) // 2


def test_bits_per_byte_by_position_are_those_of_the_evaluation_taken_apart(tmp_path):
    task = tiny(tmp_path).make_task(tmp_path / "cache")
    length = TINY.seq_len
    torch.manual_seed(0)
    model = ReformerLM(TINY.model)
    # 3 whole windows and a half: the half has no position of its own.
    limit = 3 * length + length // 2
    edges = [1, length // 4, length]
    points = task.evaluate_positions(model, "validation", limit, edges)
    assert [edge for edge, _ in points] == edges
    widths = np.diff([0, *edges])
    whole = task.evaluate(model, "validation", 3 * length).value
    assert np.dot(widths, [value for _, value in points]) / length == pytest.approx(whole, rel=1e-6)
    assert len({round(value, 6) for _, value in points}) == 3
