"""What each attention layer of a model attends with, taken from the model's own forward pass."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reformer.evaluation.mean_bits import evaluating
from reformer.layers import ParallelPass, ResidualBranch, SelfAttention
from reformer.models import ReformerLM


@dataclass(frozen=True, kw_only=True)
class Captured:
    """One attention layer in one forward pass: q, k (None: shared QK) and v [B, H, L, D], and an LSH layer's buckets."""

    index: int
    attention: SelfAttention
    q: Tensor
    k: Tensor | None
    v: Tensor
    buckets: Tensor | None
    """[B, H, R, L], those by which the layer attended."""
    output: Tensor
    """What the layer added to its stream [B, L, d_model]."""


@torch.inference_mode()
def capture(model: ReformerLM, tokens: Tensor, seed: int, receive: Callable[[Captured], None]) -> None:
    """Run ``model`` on ``tokens`` [B, L] in evaluation mode; ``receive`` gets its layers one after the other.

    Only one layer's tensors are alive at a time. Raises what the model raises for tokens that do not fit.
    """
    branches = [layer.attention for layer in model.stack.layers]

    def after(branch: ResidualBranch, arguments: tuple[Tensor, ParallelPass], output: Tensor) -> None:
        x, how = arguments
        attention = branch.inner
        assert isinstance(attention, SelfAttention)
        # The same operations on the same values as in the pass itself, so the same bits.
        q, k, v = attention.project(branch.norm(x), how.position_ids)
        buckets = how.saved[0] if how.saved else None
        index = branches.index(branch)
        receive(Captured(index=index, attention=attention, q=q, k=k, v=v, buckets=buckets, output=output))

    hooks = [branch.register_forward_hook(after) for branch in branches]
    try:
        with evaluating(model):
            model.hidden(tokens, seed=seed)
    finally:
        for hook in hooks:
            hook.remove()
