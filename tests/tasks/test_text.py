"""What a trained model is looked at on: the inputs of held-out windows."""

import dataclasses

import numpy as np
from tests.training.runs import TINY, tiny


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
