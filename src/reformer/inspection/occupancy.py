"""How evenly the hash fills its buckets. B batch, H heads, R rounds, L length."""

import torch
from torch import Tensor


def bucket_sizes(buckets: Tensor, n_buckets: int, segment_ids: Tensor | None = None) -> Tensor:
    """Real tokens in each bucket [B, H, R, n_buckets], of ``buckets`` [B, H, R, L]; ``segment_ids`` [B, L] < 0: padding."""
    sizes = torch.zeros(*buckets.shape[:3], n_buckets, dtype=torch.int64, device=buckets.device)
    real = torch.ones_like(buckets, dtype=torch.int64)
    if segment_ids is not None:
        real = real * (segment_ids >= 0)[:, None, None]
    return sizes.scatter_add_(-1, buckets.long(), real)


def effective_buckets(sizes: Tensor) -> Tensor:
    """exp(entropy) of the shares of ``sizes`` [..., n_buckets]: n if n buckets share the tokens evenly; 0 without tokens."""
    share = sizes.double() / sizes.sum(-1, keepdim=True).clamp_min(1)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    return entropy.exp() * (sizes.sum(-1) > 0)
