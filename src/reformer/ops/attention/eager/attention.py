"""The eager engine: any request, in plain PyTorch. N = batch · heads."""

import torch
from torch import Tensor

from reformer.ops.attention.eager.backward import tiled_backward
from reformer.ops.attention.eager.forward import accumulation_dtype, tiled_forward
from reformer.ops.attention.eager.plan import make_plan
from reformer.ops.attention.reach import Request
from reformer.ops.keys import inverse_norm, unit_keys_backward


def forward(request: Request) -> tuple[Tensor, Tensor, Tensor]:
    """(out [N, L, Dv], lse [N, L], alone [N, L] bool); ``alone`` is for backward."""
    q = _rows(request.q)
    keys, _ = _keys(q, request.k)
    with torch.autocast(q.device.type, enabled=False):
        return tiled_forward(q, keys, _rows(request.v), make_plan(request))


def backward(
    request: Request, grad_out: Tensor, grad_lse: Tensor, out: Tensor, lse: Tensor, alone: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) as [N, L, ..]; for shared QK dq holds the gradient of the keys too."""
    q = _rows(request.q)
    keys, inverse = _keys(q, request.k)
    with torch.autocast(q.device.type, enabled=False):
        dq, dk, dv = tiled_backward(
            grad_out.flatten(0, 1),
            grad_lse.flatten(0, 1),
            q,
            keys,
            _rows(request.v),
            out.flatten(0, 1),
            lse.flatten(0, 1),
            alone.flatten(0, 1),
            make_plan(request),
        )
        if inverse is not None:
            dq.add_(unit_keys_backward(dk, keys, inverse))
    return dq, dk, dv


def _rows(x: Tensor) -> Tensor:
    return x.flatten(0, 1).contiguous()


def _keys(q_NLD: Tensor, k: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """(keys, None), or for shared QK (q / ||q||, 1 / ||q||) wide: a bfloat16 norm would cost 2⁻⁸ on every logit."""
    if k is not None:
        return _rows(k), None
    q = q_NLD.to(accumulation_dtype(q_NLD))
    inverse = inverse_norm(q)
    return q * inverse, inverse
