"""Reversible residual layers: the backward pass rebuilds the inputs of each layer from its outputs.

Paper, section 3 "Reversible Transformer": y1 = x1 + f(x2), y2 = x2 + g(y1); backward: x2 = y2 - g(y1), x1 = y1 - f(x2).
Activation memory is then that of one layer at any depth. A layer may have any number of residual functions (a decoder's
has three): they take turns in reading one stream and adding to the other.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Saved = tuple[Tensor, ...]


class Branch(NamedTuple):
    """One residual function with everything it differentiates by.

    ``function(x, parameters, saved) -> (y, saved)`` must be a pure function of its arguments and of constants: random
    numbers come from seeds it holds. It is called once in the forward pass with ``saved=None`` and returns what must
    not be computed again (buckets: recomputed activations differ in the last bits and would hash differently), and once
    in the backward pass with that ``saved``. With ``reads_shared`` it is given the tensors that all layers share after
    its parameters.
    """

    function: Callable[[Tensor, Sequence[Tensor], Saved | None], tuple[Tensor, Saved]]
    parameters: tuple[Tensor, ...]
    reads_shared: bool = False


def reversible_sequence(
    x1: Tensor,
    x2: Tensor,
    layers: Sequence[tuple[Branch, ...]],
    *,
    shared: tuple[Tensor, ...] = (),
    reversible: bool = True,
) -> tuple[Tensor, Tensor]:
    """(y1, y2) of the layers (f, g) applied in turn: y1 = x1 + f(x2), y2 = x2 + g(y1).

    After each residual function the streams swap roles, also from one layer to the next: layers (f, g, h) give
    x1 + f(x2), then x2 + g(of that), then h adds to the first again and the next layer's f to the second. After an odd
    number of functions in all, y1 is thus the stream that began as ``x2``.

    ``reversible=False`` is the same function under ordinary autograd, which keeps every activation. Gradients reach
    ``x1``, ``x2``, every branch's ``parameters`` and ``shared`` (what several branches read beside their stream, as an
    encoder's output), all explicit inputs of the autograd.Function: each gradient is returned once, that of a shared
    tensor as one sum, so DistributedDataParallel, ``torch.autograd.grad``, frozen parameters and inputs that need no
    gradient work as with ordinary layers. Autocast is as in the forward pass when the backward recomputes.
    Second derivatives need ``reversible=False``: torch refuses them here.

    Raises ValueError if the two streams differ in shape or dtype.
    """
    if x1.shape != x2.shape or x1.dtype != x2.dtype:
        raise ValueError(
            f"the two streams must have one shape and dtype, got {list(x1.shape)} {x1.dtype} "
            f"and {list(x2.shape)} {x2.dtype}"
        )
    branches = [branch for layer in layers for branch in layer]
    if not reversible:
        for branch in branches:
            x1, x2 = x2, x1 + _update(branch, x2, shared)
        return x1, x2
    if x1 is x2:
        x2 = x1.view_as(x1)  # dynamo takes no tensor twice
    if torch.compiler.is_compiling():
        _let_dynamo_trace_autograd()
    parameters = [p for branch in branches for p in branch.parameters]
    return _Reversible.apply(branches, len(shared), x1, x2, *shared, *parameters)


def residual_sequence(x: Tensor, layers: Sequence[tuple[Branch, ...]], *, shared: tuple[Tensor, ...] = ()) -> Tensor:
    """The ordinary residual network of the same functions: each reads x and adds to it (autograd keeps every activation)."""
    for layer in layers:
        for branch in layer:
            x = x + _update(branch, x, shared)
    return x


def _update(branch: Branch, x: Tensor, shared: tuple[Tensor, ...]) -> Tensor:
    update, _ = branch.function(x, _arguments(branch, branch.parameters, shared), None)
    return update.to(x.dtype)


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, branches: list[Branch], n_shared: int, x1: Tensor, x2: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        shared, parameters = tensors[:n_shared], tensors[n_shared:]
        ctx.autocast = _autocast_state(x1)
        ctx.branches, ctx.n_shared, ctx.n_saved = branches, n_shared, []
        saved_all: list[Tensor] = []
        stream, other = x1, x2
        # Branches alternate: f reads the second stream and adds to the first, g the other way round.
        for branch, branch_parameters in zip(branches, _split(branches, parameters)):
            with _autocast(ctx.autocast):
                update, saved = branch.function(other, _arguments(branch, branch_parameters, shared), None)
            stream, other = other, stream + update.to(stream.dtype)
            ctx.n_saved.append(len(saved))
            saved_all.extend(saved)
        y1, y2 = (stream, other) if branches else (x1.clone(), x2.clone())
        ctx.save_for_backward(y1, y2, *saved_all, *tensors)
        return y1, y2

    @staticmethod
    @once_differentiable
    def backward(ctx, dy1: Tensor, dy2: Tensor):
        y1, y2, *rest = ctx.saved_tensors
        n_saved = sum(ctx.n_saved)
        saved_all, tensors = rest[:n_saved], rest[n_saved:]
        shared, parameters = tensors[: ctx.n_shared], tensors[ctx.n_shared :]
        per_branch = _split(ctx.branches, parameters)
        d_shared: list[Tensor | None] = [None] * len(shared)
        gradients: list[tuple[Tensor | None, ...]] = []
        other, stream, d_other, d_stream = y1, y2, dy1, dy2
        for branch, branch_parameters, count in reversed(list(zip(ctx.branches, per_branch, ctx.n_saved))):
            saved = tuple(saved_all[len(saved_all) - count :])
            del saved_all[len(saved_all) - count :]
            with _autocast(ctx.autocast):
                arguments = _arguments(branch, branch_parameters, shared)
                update, d_input, d_arguments = _replay(branch, other, arguments, saved, d_stream)
            d_other = d_other + d_input
            # What was added to `stream` is taken off again; then the streams swap roles.
            other, stream = stream - update, other
            d_other, d_stream = d_stream, d_other
            n_own = len(branch_parameters)
            gradients.append(d_arguments[:n_own])
            if branch.reads_shared:
                d_shared = [_sum(a, b) for a, b in zip(d_shared, d_arguments[n_own:])]
        flat = [gradient for d_parameters in reversed(gradients) for gradient in d_parameters]
        return None, None, d_other, d_stream, *d_shared, *flat


def _replay(
    branch: Branch, x: Tensor, tensors: Sequence[Tensor], saved: Saved, gradient: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor | None, ...]]:
    """(update, gradient of x, gradients of the parameters and shared tensors) of one branch, computed again."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        # Leaves of their own: hooks on the real parameters must see one gradient, the one that backward returns.
        leaves = [p.detach().requires_grad_(p.requires_grad) for p in tensors]
        update, _ = branch.function(x, leaves, saved)
        update = update.to(x.dtype)
    wanted = [p for p in leaves if p.requires_grad]
    d_x, *d_wanted = torch.autograd.grad(update, [x, *wanted], gradient, allow_unused=True)
    found = iter(d_wanted)
    d_tensors = tuple(next(found) if p.requires_grad else None for p in leaves)
    return update.detach(), torch.zeros_like(x) if d_x is None else d_x, d_tensors


def _arguments(branch: Branch, parameters: Sequence[Tensor], shared: Sequence[Tensor]) -> Sequence[Tensor]:
    return (*parameters, *shared) if branch.reads_shared else parameters


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


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
