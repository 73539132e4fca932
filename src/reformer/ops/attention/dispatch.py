"""Which engine serves attention, and why. Engines are imported when they are needed and not before.

An engine is a module with ``forward(request)`` -> (out, lse, alone) and ``backward(request, grad_out, grad_lse, out, lse,
alone)`` -> (dq, dk, dv); its package says with ``obstacle`` what is in its way.
"""

from dataclasses import dataclass
from types import ModuleType

import torch

from reformer.ops.attention.reach import Request

_FASTEST_FIRST = ("triton", "native", "eager")
NAMES = (*_FASTEST_FIRST, "reference")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The implementation that will run, and why."""

    name: str
    reason: str


def choose_implementation(
    impl: str, device: torch.device, dtype: torch.dtype = torch.float32, width: int = 64
) -> Choice:
    """Which implementation ``impl`` means for tensors of ``dtype`` on ``device`` with heads of size ``width``.

    "auto" is the fastest that can serve them. An explicit name never falls back to another: it works or it raises
    ValueError saying what is in its way.
    """
    require_implementation(impl)
    if impl != "auto":
        reason = obstacle(impl, device, dtype, width)
        if reason is not None:
            raise ValueError(f"impl={impl!r} cannot serve this request: {reason}; use impl='auto'")
        return Choice(name=impl, reason="asked for by name")
    passed_over = ""
    for name in _FASTEST_FIRST:
        reason = obstacle(name, device, dtype, width)
        if reason is None:
            return Choice(name=name, reason=f"the fastest that serves {dtype} on {device.type}{passed_over}")
        passed_over += f"; not {name}: {reason}"
    raise AssertionError("eager serves every request")


def require_implementation(impl: str) -> None:
    """Raise ValueError unless ``impl`` is "auto" or the name of an implementation."""
    if impl != "auto" and impl not in NAMES:
        raise ValueError(f"impl must be 'auto' or one of {', '.join(map(repr, NAMES))}, got {impl!r}")


def obstacle(name: str, device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Why implementation ``name`` cannot serve such tensors; None if it can."""
    match name:
        case "triton":
            from reformer.ops.attention import triton

            return triton.obstacle(device, dtype, width)
        case "native":
            from reformer.ops.attention import native

            return native.obstacle(device, dtype, width)
        case _:
            return None


def engine(impl: str, request: Request) -> ModuleType:
    """The engine that serves a request under ``impl``: a module with ``forward`` and ``backward``."""
    q, v, reach = request.q, request.v, request.reach
    if reach.wrap and reach.pattern == "position":
        # Plain PyTorch alone wraps around in the order of positions.
        impl = "eager"
    name = choose_implementation(impl, q.device, q.dtype, max(q.shape[-1], v.shape[-1])).name
    match name:
        case "triton":
            from reformer.ops.attention.triton import attention as triton_attention

            return triton_attention
        case "native":
            from reformer.ops.attention.native import attention as native_attention

            return native_attention
        case _:
            from reformer.ops.attention.eager import attention as eager_attention

            return eager_attention
