"""How tokens come to a residual branch: all at once, or the next few of a generation.

A branch has two verbs. ``run(x, parallel)`` is the function that is trained; ``step(x, decoding)`` continues a generation
and never drops anything. Both are reached by calling the module, so that hooks, adapters and sharding see every call.
B batch, L length, T new tokens, S length of what a decoder reads beside its own tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from reformer.ops import as_seed
from reformer.ops.decoding import AttentionCache

# In evaluation a missing seed means this one, so that results repeat.
_EVALUATION_SEED = 0


@runtime_checkable
class Branch(Protocol):
    """What a residual branch implements; x is [B, L, d_model] and so is the result."""

    def run(self, x: Tensor, parallel: ParallelPass) -> Tensor:
        """The function of a whole sequence, differentiable; all it draws comes from ``parallel.seed``."""

    def step(self, x: Tensor, decoding: DecodingStep) -> Tensor:
        """The same function of the next tokens, which enter the cache; without dropout."""


@dataclass(frozen=True, kw_only=True)
class ParallelPass:
    """One branch in one pass over whole sequences.

    ``saved`` holds what must not be computed again in the backward pass (an LSH layer's buckets: recomputed activations
    differ in the last bits and would hash differently). It is empty in the first run, which fills it.
    """

    seed: Tensor
    """0-dim int64: rotations and dropout are pure functions of it."""
    segment_ids: Tensor | None = None
    """[B, L]; negative is padding."""
    position_ids: Tensor | None = None
    """[B, L], for rotary positions; None: 0..L-1."""
    memory: Tensor | None = None
    """[B, S, d_model], what cross-attention reads."""
    memory_segment_ids: Tensor | None = None
    saved: list[Tensor] = field(default_factory=list)

    def through(self, branch: Branch, x: Tensor) -> Tensor:
        """What ``branch`` makes of x."""
        return branch.run(x, self)


class NewTokens(NamedTuple):
    """The tokens of one call of a generation, the same for all layers.

    ``counts`` [B] real tokens of each row before; ``is_real`` [B, T] bool, None: no padding; ``position_ids`` [B, T], None:
    0..T-1; ``real_first`` [B, T]: the columns of real tokens, then of padding, if this is a parallel pass with padding.
    """

    counts: Tensor
    is_real: Tensor | None
    position_ids: Tensor | None
    in_parallel: bool
    real_first: Tensor | None

    @property
    def segment_ids(self) -> Tensor | None:
        """[B, T]: 0 for a token, -1 for padding."""
        return None if self.is_real is None else self.is_real.int() - 1


@dataclass(kw_only=True)
class MemoryCache:
    """What one cross-attention layer reads in a generation: the encoder's output, until its keys and values are made of it.

    ``segment_ids`` [B, S]: negative is padding; None: no padding. A row is one segment.
    """

    memory: Tensor | None
    segment_ids: Tensor | None
    keys_values: tuple[Tensor, Tensor] | None = None

    def reorder(self, rows: Tensor) -> None:
        """Row b becomes what row ``rows[b]`` was."""
        if self.memory is not None:
            self.memory = self.memory[rows.to(self.memory.device)]
        if self.segment_ids is not None:
            self.segment_ids = self.segment_ids[rows.to(self.segment_ids.device)]
        if self.keys_values is not None:
            keys, values = self.keys_values
            self.keys_values = keys[rows.to(keys.device)], values[rows.to(values.device)]


class DecodingStep(NamedTuple):
    """One layer in one call of a generation: the new tokens, and what the layer remembers of those before."""

    new: NewTokens
    attention: AttentionCache
    memory: MemoryCache | None = None

    def through(self, branch: Branch, x: Tensor) -> Tensor:
        """What ``branch`` makes of the new tokens x."""
        return branch.step(x, self)


def resolve_seed(seed: int | Tensor | None, training: bool) -> Tensor:
    """The seed as a 0-dim int64 tensor; None is a draw from torch's global generator in training, 0 in evaluation."""
    if seed is not None:
        return as_seed(seed)
    if training:
        return torch.randint(0, 2**62, (), dtype=torch.int64, device="cpu")
    return as_seed(_EVALUATION_SEED)
