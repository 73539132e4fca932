"""Batches of pairs of like length: which pairs make up batch number n, as a pure function of (seed, n).

A pair's width is the length of its longer side, rounded up to one of a few widths. Each width has its pairs shuffled anew in
every epoch and cut into batches of at most ``batch_tokens`` padded tokens a side; then the epoch's batches are shuffled.
"""

from functools import lru_cache

import numpy as np

from reformer.data.errors import DataError
from reformer.data.sampling import shuffled


class BucketedBatches:
    """The batches of pairs of these lengths (tokens of the longer side, int [n]); longer ones than ``max_len`` are left out.

    Every pair that is not left out comes once in an epoch. Raises DataError if nothing is left, or if a sentence of
    ``max_len`` does not fit a batch.
    """

    def __init__(self, lengths: np.ndarray, *, batch_tokens: int, max_len: int, seed: int) -> None:
        if batch_tokens < max_len:
            raise DataError(
                f"batch_tokens is {batch_tokens}: expected at least {max_len}, the longest sentence allowed"
            )
        self.seed = seed
        self.n_left_out = int((lengths > max_len).sum())
        edges = _widths(max_len)
        bucket = np.searchsorted(edges, lengths)
        self._buckets: list[tuple[np.ndarray, int]] = []
        for index, width in enumerate(edges):
            members = np.flatnonzero(bucket == index)
            if len(members):
                self._buckets.append((members, batch_tokens // width))
        if not self._buckets:
            raise DataError(f"all {len(lengths)} pairs are longer than {max_len} tokens; allow longer ones (seq_len)")
        self.per_epoch = sum(-(-len(members) // rows) for members, rows in self._buckets)
        """Batches of an epoch."""
        self._epoch = lru_cache(maxsize=2)(self._batches_of)

    def __getitem__(self, step: int) -> np.ndarray:
        """The pairs of batch ``step``, int64 [rows]."""
        epoch, index = divmod(step, self.per_epoch)
        return self._epoch(epoch)[index]

    def _batches_of(self, epoch: int) -> list[np.ndarray]:
        batches = []
        for members, rows in self._buckets:
            order = members[shuffled(len(members), seed=self.seed, epoch=epoch)]
            batches += [order[first : first + rows] for first in range(0, len(order), rows)]
        return [batches[index] for index in shuffled(self.per_epoch, seed=self.seed, epoch=epoch)]


def _widths(max_len: int) -> np.ndarray:
    """8, 10, 12, 15, ..: each a quarter above the one before, up to ``max_len``."""
    widths = [min(8, max_len)]
    while widths[-1] < max_len:
        widths.append(min(max(widths[-1] * 5 // 4, widths[-1] + 1), max_len))
    return np.array(widths)


def padded(rows: list[np.ndarray], fill: int) -> np.ndarray:
    """Rows as one int64 array [B, longest], ``fill`` on the right."""
    out = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for row, ids in zip(out, rows):
        row[: len(ids)] = ids
    return out
