"""Whom some queries see, for a few of them at a time: [B, H, Q, L], never [B, H, L, L].

The same sets as the definitions' (``ops.attention.reference``), from the places
and intervals that the fast paths use. B batch, H heads, R rounds, L length, Q queries (``rows`` holds their positions).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from reformer.ops import Reach, places_in_segments, sort_by_bucket
from reformer.ops.attention.eager.plan import interval_plan


def full_visible(segments: Tensor, rows: Tensor, *, causal: bool, shared_qk: bool) -> Tensor:
    """Bool [B, 1, Q, L]: the query's segment, up to the query if ``causal``; with shared QK itself only when alone.

    ``segments`` [B, L]; padding (negative) sees nothing and is not seen.
    """
    mine = segments[:, rows, None]
    together = (mine == segments[:, None]) & (mine >= 0)
    key = torch.arange(segments.shape[1], device=segments.device)
    if causal:
        together = together & (key <= rows[:, None])
    together = together[:, None]
    return _self_only_when_alone(together, together, rows) if shared_qk else together


def local_visible(
    segments: Tensor,
    rows: Tensor,
    *,
    causal: bool,
    shared_qk: bool,
    chunk_len: int | None,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
) -> Tensor:
    """Bool [B, 1, Q, L] of local attention: ``full_visible`` cut to the neighbouring chunks, or to ``window`` places."""
    place = places_in_segments(segments)
    mine, theirs = place[:, rows, None], place[:, None]
    if chunk_len is not None:
        ahead = theirs // chunk_len - mine // chunk_len
        near = (ahead >= -n_chunks_before) & (ahead <= n_chunks_after)
    else:
        assert window is not None
        near = (theirs - mine).abs() <= window
    visible = full_visible(segments, rows, causal=causal, shared_qk=False) & near[:, None]
    return _self_only_when_alone(visible, visible, rows) if shared_qk else visible


class LSHVisibility:
    """Whom LSH attention shows to a query after its first rounds, by the pattern's rule.

    ``buckets`` [B, H, R, L], ``segments`` [B, L]; the options are those of ``reformer.ops.lsh_attention``.
    """

    def __init__(
        self,
        buckets: Tensor,
        segments: Tensor,
        *,
        causal: bool,
        chunk_len: int,
        pattern: str,
        window: int | None,
        n_chunks_before: int,
        n_chunks_after: int,
    ) -> None:
        self.buckets, self.segments, self.causal = buckets, segments, causal
        self.pattern, self.chunk_len = pattern, chunk_len
        self.reach = range(-n_chunks_before, n_chunks_after + 1)
        H = buckets.shape[1]
        reach = Reach.lsh(
            chunk_len=chunk_len,
            pattern=pattern,
            causal=causal,
            window=window,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
        )
        plan = interval_plan(
            sort_by_bucket(buckets, segments).flatten(0, 1),
            buckets.flatten(0, 1).long(),
            segments.repeat_interleave(H, dim=0),
            reach._replace(pattern="bucket") if pattern == "trax" else reach,
            tile=chunk_len,
        )
        assert plan.start_NRL is not None and plan.end_NRL is not None
        self.rank, self.start, self.end = (
            x.unflatten(0, buckets.shape[:2]).int() for x in (plan.rank_NRL, plan.start_NRL, plan.end_NRL)
        )

    def counts(self, rows: Tensor, rounds: Sequence[int]) -> Iterator[Tensor]:
        """For each number r in ``rounds`` (rising): how often a query counts a key in its first r rounds [B, H, Q, L].

        Bool for "paper" and "bucket", where a pair counts once; int32 for "trax".
        """
        full = full_visible(self.segments, rows, causal=self.causal, shared_qk=False)
        union = full.new_zeros(*self.buckets.shape[:2], *full.shape[2:])
        done = 0
        for r in rounds:
            if self.pattern == "trax":
                yield _self_only_when_alone(self._trax_counts(rows, r) * full, full, rows)
                continue
            for index in range(done, r):
                union |= self._seen_in_round(rows, index)
            done = r
            yield _self_only_when_alone(union & full, full, rows)

    def same_bucket(self, rows: Tensor, rounds: int) -> Tensor:
        """Bool [B, H, Q, L]: another token of the query's segment (before it, if causal) in its bucket in some round."""
        full = full_visible(self.segments, rows, causal=self.causal, shared_qk=False)
        same = full.new_zeros(*self.buckets.shape[:2], *full.shape[2:])
        for bucket in self.buckets[:, :, :rounds].unbind(2):
            same |= bucket[:, :, rows, None] == bucket[:, :, None]
        key = torch.arange(same.shape[-1], device=same.device)
        return same & full & (key != rows[:, None])

    def _seen_in_round(self, rows: Tensor, index: int) -> Tensor:
        rank = self.rank[:, :, index, None]
        start, end = self.start[:, :, index, rows, None], self.end[:, :, index, rows, None]
        seen: Tensor = (rank >= start) & (rank < end)
        return seen

    def _trax_counts(self, rows: Tensor, n_rounds: int) -> Tensor:
        # Which chunk lies beside which depends on the number of rounds, for they stand end to end in a ring.
        chunk = self.rank // self.chunk_len
        B, H, _, L = chunk.shape
        per_round = -(-L // self.chunk_len)
        counts: Tensor = chunk.new_zeros(B, H, len(rows), L)
        for index in range(n_rounds):
            mine = index * per_round + chunk[:, :, index, rows]
            for offset in self.reach:
                wanted = (mine + offset) % (n_rounds * per_round)
                in_round = (wanted // per_round).long()[..., None].expand(B, H, len(rows), L)
                counts += chunk.gather(2, in_round) == (wanted % per_round)[..., None]
        return counts


def _self_only_when_alone(counts: Tensor, full: Tensor, rows: Tensor) -> Tensor:
    """``counts`` without the query itself, or with it alone where it would see nothing else."""
    key = torch.arange(counts.shape[-1], device=counts.device)
    is_self = key == rows[:, None]
    others = counts * ~is_self
    alone = (others == 0).all(-1, keepdim=True) & is_self & full
    return others + alone
