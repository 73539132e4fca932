"""Attention by the C++ kernels: what LSH and local attention share.

Every pattern is a ``Plan``: an order per round, and for each token the interval of places it sees (``csrc/abi.h``).
B batch, H heads, L length, D key size, E value size, R rounds, N = B·H.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from reformer.ops.counter_rng import drop_threshold, fold
from reformer.ops.native import library
from reformer.ops.native.segments import compact_segments

_DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1}
# Places are int32, and those of "trax" run over all rounds and beyond.
_LAST_PLACE = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Who sees whom in an order: chunks and their neighbours, or a window, within runs of one bucket and segment."""

    causal: bool
    exclude_self: bool
    chunk_len: int | None = None
    n_chunks_before: int = 1
    n_chunks_after: int = 0
    window: int | None = None
    chunks_per_run: bool = False
    wrap: bool = False


class Plan:
    """The places and intervals of every token; owns the memory that its struct points to."""

    def __init__(
        self,
        pattern: Pattern,
        *,
        batch: int,
        heads: int,
        length: int,
        order: Tensor | None,
        buckets: Tensor | None,
        segment_ids: Tensor | None,
    ) -> None:
        """``order`` and ``buckets`` [B, H, R, L], or order [B or 1, 1, 1, L] for all heads, or None: by position."""
        rows = batch * heads if buckets is not None else 1 if order is None else order.shape[0] * order.shape[1]
        rounds = 1 if order is None else order.shape[2]
        order, buckets = _integers(order), _integers(buckets)
        segments = None if segment_ids is None else compact_segments(segment_ids)
        # One chunk holds everything from L on, and no chunk is farther than the last.
        chunk_len = 0 if pattern.chunk_len is None else min(pattern.chunk_len, length)
        before, after = pattern.n_chunks_before, pattern.n_chunks_after
        if pattern.wrap:
            last = (rounds * (-(-length // chunk_len)) + before + after + 1) * chunk_len
            if last > _LAST_PLACE:
                raise ValueError(
                    f"pattern='trax' over {last} places is beyond {_LAST_PLACE}; use fewer rounds or chunks"
                )
        else:
            before, after = min(before, length), min(after, length)
        self._arrays = (
            torch.empty(rows, rounds, length, dtype=torch.int32),
            torch.empty(rows, length, rounds, 3, dtype=torch.int32),
            segments,
        )
        self.struct = library.Plan(
            rows=rows,
            sharing=batch * heads // rows,
            length=length,
            rounds=rounds,
            order=self._arrays[0].data_ptr(),
            places=self._arrays[1].data_ptr(),
            segments=None if segments is None else segments.data_ptr(),
            wrap=pattern.wrap,
            chunk_len=chunk_len if pattern.wrap else 0,
            chunks_before=before if pattern.wrap else 0,
            chunks_after=after if pattern.wrap else 0,
        )
        request = library.PlanRequest(
            order=None if order is None else order.data_ptr(),
            buckets=None if buckets is None else buckets.data_ptr(),
            order_bytes=0 if order is None else order.element_size(),
            bucket_bytes=0 if buckets is None else buckets.element_size(),
            batch_sharing=max(1, rows // batch),
            causal=pattern.causal,
            exclude_self=pattern.exclude_self,
            chunk_len=chunk_len,
            chunks_before=before,
            chunks_after=after,
            chunks_per_run=pattern.chunks_per_run,
            window=0 if pattern.window is None else min(pattern.window, length),
        )
        library.call("plan", request, self.struct)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a call needs beside tensors and plan; ``dropout_seed`` is there if ``dropout_p`` > 0."""

    causal: bool
    exclude_self: bool
    scale: float
    dropout_p: float
    dropout_seed: Tensor | None


def attention_forward(
    plan: Plan, q: Tensor, k: Tensor | None, v: Tensor, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """(out as v, lse [B, H, L], alone [B, H, L] bool); ``k=None``: keys are the unit vectors of q."""
    out = torch.empty_like(v)
    q, v = _last_axis_contiguous(q), _last_axis_contiguous(v)
    k = None if k is None else _last_axis_contiguous(k)
    # The kernels' running sum; the output itself where it can hold it.
    total = out if out.dtype == torch.float32 and out.stride(-1) == 1 else torch.empty(v.shape)
    rows = q.shape[:3]
    lse, alone = torch.empty(rows), torch.empty(rows, dtype=torch.bool)
    state = torch.empty(*rows, 4)
    struct = _attention(q, k, v, options, state)
    struct.accumulator = library.rows(total)
    struct.lse, struct.alone = lse.data_ptr(), alone.data_ptr()
    library.call("forward", struct, plan.struct)
    return (out if total is out else out.copy_(total)), lse, alone


def attention_backward(
    plan: Plan,
    grad_out: Tensor,
    grad_lse: Tensor,
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    alone: Tensor,
    options: Options,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(dq, dk, dv) as q, k and v; dk is None, and dq holds the gradient of the keys too, for ``k=None``."""
    grads = tuple(None if x is None else torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
    grads = tuple(None if g is None else g if g.stride(-1) == 1 else g.contiguous() for g in grads)
    tensors = [_last_axis_contiguous(x) for x in (q, v, grad_out.to(q.dtype), out)]
    keys = None if k is None else _last_axis_contiguous(k)
    lse, alone, grad_lse = lse.contiguous(), alone.contiguous(), grad_lse.float().contiguous()
    state = torch.empty(*q.shape[:3], 4)
    struct = _attention(tensors[0], keys, tensors[1], options, state)
    struct.grad_out, struct.out = library.rows(tensors[2]), library.rows(tensors[3])
    struct.lse, struct.alone = lse.data_ptr(), alone.data_ptr()
    struct.grad_lse = grad_lse.data_ptr()
    for name, grad in zip(("dq", "dk", "dv"), grads):
        if grad is not None:
            setattr(struct, name, library.rows(grad))
    library.call("backward", struct, plan.struct)
    dq, dk, dv = (None if g is None or x is None else _as(g, x) for g, x in zip(grads, (q, k, v)))
    assert dq is not None and dv is not None
    return dq, dk, dv


def _attention(q: Tensor, k: Tensor | None, v: Tensor, options: Options, state: Tensor) -> library.Attention:
    B, H, L, D = q.shape
    drop = options.dropout_p > 0.0
    seed = 0
    if drop:
        assert options.dropout_seed is not None
        seed = int(fold(options.dropout_seed)) & 0xFFFFFFFF
    return library.Attention(
        batch=B,
        heads=H,
        length=L,
        key_width=D,
        value_width=v.shape[-1],
        dtype=_DTYPE_CODES[q.dtype],
        shared=k is None,
        causal=options.causal,
        exclude_self=options.exclude_self,
        scale=options.scale,
        drop=drop,
        drop_seed=seed,
        drop_threshold=drop_threshold(options.dropout_p),
        drop_factor=1.0 / (1.0 - options.dropout_p),
        q=library.rows(q),
        k=library.rows(q if k is None else k),
        v=library.rows(v),
        state=state.data_ptr(),
    )


def _last_axis_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _as(grad: Tensor, like: Tensor) -> Tensor:
    if like.dtype == grad.dtype and torch.empty_like(like, device="meta").stride() == grad.stride():
        return grad
    return torch.empty_like(like).copy_(grad)


def _integers(x: Tensor | None) -> Tensor | None:
    if x is None:
        return None
    return (x if x.dtype in (torch.int32, torch.int64) else x.int()).contiguous()
