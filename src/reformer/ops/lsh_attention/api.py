"""The public LSH attention: checks the meaning of its arguments and picks the implementation."""

from torch import Tensor

from reformer.ops.checks import (
    require_at_least,
    require_choice,
    require_dropout,
    require_float,
    require_integer,
    require_same,
    require_same_device,
    require_shape,
)
from reformer.ops.counter_rng import as_seed
from reformer.ops.hashing import sort_by_bucket
from reformer.ops.implementations import require_implementation
from reformer.ops.lsh_attention.reference import lsh_attention_reference
from reformer.ops.lsh_attention.registration import lsh_attention_op

PATTERNS = ("paper", "bucket", "trax")


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
    _check(qk, v, buckets, segment_ids, order)
    _check_options(chunk_len, pattern, window, n_chunks_before, n_chunks_after, dropout_p, dropout_seed)
    require_implementation(impl)
    seed = as_seed(dropout_seed) if dropout_p > 0.0 and dropout_seed is not None else None
    if impl == "reference":
        out, lse = lsh_attention_reference(
            qk,
            v,
            buckets,
            chunk_len=chunk_len,
            pattern=pattern,
            causal=causal,
            window=window,
            n_chunks_before=n_chunks_before,
            n_chunks_after=n_chunks_after,
            segment_ids=segment_ids,
            scale=scale,
            dropout_p=dropout_p,
            dropout_seed=seed,
        )
    else:
        out, lse, _ = lsh_attention_op(
            qk,
            v,
            buckets,
            sort_by_bucket(buckets, segment_ids) if order is None else order,
            segment_ids,
            seed,
            chunk_len,
            pattern,
            causal,
            window,
            n_chunks_before,
            n_chunks_after,
            float(scale),
            float(dropout_p),
            impl,
        )
    return (out, lse) if return_lse else out


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


def _check_options(
    chunk_len: int,
    pattern: str,
    window: int | None,
    n_chunks_before: int,
    n_chunks_after: int,
    dropout_p: float,
    dropout_seed: int | Tensor | None,
) -> None:
    require_choice("pattern", pattern, PATTERNS)
    require_at_least("chunk_len", chunk_len, 1)
    require_at_least("n_chunks_before", n_chunks_before, 0)
    require_at_least("n_chunks_after", n_chunks_after, 0)
    require_dropout(dropout_p, dropout_seed)
    if pattern == "bucket":
        if window is not None:
            require_at_least("window", window, 1)
        if (n_chunks_before, n_chunks_after) != (1, 0):
            raise ValueError(
                "pattern='bucket' has no chunk edges: leave n_chunks_before=1, n_chunks_after=0 and set window, "
                f"got n_chunks_before={n_chunks_before}, n_chunks_after={n_chunks_after}"
            )
    elif window is not None:
        raise ValueError(f"window belongs to pattern='bucket', got window={window} with pattern={pattern!r}")
