"""reformer-pytorch's options: which pattern they ask for, and one clear line for those that do not exist here."""

from collections.abc import Mapping
from typing import Any

# Options of its inner LSHAttention that its layer passes on: only these values are what our ops compute.
_FIXED = {"rehash_each_round": True, "drop_for_hash_rate": 0.0}


def pattern_of(attend_across_buckets: bool, allow_duplicate_attention: bool) -> str:
    """The pattern of ``reformer.ops.lsh_attention`` that both options describe. Raises ValueError if none does."""
    if attend_across_buckets != allow_duplicate_attention:
        raise ValueError(
            "attend_across_buckets and allow_duplicate_attention must be both True (as the released checkpoints were "
            "trained) or both False (the paper's text), got "
            f"attend_across_buckets={attend_across_buckets}, allow_duplicate_attention={allow_duplicate_attention}"
        )
    return "trax" if attend_across_buckets else "paper"


def reject_options(attn_chunks: int | None, return_attn: bool, others: Mapping[str, Any]) -> None:
    """Raise unless the constructor's remaining options ask for what is computed here."""
    if attn_chunks not in (None, 1):
        raise ValueError(
            f"attn_chunks must be 1, got {attn_chunks}: it saved memory there and is not needed here, for no copy of "
            "queries, keys and values per hash round is made; leave it out"
        )
    if return_attn:
        raise ValueError(
            "return_attn must be False, got True: no attention matrix is ever made; on short inputs compute it from "
            "reformer.ops.lsh_attention(..., return_lse=True)"
        )
    for name, value in others.items():
        if name not in _FIXED:
            raise TypeError(f"LSHSelfAttention has no option {name!r}; docs/drop-in.md lists those it has")
        if value != _FIXED[name]:
            raise ValueError(f"{name} must be {_FIXED[name]}, got {value}: nothing else is computed here; leave it out")


def reject_arguments(input_attn_mask: object, others: Mapping[str, Any]) -> None:
    """Raise unless the remaining arguments of a call ask for what is computed here."""
    if input_attn_mask is not None:
        raise ValueError(
            "input_attn_mask must be None: LSH attention takes no mask of pairs; use input_mask for padding and "
            "causal=True for order, or torch's scaled_dot_product_attention for any other mask"
        )
    for name in others:
        hint = "docs/drop-in.md lists those it has"
        if name in ("_reverse", "_depth"):
            hint = "it belongs to reformer-pytorch's reversible blocks; use reformer.layers.ReversibleStack"
        raise TypeError(f"LSHSelfAttention's call has no argument {name!r}; {hint}")
