"""One shape of an attention, its inputs, and an operation on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reformer.bench.contenders import DTYPES, HASHING
from reformer.ops import automatic_n_buckets


@dataclass(frozen=True, kw_only=True)
class Case:
    """The shape; None for what a contender does not depend on."""

    batch: int
    seq_len: int
    n_heads: int
    head_dim: int
    dtype: str
    n_hashes: int | None = None
    chunk_len: int | None = None
    n_buckets: tuple[int, ...] | None = None

    @property
    def buckets(self) -> int | tuple[int, ...]:
        """The number of buckets, given or automatic."""
        assert self.chunk_len is not None
        return self.n_buckets or automatic_n_buckets(self.seq_len, self.chunk_len)

    def as_seen_by(self, depends_on: tuple[str, ...]) -> Case:
        """The same without what does not matter to a contender that depends on these hashing options."""
        dropped: dict[str, Any] = {name: None for name in HASHING if name not in depends_on}
        return dataclasses.replace(self, **dropped)

    def at(self, length: int) -> Case:
        """One sequence of another length."""
        return dataclasses.replace(self, batch=1, seq_len=length)


def case_from_json(fields: dict) -> Case:
    """A Case that went through JSON."""
    n_buckets = fields.get("n_buckets")
    return Case(**{**fields, "n_buckets": None if n_buckets is None else tuple(n_buckets)})


class Inputs:
    """Normal tensors of one shape, each made when first asked for and shared by all operations on that shape."""

    def __init__(self, case: Case, device: str) -> None:
        self._case, self._device = case, device
        self._made: dict[tuple, Tensor] = {}

    def heads(self, index: int) -> Tensor:
        """The ``index``-th [B, H, L, D]: queries, keys, values."""
        case = self._case
        return self.like((case.batch, case.n_heads, case.seq_len, case.head_dim), index)

    def hidden(self, index: int = 0) -> Tensor:
        """The ``index``-th [B, L, H·D]."""
        case = self._case
        return self.like((case.batch, case.seq_len, case.n_heads * case.head_dim), index)

    def like(self, shape: tuple[int, ...], index: int) -> Tensor:
        """The ``index``-th tensor of ``shape``."""
        if (shape, index) not in self._made:
            generator = torch.Generator(self._device).manual_seed(index)
            made = torch.randn(shape, generator=generator, device=self._device, dtype=torch.float32)
            self._made[shape, index] = made.to(DTYPES[self._case.dtype])
        return self._made[shape, index]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """``call(*leaves)`` is the output; backward gives the gradients of all leaves."""

    call: Callable[..., Tensor]
    leaves: tuple[Tensor, ...]
    runs: str = ""
    """Of ours: the implementation that runs."""
