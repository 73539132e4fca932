"""The native engine: attention by the C++ kernels, float32 and bfloat16 on a CPU.

Every reach becomes an order per round and, for each token, the interval of places it sees (``csrc/abi.h``).
B batch, H heads, L length, D key size, E value size, R rounds.
"""

import torch
from torch import Tensor

from reformer.ops.attention.native import library
from reformer.ops.attention.reach import Request
from reformer.ops.counter_rng import drop_threshold, fold

_DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1}
# Places are int32, and those of "trax" run over all rounds and beyond.
_LAST_PLACE = 2**31 - 1


def forward(request: Request) -> tuple[Tensor, Tensor, Tensor]:
    """(out as v, lse [B, H, L], alone [B, H, L] bool); ``alone`` is for backward."""
    plan, _memory = _plan(request)
    q, k, v = request[:3]
    out = torch.empty_like(v)
    q, v = _last_axis_contiguous(q), _last_axis_contiguous(v)
    k = None if k is None else _last_axis_contiguous(k)
    # The kernels' running sum; the output itself where it can hold it.
    total = out if out.dtype == torch.float32 and out.stride(-1) == 1 else _floats(v, *v.shape)
    rows = q.shape[:3]
    lse, alone = _floats(q, *rows), torch.empty(rows, dtype=torch.bool, device=q.device)
    state = _floats(q, *rows, 4)
    struct = _attention(q, k, v, state, request)
    struct.accumulator = library.rows(total)
    struct.lse, struct.alone = lse.data_ptr(), alone.data_ptr()
    library.call("forward", struct, plan)
    return (out if total is out else out.copy_(total)), lse, alone


def backward(
    request: Request, grad_out: Tensor, grad_lse: Tensor, out: Tensor, lse: Tensor, alone: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(dq, dk, dv) in float32; for shared QK dk is None, and dq holds the gradient of the keys too."""
    plan, _memory = _plan(request)
    q, k, v = request[:3]
    grads = [None if x is None else _zeros(x) for x in (q, k, v)]
    q, v, grad_out, out = (_last_axis_contiguous(x) for x in (q, v, grad_out.to(q.dtype), out))
    k = None if k is None else _last_axis_contiguous(k)
    lse, alone, grad_lse = lse.contiguous(), alone.contiguous(), grad_lse.float().contiguous()
    state = _floats(q, *q.shape[:3], 4)
    struct = _attention(q, k, v, state, request)
    struct.grad_out, struct.out = library.rows(grad_out), library.rows(out)
    struct.lse, struct.alone = lse.data_ptr(), alone.data_ptr()
    struct.grad_lse = grad_lse.data_ptr()
    for name, grad in zip(("dq", "dk", "dv"), grads):
        if grad is not None:
            setattr(struct, name, library.rows(grad))
    library.call("backward", struct, plan)
    dq, dk, dv = grads
    assert dq is not None and dv is not None
    return dq, dk, dv


def _plan(request: Request) -> tuple[library.Plan, tuple[Tensor | None, ...]]:
    """The places and intervals of every token, and the memory that they lie in."""
    B, H, L, _ = request.q.shape
    reach, segment_ids, device = request.reach, request.segment_ids, request.q.device
    order, buckets = _integers(request.order), _integers(request.buckets)
    # Without buckets all heads of a batch share the order, and without segments all batches.
    rows = B * H if buckets is not None else 1 if order is None else B
    rounds = 1 if order is None else order.shape[2]
    segments = None if segment_ids is None else library.compact_segments(segment_ids)
    chunk_len, before, after = reach.chunks_within(L) or (0, 0, 0)
    if reach.wrap:
        last = (rounds * (-(-L // chunk_len)) + before + after + 1) * chunk_len
        if last > _LAST_PLACE:
            raise ValueError(f"pattern='trax' over {last} places is beyond {_LAST_PLACE}; use fewer rounds or chunks")
    sorted_tokens = torch.empty(rows, rounds, L, dtype=torch.int32, device=device)
    places = torch.empty(rows, L, rounds, 3, dtype=torch.int32, device=device)
    plan = library.Plan(
        rows=rows,
        sharing=B * H // rows,
        length=L,
        rounds=rounds,
        order=sorted_tokens.data_ptr(),
        places=places.data_ptr(),
        segments=None if segments is None else segments.data_ptr(),
        wrap=reach.wrap,
        chunk_len=chunk_len if reach.wrap else 0,
        chunks_before=before if reach.wrap else 0,
        chunks_after=after if reach.wrap else 0,
    )
    intervals = library.PlanRequest(
        order=None if order is None else order.data_ptr(),
        buckets=None if buckets is None else buckets.data_ptr(),
        order_bytes=0 if order is None else order.element_size(),
        bucket_bytes=0 if buckets is None else buckets.element_size(),
        batch_sharing=max(1, rows // B),
        causal=reach.causal,
        exclude_self=reach.exclude_self,
        chunk_len=chunk_len,
        chunks_before=before,
        chunks_after=after,
        chunks_per_run=reach.pattern == "position",
        window=reach.window_within(L) or 0,
    )
    library.call("plan", intervals, plan)
    return plan, (sorted_tokens, places, segments)


def _attention(q: Tensor, k: Tensor | None, v: Tensor, state: Tensor, request: Request) -> library.Attention:
    B, H, L, D = q.shape
    reach, dropout = request.reach, request.dropout
    p, seed = (0.0, 0) if dropout is None else (dropout.p, int(fold(dropout.seed)) & 0xFFFFFFFF)
    return library.Attention(
        batch=B,
        heads=H,
        length=L,
        key_width=D,
        value_width=v.shape[-1],
        dtype=_DTYPE_CODES[q.dtype],
        shared=k is None,
        causal=reach.causal,
        exclude_self=reach.exclude_self,
        scale=request.scale,
        drop=dropout is not None,
        drop_seed=seed,
        drop_threshold=drop_threshold(p),
        drop_factor=1.0 / (1.0 - p),
        q=library.rows(q),
        k=library.rows(q if k is None else k),
        v=library.rows(v),
        state=state.data_ptr(),
    )


def _last_axis_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _floats(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _zeros(like: Tensor) -> Tensor:
    return _last_axis_contiguous(torch.zeros_like(like, dtype=torch.float32))


def _integers(x: Tensor | None) -> Tensor | None:
    if x is None:
        return None
    return (x if x.dtype in (torch.int32, torch.int64) else x.int()).contiguous()
