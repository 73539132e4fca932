"""The C++ kernels where their tiles end: widths, runs longer than tiles, instruction sets, threads, what is not finite.

A tile is 64 queries, and 128 keys (64 for heads wider than 128); registers hold 4, 8 or 16 numbers.
"""

import functools
import itertools
import math

import pytest
import torch

from reformer.ops import (
    PATTERNS,
    Reach,
    hash_vectors,
    local_attention,
    lsh_attention,
    random_rotations,
    sort_by_bucket,
)
from reformer.ops.decoding import AttentionCache, decode_attention
from reformer.testing import lsh_inputs, outputs_and_gradients, segment_layout

from .helpers import FAST, IMPLEMENTATIONS, assert_same_bytes, needs_native, refuses
from .test_local_attention import compare as compare_local
from .test_local_attention import vectors
from .test_lsh_attention import compare as compare_lsh

pytestmark = needs_native

WIDTHS = ((1, 256), (3, 1), (8, 64), (16, 3), (20, 20), (64, 128), (128, 8), (136, 16), (256, 136))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_every_head_size(widths: tuple[int, int], dtype: torch.dtype, instruction_set: str):
    D, E = widths
    inputs = lsh_inputs(batch=1, length=70, head_dim=D, value_dim=E, n_hashes=2, layout="interleaved")
    dropout = {"dropout_p": 0.2, "dropout_seed": 3}
    compare_lsh(inputs, "native", dtype, chunk_len=8, scale=D**-0.5, **dropout)
    q, k, v = vectors(70, shared=False, batch=1, D=D, E=E)
    compare_local(q, k, v, "native", dtype, causal=False, window=9, **dropout)


LONG = [
    ("paper", {"chunk_len": 64, "n_chunks_before": 0, "n_chunks_after": 1}),
    ("paper", {"chunk_len": 150, "n_chunks_before": 1, "n_chunks_after": 1}),
    ("bucket", {"chunk_len": 8}),
    ("bucket", {"chunk_len": 8, "window": 130}),
    ("trax", {"chunk_len": 100, "n_chunks_before": 2, "n_chunks_after": 1}),
]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("pattern", "options"), LONG, ids=str)
def test_runs_of_many_key_tiles(pattern: str, options: dict, causal: bool, instruction_set: str):
    # The larger of the two buckets holds some 320 tokens of a round.
    for layout, n_hashes, width in (("none", 1, 8), ("packed", 2, 8), ("interleaved", 3, 130)):
        inputs = lsh_inputs(
            batch=1, heads=1, length=450, head_dim=width, n_hashes=n_hashes, n_buckets=2, layout=layout
        )  # fmt: skip
        compare_lsh(inputs, "native", pattern=pattern, causal=causal, scale=width**-0.5, **options)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("reach", [{"chunk_len": 150, "n_chunks_after": 1}, {"window": 200}, {"window": 1}], ids=str)
def test_local_attention_over_many_key_tiles(reach: dict, shared: bool):
    for causal, layout in itertools.product((True, False), ("none", "packed", "interleaved")):
        q, k, v = vectors(420, shared=shared, batch=1)
        dropout = {"dropout_p": 0.1, "dropout_seed": 5}
        segments = segment_layout(layout, 1, 420)
        compare_local(q, k, v, "native", causal=causal, segment_ids=segments, **reach, **dropout)


def test_a_running_maximum_that_grows_from_tile_to_tile():
    # Each key tile, and each round, brings larger logits than the last: what was summed before is scaled down to nothing.
    inputs = lsh_inputs(batch=1, heads=1, length=400, n_hashes=2, n_buckets=1)
    growth = torch.linspace(-4.0, 3.0, 400, dtype=torch.float64).exp()
    inputs.qk.copy_((inputs.qk * growth[:, None]).to(torch.bfloat16))
    for causal, scale in itertools.product((True, False), (1.0, -1.0)):
        compare_lsh(inputs, "native", pattern="bucket", chunk_len=8, causal=causal, scale=scale)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_same_bytes_over_many_spans(pattern: str, instruction_set: str):
    # Spans of 256 places or the reach, here that of a bucket of some 600; threads take one each of those of one colour.
    inputs = lsh_inputs(
        batch=1, length=3000, head_dim=16, value_dim=16, n_hashes=3, n_buckets=4, layout="packed", dtype=torch.float32
    )  # fmt: skip
    options = {"n_chunks_after": 0 if pattern == "bucket" else 1, "dropout_p": 0.1, "dropout_seed": 4}
    for causal in (True, False):
        run = functools.partial(
            lsh_attention, buckets=inputs.buckets, segment_ids=inputs.segment_ids, chunk_len=64, pattern=pattern,
            causal=causal, return_lse=True, impl="native", **options,
        )  # fmt: skip
        assert_same_bytes("native", lambda run=run: outputs_and_gradients(run, inputs.qk, inputs.v))


@pytest.mark.parametrize("reach", [{"chunk_len": 70, "n_chunks_after": 1}, {"window": 300}], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_same_bytes_of_local_attention_over_many_spans(shared: bool, reach: dict):
    tensors = [x.float() for x in vectors(3000, shared=shared, D=16, E=16) if x is not None]

    def run(q, *rest):
        k, v = (None, *rest) if shared else rest
        return local_attention(q, k, v, causal=False, return_lse=True, impl="native", **reach)

    assert_same_bytes("native", lambda: outputs_and_gradients(run, *tensors))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_not_finite_is_not_hidden(pattern: str, impl: str, poison: float):
    # Early in the order, so that finite key tiles and rounds follow it.
    L, token = 200, 20
    inputs = lsh_inputs(batch=1, heads=1, length=L, n_hashes=3, n_buckets=1, dtype=IMPLEMENTATIONS[impl])
    run = functools.partial(
        lsh_attention, buckets=inputs.buckets, chunk_len=70, pattern=pattern, return_lse=True, impl=impl
    )
    weights, _ = run(inputs.qk, torch.eye(L, dtype=inputs.qk.dtype).expand(1, 1, L, L).contiguous())
    sees = weights[0, 0, :, token] > 0
    assert 50 < int(sees.sum()) < L
    qk, v = inputs.qk.clone(), inputs.v.clone()
    qk[..., token, 1] = poison
    results = outputs_and_gradients(run, qk, inputs.v)
    for name in ("out0", "out1"):
        assert results[name][0, 0, sees].isnan().all(), name
        assert results[name][0, 0, token].isnan().all(), name
        assert results[name][0, 0, :token].isfinite().all(), name
    assert results["grad0"][0, 0, sees].isnan().all()
    v[..., token, 1] = poison
    out, lse = run(inputs.qk, v)
    assert not out[0, 0, sees, 1].isfinite().any()
    assert lse.isfinite().all()


def test_an_order_that_is_none_is_refused():
    inputs = lsh_inputs(length=40, dtype=torch.float32)
    order = sort_by_bucket(inputs.buckets)
    for place, token in ((0, 40), (39, -1), (7, 2**31), (7, 2**32), (7, -(2**63)), (3, None)):
        for pattern in PATTERNS:
            wrong = order.clone()
            wrong[1, 1, -1, place] = order[1, 1, -1, place + 1] if token is None else token
            with refuses(ValueError, "order must hold every token once in each round", "sort_by_bucket"):
                lsh_attention(
                    inputs.qk, inputs.v, inputs.buckets, order=wrong, chunk_len=4, pattern=pattern, impl="native"
                )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_any_order_of_all_tokens_is_served(pattern: str):
    # The user's own, not sorted by bucket: runs of a bucket are then shorter, and nothing is read out of bounds.
    inputs = lsh_inputs(length=300, n_hashes=2, layout="interleaved", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(2, 2, 2, 300, generator=generator).argsort(-1)
    run = functools.partial(
        lsh_attention, buckets=inputs.buckets, segment_ids=inputs.segment_ids, order=order, chunk_len=16,
        pattern=pattern, causal=False, impl="native",
    )  # fmt: skip
    results = outputs_and_gradients(run, inputs.qk, inputs.v)
    assert all(value.isfinite().all() for value in results.values())
    assert results["out0"][(inputs.segment_ids < 0)[:, None].expand(-1, 2, -1)].eq(0).all()


def test_gradients_in_another_precision_are_converted():
    inputs = lsh_inputs(length=50, dtype=torch.bfloat16)
    call = (inputs.qk, None, inputs.v, inputs.buckets, sort_by_bucket(inputs.buckets), None, None)
    call += (0.0, 1.0, *Reach.lsh(chunk_len=8), "native")
    outputs = torch.ops.reformer.attention(*call)
    grad_out, grad_lse = torch.randn(inputs.v.shape).bfloat16(), torch.randn(2, 2, 50)
    expected = torch.ops.reformer.attention_backward(grad_out, grad_lse, *outputs, *call)
    found = torch.ops.reformer.attention_backward(grad_out.float(), grad_lse.double(), *outputs, *call)
    assert all(torch.equal(*pair) for pair in zip(found, expected))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_default_dtype_changes_nothing(pattern: str):
    # Memory that the kernels write must have the size that they take it to have.
    inputs = lsh_inputs(length=70, layout="left", dtype=torch.bfloat16)
    rotations = random_rotations(8, n_hashes=2, n_buckets=4, n_heads=2, generator=torch.Generator().manual_seed(0))
    q, v = inputs.qk.float(), inputs.v.float()

    def everything() -> dict[str, torch.Tensor]:
        run = functools.partial(
            lsh_attention, buckets=inputs.buckets, segment_ids=inputs.segment_ids, chunk_len=8, pattern=pattern,
            impl="native", return_lse=True,
        )  # fmt: skip
        results = outputs_and_gradients(run, inputs.qk, inputs.v)
        results |= {f"local {name}": x for name, x in outputs_and_gradients(local, q, v).items()}
        buckets = hash_vectors(q, rotations, 4)
        cache = AttentionCache(
            Reach.lsh(chunk_len=8, pattern=pattern), batch=2, heads=2, key_width=8, value_width=5, max_len=70,
            dtype=torch.float32, device=torch.device("cpu"), rotations=rotations, n_buckets=4, impl="native",
        )  # fmt: skip
        counts = torch.zeros(2, dtype=torch.int64)
        decoded = decode_attention(cache, q, None, v, counts, None, scale=1.0)
        return results | {"buckets": buckets, "order": sort_by_bucket(buckets), "decoded": decoded}

    def local(q: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return local_attention(q, None, v, window=9, segment_ids=inputs.segment_ids, impl="native")

    expected, before = everything(), torch.get_default_dtype()
    try:
        for dtype in (torch.bfloat16, torch.float64):
            torch.set_default_dtype(dtype)
            for name, value in everything().items():
                assert value.dtype == expected[name].dtype and torch.equal(value, expected[name]), (dtype, name)
    finally:
        torch.set_default_dtype(before)
