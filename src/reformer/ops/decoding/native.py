"""Decoding steps by the C++ kernel, which finds the members of a bucket in lists that it keeps beside the cache.

B batch, H heads, S slots, D key size, E value size, R hash rounds, T new tokens.
"""

from __future__ import annotations

import ctypes
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from reformer.ops.attention.native import library
from reformer.ops.attention.reach import Reach

# The kernel reads rotations in registers of at most this many numbers.
_COLUMNS = 16


@runtime_checkable
class Cache(Protocol):
    """What the kernel reads of an ``AttentionCache``."""

    reach: Reach
    max_len: int
    factors: tuple[int, ...]
    rotations: Tensor | None
    keys: Tensor
    values: Tensor
    buckets: Tensor | None

    @property
    def slots(self) -> int:
        """Tokens of a row that fit in."""


class NativeStep:
    """The struct of the kernel's calls, filled once, and the lists: all derived from the cache's buckets."""

    def __init__(self, cache: Cache) -> None:
        B, H, _, D = cache.keys.shape
        # No token is farther away than the longest sequence is long.
        chunk_len, before, after = cache.reach.chunks_within(cache.max_len) or (0, 0, 0)
        self.struct = library.Decode(
            heads=H,
            key_width=D,
            value_width=cache.values.shape[-1],
            dtype=0 if cache.keys.dtype == torch.float32 else 1,
            exclude_self=cache.reach.exclude_self,
            chunk_len=chunk_len,
            chunks_before=before,
            chunks_after=after,
            window=cache.reach.window_within(cache.max_len) or 0,
        )
        self._rotations: Tensor | None = None
        self._factors = (ctypes.c_int32 * len(cache.factors))(*cache.factors)
        self._lists: dict[str, Tensor] = {}
        if cache.rotations is not None:
            self._prepare_hashing(cache.rotations, cache.factors)
            self._make_lists(cache)
        self._point_to(cache)

    def reserve(self, cache: Cache) -> None:
        """The cache has grown."""
        for name, axis in (("previous", 2), ("order", 3)):
            if name in self._lists:
                shorter = self._lists[name]
                self._lists[name] = shorter.new_empty(*shorter.shape[:axis], cache.slots, *shorter.shape[axis + 1 :])
                self._lists[name].narrow(axis, 0, shorter.shape[axis]).copy_(shorter)
        self._point_to(cache)

    def reorder(self, cache: Cache, rows: Tensor) -> None:
        """The cache's rows have been reordered."""
        self._lists = {name: x[rows] for name, x in self._lists.items()}
        self._point_to(cache)

    def rebuild(self, cache: Cache, counts: Tensor) -> None:
        """The first ``counts`` [B] tokens of the cache's rows, and perhaps its rotations, have been replaced."""
        if cache.rotations is None:
            return
        self._prepare_hashing(cache.rotations, cache.factors)
        self._make_lists(cache)
        self._point_to(cache)
        self.struct.counts = counts.data_ptr()
        self._scratch_for_threads()
        library.call_short("link", self.struct)

    def decode(
        self,
        cache: Cache,
        q: Tensor,
        k: Tensor | None,
        v: Tensor,
        counts: Tensor,
        is_real: Tensor | None,
        scale: float,
    ) -> Tensor:
        """``decode_attention`` [B, H, T, E]."""
        B, H, T, _ = q.shape
        q, v = _rows(q, cache.keys), _rows(v, cache.keys)
        k = None if k is None else _rows(k, cache.keys)
        is_real = None if is_real is None else is_real.contiguous()
        out = torch.empty(B, T, H, v.shape[-1], dtype=torch.float32, device=v.device)
        struct = self.struct
        struct.tokens, struct.scale, struct.shared = T, scale, k is None
        struct.q, struct.v = library.rows(q), library.rows(v)
        struct.k = struct.q if k is None else library.rows(k)
        struct.counts, struct.out = counts.data_ptr(), out.data_ptr()
        struct.is_real = None if is_real is None else is_real.data_ptr()
        self._scratch_for_threads()
        library.call_short("decode", struct)
        return out.to(cache.values.dtype).transpose(1, 2)

    def _prepare_hashing(self, rotations: Tensor, factors: tuple[int, ...]) -> None:
        H, D, R, columns = rotations.shape
        by_feature = rotations.new_zeros(H, R, D, -(-columns // _COLUMNS) * _COLUMNS, dtype=torch.float32)
        by_feature[..., :columns] = rotations.permute(0, 2, 1, 3)
        self._rotations = by_feature
        struct = self.struct
        struct.rounds, struct.columns, struct.rotations = R, columns, by_feature.data_ptr()
        struct.factors, struct.factor = len(factors), self._factors
        struct.n_buckets = 1
        for factor in factors:
            struct.n_buckets *= factor

    def _make_lists(self, cache: Cache) -> None:
        B, H, S, _ = cache.keys.shape
        R, b, pattern = self.struct.rounds, self.struct.n_buckets, cache.reach.pattern
        lists, device = {}, cache.keys.device
        if pattern == "trax":
            lists["order"] = torch.empty(B, H, R, S, dtype=torch.int32, device=device)
        else:
            lists["previous"] = torch.empty(B, H, S, R, dtype=torch.int32, device=device)
            lists["newest"] = torch.full((B, H, R, b), -1, dtype=torch.int32, device=device)
        if pattern != "bucket":
            lists["sizes"] = torch.zeros(B, H, R, b + 1, dtype=torch.int32, device=device)
        self._lists = lists

    def _point_to(self, cache: Cache) -> None:
        struct, reach = self.struct, cache.reach
        struct.batch, struct.slots = cache.keys.shape[0], cache.slots
        struct.keys, struct.values = cache.keys.data_ptr(), cache.values.data_ptr()
        struct.buckets = None if cache.buckets is None else cache.buckets.data_ptr()
        for name in ("previous", "newest", "sizes", "order"):
            setattr(struct, name, self._lists[name].data_ptr() if name in self._lists else None)
        struct.most_seen = cache.slots
        if reach.pattern == "trax":
            struct.most_seen = struct.rounds * (struct.chunks_before + struct.chunks_after + 1) * struct.chunk_len
        self._scratch = torch.empty(0, 0, dtype=torch.float32, device=cache.keys.device)

    def _scratch_for_threads(self) -> None:
        threads = torch.get_num_threads()
        if self._scratch.shape[0] < threads:
            floats = library.decode_scratch(self.struct)
            self._scratch = self._scratch.new_empty(threads, floats)
            self.struct.scratch = self._scratch.data_ptr()


def _rows(x: Tensor, like: Tensor) -> Tensor:
    x = x.to(like.dtype)
    return x if x.stride(-1) == 1 else x.contiguous()
