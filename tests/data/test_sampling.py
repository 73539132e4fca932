import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reformer.data import evaluation_windows, sample_windows, shuffled_rows

from .helpers import refuses, unhurried

# Each byte of DATA tells its own position.
DATA = np.arange(200, dtype=np.uint8)


def test_windows_are_pieces_of_the_data():
    windows = sample_windows(DATA, 50, 64, seed=1, step=2)
    assert windows.dtype == np.int64
    assert windows.shape == (64, 50)
    assert (windows == windows[:, :1] + np.arange(50)).all()


def test_known_answer():
    # A changed sampler would silently change every resumed and every repeated run.
    assert sample_windows(DATA, 1, 6, seed=7, step=3)[:, 0].tolist() == [96, 178, 5, 35, 136, 188]


def test_seed_step_and_row_each_matter():
    def offsets(seed: int, step: int) -> list[int]:
        return sample_windows(np.arange(10**6), 1, 8, seed=seed, step=step)[:, 0].tolist()

    assert offsets(1, 2) == offsets(1, 2)
    seen = [tuple(offsets(seed, step)) for seed in range(5) for step in range(5)]
    assert len(set(seen)) == 25
    assert len(set(offsets(1, 2))) == 8


def test_consecutive_steps_never_share_rows():
    data = np.arange(10**6)
    seen = np.concatenate([sample_windows(data, 1, 4, seed=0, step=step)[:, 0] for step in range(100)])
    assert len(np.unique(seen)) > 395


@unhurried
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_rows_do_not_depend_on_the_batch(first: int, second: int, seed: int, step: int):
    both = sample_windows(DATA, 5, first + second, seed=seed, step=step)
    head = sample_windows(DATA, 5, first, seed=seed, step=step)
    tail = sample_windows(DATA, 5, second, seed=seed, step=step, first_row=first)
    assert (both == np.concatenate([head, tail])).all()


def test_every_offset_is_equally_likely():
    # 10 positions, 20,000 draws: chi-square with 9 degrees of freedom is below 33.7 with probability 0.9999.
    draws = np.concatenate([sample_windows(DATA[:19], 10, 200, seed=5, step=step)[:, 0] for step in range(100)])
    counts = np.bincount(draws, minlength=10)
    assert len(counts) == 10
    assert ((counts - 2000) ** 2 / 2000).sum() < 33.7


def test_data_of_exactly_one_window():
    assert (sample_windows(DATA, 200, 3, seed=0, step=0) == DATA).all()


def test_huge_data_reaches_everywhere():
    # 2**40 bytes without allocating them: a view that repeats one byte.
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, dtype=np.uint8), (2**40,), (0,))
    assert sample_windows(huge, 4, 2, seed=0, step=0).sum() == 0


def test_short_data_is_refused():
    with refuses("200 bytes", "201", "use a shorter window (seq_len) or more data"):
        sample_windows(DATA, 201, 1, seed=0, step=0)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"step": 2**64}, "step is 18446744073709551616"),
        ({"first_row": -2}, "first_row is -2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"length": 0}, "length is 0"),
        ({"data": DATA.reshape(2, 100)}, "[2, 100]"),
        ({"data": DATA * 1.0}, "float64"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, fact: str):
    with refuses(fact, "expected"):
        sample_windows(**{"data": DATA, "length": 5, "batch_size": 1, "seed": 0, "step": 0, **arguments})


@unhurried
@given(st.data(), st.integers(1, 200), st.integers(1, 60))
def test_every_byte_is_scored_once_with_the_context_before_it(choose: st.DataObject, n: int, length: int):
    overlap = choose.draw(st.integers(0, length - 1))
    limit = choose.draw(st.none() | st.integers(1, 250))
    end = n if limit is None else min(limit, n)
    windows = list(evaluation_windows(DATA[:n], length, overlap=overlap, limit=limit))
    scored: list[int] = []
    for i, (window, n_scored) in enumerate(windows):
        assert window.dtype == np.int64
        assert 1 <= n_scored <= len(window) <= length
        assert len(window) - n_scored == (0 if i == 0 else overlap)
        assert (np.diff(window) == 1).all()
        assert len(window) == length or i == len(windows) - 1
        scored += window[len(window) - n_scored :].tolist()
    assert scored == list(range(end))


def test_evaluation_example():
    found = [(window.tolist(), n) for window, n in evaluation_windows(DATA, 4, overlap=2, limit=7)]
    assert found == [([0, 1, 2, 3], 4), ([2, 3, 4, 5], 2), ([4, 5, 6], 1)]


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"overlap": 4}, "overlap is 4: expected 0 to 3"),
        ({"overlap": -1}, "overlap is -1"),
        ({"limit": 0}, "limit is 0"),
        ({"length": 0}, "length is 0"),
        ({"data": DATA[:0]}, "0 bytes"),
    ],
)
def test_bad_evaluation_is_refused_at_the_call(arguments: dict, fact: str):
    with refuses(fact, "expected"):
        evaluation_windows(**{"data": DATA, "length": 4, **arguments})


@unhurried
@given(n=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 2**63))
def test_every_row_comes_once_an_epoch(n: int, size: int, seed: int):
    batches = [shuffled_rows(n, size, seed=seed, step=step) for step in range(-(-3 * n // size))]
    rows = np.concatenate(batches)[: 3 * n].reshape(3, n)
    assert (np.sort(rows, axis=1) == np.arange(n)).all()


def test_order_of_rows_known_answer_and_what_it_depends_on():
    # A changed stream would make a resumed run read other pictures.
    assert shuffled_rows(7, 7, seed=5, step=0).tolist() == [6, 2, 1, 3, 5, 0, 4]
    first = shuffled_rows(1000, 1000, seed=1, step=0)
    assert (first == shuffled_rows(1000, 1000, seed=1, step=0)).all()
    for other in (shuffled_rows(1000, 1000, seed=2, step=0), shuffled_rows(1000, 1000, seed=1, step=1)):
        assert (first == other).mean() < 0.02
    assert (shuffled_rows(1000, 10, seed=1, step=7) == first[70:80]).all()


def test_no_rows_are_refused():
    with refuses("0 rows"):
        shuffled_rows(0, 4, seed=0, step=0)
