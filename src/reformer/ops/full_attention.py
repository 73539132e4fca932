"""Full attention, with the paper's shared QK or with separate keys; the fast path never holds an [L, L] tensor."""

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.checks import require_choice
from reformer.ops.keys import unit_keys
from reformer.ops.local_attention.api import attend_by_position, check_qkv, logit_scale


def full_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    *,
    causal: bool = True,
    segment_ids: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    dropout_seed: int | Tensor | None = None,
    return_lse: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention to all tokens (before i, if ``causal``): what LSH attention approximates.

    Arguments, shapes and ``k=None`` for shared QK as in ``local_attention``. ``impl``: "sdpa" (torch's
    scaled_dot_product_attention; no segments, no dropout, no lse, and for shared QK causal only), "eager" (tiles, any
    request), "reference" (dense), or "auto", which takes "sdpa" where it applies.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; ``impl="sdpa"`` for a request it cannot serve.
    """
    require_choice("impl", impl, ("auto", "sdpa", "eager", "reference"))
    check_qkv(q, k, v, segment_ids)
    obstacle = _sdpa_obstacle(q, k, causal, segment_ids, dropout_p, return_lse)
    if impl == "sdpa" and obstacle is not None:
        raise ValueError(f"impl='sdpa' cannot serve this request: {obstacle}; use impl='auto' or impl='eager'")
    if impl == "sdpa" or (impl == "auto" and obstacle is None):
        return _by_sdpa(q, k, v, causal, logit_scale(q, k, scale))
    out, lse = attend_by_position(
        q,
        k,
        v,
        causal=causal,
        segment_ids=segment_ids,
        scale=scale,
        dropout_p=dropout_p,
        dropout_seed=dropout_seed,
        impl="reference" if impl == "reference" else "eager",
    )
    return (out, lse) if return_lse else out


def _sdpa_obstacle(
    q: Tensor, k: Tensor | None, causal: bool, segment_ids: Tensor | None, dropout_p: float, return_lse: bool
) -> str | None:
    if return_lse:
        return "it returns no lse"
    if segment_ids is not None:
        return "segments would need an [L, L] mask"
    if dropout_p > 0.0:
        return "its dropout draws hidden random numbers"
    if k is None and not causal:
        return "leaving out each token's own key would need an [L, L] mask"
    if k is None and q.shape[2] == 1:
        return "a single token has no other token to see"
    if q.is_cuda and q.dtype == torch.float64:
        return "its float64 path on CUDA holds an [L, L] tensor"
    return None


def _by_sdpa(q: Tensor, k: Tensor | None, v: Tensor, causal: bool, scale: float) -> Tensor:
    if k is not None:
        return _same_width_sdpa(q, k, v, causal, scale)
    # A token does not see itself: token i against keys 0..i-1 is a causal square with the keys one place behind.
    first = v[:, :, :1]
    keys = unit_keys(q[:, :, :-1])
    rest = _same_width_sdpa(q[:, :, 1:], keys, v[:, :, :-1], True, scale)
    return torch.cat([first, rest], dim=2)


def _same_width_sdpa(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Tensor:
    # The memory-saving kernels want one width for keys and values; zeros change neither logits nor the kept columns.
    D, E = q.shape[-1], v.shape[-1]
    if D < E:
        q, k = F.pad(q, (0, E - D)), F.pad(k, (0, E - D))
    elif E < D:
        v = F.pad(v, (0, D - E))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)[..., :E]
