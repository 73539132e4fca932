"""Full attention, with the paper's shared QK or with separate keys; a long input never makes an [L, L] tensor."""

import torch
import torch.nn.functional as F
from torch import Tensor

from reformer.ops.attention.dense import masked_attention
from reformer.ops.attention.local import attend_by_position, check_qkv, logit_scale
from reformer.ops.attention.reach import Dropout, Reach
from reformer.ops.checks import require_choice
from reformer.ops.keys import unit_keys

# Up to this length, about that of a sentence, tiles cost more than the whole of the logits.
_SHORT = 256


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
    request), "dense" (an [L, L] mask; no lse), "reference" (the definition), or "auto", which takes "sdpa" where it
    applies, and "dense" up to a length of 256.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; ``impl="sdpa"`` for a request it cannot serve.
    """
    require_choice("impl", impl, ("auto", "sdpa", "dense", "eager", "reference"))
    check_qkv(q, k, v, segment_ids)
    obstacle = _sdpa_obstacle(q, k, causal, segment_ids, dropout_p, return_lse)
    if impl == "sdpa" and obstacle is not None:
        raise ValueError(f"impl='sdpa' cannot serve this request: {obstacle}; use impl='auto' or impl='eager'")
    if impl == "sdpa" or (impl == "auto" and obstacle is None):
        return _by_sdpa(q, k, v, causal, logit_scale(q, k, scale))
    if impl == "dense" and return_lse:
        raise ValueError("impl='dense' returns no lse; use impl='auto' or impl='eager'")
    if impl == "dense" or (impl == "auto" and q.shape[2] <= _SHORT and not return_lse):
        visible = _visible(q, k is None, causal, segment_ids)
        keys = unit_keys(q) if k is None else k
        return masked_attention(q, keys, v, visible, logit_scale(q, k, scale), Dropout.of(dropout_p, dropout_seed))
    out, lse = attend_by_position(
        q,
        k,
        v,
        Reach.full(shared_qk=k is None, causal=causal),
        segment_ids=segment_ids,
        scale=scale,
        dropout=Dropout.of(dropout_p, dropout_seed),
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


def _visible(q: Tensor, shared_qk: bool, causal: bool, segment_ids: Tensor | None) -> Tensor:
    """Whom each token sees, bool [B or 1, 1, L, L]."""
    L = q.shape[2]
    visible = torch.ones(1, L, L, dtype=torch.bool, device=q.device)
    if causal:
        visible = visible.tril()
    if segment_ids is not None:
        visible = visible & (segment_ids[:, :, None] == segment_ids[:, None, :]) & (segment_ids >= 0)[:, :, None]
    if shared_qk:
        itself = torch.eye(L, dtype=torch.bool, device=q.device)
        others = visible & ~itself
        # A token sees itself only where it sees nobody else; padding, which does not see itself, sees nobody.
        visible = others | (visible & itself & ~others.any(-1, keepdim=True))
    return visible[:, None]


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
