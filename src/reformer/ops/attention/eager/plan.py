"""Who sees whom, in a form that tiles can test: for every round an order, and for every token an interval of places.

In round r the tokens stand in an order (for LSH: by segment, bucket and position). Whatever the pattern, a token sees
the tokens whose *place* in that order lies in an interval [start, end): of its bucket, cut to the neighbouring chunks
("paper") or to a window of places ("bucket"). So one integer comparison per pair decides visibility, and a pair was
already seen in an earlier round exactly if it passes that round's comparison. Where chunks wrap around, all rounds stand
end to end instead, and a pair counts as often as it is met.

N = batch · heads, R rounds, L length, m tile length, C tiles of a round.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.attention.reach import Dropout, Reach, Request

# A pattern with no fixed reach (a whole bucket) is walked in strips of this many key tiles.
_STRIP = 4
# Longer chunks are cut into tiles: a tile's logits are of its size squared.
LARGEST_TILE = 256
# A window, or full attention, has no natural tile.
SMALLEST_TILE, USUAL_TILE = 16, 128


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The order of every round and what each token sees in it; and the rest of the request."""

    reach: Reach
    order_NRL: Tensor  # int64, the token at each place
    rank_NRL: Tensor  # int64, the place of each token; where chunks wrap around, among those of all rounds
    start_NRL: Tensor | None  # int32 by token: first visible place; None where chunks wrap around
    end_NRL: Tensor | None  # int32 by token: one past the last visible place
    segments_NL: Tensor | None  # None: no padding, one segment
    tile: int
    before: int | None  # key tiles looked at before a query's own; None: as far as the intervals reach
    after: int | None
    n_heads: int = 1
    scale: float = 1.0
    dropout: Dropout | None = None

    def passes(self) -> list[Tensor]:
        """Slots [N, G, m] of each pass: the token at each place, -1 beyond the end of a round."""
        N, R, L = self.order_NRL.shape
        padded = F.pad(self.order_NRL, (0, -L % self.tile), value=-1)
        if self.reach.wrap:
            return [padded.reshape(N, -1, self.tile)]
        return [padded[:, r].reshape(N, -1, self.tile) for r in range(R)]

    def rounds_of_pass(self, index: int) -> range:
        """The rounds whose slots pass ``index`` holds, in order."""
        return range(self.order_NRL.shape[1]) if self.reach.wrap else range(index, index + 1)

    def strips(self, index: int) -> list[tuple[int, int, Tensor | None]]:
        """(first offset, number of key tiles, flat query tiles or None for all) that together cover a pass."""
        if self.before is not None and self.after is not None:
            return [(-self.before, self.before + 1 + self.after, None)]
        assert self.start_NRL is not None and self.end_NRL is not None
        order = self.order_NRL[:, index]
        N, L = order.shape
        m, C = self.tile, -(-L // self.tile)
        start, end = self.start_NRL[:, index].gather(1, order), self.end_NRL[:, index].gather(1, order)
        empty = start >= end
        tile = torch.arange(C, dtype=torch.int64, device=order.device)
        first = F.pad(torch.where(empty, L, start), (0, -L % m), value=L).reshape(N, C, m).amin(-1) // m - tile
        last = (F.pad(torch.where(empty, 0, end), (0, -L % m)).reshape(N, C, m).amax(-1) - 1) // m - tile
        strips: list[tuple[int, int, Tensor | None]] = []
        for low in range(int(first.min()), int(last.max()) + 1, _STRIP):
            active = ((first < low + _STRIP) & (last >= low)).flatten().nonzero().flatten()
            if active.numel():
                strips.append((low, _STRIP, active))
        return strips


def make_plan(request: Request) -> Plan:
    """The plan of a request."""
    reach, segment_ids = request.reach, request.segment_ids
    B, H, L, _ = request.q.shape
    if request.order is None:
        order_NRL = torch.arange(L, dtype=torch.int64, device=request.q.device).repeat(B * H, 1, 1)
    else:
        order_NRL = request.order.expand(B, H, -1, -1).flatten(0, 1).long()
    bucket_NRL = None if request.buckets is None else request.buckets.flatten(0, 1)
    segments_NL = None if segment_ids is None else segment_ids.repeat_interleave(H, dim=0)
    if reach.wrap:
        plan = _ring_plan(order_NRL, segments_NL, reach)
    else:
        if reach.chunk_len is None:
            tile = min(max(reach.window or USUAL_TILE, SMALLEST_TILE), USUAL_TILE)
        else:
            tile = min(reach.chunk_len, L)
            tile = tile if tile <= LARGEST_TILE else USUAL_TILE
        plan = interval_plan(order_NRL, bucket_NRL, segments_NL, reach, tile=tile)
    return replace(plan, n_heads=H, scale=request.scale, dropout=request.dropout)


def interval_plan(
    order_NRL: Tensor, bucket_NRL: Tensor | None, segments_NL: Tensor | None, reach: Reach, *, tile: int
) -> Plan:
    """The plan of a reach that does not wrap around.

    A run is a maximal stretch of places with one bucket and one segment; nobody sees beyond its run. With chunks
    a token sees its own one and its neighbours, counted from place 0 or, in "position", from the start of the run.
    Otherwise it sees the places at most ``window`` away (None: the whole run).
    """
    N, R, L = order_NRL.shape
    place = torch.arange(L, dtype=torch.int64, device=order_NRL.device).expand(N, R, L)
    rank = torch.empty_like(order_NRL).scatter_(-1, order_NRL, place)
    low, high = _runs(order_NRL, bucket_NRL, segments_NL)
    chunks, per_run = reach.chunks_within(L), reach.pattern == "position" and segments_NL is not None
    if chunks is not None:
        chunk_len, before, after = chunks
        base = low if per_run else torch.zeros((), dtype=low.dtype, device=low.device)
        chunk = (place - base) // chunk_len
        low, high = (
            torch.maximum(low, base + (chunk - before) * chunk_len),
            torch.minimum(high, base + (chunk + after + 1) * chunk_len),
        )
    elif reach.window is not None:
        low, high = torch.maximum(low, place - reach.window), torch.minimum(high, place + reach.window + 1)
    if reach.causal:
        # Within a run the order is by position, so "earlier token" is "smaller place".
        high = torch.minimum(high, place if reach.exclude_self else place + 1)
    if segments_NL is not None:
        is_padding = (segments_NL < 0)[:, None].expand(N, R, L).gather(-1, order_NRL)
        low, high = low.masked_fill(is_padding, 0), high.masked_fill(is_padding, 0)
    tiles_before, tiles_after = _tiles_in_reach(reach, chunks, per_run, tile)
    return Plan(
        reach=reach,
        order_NRL=order_NRL,
        rank_NRL=rank,
        start_NRL=low.gather(-1, rank).int(),
        end_NRL=high.gather(-1, rank).int(),
        segments_NL=segments_NL,
        tile=tile,
        before=tiles_before,
        after=tiles_after,
    )


def _tiles_in_reach(
    reach: Reach, chunks: tuple[int, int, int] | None, per_run: bool, tile: int
) -> tuple[int | None, int | None]:
    """How many tiles a query tile looks before and after itself; (None, None): as far as the intervals reach."""
    if chunks is not None:
        chunk_len, before, after = chunks
        if chunk_len == tile and not per_run:
            return before, 0 if reach.causal else after
        # Chunks that are not tiles: a token may see from one end of its chunk to the far end of the last one in reach.
        places = (before + 1) * chunk_len - 1, (after + 1) * chunk_len - 1
    elif reach.window is not None:
        places = reach.window, reach.window
    else:
        return None, None
    before, after = -(-places[0] // tile), 0 if reach.causal else -(-places[1] // tile)
    return (before, after) if before + after <= _STRIP else (None, None)


def _ring_plan(order_NRL: Tensor, segments_NL: Tensor | None, reach: Reach) -> Plan:
    """The plan of a reach that wraps around: chunks are tiles, of all rounds end to end."""
    N, R, L = order_NRL.shape
    chunks = reach.chunks_within(L)
    assert chunks is not None
    tile, before, after = chunks
    place = torch.arange(L, dtype=torch.int64, device=order_NRL.device).expand(N, R, L)
    padded_length = L + -L % tile
    round_start = torch.arange(R, dtype=torch.int64, device=order_NRL.device)[:, None] * padded_length
    rank = torch.empty_like(order_NRL).scatter_(-1, order_NRL, place) + round_start
    return Plan(
        reach=reach,
        order_NRL=order_NRL,
        rank_NRL=rank,
        start_NRL=None,
        end_NRL=None,
        segments_NL=segments_NL,
        tile=tile,
        before=before,
        after=after,
    )


def _runs(order_NRL: Tensor, bucket_NRL: Tensor | None, segments_NL: Tensor | None) -> tuple[Tensor, Tensor]:
    """First place, and one past the last, of the run at each place."""
    N, R, L = order_NRL.shape
    place = torch.arange(L, dtype=torch.int64, device=order_NRL.device).expand(N, R, L)
    is_first = place == 0
    keys = [bucket_NRL] if bucket_NRL is not None else []
    if segments_NL is not None:
        keys.append(segments_NL[:, None].expand(N, R, L))
    for key in keys:
        sorted_key = key.gather(-1, order_NRL)
        is_first = is_first | F.pad(sorted_key[..., 1:] != sorted_key[..., :-1], (1, 0), value=True)
    low = torch.where(is_first, place, 0).cummax(-1).values
    is_last = F.pad(is_first[..., 1:], (0, 1), value=True)
    high = torch.where(is_last, place + 1, L).flip(-1).cummin(-1).values.flip(-1)
    return low, high
