"""The public LSH attention: checks the meaning of its arguments and picks the implementation."""

from torch import Tensor

from reformer.ops.attention.dispatch import require_implementation
from reformer.ops.attention.reach import Dropout, Reach, Request
from reformer.ops.attention.reference import lsh_attention_reference
from reformer.ops.attention.registration import attend
from reformer.ops.checks import require_float, require_integer, require_same, require_same_device, require_shape
from reformer.ops.hashing import sort_by_bucket


def lsh_attention(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    *,
    chunk_len: int,
    pattern: str = "paper",
    causal: bool = True,
    window: int | None = None,
    n_chunks_before: int = 1,
    n_chunks_after: int = 0,
    segment_ids: Tensor | None = None,
    scale: float = 1.0,
    dropout_p: float = 0.0,
    dropout_seed: int | Tensor | None = None,
    return_lse: bool = False,
    order: Tensor | None = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Shared-QK attention among the tokens that share a hash bucket (paper, section 2 "LSH attention").

    out_i = Σ_{j ∈ V(i)} softmax_j(scale · q_i·q_j / ||q_j||) v_j, where V(i) is the union over the rounds r of

    - "paper": tokens of i's bucket whose chunk, in the stable sort by (bucket, position), is at most ``n_chunks_before``
      before or ``n_chunks_after`` after i's chunk of ``chunk_len`` places; no wrap, rounds independent;
    - "bucket": tokens of i's bucket at most ``window`` places from i in the bucket's order by position (None: the whole
      bucket); what a token sees never depends on later tokens. ``chunk_len`` is then only the size of a tile of work;
    - "trax": as the released checkpoints were trained: rounds end to end, look-back wraps around, across buckets, and a
      pair counts as often as it is seen.

    Before i only, if ``causal``; i itself only when it sees nothing else. Each pair counts once ("trax" aside), so many
    rounds, or one bucket in one chunk, give full attention. Any L >= 1.

    Args:
        qk: queries, and keys before normalisation [B, H, L, D].
        v: values [B, H, L, Dv].
        buckets: integers [B, H, R, L] from ``hash_vectors``; constants for the gradient.
        segment_ids: [B, L]; a token sees only its own segment, a negative id is padding (output 0, gradient 0, lse -inf,
            no place in any real token's chunk).
        dropout_p: probability of dropping a pair, a pure function of (``dropout_seed``, b, h, i, j).
        return_lse: also return lse [B, H, L] = log Σ exp(logit), float32 (float64 for float64 inputs).
        order: ``sort_by_bucket(buckets, segment_ids)`` if it is there already, to save the sort.
        impl: "auto" (the fastest that serves the request: ``choose_implementation``), "triton", "native", "eager" or
            "reference".

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; no device is waited for to find out.
    """
    reach = Reach.lsh(
        chunk_len=chunk_len,
        pattern=pattern,
        causal=causal,
        window=window,
        n_chunks_before=n_chunks_before,
        n_chunks_after=n_chunks_after,
    )
    out, lse = attend_by_bucket(
        qk,
        v,
        buckets,
        reach,
        segment_ids=segment_ids,
        scale=float(scale),
        dropout=Dropout.of(dropout_p, dropout_seed),
        order=order,
        impl=impl,
    )
    return (out, lse) if return_lse else out


def attend_by_bucket(
    qk: Tensor,
    v: Tensor,
    buckets: Tensor,
    reach: Reach,
    *,
    segment_ids: Tensor | None = None,
    scale: float = 1.0,
    dropout: Dropout | None = None,
    order: Tensor | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor]:
    """(out, lse) of ``lsh_attention`` with a reach that is made already, by ``Reach.lsh``."""
    _check(qk, v, buckets, segment_ids, order)
    require_implementation(impl)
    if impl == "reference":
        return lsh_attention_reference(qk, v, buckets, segment_ids, reach, scale=scale, dropout=dropout)
    if order is None:
        order = sort_by_bucket(buckets, segment_ids)
    return attend(Request(qk, None, v, buckets, order, segment_ids, reach, scale, dropout), impl)


def _check(qk: Tensor, v: Tensor, buckets: Tensor, segment_ids: Tensor | None, order: Tensor | None) -> None:
    require_float("qk", qk)
    require_shape("qk", qk, (None, None, None, None), "[batch, heads, length, head_dim]")
    B, H, L, D = qk.shape
    require_shape("v", v, (B, H, L, None), "[batch, heads, length, value head_dim], as qk,")
    require_same("qk", qk, "v", v)
    require_integer("buckets", buckets)
    require_shape("buckets", buckets, (B, H, None, L), "[batch, heads, n_hashes, length] (hash_vectors returns it)")
    require_same_device("qk", qk, "buckets", buckets)
    for name, size in (("batch", B), ("heads", H), ("length", L), ("head_dim", D), ("n_hashes", buckets.shape[2])):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if segment_ids is not None:
        require_integer("segment_ids", segment_ids)
        require_shape("segment_ids", segment_ids, (B, L), "[batch, length]")
        require_same_device("qk", qk, "segment_ids", segment_ids)
    if order is not None:
        require_integer("order", order)
        require_shape("order", order, tuple(buckets.shape), "sort_by_bucket(buckets, segment_ids)")
