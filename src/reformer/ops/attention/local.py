"""The public local attention: checks the meaning of its arguments and picks the implementation."""

from torch import Tensor

from reformer.ops.attention.dispatch import require_implementation
from reformer.ops.attention.reach import Dropout, Reach, Request
from reformer.ops.attention.reference import local_attention_reference
from reformer.ops.attention.registration import attend
from reformer.ops.checks import require_float, require_integer, require_same, require_same_device, require_shape
from reformer.ops.hashing import sort_by_bucket

_WRAPPING = ("auto", "eager", "reference")


def local_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    *,
    causal: bool = True,
    chunk_len: int | None = None,
    n_chunks_before: int = 1,
    n_chunks_after: int = 0,
    window: int | None = None,
    wrap: bool = False,
    segment_ids: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    dropout_seed: int | Tensor | None = None,
    return_lse: bool = False,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention to the neighbourhood of each token, in chunks or in a sliding window.

    Places are counted within a token's segment, so neither padding on either side nor the segments packed beside it
    change what a token sees. With ``chunk_len`` token i sees its own chunk, ``n_chunks_before`` before and
    ``n_chunks_after`` after it; with ``window`` the tokens at most ``window`` places away. Exactly one of the two. Neither
    goes around the ends.

    ``wrap``: as transformers' bidirectional Reformers, and pattern "trax" of ``lsh_attention``. Chunks are cut from all
    real tokens of a row and then its padding, the first one follows the last, and a chunk counts as often as it is met.
    So padding changes which chunks are neighbours. In plain PyTorch only.

    Args:
        q, k: [B, H, L, D]. ``k=None``: shared QK as in the paper, k_j = q_j/||q_j||, and a token attends to itself only
            when it sees nothing else. With separate keys a token sees itself.
        v: [B, H, L, Dv].
        segment_ids: [B, L]; a negative id is padding (output 0, gradient 0).
        scale: of the logits; default 1 for shared QK, D^-0.5 for separate keys.
        dropout_p: probability of dropping a pair, a pure function of (``dropout_seed``, b, h, i, j).
        return_lse: also return lse [B, H, L], float32 (float64 for float64 inputs).
        impl: as in ``lsh_attention``.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.
    """
    if wrap and (chunk_len is None or impl not in _WRAPPING):
        raise ValueError(
            f"wrap=True needs chunk_len and impl {', '.join(map(repr, _WRAPPING))}, got chunk_len={chunk_len}, {impl=}"
        )
    reach = Reach.local(
        shared_qk=k is None,
        causal=causal,
        chunk_len=chunk_len,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
        window=window,
        wrap=wrap,
    )
    out, lse = attend_by_position(
        q,
        k,
        v,
        reach,
        segment_ids=segment_ids,
        scale=scale,
        dropout=Dropout.of(dropout_p, dropout_seed),
        impl=impl,
    )
    return (out, lse) if return_lse else out


def attend_by_position(
    q: Tensor,
    k: Tensor | None,
    v: Tensor,
    reach: Reach,
    *,
    segment_ids: Tensor | None = None,
    scale: float | None = None,
    dropout: Dropout | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """(out, lse) of ``local_attention`` with a reach that is made already, by ``Reach.local`` or ``Reach.full``."""
    check_qkv(q, k, v, segment_ids)
    require_implementation(impl)
    scale = logit_scale(q, k, scale)
    if impl == "reference":
        return local_attention_reference(q, k, v, segment_ids, reach, scale=scale, dropout=dropout)
    order = None
    if segment_ids is not None:
        order = sort_by_bucket(segment_ids.new_zeros(q.shape[0], 1, 1, q.shape[2]), segment_ids)
    return attend(Request(q, k, v, None, order, segment_ids, reach, scale, dropout), impl)


def logit_scale(q: Tensor, k: Tensor | None, scale: float | None) -> float:
    """The given scale, or 1 for shared QK and D^-0.5 for separate keys."""
    if scale is not None:
        return float(scale)
    return 1.0 if k is None else q.shape[-1] ** -0.5


def check_qkv(q: Tensor, k: Tensor | None, v: Tensor, segment_ids: Tensor | None) -> None:
    """Raise unless q, k, v and segment ids fit together."""
    require_float("q", q)
    require_shape("q", q, (None, None, None, None), "[batch, heads, length, head_dim]")
    B, H, L, _ = q.shape
    if min(q.shape) < 1:
        raise ValueError(f"q must have at least one element along every axis, got {list(q.shape)}")
    if k is not None:
        require_shape("k", k, tuple(q.shape), "[batch, heads, length, head_dim], as q,")
        require_same("q", q, "k", k)
    require_shape("v", v, (B, H, L, None), "[batch, heads, length, value head_dim], as q,")
    require_same("q", q, "v", v)
    if segment_ids is not None:
        require_integer("segment_ids", segment_ids)
        require_shape("segment_ids", segment_ids, (B, L), "[batch, length]")
        require_same_device("q", q, "segment_ids", segment_ids)
