"""Muon (Jordan et al. 2024): the update of a matrix is its momentum made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

# Jordan et al.: the quintic with the steepest slope at 0; singular values end between about 0.7 and 1.2.
_A, _B, _C, _STEPS = 3.4445, -4.775, 2.0315, 5
_EPS = 1e-7
# Of one stack; the steps hold about five times as many.
_STACK_ELEMENTS = 2**23


class OptimizerOfUpdates(torch.optim.Optimizer):
    """An optimizer that only says what its ``update`` is."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter with a gradient; returns what ``closure`` returns, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update()
        return loss

    def update(self) -> None:
        """Change every parameter with a gradient."""
        raise NotImplementedError


class Muon(OptimizerOfUpdates):
    """``torch.optim.Muon`` with Nesterov momentum and the size of an AdamW update (``match_rms_adamw``, Moonshot 2025).

    That one always computes in bfloat16, which CPUs without units for it emulate: on two cores it took twice the time of
    the model's own step. This one computes in the matrices' own dtype, on a GPU in bfloat16.

    Raises ValueError for parameters that are not matrices.
    """

    def __init__(self, params: Any, lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        shapes = [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.dim() != 2]
        if shapes:
            raise ValueError(f"muon is for matrices, got a parameter of shape {shapes[0]}")

    def update(self) -> None:
        for group in self.param_groups:
            # Matrices of one shape are one stack: on a GPU the launches of so many small products cost more than the products.
            alike: dict[tuple[Any, ...], list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault((p.shape, p.dtype, p.device), []).append(p)
            for matrices in _pieces(alike.values()):
                gradients = [p.grad for p in matrices if p.grad is not None]
                buffers = [self._buffer(p) for p in matrices]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"])))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(
                    matrices, updates.unbind(), alpha=-0.2 * math.sqrt(max(updates.shape[1:])) * group["lr"]
                )

    def _buffer(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _pieces(groups: Iterable[list[Tensor]]) -> Iterator[list[Tensor]]:
    """The groups of matrices of one shape, cut where a stack would hold more than ``_STACK_ELEMENTS``."""
    for group in groups:
        size = max(1, _STACK_ELEMENTS // max(1, group[0].numel()))
        yield from (group[first : first + size] for first in range(0, len(group), size))


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly U·Vᵀ of the singular value decomposition U·S·Vᵀ of each of ``matrices`` [.., m, n], by five Newton-Schulz steps."""
    x: Tensor = matrices.bfloat16() if matrices.is_cuda else matrices
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_EPS)
    for _ in range(_STEPS):
        gram: Tensor = x @ x.mT
        x = _A * x + (_B * gram + _C * (gram @ gram)) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
