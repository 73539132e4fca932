"""LSH attention: the oracle, the definition and the implementations agree (invariant 1)."""

import functools
import itertools

import pytest
import torch

from reformer.ops import PATTERNS, full_attention, lsh_attention, sort_by_bucket
from reformer.ops.attention.eager import plan, tile
from reformer.testing import (
    LAYOUTS,
    LSHInputs,
    assert_close_to_float64,
    exact_normal,
    lsh_attention_oracle,
    lsh_inputs,
    outputs_and_gradients,
)

from .helpers import FAST, IMPLEMENTATIONS, IMPLS, LOW_PRECISION, assert_same

CHUNK = 8


def attention(inputs: LSHInputs, impl: str, **options):
    """lsh_attention as a function of (qk, v) that returns (out, lse)."""

    def function(qk, v):
        return lsh_attention(
            qk, v, inputs.buckets, segment_ids=inputs.segment_ids, return_lse=True, impl=impl, **options
        )

    return function


def compare(inputs: LSHInputs, impl: str, dtype: torch.dtype | None = None, **options) -> None:
    """``impl`` against the definition, in ``dtype`` or the widest it takes."""
    dtype = dtype or IMPLEMENTATIONS[impl]
    reference = attention(inputs, "reference", **options)
    _, lse = reference(inputs.qk.double(), inputs.v.double())
    assert_close_to_float64(attention(inputs, impl, **options), reference, (inputs.qk, inputs.v), dtype, lse=lse)


def options_of(pattern: str) -> list[dict]:
    if pattern == "bucket":
        return [{"window": window, "chunk_len": 4} for window in (None, 1, 3, 1000)]
    return [
        {"chunk_len": 4, "n_chunks_before": before, "n_chunks_after": after}
        for before, after in ((1, 0), (1, 1), (0, 0), (2, 3), (0, 1))
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_implementation_equals_the_oracle(pattern: str, causal: bool, layout: str):
    for n, (options, L) in enumerate(itertools.product(options_of(pattern), (1, 2, 19))):
        inputs = lsh_inputs(length=L, heads=1, head_dim=3, value_dim=2, n_hashes=1 + n % 3, layout=layout, seed=n)
        out, lse = lsh_attention_oracle(
            inputs.qk,
            inputs.v,
            inputs.buckets,
            segment_ids=inputs.segment_ids,
            pattern=pattern,
            causal=causal,
            scale=0.7,
            **options,
        )
        for impl, dtype in IMPLEMENTATIONS.items():
            function = attention(inputs, impl, pattern=pattern, causal=causal, scale=0.7, **options)
            for found, expected in zip(function(inputs.qk.to(dtype), inputs.v.to(dtype)), (out, lse)):
                assert_same(found, expected)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("n_hashes", [1, 2, 5, 16])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_equals_the_definition_at_every_length(pattern: str, causal: bool, n_hashes: int, impl: str):
    for length in (1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 63, 100):
        inputs = lsh_inputs(length=length, batch=2 if length < 63 else 1, n_hashes=n_hashes, n_buckets=6, seed=length)
        compare(inputs, impl, pattern=pattern, causal=causal, chunk_len=CHUNK)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_equals_the_definition_with_segments_and_dropout(pattern: str, causal: bool, layout: str, impl: str):
    for length, n_hashes in ((1, 2), (63, 3), (CHUNK + 1, 5)):
        inputs = lsh_inputs(length=length, n_hashes=n_hashes, head_dim=4, value_dim=7, layout=layout, seed=length)
        dropout = {"dropout_p": 0.3, "dropout_seed": 17}
        compare(inputs, impl, pattern=pattern, causal=causal, chunk_len=CHUNK, scale=0.5, **dropout)


@pytest.mark.parametrize(("impl", "dtype"), LOW_PRECISION)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_low_precision_is_as_exact_as_the_definition_in_it(pattern: str, causal: bool, impl: str, dtype: torch.dtype):
    for length, n_hashes, layout, dropout_p in (
        (63, 2, "none", 0.0),
        (100, 5, "left", 0.0),
        (100, 1, "interleaved", 0.2),
        (CHUNK - 1, 16, "packed", 0.0),
        (63, 16, "none", 0.0),
        (1, 1, "none", 0.0),
    ):
        inputs = lsh_inputs(length=length, n_hashes=n_hashes, head_dim=16, value_dim=6, layout=layout, seed=length)
        dropout = {"dropout_p": dropout_p, "dropout_seed": 3}
        compare(inputs, impl, dtype, pattern=pattern, causal=causal, chunk_len=CHUNK, **dropout)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize(
    ("pattern", "options"), [(p, o) for p in PATTERNS for o in options_of(p)], ids=lambda x: str(x).replace(" ", "")
)
def test_reach_equals_the_definition(pattern: str, options: dict, impl: str):
    for causal, layout in itertools.product((True, False), ("none", "interleaved")):
        inputs = lsh_inputs(length=61, n_hashes=3, n_buckets=3, layout=layout)
        compare(inputs, impl, pattern=pattern, causal=causal, **options)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("window", [None, 1, 9, 40, 41])
def test_a_bucket_longer_than_many_tiles(window: int | None, impl: str):
    # Walked strip by strip: the whole bucket, or a window beyond one strip, over several strips of 4 tiles.
    inputs = lsh_inputs(length=150, heads=1, n_hashes=2, n_buckets=2, layout="packed")
    for causal in (True, False):
        compare(inputs, impl, pattern="bucket", window=window, causal=causal, chunk_len=5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_slabs_of_one_tile(pattern: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(tile.SLAB_ELEMENTS, "cpu", 1)
    inputs = lsh_inputs(length=30, n_hashes=2, layout="left")
    compare(inputs, "eager", pattern=pattern, chunk_len=CHUNK, dropout_p=0.2, dropout_seed=0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_chunks_longer_than_a_tile(pattern: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "LARGEST_TILE", 8)
    monkeypatch.setattr(plan, "USUAL_TILE", 4)
    for chunk_len, layout, (before, after) in itertools.product(
        (7, 9, 30, 200), ("none", "interleaved"), ((1, 0), (1, 1), (0, 0), (2, 1))
    ):
        if pattern == "bucket" and (before, after) != (1, 0):
            continue
        inputs = lsh_inputs(length=61, n_hashes=2, n_buckets=3, layout=layout)
        reach = {"n_chunks_before": before, "n_chunks_after": after}
        for causal in (True, False):
            compare(inputs, "eager", pattern=pattern, causal=causal, chunk_len=chunk_len, **reach)


@pytest.mark.parametrize("impl", ["eager", "reference"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_are_those_of_finite_differences(pattern: str, impl: str):
    for causal, layout, dropout_p in ((True, "none", 0.0), (False, "interleaved", 0.0), (True, "left", 0.4)):
        inputs = lsh_inputs(batch=1, length=11, head_dim=3, value_dim=2, n_hashes=2, n_buckets=2, layout=layout)
        leaves = [x.clone().requires_grad_() for x in (inputs.qk, inputs.v)]
        function = attention(
            inputs, impl, pattern=pattern, causal=causal, chunk_len=4, scale=0.8, dropout_p=dropout_p, dropout_seed=2
        )

        def finite(qk, v, function=function, segments=inputs.segment_ids):
            out, lse = function(qk, v)  # lse of padding is -inf, which has no difference quotient
            return out, lse if segments is None else torch.where(segments[:, None] >= 0, lse, 0.0)

        assert torch.autograd.gradcheck(finite, leaves)


@pytest.mark.parametrize("only", ["out", "lse"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_either_output_alone_can_be_differentiated(pattern: str, only: str):
    inputs = lsh_inputs(length=20, layout="right")
    gradients = {}
    for impl, dtype in IMPLEMENTATIONS.items():
        qk, v = (x.to(dtype, copy=True).requires_grad_() for x in (inputs.qk, inputs.v))
        out, lse = attention(inputs, impl, pattern=pattern, chunk_len=4)(qk, v)
        loss = out.square().sum() if only == "out" else torch.where(lse.isfinite(), lse, 0.0).square().sum()
        gradients[impl] = torch.autograd.grad(loss, [qk, v], allow_unused=True, materialize_grads=True)
        assert gradients[impl][0].abs().sum() > 0
    for impl in FAST:
        for found, expected in zip(gradients[impl], gradients["reference"]):
            assert_same(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_zero_vectors_give_finite_results(pattern: str, dtype: torch.dtype, impl: str):
    if impl == "native" and dtype == torch.float64:
        pytest.skip("the C++ kernels take no float64")
    inputs = lsh_inputs(length=30, layout="left", dtype=dtype)
    inputs.qk[:, :, ::3] = 0.0
    inputs.qk[0, 0] = 0.0
    results = outputs_and_gradients(attention(inputs, impl, pattern=pattern, chunk_len=CHUNK), inputs.qk, inputs.v)
    real = (inputs.segment_ids >= 0)[:, None].expand_as(results["out1"])
    assert results.pop("out1")[real].isfinite().all()
    assert all(value.isfinite().all() for value in results.values())
    if impl != "reference" and dtype == IMPLEMENTATIONS[impl]:
        compare(inputs, impl, pattern=pattern, chunk_len=CHUNK)


def test_one_token_attends_to_itself():
    for pattern, (impl, dtype) in itertools.product(PATTERNS, IMPLEMENTATIONS.items()):
        qk, v = exact_normal(1, 2, 1, 4, dtype=dtype), exact_normal(1, 2, 1, 3, seed=1, dtype=dtype)
        buckets = torch.zeros(1, 2, 3, 1, dtype=torch.int64)
        out, lse = lsh_attention(
            qk, v, buckets, chunk_len=4, pattern=pattern, n_chunks_before=1, return_lse=True, impl=impl
        )
        torch.testing.assert_close(out, v)
        # "trax": 3 rounds of one chunk; the token meets itself in its own and in the chunk before, in every round.
        seen = 6.0 if pattern == "trax" else 1.0
        expected = qk.square().sum(-1).sqrt() + torch.tensor(seen, dtype=dtype).log()
        torch.testing.assert_close(lse, expected)


def naive_shared_qk(qk, v, causal: bool, scale: float):
    """softmax over all other tokens, itself only for the first of a causal sequence; written out."""
    keys = qk / qk.norm(dim=-1, keepdim=True)
    logits = scale * torch.einsum("bhid,bhjd->bhij", qk, keys)
    L = qk.shape[2]
    visible = torch.ones(L, L).tril(-1).bool() if causal else ~torch.eye(L).bool()
    if causal:
        visible[0, 0] = True
    weights = logits.exp() * visible
    return torch.einsum("bhij,bhje->bhie", weights / weights.sum(-1, keepdim=True), v), weights.sum(-1).log()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", ["paper", "bucket"])
@pytest.mark.parametrize("how", ["one bucket in one chunk", "many rounds"])
def test_becomes_full_shared_qk_attention(how: str, pattern: str, causal: bool):
    L = 40
    n_hashes, n_buckets, chunk_len = (1, 1, L) if how == "one bucket in one chunk" else (64, 3, L)
    qk, v = exact_normal(2, 2, L, 8), exact_normal(2, 2, L, 5, seed=1)
    buckets = torch.randint(0, n_buckets, (2, 2, n_hashes, L), generator=torch.Generator().manual_seed(0))
    expected_out, expected_lse = naive_shared_qk(qk, v, causal, 0.6)
    full = full_attention(qk, None, v, causal=causal, scale=0.6)
    torch.testing.assert_close(full, expected_out, rtol=1e-11, atol=1e-12)
    for impl, dtype in IMPLEMENTATIONS.items():
        options = {"chunk_len": chunk_len, "pattern": pattern, "causal": causal, "scale": 0.6, "return_lse": True}
        out, lse = lsh_attention(qk.to(dtype), v.to(dtype), buckets, impl=impl, **options)
        assert_same(out, expected_out, rtol=1e-11, atol=1e-12)
        assert_same(lse, expected_lse, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("pattern", ["paper", "bucket"])
@pytest.mark.parametrize("impl", IMPLS)
def test_a_pair_counts_once_in_however_many_rounds(pattern: str, impl: str):
    inputs = lsh_inputs(length=30, n_hashes=1, dtype=IMPLEMENTATIONS[impl])
    repeated = LSHInputs(
        qk=inputs.qk, v=inputs.v, buckets=inputs.buckets.expand(-1, -1, 4, -1).contiguous(), segment_ids=None
    )
    once, often = (
        outputs_and_gradients(attention(x, impl, pattern=pattern, chunk_len=CHUNK), x.qk, x.v)
        for x in (inputs, repeated)
    )
    for name, value in once.items():
        assert_same(often[name], value, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
def test_trax_counts_a_pair_as_often_as_it_is_seen(impl: str):
    inputs = lsh_inputs(length=16, n_hashes=1, dtype=IMPLEMENTATIONS[impl])
    twice = inputs.buckets.expand(-1, -1, 2, -1).contiguous()
    options = {"chunk_len": 16, "pattern": "trax", "n_chunks_before": 0, "return_lse": True, "impl": impl}
    (out, lse), (out_twice, lse_twice) = (
        lsh_attention(inputs.qk, inputs.v, buckets, **options) for buckets in (inputs.buckets, twice)
    )
    assert_same(out_twice, out)
    assert_same(lse_twice, lse + torch.tensor(2.0, dtype=lse.dtype).log())


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_order_given_or_not_and_integer_types_of_buckets(pattern: str, impl: str):
    inputs = lsh_inputs(length=33, layout="interleaved", dtype=IMPLEMENTATIONS[impl])
    run = functools.partial(lsh_attention, inputs.qk, inputs.v, chunk_len=CHUNK, pattern=pattern, impl=impl)
    expected = run(inputs.buckets, segment_ids=inputs.segment_ids)
    order = sort_by_bucket(inputs.buckets, inputs.segment_ids)
    assert torch.equal(run(inputs.buckets, segment_ids=inputs.segment_ids, order=order), expected)
    assert torch.equal(run(inputs.buckets, segment_ids=inputs.segment_ids, order=order.int()), expected)
    for dtype in (torch.int8, torch.int16, torch.int32):
        narrow = run(inputs.buckets.to(dtype), segment_ids=inputs.segment_ids.to(dtype))
        assert torch.equal(narrow, expected)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_strided_inputs(pattern: str, impl: str):
    inputs = lsh_inputs(length=33, dtype=IMPLEMENTATIONS[impl])
    plain = outputs_and_gradients(attention(inputs, impl, pattern=pattern, chunk_len=CHUNK), inputs.qk, inputs.v)
    for axes in ((1, 2), (2, 3), (0, 1)):
        qk, v = (x.transpose(*axes).contiguous().transpose(*axes) for x in (inputs.qk, inputs.v))
        assert not qk.is_contiguous()
        strided = outputs_and_gradients(attention(inputs, impl, pattern=pattern, chunk_len=CHUNK), qk, v)
        for name, value in plain.items():
            assert torch.equal(strided[name], value), (axes, name)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_expanded_inputs_and_gradients(pattern: str, impl: str):
    # The gradient of a sum is one number seen everywhere, and one head's queries may serve all heads.
    inputs = lsh_inputs(length=33, dtype=IMPLEMENTATIONS[impl])
    run = functools.partial(lsh_attention, buckets=inputs.buckets, chunk_len=CHUNK, pattern=pattern, impl=impl)
    qk, v = (x[:, :1].expand(-1, 2, -1, -1) for x in (inputs.qk, inputs.v))
    results = []
    for tensors in ((qk, v), (qk.contiguous(), v.contiguous())):
        leaves = [x.detach().requires_grad_() for x in tensors]
        results.append((run(*leaves), *torch.autograd.grad(run(*leaves).sum(), leaves)))
    for found, expected in zip(*results):
        assert torch.equal(found, expected)
