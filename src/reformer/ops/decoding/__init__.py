"""Attention of one token after another: the newest of a sequence sees what a cache holds of the ones before."""

from reformer.ops.decoding.api import decode_attention, prefill_cache
from reformer.ops.decoding.cache import AttentionCache

__all__ = ["AttentionCache", "decode_attention", "prefill_cache"]
