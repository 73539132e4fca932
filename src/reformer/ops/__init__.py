"""Tensor in, tensor out: hashing, LSH, local and full attention, chunked layers, reversible residuals.

Nothing here is an nn.Module, reads a config or an environment variable, or draws a hidden random number.
"""

from reformer.ops.attention.cross import cross_attention
from reformer.ops.attention.dispatch import Choice, choose_implementation
from reformer.ops.attention.full import full_attention
from reformer.ops.attention.local import local_attention
from reformer.ops.attention.lsh import lsh_attention
from reformer.ops.attention.reach import PATTERNS, Dropout, Reach
from reformer.ops.chunking import ACTIVATIONS, activate, in_chunks
from reformer.ops.counter_rng import as_seed, derive_seed, dropout
from reformer.ops.cross_entropy import chunked_cross_entropy, chunked_loss
from reformer.ops.hashing import (
    automatic_n_buckets,
    bucket_factors,
    hash_vectors,
    places_in_segments,
    random_rotations,
    seeded_buckets,
    seeded_rotations,
    sort_by_bucket,
)

__all__ = [
    "ACTIVATIONS",
    "PATTERNS",
    "Choice",
    "Dropout",
    "Reach",
    "activate",
    "as_seed",
    "automatic_n_buckets",
    "bucket_factors",
    "choose_implementation",
    "chunked_cross_entropy",
    "chunked_loss",
    "cross_attention",
    "derive_seed",
    "dropout",
    "full_attention",
    "hash_vectors",
    "in_chunks",
    "local_attention",
    "lsh_attention",
    "places_in_segments",
    "random_rotations",
    "seeded_buckets",
    "seeded_rotations",
    "sort_by_bucket",
]
