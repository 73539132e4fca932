"""Recall: what is scored, at which distance, in noise and in text."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.tasks.helpers import like_tiny
from tests.training.runs import TINY

from reformer.data.recall import ASK, STATE
from reformer.models import ReformerLM
from reformer.tasks.recall import RecallConfig


def config(tmp_path, **changes) -> RecallConfig:
    return like_tiny(RecallConfig, **{"data": "synthetic", "seq_len": 64, "batch_size": 2, **changes})


class Oracle(ReformerLM):
    """Answers rightly what was stated at most ``reach`` tokens before."""

    reach = 64

    def forward(self, tokens, seed=None):
        logits = torch.zeros(*tokens.shape, 256)
        for row, line in enumerate(tokens.tolist()):
            for place in range(2, len(line)):
                if line[place - 1] == ASK:
                    stated = line.index(line[place]) - 1
                    # The value is asked for at the next place.
                    if place + 1 - stated <= self.reach:
                        logits[row, place, line[stated]] = 20.0
        return logits


def test_an_oracle_of_some_reach_is_right_within_it_alone(tmp_path):
    task = config(tmp_path).make_task(tmp_path)
    oracle = Oracle(TINY.model)
    assert task.evaluate(oracle, "test", 6).extras["accuracy"] == 1.0
    oracle.reach = 24
    near = task.evaluate(oracle, "test", 6, 1, 24)
    far = task.evaluate(oracle, "test", 6, 25, 64)
    assert (near.extras["accuracy"], far.extras["accuracy"]) == (1.0, 0.0)
    assert near.n + far.n == 6 * 4


def test_the_loss_counts_the_values_asked_for_and_nothing_else(tmp_path):
    task = config(tmp_path).make_task(tmp_path)
    inputs, targets = task.batch(5)
    assert (targets >= 0).sum(axis=1).tolist() == [4, 4]
    assert ((targets == -100) | ((targets >= 128) & (targets < 192))).all()
    assert (inputs[:, 0] == TINY.model.start_id).all()
    again, other = task.batch(5), task.batch(6)
    assert np.array_equal(inputs, again[0]) and not np.array_equal(inputs, other[0])


def test_rows_grow_until_half_time_at_a_constant_number_of_symbols(tmp_path):
    model = dataclasses.replace(TINY.model, positions="none")
    task = config(tmp_path, seq_len=512, batch_size=2, steps=6, accumulate=2, model=model).make_task(tmp_path)
    shapes = [task.batch(index)[0].shape for index in range(12)]
    assert shapes == [(8, 128)] * 3 + [(4, 256)] * 3 + [(2, 512)] * 6
    # A row of 512 has 32 facts, one of 128 has 8.
    assert [(task.batch(index)[1] >= 0).sum() for index in (0, 3, 11)] == [64, 64, 64]
    short = config(tmp_path, seq_len=200, batch_size=3, steps=2, model=model).make_task(tmp_path)
    assert [short.batch(index)[0].shape for index in range(2)] == [(3, 200)] * 2


def test_needles_lie_in_the_text_of_their_own_split(tmp_path):
    (tmp_path / "text.txt").write_text("a" * 18_000 + "b" * 1000 + "c" * 1000)
    task = config(tmp_path, data=str(tmp_path / "text.txt")).make_task(tmp_path / "cache")
    inputs, _ = task.batch(0)
    assert set(inputs[inputs < 128].tolist()) == {STATE, ASK, ord("a")}
    for split, letter in (("validation", "b"), ("test", "c")):
        (window,) = task.held_out(split, 1)
        assert set(window[window < 128].tolist()) == {STATE, ASK, ord(letter)}


def test_validation_and_test_are_other_sequences_than_training(tmp_path):
    task = config(tmp_path).make_task(tmp_path)
    splits = [np.stack(list(task.held_out(split, 3))) for split in ("validation", "test")]
    assert splits[0].shape == (3, 64)
    assert not np.array_equal(*splits)


def test_a_bidirectional_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="causal"):
        config(tmp_path, model=dataclasses.replace(TINY.model, causal=False))
