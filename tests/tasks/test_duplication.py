"""Duplication: what is scored, and that splits are different sequences."""

import dataclasses

import numpy as np
import pytest
import torch

from reformer.models import ReformerLM
from reformer.tasks.duplication import DuplicationConfig, DuplicationEvalOptions
from reformer.tasks.registry import recipe


@pytest.mark.parametrize("split", ["validation", "test"])
def test_duplication_reads_fresh_sequences(tmp_path, split):
    task = dataclasses.replace(recipe("duplication"), seq_len=16).make_task(tmp_path)
    windows = np.stack(list(task.held_out(split, 3)))
    assert windows.shape == (3, 16) and (windows[:, 0] == 128).all()
    # The start id, then 0w0w without its last symbol.
    assert (windows[:, [1, 9]] == 0).all() and (windows[:, 2:8] == windows[:, 10:]).all()
    other = np.stack(list(task.held_out("test" if split == "validation" else "validation", 3)))
    assert not np.array_equal(windows, other)


def test_an_evaluation_has_the_columns_of_the_papers_table_and_counts_symbols_of_the_second_half(tmp_path):
    config = DuplicationConfig(name="x", seq_len=16, model=dataclasses.replace(recipe("duplication").model, d_model=16))
    torch.manual_seed(0)
    task, model = config.make_task(tmp_path), ReformerLM(config.model)
    found = list(task.evaluations(model, DuplicationEvalOptions(limit=3)))
    assert [one.variant for one in found] == ["full", "lsh-8", "lsh-4", "lsh-2", "lsh-1"]
    # Sequences that are drawn have no splits to tell apart, and nothing else reads them.
    assert {one.split for one in found} == {"test"} and not any(one.is_yardstick for one in found)
    first = found[0].measurement
    assert (first.metric, first.n, first.unit) == ("bits per symbol", 3 * 7, "symbols")
    assert found[2].measurement == task.evaluate(model, "test", 3)
    (one,) = task.evaluations(model, DuplicationEvalOptions(limit=1, n_hashes="2"))
    assert one.variant == "lsh-2"


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"seq_len": 15}, r"seq_len 2·\|w\| \+ 2, even and at least 4, got 15"),
        ({"seq_len": 2}, "even and at least 4, got 2"),
        ({"causal": False}, "task 'duplication' is causal"),
        ({"vocab_size": 1}, "over at least two symbols"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes, fact):
    model = {name: value for name, value in changes.items() if name != "seq_len"}
    base = recipe("duplication")
    shape = {name: value for name, value in changes.items() if name == "seq_len"}
    with pytest.raises(ValueError, match=fact):
        dataclasses.replace(base, **shape, model=dataclasses.replace(base.model, **model))
