"""Position-wise functions over slices of the sequence, their inner activations never whole.

Paper, section 3 "Chunking": the feed-forward layer, and the output logits with their loss, are computed in slices. B batch,
L length, D width.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Again = Callable[[], AbstractContextManager[None]]
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "swiglu")

# Positions that are worked on together where memory need not be saved: a slice's hidden units stay in a CPU's cache, and
# in memory that the process holds already, while a device wants few launches.
_CPU_SLICE = 2048


def in_chunks(
    function: Callable[[Tensor, int], Tensor], x: Tensor, chunk_len: int | None, *, again: Again | None = None
) -> Tensor:
    """``function(slice, its first position)`` of x [B, L, D] along L, ``chunk_len`` positions at a time, put together.

    With a ``chunk_len`` the backward pass computes each slice again, so memory is that of one slice in both directions;
    without one (None) what the function needs is kept for it, as by ordinary autograd. The result does not depend on it
    beyond rounding. ``function`` must treat every position alike; random numbers that it draws from torch's generators are
    drawn again when a slice is. ``again()``: the context in which a slice is computed again.
    """
    recompute = chunk_len is not None and torch.is_grad_enabled()
    if chunk_len is None:
        chunk_len = max(1, _CPU_SLICE // x.shape[0]) if x.device.type == "cpu" else x.shape[1]
    # One node for all slices: a slice of its own would have a gradient as long as x.
    parts = x.split(chunk_len, dim=1) if chunk_len < x.shape[1] else (x,)
    # Dynamo needs no such context, and takes none.
    contexts: dict[str, Any] = {}
    if again is not None and not torch.compiler.is_compiling():
        contexts["context_fn"] = lambda: (nullcontext(), _Repeated(again))
    results, first_position = [], 0
    for part in parts:
        if recompute:
            results.append(checkpoint(function, part, first_position, use_reentrant=False, **contexts))
        else:
            results.append(function(part, first_position))
        first_position += part.shape[1]
    return results[0] if len(results) == 1 else torch.cat(results, dim=1)


class _Repeated(AbstractContextManager[None]):
    """A new context each time that it is entered: one graph may be gone through several times."""

    def __init__(self, make: Again) -> None:
        self._make, self._entered = make, ExitStack()

    def __enter__(self) -> None:
        self._entered.enter_context(self._make())

    def __exit__(self, *_: object) -> None:
        self._entered.close()


def activate(hidden: Tensor, activation: str) -> Tensor:
    """The activation of a feed-forward layer: relu, gelu (exact), gelu_tanh, or swiglu (silu(gate) · up, gate first)."""
    match activation:
        case "relu":
            return F.relu(hidden)
        case "gelu":
            return F.gelu(hidden)
        case "gelu_tanh":
            return F.gelu(hidden, approximate="tanh")
    gate, up = hidden.chunk(2, dim=-1)
    return F.silu(gate) * up
