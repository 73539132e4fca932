"""Attentions as operations to be measured: their shape, their inputs, ours and torch's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from reformer.layers import LSHSelfAttention
from reformer.ops import (
    automatic_n_buckets,
    hash_vectors,
    local_attention,
    lsh_attention,
    random_rotations,
)
from reproduction.benchmarks.benchmark import DTYPES

# The part of a shape that only hashing attention depends on.
HASHING = ("n_hashes", "chunk_len", "n_buckets")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of an attention; None for what a contender does not depend on."""

    batch: int
    seq_len: int
    n_heads: int
    head_dim: int
    dtype: str
    n_hashes: int | None = None
    chunk_len: int | None = None
    n_buckets: tuple[int, ...] | None = None

    def hashing(self) -> tuple[int, int, int | tuple[int, ...]]:
        """(rounds, chunk length, number of buckets: given or automatic), of a shape that has them."""
        assert self.n_hashes is not None and self.chunk_len is not None
        return self.n_hashes, self.chunk_len, self.n_buckets or automatic_n_buckets(self.seq_len, self.chunk_len)

    def as_seen_by(self, depends_on: tuple[str, ...]) -> Shape:
        """The same without what does not matter to a contender that depends on these hashing options."""
        dropped: dict[str, Any] = {name: None for name in HASHING if name not in depends_on}
        return dataclasses.replace(self, **dropped)

    def at(self, length: int) -> Shape:
        """One sequence of another length."""
        return dataclasses.replace(self, batch=1, seq_len=length)


class Inputs:
    """Normal tensors of one shape on one device, each made when first asked for and shared by all operations on that shape."""

    def __init__(self, shape: Shape, device: str) -> None:
        self._shape, self.device, self.dtype = shape, device, DTYPES[shape.dtype]
        self._made: dict[tuple[tuple[int, ...], int], Tensor] = {}

    def heads(self, count: int) -> tuple[Tensor, ...]:
        """``count`` tensors [B, H, L, D]: queries, keys, values."""
        shape = self._shape
        return tuple(self.like((shape.batch, shape.n_heads, shape.seq_len, shape.head_dim), i) for i in range(count))

    def hidden(self, count: int) -> tuple[Tensor, ...]:
        """``count`` tensors [B, L, H·D]."""
        shape = self._shape
        return tuple(self.like((shape.batch, shape.seq_len, shape.n_heads * shape.head_dim), i) for i in range(count))

    def like(self, size: tuple[int, ...], index: int) -> Tensor:
        """The ``index``-th tensor of ``size``."""
        if (size, index) not in self._made:
            generator = torch.Generator(self.device).manual_seed(index)
            made = torch.randn(size, generator=generator, device=self.device, dtype=torch.float32)
            self._made[size, index] = made.to(self.dtype)
        return self._made[size, index]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """``call(*leaves)`` is the output; backward gives the gradients of all leaves."""

    call: Callable[..., Tensor]
    leaves: tuple[Tensor, ...]


def lsh(shape: Shape, inputs: Inputs, impl: str) -> Operation:
    """Hashing with given rotations, sort, and LSH attention of qk and v."""
    n_hashes, chunk_len, n_buckets = shape.hashing()
    sizes = {"n_hashes": n_hashes, "n_buckets": n_buckets, "n_heads": shape.n_heads}
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(shape.head_dim, **sizes, generator=generator, device=inputs.device)  # type: ignore[arg-type]
    attention: Callable[..., Tensor] = partial(lsh_attention, chunk_len=chunk_len, impl=impl)  # type: ignore[assignment]
    return Operation(
        call=lambda qk, v: attention(qk, v, hash_vectors(qk, rotations, n_buckets)), leaves=inputs.heads(2)
    )


def lsh_layer(shape: Shape, inputs: Inputs, impl: str) -> Operation:
    """The layer with its projections; gradients of the input and of its weights."""
    n_hashes, chunk_len, n_buckets = shape.hashing()
    sizes = {"n_hashes": n_hashes, "n_buckets": n_buckets, "chunk_len": chunk_len}
    width = shape.n_heads * shape.head_dim
    layer = LSHSelfAttention(width, shape.n_heads, **sizes, impl=impl).to(inputs.device, inputs.dtype)  # type: ignore[arg-type]
    return Operation(call=lambda x, *_: layer(x, seed=0), leaves=(*inputs.hidden(1), *layer.parameters()))


def local(shape: Shape, inputs: Inputs, impl: str) -> Operation:
    """Local attention with separate keys: own chunk and the one before."""
    attention: Callable[..., Tensor] = partial(local_attention, chunk_len=shape.chunk_len, impl=impl)  # type: ignore[assignment]
    return Operation(call=attention, leaves=inputs.heads(3))


def sdpa(shape: Shape, inputs: Inputs, backend: SDPBackend | None = None) -> Operation:
    """torch's full attention, causal; by ``backend`` or an error (None: whichever kernel torch picks)."""

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with nullcontext() if backend is None else sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return Operation(call=call, leaves=inputs.heads(3))


def flex_local(shape: Shape, inputs: Inputs) -> Operation:
    """Causal attention to the own chunk and the one before, by FlexAttention."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    chunk_len, length = shape.chunk_len or 1, shape.seq_len

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (j <= i) & (i // chunk_len - j // chunk_len <= 1)

    mask = create_block_mask(sees, None, None, length, length, device=inputs.device)
    compiled: Callable[..., Tensor] = torch.compile(flex_attention)
    return Operation(call=partial(compiled, block_mask=mask), leaves=inputs.heads(3))
