"""Our own attention as operations to be measured."""

from __future__ import annotations

import torch

from reformer.bench.case import Case, Inputs, Operation
from reformer.bench.contenders import DTYPES
from reformer.layers import LSHSelfAttention
from reformer.ops import choose_implementation, hash_vectors, local_attention, lsh_attention, random_rotations


def attention(case: Case, inputs: Inputs, device: str, impl: str) -> Operation:
    """Hashing with given rotations, sort, and LSH attention of qk and v."""
    assert case.n_hashes is not None and case.chunk_len is not None
    n_buckets, chunk_len = case.buckets, case.chunk_len
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(
        case.head_dim,
        n_hashes=case.n_hashes,
        n_buckets=n_buckets,
        n_heads=case.n_heads,
        generator=generator,
        device=device,
    )

    def call(qk, v):
        return lsh_attention(qk, v, hash_vectors(qk, rotations, n_buckets), chunk_len=chunk_len, impl=impl)

    return Operation(call=call, leaves=(inputs.heads(0), inputs.heads(1)), runs=_runs(case, device, impl))


def layer(case: Case, inputs: Inputs, device: str, impl: str) -> Operation:
    """The layer with its projections; gradients of the input and of its weights."""
    assert case.n_hashes is not None and case.chunk_len is not None
    module = LSHSelfAttention(
        case.n_heads * case.head_dim,
        case.n_heads,
        n_hashes=case.n_hashes,
        n_buckets=case.buckets,
        chunk_len=case.chunk_len,
        impl=impl,
    ).to(device, DTYPES[case.dtype])
    weights = tuple(module.parameters())
    return Operation(
        call=lambda x, *_: module(x, seed=0), leaves=(inputs.hidden(), *weights), runs=_runs(case, device, impl)
    )


def local(case: Case, inputs: Inputs, device: str, impl: str) -> Operation:
    """Local attention with separate keys: own chunk and the one before."""

    def call(q, k, v):
        return local_attention(q, k, v, chunk_len=case.chunk_len, impl=impl)

    return Operation(
        call=call,
        leaves=(inputs.heads(0), inputs.heads(1), inputs.heads(2)),
        runs=_runs(case, device, impl),
    )


def _runs(case: Case, device: str, impl: str) -> str:
    return choose_implementation(impl, torch.device(device), DTYPES[case.dtype], case.head_dim).name
