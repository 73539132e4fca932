"""Inputs for tests of the ops.

Values are exactly representable in bfloat16, so that the same numbers enter a computation in every dtype.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LAYOUTS = ("none", "left", "right", "middle", "interleaved", "packed", "one row of padding")


@dataclass(frozen=True, kw_only=True)
class LSHInputs:
    """The tensors of one call of ``lsh_attention``."""

    qk: Tensor
    v: Tensor
    buckets: Tensor
    segment_ids: Tensor | None

    def to(self, dtype: torch.dtype) -> "LSHInputs":
        """The same numbers in another dtype."""
        return LSHInputs(qk=self.qk.to(dtype), v=self.v.to(dtype), buckets=self.buckets, segment_ids=self.segment_ids)


def exact_normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")
    return numbers.to(torch.bfloat16).to(dtype)


def segment_layout(layout: str, batch: int, length: int) -> Tensor | None:
    """Segment ids [batch, length] of a named layout (``LAYOUTS``); "none" is None. Rows differ in their padding."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(map(repr, LAYOUTS))}, got {layout!r}")
    if layout == "none":
        return None
    row = torch.arange(batch, dtype=torch.int64, device="cpu")[:, None]
    position = torch.arange(length, dtype=torch.int64, device="cpu").repeat(batch, 1)
    padding = (row + 1) * length // (2 * batch + 1)
    if layout == "left":
        return torch.where(position < padding, -1, 0)
    if layout == "right":
        return torch.where(position >= length - padding, -1, 0)
    if layout == "middle":
        first = length // 3
        return torch.where((position >= first) & (position < first + padding), -7, 0)
    if layout == "interleaved":
        # Two segments and padding by turns, not contiguous; the ids neither start at 0 nor are consecutive.
        return torch.tensor([9, -1, 4], dtype=torch.int64, device="cpu")[(position + row) % 3]
    if layout == "packed":
        return (position >= length // 3).long() + (position >= length - length // 4).long() * 2
    return torch.where(row == batch - 1, -1, 0).expand(batch, length).clone()


def lsh_inputs(
    *,
    batch: int = 2,
    heads: int = 2,
    length: int,
    head_dim: int = 8,
    value_dim: int = 5,
    n_hashes: int = 2,
    n_buckets: int = 4,
    layout: str = "none",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> LSHInputs:
    """Random vectors and random buckets: harder than hashed ones, for buckets may be empty or hold nearly everyone."""
    generator = torch.Generator().manual_seed(seed + 1000)
    # The square skews the buckets' sizes.
    share = torch.rand(batch, heads, n_hashes, length, generator=generator, dtype=torch.float32, device="cpu").square()
    return LSHInputs(
        qk=exact_normal(batch, heads, length, head_dim, seed=seed, dtype=dtype),
        v=exact_normal(batch, heads, length, value_dim, seed=seed + 1, dtype=dtype),
        buckets=(share * n_buckets).long(),
        segment_ids=segment_layout(layout, batch, length),
    )
