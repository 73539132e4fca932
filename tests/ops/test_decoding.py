"""A decoded token sees what the definition's last token sees, for every prefix of the sequence."""

import itertools

import pytest
import torch
from torch import Tensor

from reformer.ops import (
    Reach,
    full_attention,
    hash_vectors,
    local_attention,
    lsh_attention,
    random_rotations,
)
from reformer.ops.decoding import AttentionCache, decode_attention, prefill_cache
from reformer.testing import exact_normal, segment_layout

from .helpers import assert_same, in_dtype_of, needs_native, refuses

IMPLS = ("eager", pytest.param("native", marks=needs_native))
H, D, E = 2, 6, 5

PAPER = {
    "own chunk and the one before": Reach.lsh(chunk_len=4),
    "own chunk": Reach.lsh(chunk_len=3, n_chunks_before=0),
    "three before, chunks of one": Reach.lsh(chunk_len=1, n_chunks_before=3),
    "one chunk": Reach.lsh(chunk_len=1000),
}
BUCKET = {
    "whole bucket": Reach.lsh(pattern="bucket", chunk_len=4),
    "window 1": Reach.lsh(pattern="bucket", chunk_len=4, window=1),
    "window 5": Reach.lsh(pattern="bucket", chunk_len=4, window=5),
}
TRAX = {
    "trax": Reach.lsh(pattern="trax", chunk_len=4),
    "trax both ways": Reach.lsh(pattern="trax", chunk_len=3, n_chunks_before=2, n_chunks_after=1),
    "trax own chunk": Reach.lsh(pattern="trax", chunk_len=5, n_chunks_before=0),
}
POSITION = {
    "chunks": {"chunk_len": 4},
    "own chunk": {"chunk_len": 5, "n_chunks_before": 0},
    "chunks of one": {"chunk_len": 1, "n_chunks_before": 2},
    "one chunk": {"chunk_len": 1000},
    "window": {"window": 3},
    "full": {},
}


def heads(length: int, seed: int, impl: str) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of two rows [2, H, length, D or E]."""
    tensors = [exact_normal(2, H, length, width, seed=seed + i) for i, width in enumerate((D, D, E))]
    q, k, v = in_dtype_of(impl, *tensors)
    return q, k, v


def decoded(cache, q, k, v, segment_ids, prompt, calls, scale=1.0) -> Tensor:
    """Outputs [2, H, L - prompt, E] of what follows the prompt, ``calls`` tokens at a time by turns."""
    L = q.shape[2]
    is_real = torch.ones(2, L, dtype=torch.bool) if segment_ids is None else segment_ids >= 0
    counts, outs, first = is_real[:, :prompt].sum(1), [], prompt
    if prompt:
        buckets = None if cache.rotations is None else hash_vectors(q[:, :, :prompt], cache.rotations, cache.factors)
        order = torch.sort((~is_real[:, :prompt]).int(), dim=1, stable=True).indices
        part = (None if x is None else x[:, :, :prompt] for x in (q, k, v))
        prefill_cache(cache, *part, buckets, counts, None if segment_ids is None else order)
    for count in itertools.cycle(calls):
        if first >= L:
            return torch.cat(outs, dim=2)
        part = slice(first, min(first + count, L))
        new = (None if x is None else x[:, :, part] for x in (q, k, v))
        cache.reserve(part.stop)
        padding = None if segment_ids is None else is_real[:, part]
        outs.append(decode_attention(cache, *new, counts, padding, scale=scale))
        counts, first = counts + is_real[:, part].sum(1), part.stop


def by_prefixes(attention, q, k, v, segment_ids, prompt) -> Tensor:
    """The same by the definition: of each prefix of each row's real tokens, the last output."""
    B, _, L, _ = v.shape
    expected = torch.zeros(B, H, L, E, dtype=v.dtype)
    for b in range(B):
        real = [t for t in range(L) if segment_ids is None or segment_ids[b, t] >= 0]
        for i, t in enumerate(real):
            if t >= prompt:
                prefix = torch.tensor(real[: i + 1])
                part = (None if x is None else x[b : b + 1, :, prefix].double() for x in (q, k, v))
                expected[b, :, t] = attention(*part)[0, :, -1]
    return expected[:, :, prompt:]


def lsh_cache(reach, rotations, n_buckets, impl, max_len=64, dtype=None) -> AttentionCache:
    dtype = dtype or (torch.float32 if impl == "native" else torch.float64)
    sizes = {"batch": 2, "heads": H, "key_width": rotations.shape[1], "value_width": E, "max_len": max_len}
    device = torch.device("cpu")
    return AttentionCache(
        reach, **sizes, dtype=dtype, device=device, rotations=rotations, n_buckets=n_buckets, impl=impl
    )


@pytest.mark.parametrize("layout", ["none", "left", "middle", "one row of padding"])
@pytest.mark.parametrize("name", [*PAPER, *BUCKET, *TRAX])
@pytest.mark.parametrize("impl", IMPLS)
def test_lsh_steps_see_what_the_last_token_of_the_prefix_sees(impl, name, layout):
    reach = {**PAPER, **BUCKET, **TRAX}[name]
    options = {"chunk_len": reach.chunk_len, "pattern": reach.pattern, "window": reach.window, "scale": 0.7}
    options |= {"n_chunks_before": reach.n_chunks_before, "n_chunks_after": reach.n_chunks_after}
    for seed, (rounds, n_buckets, length, prompt, calls) in enumerate(
        [(1, 2, 23, 0, (1,)), (3, 4, 18, 7, (1, 4)), (2, (2, 4), 14, 13, (1,)), (5, 2, 9, 2, (3,))]
    ):
        generator = torch.Generator().manual_seed(seed)
        rotations = random_rotations(D, n_hashes=rounds, n_buckets=n_buckets, n_heads=H, generator=generator)
        q, _, v = heads(length, 10 * seed, impl)
        segment_ids = segment_layout(layout, 2, length)
        cache = lsh_cache(reach, rotations, n_buckets, impl)

        def attention(q, k, v, cache=cache, rotations=rotations):
            buckets = hash_vectors(q, rotations, cache.factors)
            return lsh_attention(q, v, buckets, impl="reference", **options)

        found = decoded(cache, q, None, v, segment_ids, prompt, calls, scale=0.7)
        assert_same(found, by_prefixes(attention, q, None, v, segment_ids, prompt))


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate keys"])
@pytest.mark.parametrize("name", POSITION)
@pytest.mark.parametrize("impl", IMPLS)
def test_steps_by_position_see_what_the_last_token_of_the_prefix_sees(impl, name, shared):
    options = POSITION[name]
    for seed, layout in enumerate(("none", "left", "middle")):
        q, k, v = heads(21, 7 * seed, impl)
        k = None if shared else k
        segment_ids, prompt = segment_layout(layout, 2, 21), (0, 11, 3)[seed]
        cache = AttentionCache(
            Reach.local(shared_qk=shared, **options) if options else Reach.full(shared_qk=shared),
            **{"batch": 2, "heads": H, "key_width": D, "value_width": E, "max_len": 40},
            dtype=q.dtype,
            device=q.device,
            impl=impl,
        )

        def attention(q, k, v):
            function = local_attention if options else full_attention
            return function(q, k, v, scale=1.0, impl="reference", **options)

        found = decoded(cache, q, k, v, segment_ids, prompt, (1, 3))
        assert_same(found, by_prefixes(attention, q, k, v, segment_ids, prompt))
        # What is out of reach for good has been overwritten.
        assert cache.slots == {"chunks": 8, "own chunk": 5, "chunks of one": 3, "window": 4}.get(name, 40)


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_instruction_set_hashes_to_the_same_buckets_and_attends_alike(instruction_set, dtype):
    generator = torch.Generator().manual_seed(3)
    # Widths that no register divides; not exactly representable, so that the order of a sum shows.
    q = torch.randn(2, H, 150, 37, generator=generator).to(dtype)
    v = torch.randn(2, H, 150, E, generator=generator).to(dtype)
    q[:, :, 5] = 0.0
    n_buckets = (22, 38)
    rotations = random_rotations(37, n_hashes=3, n_buckets=n_buckets, n_heads=H, generator=generator)
    rotations[..., 4], rotations[..., 20] = rotations[..., 2], -rotations[..., 15]
    reach = Reach.lsh(chunk_len=8)
    cache = lsh_cache(reach, rotations, n_buckets, "native", 150, dtype)
    found = decoded(cache, q, None, v, None, 0, (1, 50))
    assert torch.equal(cache.buckets[..., :150].long(), hash_vectors(q, rotations, n_buckets))
    plain = lsh_cache(reach, rotations, n_buckets, "eager", 150, torch.float32)
    expected = decoded(plain, q.float(), None, v.float(), None, 0, (1,))
    assert torch.equal(plain.buckets[..., :150], cache.buckets[..., :150])
    # bfloat16 rounds the unit keys: logits of some ten, each off by 2^-9 of itself.
    tolerance = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.float(), expected, **tolerance)


@needs_native
def test_the_number_of_threads_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(D, n_hashes=2, n_buckets=4, n_heads=H, generator=generator)
    q, _, v = heads(40, 0, "native")
    before, outs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            cache = lsh_cache(PAPER["own chunk"], rotations, 4, "native")
            outs.append(decoded(cache, q, None, v, None, 10, (1, 7)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*outs)


def test_an_implementation_that_cannot_serve_says_so():
    rotations = random_rotations(D, n_hashes=1, n_buckets=2, n_heads=H)
    with refuses(ValueError, "impl='native' cannot decode here", "float64", "impl='auto'"):
        lsh_cache(PAPER["own chunk"], rotations, 2, "native", dtype=torch.float64)


@pytest.mark.parametrize(
    "reach",
    [Reach.lsh(chunk_len=4, causal=False), Reach.local(shared_qk=True, chunk_len=4, wrap=True)],
    ids=["bidirectional", "around the ends"],
)
def test_a_reach_beyond_the_newest_token_is_refused(reach: Reach):
    rotations = random_rotations(D, n_hashes=1, n_buckets=2, n_heads=H)
    with refuses(ValueError, "decoding needs causal=True and no wrap", "got Reach(pattern="):
        lsh_cache(reach, rotations, 2, "eager")
