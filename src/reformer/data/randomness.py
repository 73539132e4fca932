"""Random bits as a pure function of (seed, step, row): a run resumes by knowing its step, with no state to save."""

import numpy as np

from reformer.data.errors import DataError

# One stream per use, so that the same seed gives unrelated numbers to each.
WINDOWS, DUPLICATION, MASKING, ORDER, PAIRS, RECALL, NOISE, PICTURES = range(8)
_LIMIT = 1 << 64


def random_rows(stream: int, seed: int, step: int, first_row: int, n_rows: int, per_row: int) -> np.ndarray:
    """Uniform uint64 [n_rows, per_row]; raises DataError for arguments out of range.

    Philox keyed by (seed, step), its counter by (row, stream); only the raw stream is used, which numpy promises never
    to change, unlike that of ``Generator.integers``.
    """
    for name, value in (("seed", seed), ("step", step), ("first_row", first_row)):
        if not 0 <= value < _LIMIT:
            raise DataError(f"{name} is {value}: expected a number from 0 to 2**64 - 1")
    if n_rows < 1:
        raise DataError(f"batch_size is {n_rows}: expected at least 1")
    key = np.array([seed, step], dtype=np.uint64)
    bits = np.empty((n_rows, per_row), dtype=np.uint64)
    for i in range(n_rows):
        counter = np.array([0, 0, first_row + i, stream], dtype=np.uint64)
        bits[i] = np.random.Philox(counter=counter, key=key).random_raw(per_row)
    return bits


def below(bits: np.ndarray, n: int) -> np.ndarray:
    """int64 uniform in 0..n-1 from uint64 bits: floor(bits * n / 2**64), for n below 2**32."""
    assert 0 < n < 1 << 32
    half, low = np.uint64(32), np.uint64((1 << 32) - 1)
    carry = ((bits & low) * np.uint64(n)) >> half
    return (((bits >> half) * np.uint64(n) + carry) >> half).astype(np.int64)


def unit(bits: np.ndarray) -> np.ndarray:
    """float64 uniform in [0, 1) from uint64 bits."""
    return (bits >> np.uint64(11)) * 2.0**-53
