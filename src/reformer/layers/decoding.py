"""Layers in cached decoding: the same functions as in the parallel pass, of the next few tokens only.

B batch, T new tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reformer.layers.attention import LocalSelfAttention, LSHSelfAttention, SelfAttention
from reformer.layers.cross_attention import CrossAttention
from reformer.layers.feed_forward import FeedForward
from reformer.layers.reversible import ResidualBranch, ReversibleStack
from reformer.ops import Reach, as_seed, hash_vectors, sort_by_bucket
from reformer.ops.attention.local import logit_scale
from reformer.ops.chunking import feed_forward_at_once
from reformer.ops.decoding import AttentionCache, decode_attention, prefill_cache
from reformer.ops.hashing import Buckets


@dataclass(frozen=True, kw_only=True)
class NewTokens:
    """What all layers need to know of the tokens of one call.

    ``counts`` [B] real tokens of each row before; ``is_real`` [B, T] bool, None: no padding; ``position_ids`` [B, T], None:
    0..T-1; ``real_first`` [B, T]: the columns of real tokens, then of padding, if this is a parallel pass with padding.
    """

    counts: Tensor
    is_real: Tensor | None
    position_ids: Tensor | None
    in_parallel: bool
    real_first: Tensor | None


def empty_caches(
    stack: ReversibleStack, *, batch: int, max_len: int, seed: Tensor, n_buckets: Buckets
) -> list[AttentionCache]:
    """One cache for each layer, with the rotations of the parallel pass under the same ``seed``.

    ``n_buckets``: of LSH layers, whose own number is not looked at.
    """
    caches = []
    for layer, (branch_seed, *_) in zip(stack.layers, stack.seeds(seed)):
        attention = layer.attention.inner
        assert isinstance(attention, SelfAttention)
        inner_seed = layer.attention.inner_seed(branch_seed)
        caches.append(_empty_cache(attention, batch=batch, max_len=max_len, seed=inner_seed, n_buckets=n_buckets))
    return caches


def _empty_cache(
    attention: SelfAttention, *, batch: int, max_len: int, seed: Tensor, n_buckets: Buckets
) -> AttentionCache:
    weight = attention.to_q.weight
    hashing: dict[str, Any] = {}
    reach = Reach.full(shared_qk=attention.shared_qk)
    if isinstance(attention, LSHSelfAttention):
        reach = Reach.lsh(**attention.options)
        rotations = attention.rotations(seed, n_buckets, weight.device)
        hashing = {"rotations": rotations, "n_buckets": n_buckets}
    elif isinstance(attention, LocalSelfAttention):
        reach = Reach.local(shared_qk=attention.shared_qk, **attention.options)
    return AttentionCache(
        reach,
        batch=batch,
        heads=attention.n_heads,
        key_width=attention.head_dim,
        value_width=attention.head_dim,
        max_len=max_len,
        dtype=weight.dtype,
        device=weight.device,
        impl="auto" if attention.impl == "auto" else "eager",
        **hashing,
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a decoder reads beside its own tokens: keys and values [B, H, S, D] of each layer, computed once.

    ``segment_ids`` [B, S]: negative is padding; None: no padding. A row is one segment.
    """

    layers: list[tuple[Tensor, Tensor]]
    segment_ids: Tensor | None

    def rows(self, rows: Tensor) -> "Memory":
        """The memory of some rows, in that order."""
        return Memory(
            layers=[(keys[rows], values[rows]) for keys, values in self.layers],
            segment_ids=None if self.segment_ids is None else self.segment_ids[rows],
        )


def read_memory(stack: ReversibleStack, memory: Tensor, segment_ids: Tensor | None) -> Memory:
    """Keys and values of an encoder's output [B, S, d_model] for a stack with cross-attention."""
    branches = [layer.cross_attention for layer in stack.layers]
    return Memory(layers=[_cross_attention(branch).read(memory) for branch in branches], segment_ids=segment_ids)


def decode_stack(
    stack: ReversibleStack,
    x1: Tensor,
    x2: Tensor,
    caches: list[AttentionCache],
    new: NewTokens,
    memory: Memory | None = None,
) -> tuple[Tensor, Tensor]:
    """(y1, y2) [B, T, d_model] of the new tokens as ``ReversibleStack.forward`` has them; never any dropout."""
    for index, (layer, cache) in enumerate(zip(stack.layers, caches)):
        x1, x2 = stack.added(x1, x2, _attention(layer.attention, x2, cache, new))
        if layer.cross_attention is not None:
            assert memory is not None
            read = _read(layer.cross_attention, x2, *memory.layers[index], memory.segment_ids)
            x1, x2 = stack.added(x1, x2, read)
        x1, x2 = stack.added(x1, x2, _feed_forward(layer.feed_forward, x2))
    return x1, x2


def _read(branch: ResidualBranch, x: Tensor, keys: Tensor, values: Tensor, memory_segment_ids: Tensor | None) -> Tensor:
    # Without dropout nothing is drawn: any seed will do.
    seed = as_seed(0)
    return _cross_attention(branch).attend(branch.norm(x), keys, values, None, memory_segment_ids, seed, False)


def _cross_attention(branch: ResidualBranch | None) -> CrossAttention:
    assert branch is not None
    assert isinstance(branch.inner, CrossAttention)
    return branch.inner


def _attention(branch: ResidualBranch, x: Tensor, cache: AttentionCache, new: NewTokens) -> Tensor:
    attention = branch.inner
    assert isinstance(attention, SelfAttention)
    q, k, v = attention.project(branch.norm(x), new.position_ids)
    attend = _attend_in_parallel if new.in_parallel else _attend_in_turn
    return attention.join(attend(attention, q, k, v, cache, new))


def _attend_in_parallel(
    attention: SelfAttention, q: Tensor, k: Tensor | None, v: Tensor, cache: AttentionCache, new: NewTokens
) -> Tensor:
    segment_ids = None if new.is_real is None else new.is_real.int() - 1
    buckets, saved = None, None
    if cache.rotations is not None:
        buckets = hash_vectors(q, cache.rotations, cache.factors)
        saved = buckets.int(), sort_by_bucket(buckets, segment_ids).int()
    counts = new.counts + (q.shape[2] if new.is_real is None else new.is_real.sum(1))
    prefill_cache(cache, q, k, v, buckets, counts, new.real_first)
    # With the buckets given, no layer draws anything: the seed is not looked at.
    return attention._attend(q, k, v, new.counts, segment_ids, saved, 0.0, None)[0]


def _attend_in_turn(
    attention: SelfAttention, q: Tensor, k: Tensor | None, v: Tensor, cache: AttentionCache, new: NewTokens
) -> Tensor:
    scale = logit_scale(q, k, attention.scale)
    return decode_attention(cache, q, k, v, new.counts, new.is_real, scale=scale)


def _feed_forward(branch: ResidualBranch, x: Tensor) -> Tensor:
    feed_forward = branch.inner
    assert isinstance(feed_forward, FeedForward)
    if x.shape[1] > 1:
        return feed_forward(branch.norm(x), training=False)
    w = feed_forward
    return feed_forward_at_once(branch.norm(x), w.w_in, w.b_in, w.w_out, w.b_out, activation=w.activation)


def real_tokens_first(is_real: Tensor) -> Tensor:
    """Columns [B, T]: those of real tokens in their order, then those of padding."""
    return torch.sort((~is_real).int(), dim=1, stable=True).indices
