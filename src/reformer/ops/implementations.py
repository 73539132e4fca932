"""Which implementation of an op runs, and why.

The rooms ``lsh_attention`` and ``local_attention`` each hold one module per implementation with the functions ``forward``
and ``backward``; what the implementation needs of the machine is said by ``obstacle`` of its engine. Both are imported when
they are needed and not before.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

import torch

# Fastest first. An engine's ``obstacle(device, dtype, width)`` is None, or why it cannot serve such tensors.
_ENGINES: dict[str, str | None] = {
    "triton": "reformer.ops.triton",
    "native": "reformer.ops.native",
    "eager": None,
}
NAMES = (*_ENGINES, "reference")


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
    if impl == "reference":
        return Choice(name=impl, reason="asked for by name")
    if impl != "auto":
        reason = obstacle(impl, device, dtype, width)
        if reason is not None:
            raise ValueError(f"impl={impl!r} cannot serve this request: {reason}; use impl='auto'")
        return Choice(name=impl, reason="asked for by name")
    passed_over: list[tuple[str, str]] = []
    for name in _ENGINES:
        reason = obstacle(name, device, dtype, width)
        if reason is None:
            why = "".join(f"; not {other}: {why_not}" for other, why_not in passed_over)
            return Choice(name=name, reason=f"the fastest that serves {dtype} on {device.type}{why}")
        passed_over.append((name, reason))
    raise AssertionError("eager serves every request")


def require_implementation(impl: str) -> None:
    """Raise ValueError unless ``impl`` is "auto" or the name of an implementation."""
    if impl != "auto" and impl not in NAMES:
        raise ValueError(f"impl must be 'auto' or one of {', '.join(map(repr, NAMES))}, got {impl!r}")


def obstacle(name: str, device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """Why implementation ``name`` cannot serve such tensors; None if it can."""
    engine = _ENGINES[name]
    return None if engine is None else importlib.import_module(engine).obstacle(device, dtype, width)


def implementation(room: str, impl: str, q: torch.Tensor, v: torch.Tensor) -> ModuleType:
    """The module of ``room`` whose ``forward`` and ``backward`` serve q and v under ``impl``."""
    choice = choose_implementation(impl, q.device, q.dtype, max(q.shape[-1], v.shape[-1]))
    return importlib.import_module(f"reformer.ops.{room}.{choice.name}")
