"""Who sees whom, in a form that tiles can test: for every round an order, and for every token an interval of places.

In round r the tokens stand in an order (for LSH: by segment, bucket and position). Whatever the pattern, a token sees
the tokens whose *place* in that order lies in an interval [start, end): of its bucket, cut to the neighbouring chunks
("paper") or to a window of places ("bucket"). So one integer comparison per pair decides visibility, and a pair was
already seen in an earlier round exactly if it passes that round's comparison.

N = batch · heads, R rounds, L length, m tile length, C tiles of a round.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# A pattern with no fixed reach (a whole bucket) is walked in strips of this many key tiles.
_STRIP = 4
# Longer chunks are cut into tiles: a tile's logits are of its size squared.
LARGEST_TILE = 256


@dataclass(frozen=True, kw_only=True)
class Wrap:
    """The "trax" order: all rounds end to end, look-back wraps, a pair counts as often as it is seen."""

    segments_NL: Tensor
    n_rounds: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The order of every round and what each token sees in it; ``Wrap`` replaces the intervals in "trax"."""

    order_NRL: Tensor  # int64, the token at each place
    rank_NRL: Tensor  # int64, the place of each token
    start_NRL: Tensor | None  # int32 by token: first visible place
    end_NRL: Tensor | None  # int32 by token: one past the last visible place
    real_NL: Tensor | None  # bool, False for padding; None: no padding
    causal: bool
    exclude_self: bool
    tile: int
    before: int | None  # key tiles looked at before a query's own; None: as far as the intervals reach
    after: int | None
    wrap: Wrap | None = None

    def passes(self) -> list[Tensor]:
        """Slots [N, G, m] of each pass: the token at each place, -1 beyond the end of a round."""
        N, R, L = self.order_NRL.shape
        padded = F.pad(self.order_NRL, (0, -L % self.tile), value=-1)
        if self.wrap is not None:
            return [padded.reshape(N, -1, self.tile)]
        return [padded[:, r].reshape(N, -1, self.tile) for r in range(R)]

    def rounds_of_pass(self, index: int) -> range:
        """The rounds whose slots pass ``index`` holds, in order."""
        return range(self.order_NRL.shape[1]) if self.wrap is not None else range(index, index + 1)

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
        tile = torch.arange(C, device=order.device)
        first = F.pad(torch.where(empty, L, start), (0, -L % m), value=L).reshape(N, C, m).amin(-1) // m - tile
        last = (F.pad(torch.where(empty, 0, end), (0, -L % m)).reshape(N, C, m).amax(-1) - 1) // m - tile
        strips: list[tuple[int, int, Tensor | None]] = []
        for low in range(int(first.min()), int(last.max()) + 1, _STRIP):
            active = ((first < low + _STRIP) & (last >= low)).flatten().nonzero().flatten()
            if active.numel():
                strips.append((low, _STRIP, active))
        return strips


def interval_plan(
    order_NRL: Tensor,
    bucket_NRL: Tensor | None,
    segments_NL: Tensor | None,
    *,
    causal: bool,
    exclude_self: bool,
    tile: int,
    chunk_len: int | None,
    window: int | None,
    n_chunks_before: int = 1,
    n_chunks_after: int = 0,
    chunks_per_run: bool = False,
) -> Plan:
    """The plan of "paper" (``chunk_len``), "bucket" (``window``) and local attention.

    A run is a maximal stretch of places with one bucket and one segment; nobody sees beyond its run. With ``chunk_len``
    a token sees its own chunk and its neighbours, where chunks are counted from place 0 or, with ``chunks_per_run``,
    from the start of the run. Otherwise it sees the places at most ``window`` away (None: the whole run).
    """
    N, R, L = order_NRL.shape
    place = torch.arange(L, device=order_NRL.device).expand(N, R, L)
    rank = torch.empty_like(order_NRL).scatter_(-1, order_NRL, place)
    low, high = _runs(order_NRL, bucket_NRL, segments_NL)
    if chunk_len is not None:
        # No chunk is further than that, and tiles beyond would be made all the same.
        n_chunks = -(-L // chunk_len)
        n_chunks_before, n_chunks_after = min(n_chunks_before, n_chunks), min(n_chunks_after, n_chunks)
        base = low if chunks_per_run else torch.zeros((), dtype=low.dtype, device=low.device)
        chunk = (place - base) // chunk_len
        low, high = (
            torch.maximum(low, base + (chunk - n_chunks_before) * chunk_len),
            torch.minimum(high, base + (chunk + n_chunks_after + 1) * chunk_len),
        )
    elif window is not None:
        low, high = torch.maximum(low, place - window), torch.minimum(high, place + window + 1)
    if causal:
        # Within a run the order is by position, so "earlier token" is "smaller place".
        high = torch.minimum(high, place if exclude_self else place + 1)
    before, after = _reach(tile, chunk_len, window, n_chunks_before, n_chunks_after, chunks_per_run, causal)
    real = None
    if segments_NL is not None:
        real = segments_NL >= 0
        is_padding = ~real[:, None].expand(N, R, L).gather(-1, order_NRL)
        low, high = low.masked_fill(is_padding, 0), high.masked_fill(is_padding, 0)
    return Plan(
        order_NRL=order_NRL,
        rank_NRL=rank,
        start_NRL=low.gather(-1, rank).int(),
        end_NRL=high.gather(-1, rank).int(),
        real_NL=real,
        causal=causal,
        exclude_self=exclude_self,
        tile=tile,
        before=before,
        after=after,
    )


def _reach(
    tile: int,
    chunk_len: int | None,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    chunks_per_run: bool,
    causal: bool,
) -> tuple[int | None, int | None]:
    """How many tiles a query tile looks before and after itself; (None, None): as far as the intervals reach."""
    if chunk_len is not None and chunk_len == tile and not chunks_per_run:
        return n_chunks_before, 0 if causal else n_chunks_after
    if chunk_len is not None:
        # Chunks that are not tiles: a token may see from one end of its chunk to the far end of the last one in reach.
        places = (n_chunks_before + 1) * chunk_len - 1, (n_chunks_after + 1) * chunk_len - 1
    elif window is not None:
        places = window, window
    else:
        return None, None
    before, after = -(-places[0] // tile), 0 if causal else -(-places[1] // tile)
    return (before, after) if before + after <= _STRIP else (None, None)


def wrap_plan(
    order_NRL: Tensor,
    segments_NL: Tensor | None,
    *,
    causal: bool,
    chunk_len: int,
    n_chunks_before: int,
    n_chunks_after: int,
    exclude_self: bool = True,
) -> Plan:
    """The plan of "trax" and of local attention that wraps: see ``Wrap``."""
    N, R, L = order_NRL.shape
    place = torch.arange(L, device=order_NRL.device).expand(N, R, L)
    padded_length = L + -L % chunk_len
    round_start = torch.arange(R, device=order_NRL.device)[:, None] * padded_length
    rank = torch.empty_like(order_NRL).scatter_(-1, order_NRL, place) + round_start
    segments = segments_NL if segments_NL is not None else torch.zeros_like(order_NRL[:, 0])
    return Plan(
        order_NRL=order_NRL,
        rank_NRL=rank,
        start_NRL=None,
        end_NRL=None,
        real_NL=None if segments_NL is None else segments_NL >= 0,
        causal=causal,
        exclude_self=exclude_self,
        tile=chunk_len,
        before=n_chunks_before,
        after=n_chunks_after,
        wrap=Wrap(segments_NL=segments, n_rounds=R),
    )


def _runs(order_NRL: Tensor, bucket_NRL: Tensor | None, segments_NL: Tensor | None) -> tuple[Tensor, Tensor]:
    """First place, and one past the last, of the run at each place."""
    N, R, L = order_NRL.shape
    place = torch.arange(L, device=order_NRL.device).expand(N, R, L)
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
