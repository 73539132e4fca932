import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reformer.data import noise_filler, recall_batch
from reformer.data.recall import ASK, STATE

from .helpers import refuses, unhurried


@unhurried
@given(st.integers(16, 700), st.integers(1, 4), st.integers(0, 2**32))
def test_what_is_asked_was_stated_so_far_before(length: int, batch: int, seed: int):
    filler = np.random.default_rng(seed).integers(0, 256, (batch, length))
    sequence, distance = recall_batch(filler, seed=seed, step=3)
    assert sequence.shape == distance.shape == filler.shape
    n_facts = min(length // 16, 64)
    for row, far in zip(sequence.tolist(), distance.tolist()):
        asked = [place for place, value in enumerate(far) if value]
        assert len(asked) == n_facts
        marked = [place for place in range(length) if row[place] in (STATE, ASK)]
        assert len(marked) == 2 * n_facts
        for place in asked:
            stated = place - far[place]
            assert row[place - 2 : place + 1] == [ASK, row[stated + 1], row[stated]]
            assert row[stated - 1] == STATE
            # The key stands nowhere else.
            assert row.count(row[place - 1]) == 2
        outside = [row[place] for place in range(length) if not any(m <= place < m + 3 for m in marked)]
        assert all(value < 128 and value not in (STATE, ASK) for value in outside)


def test_filler_that_is_text_stays_text():
    text = np.frombuffer("Größe: 12 m, the rest is plain. ".encode(), dtype=np.uint8)[:32]
    sequence, _ = recall_batch(text[None].astype(np.int64), seed=0, step=0)
    kept = sequence[0] == text
    facts = np.isin(np.arange(32), [m + i for m in np.flatnonzero(sequence[0] <= ASK) for i in range(3)])
    assert (kept | facts | (text >= 128)).all()
    assert (sequence[0][(text >= 128) & ~facts] == ord("?")).all()


def test_rows_are_a_function_of_seed_step_and_row():
    def batch(rows: int, first: int = 0, seed: int = 1, step: int = 2):
        filler = noise_filler(rows, 128, seed=seed, step=step, first_row=first)
        return recall_batch(filler, seed=seed, step=step, first_row=first)[0]

    assert (batch(6)[2:5] == batch(3, first=2)).all()
    for other in (batch(6, seed=2), batch(6, step=3)):
        assert (batch(6) != other).any(axis=1).all()
    assert len(np.unique(batch(6), axis=0)) == 6


def test_distances_reach_across_the_sequence():
    _, distance = recall_batch(noise_filler(50, 1024, seed=0, step=0), seed=0, step=0)
    far = distance[distance > 0]
    assert far.min() == 9
    assert far.max() > 950
    # Of two places drawn at random the mean distance is a third.
    assert abs(far.mean() / 1024 - 1 / 3) < 0.03


@pytest.mark.parametrize("length", [0, 15])
def test_rows_too_short_for_a_fact_are_refused(length: int):
    with refuses("expected at least 16"):
        recall_batch(np.zeros((1, length), dtype=np.int64), seed=0, step=0)
