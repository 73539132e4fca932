"""Shared-QK keys: k_j = q_j / ||q_j|| (paper, section 2 "Hashing attention")."""

import torch
from torch import Tensor


def unit_keys(qk: Tensor) -> Tensor:
    """Each vector over its Euclidean norm along the last axis; a zero vector is a zero key with zero gradient."""
    return qk * inverse_norm(qk)


def inverse_norm(qk: Tensor) -> Tensor:
    """1 / ||q|| along the last axis, kept as size 1; 0 for a zero vector. Differentiable everywhere."""
    squared = qk.square().sum(-1, keepdim=True)
    is_zero = squared == 0.0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).rsqrt())


def unit_keys_backward(grad_k: Tensor, keys: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of q from the gradient of k = q/||q||: (g - k (k·g)) / ||q||."""
    return (grad_k - keys * (keys * grad_k).sum(-1, keepdim=True)) * inverse
