"""Reversible residual layers: the backward pass rebuilds the inputs of each layer from its outputs.

Paper, section 3 "Reversible Transformer": y1 = x1 + f(x2), y2 = x2 + g(y1); backward: x2 = y2 - g(y1), x1 = y1 - f(x2).
Activation memory is then that of one layer at any depth.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

Saved = tuple[Tensor, ...]


class Branch(NamedTuple):
    """One residual function with everything it differentiates by.

    ``function(x, parameters, saved) -> (y, saved)`` must be a pure function of its arguments and of constants: random
    numbers come from seeds it holds. It is called once in the forward pass with ``saved=None`` and returns what must
    not be computed again (buckets: recomputed activations differ in the last bits and would hash differently), and once
    in the backward pass with that ``saved``.
    """

    function: Callable[[Tensor, Sequence[Tensor], Saved | None], tuple[Tensor, Saved]]
    parameters: tuple[Tensor, ...]


def reversible_sequence(
    x1: Tensor, x2: Tensor, layers: Sequence[tuple[Branch, Branch]], *, reversible: bool = True
) -> tuple[Tensor, Tensor]:
    """(y1, y2) of the layers (f, g) applied in turn: y1 = x1 + f(x2), y2 = x2 + g(y1).

    ``reversible=False`` is the same function under ordinary autograd, which keeps every activation. Gradients reach
    ``x1``, ``x2`` and every branch's ``parameters``, which are explicit inputs of the autograd.Function: each gradient
    is returned once, so DistributedDataParallel, ``torch.autograd.grad``, frozen parameters and inputs that need no
    gradient work as with ordinary layers. Autocast is as in the forward pass when the backward recomputes.

    Raises ValueError if the two streams differ in shape or dtype.
    """
    if x1.shape != x2.shape or x1.dtype != x2.dtype:
        raise ValueError(
            f"the two streams must have one shape and dtype, got {list(x1.shape)} {x1.dtype} "
            f"and {list(x2.shape)} {x2.dtype}"
        )
    if not reversible:
        for f, g in layers:
            x1 = x1 + f.function(x2, f.parameters, None)[0].to(x1.dtype)
            x2 = x2 + g.function(x1, g.parameters, None)[0].to(x2.dtype)
        return x1, x2
    if x1 is x2:
        x2 = x1.view_as(x1)  # dynamo takes no tensor twice
    if torch.compiler.is_compiling():
        _let_dynamo_trace_autograd()
    branches = [branch for layer in layers for branch in layer]
    parameters = [p for branch in branches for p in branch.parameters]
    return _Reversible.apply(branches, x1, x2, *parameters)


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(ctx, branches: list[Branch], x1: Tensor, x2: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        ctx.autocast = _autocast_state(x1)
        ctx.branches, ctx.n_saved = branches, []
        saved_all: list[Tensor] = []
        stream, other = x1, x2
        # Branches alternate: f reads the second stream and adds to the first, g the other way round.
        for branch, branch_parameters in zip(branches, _split(branches, parameters)):
            with _autocast(ctx.autocast):
                update, saved = branch.function(other, branch_parameters, None)
            stream, other = other, stream + update.to(stream.dtype)
            ctx.n_saved.append(len(saved))
            saved_all.extend(saved)
        y1, y2 = (stream, other) if branches else (x1.clone(), x2.clone())
        ctx.save_for_backward(y1, y2, *saved_all, *parameters)
        return y1, y2

    @staticmethod
    def backward(ctx, dy1: Tensor, dy2: Tensor):
        y1, y2, *rest = ctx.saved_tensors
        n_saved = sum(ctx.n_saved)
        saved_all, parameters = rest[:n_saved], rest[n_saved:]
        per_branch = _split(ctx.branches, parameters)
        gradients: list[tuple[Tensor | None, ...]] = []
        other, stream, d_other, d_stream = y1, y2, dy1, dy2
        for branch, branch_parameters, count in reversed(list(zip(ctx.branches, per_branch, ctx.n_saved))):
            saved = tuple(saved_all[len(saved_all) - count :])
            del saved_all[len(saved_all) - count :]
            with _autocast(ctx.autocast):
                update, d_input, d_parameters = _replay(branch, other, branch_parameters, saved, d_stream)
            d_other = d_other + d_input
            # What was added to `stream` is taken off again; then the streams swap roles.
            other, stream = stream - update, other
            d_other, d_stream = d_stream, d_other
            gradients.append(d_parameters)
        flat = [gradient for d_parameters in reversed(gradients) for gradient in d_parameters]
        return None, d_other, d_stream, *flat


def _replay(
    branch: Branch, x: Tensor, parameters: Sequence[Tensor], saved: Saved, gradient: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
    """(update, gradient of x, gradients of the parameters) of one branch, computed again."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        # Leaves of their own: hooks on the real parameters must see one gradient, the one that backward returns.
        leaves = [p.detach().requires_grad_(p.requires_grad) for p in parameters]
        update, _ = branch.function(x, leaves, saved)
        update = update.to(x.dtype)
    wanted = [p for p in leaves if p.requires_grad]
    d_x, *d_wanted = torch.autograd.grad(update, [x, *wanted], gradient, allow_unused=True)
    found = iter(d_wanted)
    d_parameters = tuple(next(found) if p.requires_grad else None for p in leaves)
    return update.detach(), torch.zeros_like(x) if d_x is None else d_x, d_parameters


def _split(branches: Sequence[Branch], parameters: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    parts, first = [], 0
    for branch in branches:
        last = first + len(branch.parameters)
        parts.append(parameters[first:last])
        first = last
    return parts


def _autocast_state(x: Tensor) -> tuple[str, bool, torch.dtype] | None:
    device = x.device.type
    if not torch.amp.is_autocast_available(device):
        return None
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def _autocast(state: tuple[str, bool, torch.dtype] | None) -> AbstractContextManager:
    if state is None:
        return nullcontext()
    device, enabled, dtype = state
    # Also entered when it was off, for it may be on around the backward pass. No weight cache: a copy cached while
    # gradients are off would cut the graph of a later use.
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)


@torch.compiler.assume_constant_result
def _let_dynamo_trace_autograd() -> bool:
    # Runs while dynamo traces, and only then: torch.autograd.grad in a backward is behind a switch (off in 2.13).
    config = torch._dynamo.config
    if hasattr(config, "trace_autograd_ops"):
        config.trace_autograd_ops = True
    return True
