"""Attention over tiles of a sorted order, in plain PyTorch: the engine of the eager implementations."""

from reformer.ops.tiled_attention.backward import tiled_backward
from reformer.ops.tiled_attention.forward import tiled_forward
from reformer.ops.tiled_attention.plan import LARGEST_TILE, Plan, Wrap, interval_plan, wrap_plan

__all__ = ["LARGEST_TILE", "Plan", "Wrap", "interval_plan", "tiled_backward", "tiled_forward", "wrap_plan"]
