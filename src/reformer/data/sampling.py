"""What of a split is read when: random windows to train on, successive ones to score each byte once, rows in random order."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from reformer.data.errors import DataError
from reformer.data.randomness import ORDER, WINDOWS, random_rows


def sample_windows(
    data: np.ndarray, length: int, batch_size: int, *, seed: int, step: int, first_row: int = 0
) -> np.ndarray:
    """Random windows int64 [batch_size, length] of ``data`` [n], offsets uniform over all n - length + 1 positions.

    Each row is a pure function of (seed, step, first_row + row) whatever the batch size: a process that takes rows
    8 to 15 of a batch passes ``first_row=8``. Raises DataError when the data is shorter than the window.
    """
    _check(data, length)
    if len(data) < length:
        what = f"the data has {len(data):,} bytes, the window needs {length:,}"
        raise DataError(f"{what}: use a shorter window (seq_len) or more data")
    n_positions = len(data) - length + 1
    bits = random_rows(WINDOWS, seed, step, first_row, batch_size, 1)
    windows = np.empty((batch_size, length), dtype=np.int64)
    for row, (value,) in enumerate(bits.tolist()):
        offset = value * n_positions >> 64  # Python integers: data may be longer than 2**32
        windows[row] = data[offset : offset + length]
    return windows


def evaluation_windows(
    data: np.ndarray, length: int, *, overlap: int = 0, limit: int | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Successive windows of ``data[:limit]`` that score every byte exactly once.

    Yields ``(window, n_scored)``: window int64 [at most length], of which the last ``n_scored`` bytes are scored and
    those before are context, ``overlap`` bytes of it in every window but the first. Only the last may be shorter.
    Raises DataError, at the call, for empty data or an overlap that leaves nothing to score.
    """
    _check(data, length)
    if not 0 <= overlap < length:
        raise DataError(f"overlap is {overlap}: expected 0 to {length - 1}, less than the window length {length}")
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}: expected at least 1 byte, or None for all of them")
    end = len(data) if limit is None else min(limit, len(data))
    if end == 0:
        raise DataError("the data has 0 bytes: expected at least 1 to score; give more data")
    return _successive(data, length, overlap, end)


def shuffled_rows(n_rows: int, batch_size: int, *, seed: int, step: int) -> np.ndarray:
    """Which of ``n_rows`` rows are batch number ``step``: int64 [batch_size].

    Batches follow one another through epochs; each epoch has every row once, in an order that is a pure function of
    (seed, epoch). Raises DataError for no rows or sizes out of range.
    """
    if n_rows < 1 or batch_size < 1:
        raise DataError(f"{n_rows} rows in batches of {batch_size}: expected at least 1 of each")
    first = step * batch_size
    places = ((place // n_rows, place % n_rows) for place in range(first, first + batch_size))
    return np.array([shuffled(n_rows, seed=seed, epoch=epoch)[row] for epoch, row in places])


@lru_cache(maxsize=4)
def shuffled(n_rows: int, *, seed: int, epoch: int = 0) -> np.ndarray:
    """A random order of 0..n_rows-1, int64 [n_rows], not to be written to; a pure function of the arguments."""
    order = np.argsort(random_rows(ORDER, seed, epoch, 0, 1, n_rows)[0], kind="stable")
    order.flags.writeable = False
    return order


def shift_right(tokens: np.ndarray, start_id: int) -> np.ndarray:
    """What predicts ``tokens`` [B, L]: the start id, then all tokens but the last."""
    return np.concatenate([np.full_like(tokens[:, :1], start_id), tokens[:, :-1]], axis=1)


def _successive(data: np.ndarray, length: int, overlap: int, end: int) -> Iterator[tuple[np.ndarray, int]]:
    scored = 0
    while scored < end:
        start = max(0, scored - overlap)
        stop = min(start + length, end)
        yield np.asarray(data[start:stop]).astype(np.int64), stop - scored
        scored = stop


def _check(data: np.ndarray, length: int) -> None:
    if data.ndim != 1 or data.dtype.kind not in "iu":
        raise DataError(f"the data is {data.dtype} {list(data.shape)}: expected integers in one dimension")
    if length < 1:
        raise DataError(f"the window length is {length}: expected at least 1")
