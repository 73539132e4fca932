"""Which pairs make a batch: each once an epoch, of like length, within the budget, by (seed, step) alone."""

import numpy as np
import pytest

from reformer.data import DataError
from reformer.data.pairs.batches import BucketedBatches, padded


def lengths(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.Generator(np.random.PCG64(seed))
    source = draw.integers(1, 60, n)
    return source, np.clip(source + draw.integers(-5, 6, n), 1, 70)


def batches_of(seed: int = 0, **changes) -> BucketedBatches:
    return BucketedBatches(np.maximum(*lengths()), **{"batch_tokens": 256, "max_len": 50, "seed": seed, **changes})


def test_every_pair_that_is_not_too_long_comes_once_an_epoch():
    batches = batches_of()
    longer = np.maximum(*lengths())
    allowed = np.flatnonzero(longer <= 50)
    assert batches.n_left_out == 500 - len(allowed) > 0
    epochs = []
    for epoch in range(2):
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        epochs.append([batches[step].tolist() for step in steps])
        assert sorted(row for batch in epochs[-1] for row in batch) == allowed.tolist()
    assert epochs[0] != epochs[1]
    assert {frozenset(batch) for batch in epochs[0]} != {frozenset(batch) for batch in epochs[1]}


def test_a_batch_fits_its_budget_and_holds_pairs_of_like_length():
    batches, longer = batches_of(), np.maximum(*lengths())
    waste = []
    for step in range(batches.per_epoch):
        rows = batches[step]
        width = longer[rows].max()
        assert len(rows) * width <= 256
        waste.append(1 - longer[rows].sum() / (len(rows) * width))
    # Random batches of such lengths would waste half.
    assert np.mean(waste) < 0.12


def test_a_batch_is_a_function_of_seed_and_step():
    forward, again = batches_of(), batches_of()
    steps = [0, 41, 7, 200, 3]
    expected = {step: forward[step].tolist() for step in range(201)}
    assert all(again[step].tolist() == expected[step] for step in steps)
    assert any(batches_of(seed=1)[step].tolist() != expected[step] for step in range(5))
    widths = [np.maximum(*lengths())[forward[step]].max() for step in range(forward.per_epoch)]
    # Lengths come in no order.
    assert np.abs(np.diff(widths)).mean() > 5


@pytest.mark.parametrize("max_len", [1, 2, 3, 7, 8, 9, 50])
def test_any_greatest_length(max_len: int):
    batches = batches_of(max_len=max_len, batch_tokens=max_len)
    longer = np.maximum(*lengths())
    found = [row for step in range(batches.per_epoch) for row in batches[step]]
    assert sorted(found) == np.flatnonzero(longer <= max_len).tolist()


def test_padding():
    rows = [np.array([1, 2, 3], dtype=np.int32), np.array([4], dtype=np.int32)]
    assert padded(rows, -100).tolist() == [[1, 2, 3], [4, -100, -100]]


def test_batches_too_small_for_the_longest_sentence_and_pairs_all_too_long_are_refused():
    with pytest.raises(DataError, match="expected at least 50"):
        batches_of(batch_tokens=49)
    with pytest.raises(DataError, match="all 2 pairs are longer than 5"):
        BucketedBatches(np.array([6, 7]), batch_tokens=10, max_len=5, seed=0)
