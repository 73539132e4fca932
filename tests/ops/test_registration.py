"""torch.library.opcheck and torch.compile(fullgraph=True) of every public op (invariant 6)."""

import functools

import pytest
import torch

from reformer.ops import (
    PATTERNS,
    Reach,
    chunked_cross_entropy,
    full_attention,
    hash_vectors,
    local_attention,
    lsh_attention,
    places_in_segments,
    random_rotations,
    seeded_buckets,
    sort_by_bucket,
)
from reformer.ops.attention import native
from reformer.testing import exact_normal, lsh_inputs, outputs_and_gradients

L = 11
INPUTS = lsh_inputs(length=L, layout="left", dtype=torch.float32)
SEED = torch.tensor(5)


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(*shape, dtype=dtype)


def normal(*shape: int, grad: bool = False) -> torch.Tensor:
    return exact_normal(*shape, dtype=torch.float32).requires_grad_(grad)


def arguments() -> dict[str, list[tuple]]:
    """Arguments of every registered op; the differentiable ones with inputs that need a gradient."""
    order = sort_by_bucket(INPUTS.buckets, INPUTS.segment_ids)
    calls: dict[str, list[tuple]] = {}
    forward, backward = calls.setdefault("attention", []), calls.setdefault("attention_backward", [])

    def add(tensors: tuple, reach: Reach, dropout_p: float) -> None:
        options = (dropout_p, 1.0, *reach, "eager")
        leaves = tuple(None if x is None else x.clone().requires_grad_() for x in tensors[:3])
        forward.append((*leaves, *tensors[3:], *options))
        outputs = torch.ops.reformer.attention(*tensors, *options)
        backward.append((ones(2, 2, L, 5), ones(2, 2, L), *outputs, *tensors, *options))

    for pattern in PATTERNS:
        for segments, seed in ((INPUTS.segment_ids, SEED), (None, None)):
            places = order if segments is not None else sort_by_bucket(INPUTS.buckets)
            tensors = (INPUTS.qk, None, INPUTS.v, INPUTS.buckets, places, segments, seed)
            add(tensors, Reach.lsh(chunk_len=4, pattern=pattern), 0.1 if seed is not None else 0.0)
    q, k, v = normal(2, 2, L, 4), normal(2, 2, L, 4), normal(2, 2, L, 5)
    by_segment = sort_by_bucket(INPUTS.segment_ids.new_zeros(2, 1, 1, L), INPUTS.segment_ids)
    for shared in (True, False):
        common = {"shared_qk": shared, "causal": False}
        for reach in (
            Reach.local(chunk_len=4, **common),
            Reach.local(window=3, **common),
            Reach.local(chunk_len=4, n_chunks_after=1, wrap=True, **common),
            Reach.full(**common),
        ):
            add((q, None if shared else k, v, None, by_segment, INPUTS.segment_ids, SEED), reach, 0.2)
    forward += _native_calls(order)
    calls["hash_vectors"] = [(normal(2, 2, L, 4), normal(2, 4, 3, 5), [6, 4])]
    calls["sort_by_bucket"] = [(INPUTS.buckets, None), (INPUTS.buckets.int(), INPUTS.segment_ids)]
    calls["seeded_buckets"] = [
        (normal(2, 2, L, 4), SEED, segments, 2, factors, 4)
        for segments, factors in ((None, []), (INPUTS.segment_ids, []), (None, [4, 2]))
    ]
    return calls


def _native_calls(order: torch.Tensor) -> list[tuple]:
    if native.missing() is not None:
        return []
    options = (0.0, 1.0, *Reach.lsh(chunk_len=4), "native")
    # Results lie in memory as the inputs do, whichever axis is the contiguous one.
    layouts = (normal(2, 2, L, 8), normal(2, 2, 5, L).mT), (normal(2, 2, 8, L).mT, normal(2, L, 2, 5).transpose(1, 2))
    rest = (INPUTS.buckets, order, INPUTS.segment_ids, None, *options)
    return [(q.detach().requires_grad_(), None, v.detach().requires_grad_(), *rest) for q, v in layouts]


ARGUMENTS = arguments()


def test_every_registered_op_is_checked():
    registered = {
        name.split("::")[1].split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("reformer::")
    }
    assert registered == set(ARGUMENTS)


@pytest.mark.parametrize(
    ("name", "index"), [(name, index) for name, calls in ARGUMENTS.items() for index in range(len(calls))]
)
def test_opcheck(name: str, index: int):
    op = getattr(torch.ops.reformer, name).default
    results = torch.library.opcheck(op, ARGUMENTS[name][index])
    assert set(results.values()) == {"SUCCESS"}


def compiled_equals_eager(function, *inputs: torch.Tensor) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)
    expected, found = (outputs_and_gradients(f, *inputs) for f in (function, compiled))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-13, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_lsh_attention_compiles(pattern: str):
    inputs = lsh_inputs(length=L, layout="left")
    compiled_equals_eager(
        functools.partial(
            lsh_attention, buckets=inputs.buckets, segment_ids=inputs.segment_ids, chunk_len=4, pattern=pattern,
            dropout_p=0.2, dropout_seed=3,
        ),
        inputs.qk,
        inputs.v,
    )  # fmt: skip


def test_hashing_and_attention_compile_together():
    rotations = random_rotations(8, n_hashes=2, n_buckets=4, n_heads=2, generator=torch.Generator().manual_seed(0))

    def function(qk, v):
        return lsh_attention(qk, v, hash_vectors(qk, rotations.double(), 4), chunk_len=4, return_lse=True)

    inputs = lsh_inputs(length=L)
    compiled_equals_eager(function, inputs.qk, inputs.v)


@pytest.mark.parametrize("shared", [True, False])
def test_local_and_full_attention_compile(shared: bool):
    q, k, v = (exact_normal(1, 2, L, 4, seed=n) for n in range(3))
    segments = INPUTS.segment_ids[:1]

    def function(q, v, *keys):
        k = None if shared else keys[0]
        local = local_attention(q, k, v, chunk_len=4, segment_ids=segments)
        return local, local_attention(q, k, v, window=3, return_lse=True)[1], full_attention(q, k, v)

    compiled_equals_eager(function, q, v, *([] if shared else [k]))


def test_cross_entropy_compiles():
    tensors = [exact_normal(*s, seed=n) for n, s in enumerate(((1, L, 4), (9, 4), (9,)))]
    targets = torch.arange(L)[None] % 9
    compiled_equals_eager(lambda *t: chunked_cross_entropy(*t, targets, chunk_len=4), *tensors)


def test_integer_functions_compile():
    x = normal(2, 2, L, 4)

    def function(x, segments):
        buckets = seeded_buckets(x, SEED, n_hashes=2, n_buckets=4, chunk_len=4, segment_ids=segments)
        return buckets, sort_by_bucket(buckets, segments), places_in_segments(segments)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)
    for found, expected in zip(compiled(x, INPUTS.segment_ids), function(x, INPUTS.segment_ids)):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fakes_have_the_types_of_the_results(dtype: torch.dtype):
    inputs = lsh_inputs(length=L, dtype=dtype)
    meta = inputs.qk.to("meta"), inputs.v.to("meta"), inputs.buckets.to("meta")
    for found, expected in zip(
        lsh_attention(*meta, chunk_len=4, return_lse=True),
        lsh_attention(inputs.qk, inputs.v, inputs.buckets, chunk_len=4, return_lse=True),
    ):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
