"""From transformers' inputs to ours: the attention mask as segments, and targets from labels."""

import torch
from torch import Tensor

IGNORED = -100


def segments(attention_mask: Tensor | None, batch_size: int, length: int) -> Tensor | None:
    """Segment ids [B, L] of ``attention_mask`` [B, L] (0: padding): 0 for real tokens, -1 for padding; None for None.

    Raises ValueError for any other shape.
    """
    if attention_mask is None:
        return None
    _require_shape("attention_mask", attention_mask, batch_size, length, "give one number per token: 1 real, 0 padding")
    return (attention_mask > 0).long() - 1


def next_tokens(labels: Tensor, attention_mask: Tensor | None, batch_size: int, length: int) -> Tensor:
    """Targets [B, L]: at each real token the label of the next one, if that is real too; -100 elsewhere."""
    require_labels(labels, batch_size, length)
    segment_ids = segments(attention_mask, batch_size, length)
    targets = torch.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    if segment_ids is not None:
        targets[:, :-1].masked_fill_((segment_ids[:, :-1] < 0) | (segment_ids[:, 1:] < 0), IGNORED)
    return targets


def require_labels(labels: Tensor, batch_size: int, length: int) -> None:
    """Raise ValueError unless there is one label per token."""
    _require_shape("labels", labels, batch_size, length, f"mark tokens that do not count with {IGNORED}")


def _require_shape(name: str, tensor: Tensor, batch_size: int, length: int, fix: str) -> None:
    if tuple(tensor.shape) != (batch_size, length):
        expected = f"[batch, length] = [{batch_size}, {length}]"
        raise ValueError(f"{name} must have the shape {expected}, got {list(tensor.shape)}; {fix}")
