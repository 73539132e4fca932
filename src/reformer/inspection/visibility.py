"""Whom some queries see, for a few of them at a time: [B, H, Q, L], never [B, H, L, L].

The same sets as the definitions' (``ops.attention.reference``). B batch, H heads, R rounds, L length, Q queries
(``rows`` holds their positions).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from reformer.ops import Reach, places_in_segments, sort_by_bucket


def full_visible(segments: Tensor, rows: Tensor, *, causal: bool, shared_qk: bool) -> Tensor:
    """Bool [B, 1, Q, L]: the query's segment, up to the query if ``causal``; with shared QK itself only when alone.

    ``segments`` [B, L]; padding (negative) sees nothing and is not seen.
    """
    mine = segments[:, rows, None]
    together = (mine == segments[:, None]) & (mine >= 0)
    key = torch.arange(segments.shape[1], dtype=torch.int64, device=segments.device)
    if causal:
        together = together & (key <= rows[:, None])
    together = together[:, None]
    return _self_only_when_alone(together, together, rows) if shared_qk else together


class Visibility:
    """Whom attention of this ``reach`` shows to a query, after its first rounds where it has rounds.

    ``segments`` [B, L]; ``buckets`` [B, H, R, L] of LSH attention, None where attention goes by position: one round.
    """

    def __init__(self, reach: Reach, segments: Tensor, buckets: Tensor | None = None) -> None:
        self.reach, self.segments, self.buckets = reach, segments, buckets
        if reach.pattern == "position" and not reach.wrap:
            self.place = places_in_segments(segments)[:, None, None]
        else:
            one_bucket = torch.zeros_like(segments)[:, None, None]
            self.place = sort_by_bucket(one_bucket if buckets is None else buckets, segments).argsort(-1)

    def counts(self, rows: Tensor, rounds: Sequence[int] = (1,)) -> Iterator[Tensor]:
        """For each number r in ``rounds`` (rising): how often a query counts a key in its first r rounds [B, H, Q, L].

        Bool where a pair counts once; int64 where chunks wrap around. H is 1 without buckets.
        """
        full = full_visible(self.segments, rows, causal=self.reach.causal, shared_qk=False)
        union = full.new_zeros(*self.place.shape[:2], *full.shape[2:])
        done = 0
        for r in rounds:
            if self.reach.wrap:
                counts = self._ring_counts(rows, r) * full
            else:
                for index in range(done, r):
                    union |= self._seen_in_round(rows, index)
                done = r
                counts = union & full
            yield _self_only_when_alone(counts, full, rows) if self.reach.exclude_self else counts

    def same_bucket(self, rows: Tensor, rounds: int) -> Tensor:
        """Bool [B, H, Q, L]: another token of the query's segment (before it, if causal) in its bucket in some round."""
        assert self.buckets is not None
        full = full_visible(self.segments, rows, causal=self.reach.causal, shared_qk=False)
        same = full.new_zeros(*self.buckets.shape[:2], *full.shape[2:])
        for bucket in self.buckets[:, :, :rounds].unbind(2):
            same |= bucket[:, :, rows, None] == bucket[:, :, None]
        key = torch.arange(same.shape[-1], dtype=torch.int64, device=same.device)
        return same & full & (key != rows[:, None])

    def _seen_in_round(self, rows: Tensor, index: int) -> Tensor:
        place = self.place[:, :, index]
        mine, theirs = place[..., rows, None], place[..., None, :]
        chunks, window = self.reach.chunks_within(place.shape[-1]), self.reach.window
        if chunks is not None:
            chunk_len, before, after = chunks
            ahead = theirs // chunk_len - mine // chunk_len
            seen = (ahead >= -before) & (ahead <= after)
        elif window is not None:
            seen = (theirs - mine).abs() <= window
        else:
            seen = torch.ones_like(mine == theirs)
        if self.buckets is not None:
            bucket = self.buckets[:, :, index]
            seen &= bucket[..., rows, None] == bucket[..., None, :]
        return seen

    def _ring_counts(self, rows: Tensor, n_rounds: int) -> Tensor:
        # Which chunk lies beside which depends on the number of rounds, for they stand end to end in a ring.
        B, H, _, L = self.place.shape
        chunks = self.reach.chunks_within(L)
        assert chunks is not None
        chunk_len, before, after = chunks
        chunk = self.place // chunk_len
        per_round = -(-L // chunk_len)
        counts: Tensor = chunk.new_zeros(B, H, len(rows), L)
        for index in range(n_rounds):
            mine = index * per_round + chunk[:, :, index, rows]
            for offset in range(-before, after + 1):
                wanted = (mine + offset) % (n_rounds * per_round)
                in_round = (wanted // per_round)[..., None].expand(B, H, len(rows), L)
                counts += chunk.gather(2, in_round) == (wanted % per_round)[..., None]
        return counts


def _self_only_when_alone(counts: Tensor, full: Tensor, rows: Tensor) -> Tensor:
    """``counts`` without the query itself, or with it alone where it would see nothing else."""
    key = torch.arange(counts.shape[-1], dtype=torch.int64, device=counts.device)
    is_self = key == rows[:, None]
    others = counts * ~is_self
    alone = (others == 0).all(-1, keepdim=True) & is_self & full
    return others + alone
