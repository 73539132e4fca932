"""What holds of LSH attention whatever the numbers: causality, padding, dropout, determinism, errors."""

import functools
import itertools
import math

import pytest
import torch

from reformer.ops import (
    PATTERNS,
    as_seed,
    choose_implementation,
    hash_vectors,
    lsh_attention,
    random_rotations,
)
from reformer.ops.counter_rng import column_keys, keep, row_keys
from reformer.testing import exact_normal, lsh_inputs, outputs_and_gradients

from .helpers import FAST, IMPLEMENTATIONS, IMPLS, assert_same, assert_same_bytes, fills, refuses


def change_after(x: torch.Tensor, position: int) -> torch.Tensor:
    """x [B, H, L, D] with other numbers from ``position`` on."""
    changed = x.clone()
    changed[:, :, position:] = exact_normal(*x.shape, seed=99)[:, :, position:].to(x.dtype) * 3.0
    return changed


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_later_token_changes_no_earlier_output_buckets_held(pattern: str, impl: str):
    for layout, n_hashes in itertools.product(("none", "interleaved"), (1, 4)):
        inputs = lsh_inputs(length=50, n_hashes=n_hashes, layout=layout, dtype=IMPLEMENTATIONS[impl])
        run = functools.partial(
            lsh_attention,
            buckets=inputs.buckets,
            segment_ids=inputs.segment_ids,
            chunk_len=8,
            pattern=pattern,
            return_lse=True,
            impl=impl,
        )
        before = run(inputs.qk, inputs.v)
        for position in (1, 20, 49):
            after = run(change_after(inputs.qk, position), change_after(inputs.v, position))
            for old, new in zip(before, after):
                assert torch.equal(old[:, :, :position], new[:, :, :position])
                assert not torch.equal(old[:, :, position:], new[:, :, position:])


def hashed_attention(qk, v, rotations, pattern: str, impl: str):
    buckets = hash_vectors(qk, rotations, 4)
    return lsh_attention(qk, v, buckets, chunk_len=6, pattern=pattern, return_lse=True, impl=impl)


@pytest.mark.parametrize("impl", IMPLS)
def test_strictly_causal_with_buckets_of_the_changed_tokens(impl: str):
    # Tokens beside a changed one in the sorted order keep their output in "bucket"; in "paper" its chunk edges move.
    L, dtype = 40, IMPLEMENTATIONS[impl]
    moved = 0.0
    for seed, position in itertools.product(range(3), (10, 25, 39)):
        qk, v = (exact_normal(1, 2, L, 6, seed=n, dtype=dtype) for n in (seed, seed + 50))
        rotations = random_rotations(
            6, n_hashes=2, n_buckets=4, n_heads=2, generator=torch.Generator().manual_seed(seed)
        )
        other_qk, other_v = change_after(qk, position), change_after(v, position)
        (out, lse), (new_out, new_lse) = (
            hashed_attention(*pair, rotations, "bucket", impl) for pair in ((qk, v), (other_qk, other_v))
        )
        # To rounding: a tile of a bucket may begin elsewhere, so sums are taken in another order.
        assert_same(new_out[:, :, :position], out[:, :, :position])
        assert_same(new_lse[:, :, :position], lse[:, :, :position])
        paper, new_paper = (
            hashed_attention(*pair, rotations, "paper", impl)[0] for pair in ((qk, v), (other_qk, other_v))
        )
        moved = max(moved, float((paper - new_paper)[:, :, :position].abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_do_not_reach_later_tokens(impl: str):
    inputs = lsh_inputs(length=40, n_hashes=3, dtype=IMPLEMENTATIONS[impl])
    for pattern in PATTERNS:
        qk, v = (x.clone().requires_grad_() for x in (inputs.qk, inputs.v))
        out, lse = lsh_attention(qk, v, inputs.buckets, chunk_len=8, pattern=pattern, return_lse=True, impl=impl)
        gradients = torch.autograd.grad(out[:, :, :17].sum() + lse[:, :, :17].sum(), [qk, v])
        for gradient in gradients:
            assert gradient[:, :, 17:].eq(0).all() and gradient[:, :, :17].abs().sum() > 0


def with_padding(x: torch.Tensor, where: str, fill: float | int) -> torch.Tensor:
    """x with 7 more places along axis 2 that hold ``fill``: before, after, or after every other token for a while."""
    padding = torch.full((*x.shape[:2], 7, *x.shape[3:]), fill, dtype=x.dtype)
    if where == "after":
        return torch.cat([x, padding], 2)
    if where == "before":
        return torch.cat([padding, x], 2)
    woven = torch.stack([x[:, :, :7], padding], 3).flatten(2, 3)
    return torch.cat([woven, x[:, :, 7:]], 2)


@pytest.mark.parametrize("where", ["after", "before", "between"])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("pattern", ["paper", "bucket"])
def test_padding_is_inert(pattern: str, impl: str, where: str):
    dtype = IMPLEMENTATIONS[impl]
    inputs = lsh_inputs(length=29, n_hashes=3, dtype=dtype)
    real = with_padding(torch.zeros(2, 1, 29), where, -1.0)[:, 0].long()
    keep_real = real[0] == 0
    for causal in (True, False):
        options = {"chunk_len": 8, "pattern": pattern, "causal": causal, "return_lse": True, "impl": impl}
        if pattern == "paper" and not causal:
            options["n_chunks_after"] = 1

        def run(qk, v, segments, buckets, options=options):
            out, lse = lsh_attention(qk, v, buckets, segment_ids=segments, **options)
            return (out, lse) if segments is None else (out, torch.where(segments[:, None] >= 0, lse, 0.0))

        plain = outputs_and_gradients(
            functools.partial(run, segments=None, buckets=inputs.buckets), inputs.qk, inputs.v
        )
        for fill, bucket in zip(fills(dtype), (0, 1, 3, 2)):
            # The gradients of the outputs are drawn by position, so the padded ones are put where the tokens are.
            buckets = with_padding(inputs.buckets.transpose(2, 3), where, bucket).transpose(2, 3)
            leaves = [with_padding(x, where, fill).requires_grad_() for x in (inputs.qk, inputs.v)]
            outputs = run(*leaves, segments=real, buckets=buckets)
            generator = torch.Generator().manual_seed(0)
            cotangents = []
            for y, plain_y in zip(outputs, (plain["out0"], plain["out1"])):
                drawn = torch.randn(plain_y.shape, generator=generator).to(torch.bfloat16).to(y.dtype)
                everywhere = torch.full_like(y, 5.0)
                everywhere[:, :, keep_real] = drawn
                cotangents.append(everywhere)
            gradients = torch.autograd.grad(outputs, leaves, cotangents)
            for name, value in zip(("out0", "out1", "grad0", "grad1"), (*outputs, *gradients)):
                assert_same(value[:, :, keep_real], plain[name], rtol=1e-11, atol=1e-12)
                assert value[:, :, ~keep_real].eq(0).all()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("impl", IMPLS)
def test_what_padding_holds_does_not_matter(pattern: str, impl: str):
    dtype = IMPLEMENTATIONS[impl]
    inputs = lsh_inputs(length=45, n_hashes=2, layout="left", dtype=dtype)
    padding = (inputs.segment_ids < 0)[:, None, :].expand(-1, 2, -1)
    run = functools.partial(
        lsh_attention,
        buckets=inputs.buckets,
        segment_ids=inputs.segment_ids,
        chunk_len=8,
        pattern=pattern,
        impl=impl,
    )
    expected = outputs_and_gradients(run, inputs.qk, inputs.v)
    for fill in fills(dtype):
        qk, v = (x.masked_fill(padding[..., None], fill) for x in (inputs.qk, inputs.v))
        found = outputs_and_gradients(run, qk, v)
        for name, value in expected.items():
            assert torch.equal(found[name], value), name
            assert found[name][padding].eq(0).all()


def test_padding_has_no_lse_and_no_output():
    for pattern, (impl, dtype) in itertools.product(PATTERNS, IMPLEMENTATIONS.items()):
        inputs = lsh_inputs(length=20, layout="one row of padding", dtype=dtype)
        out, lse = lsh_attention(
            inputs.qk, inputs.v, inputs.buckets, segment_ids=inputs.segment_ids, chunk_len=4, pattern=pattern,
            return_lse=True, impl=impl,
        )  # fmt: skip
        assert out[-1].eq(0).all() and lse[-1].eq(-math.inf).all()
        assert lse[0].isfinite().all()


def test_a_segment_does_not_see_another():
    for pattern, (impl, dtype), causal in itertools.product(PATTERNS, IMPLEMENTATIONS.items(), (True, False)):
        inputs = lsh_inputs(length=45, n_hashes=2, layout="interleaved", dtype=dtype)
        other = (inputs.segment_ids == 4)[:, None, :, None]
        run = functools.partial(
            lsh_attention, buckets=inputs.buckets, segment_ids=inputs.segment_ids, chunk_len=8, pattern=pattern,
            causal=causal, impl=impl,
        )  # fmt: skip
        before = run(inputs.qk, inputs.v)
        after = run(*(torch.where(other, x * -3 + 1, x) for x in (inputs.qk, inputs.v)))
        same = (inputs.segment_ids == 9)[:, None].expand(-1, 2, -1)
        assert torch.equal(before[same], after[same])
        assert not torch.equal(before, after)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
@pytest.mark.parametrize("impl", IMPLS)
def test_the_largest_segment_id_of_a_type_is_a_segment_like_any_other(impl: str, dtype: torch.dtype):
    # Padding is sorted last; it must not fall among the tokens of the last segment.
    inputs = lsh_inputs(length=40, n_hashes=2, dtype=IMPLEMENTATIONS[impl])
    usual = torch.where(torch.arange(40) % 3 == 0, -1, 5).repeat(2, 1)
    largest = usual.masked_fill(usual > 0, torch.iinfo(dtype).max).to(dtype)
    for pattern in ("paper", "bucket"):
        expected, found = (
            lsh_attention(inputs.qk, inputs.v, inputs.buckets, segment_ids=ids, chunk_len=4, pattern=pattern, impl=impl)
            for ids in (usual, largest)
        )
        assert_same(found, expected)


def dense_weights(qk, buckets, **options) -> torch.Tensor:
    """The attention weights after dropout [B, H, L, L]: the output for unit vectors as values."""
    B, H, L, _ = qk.shape
    v = torch.eye(L, dtype=qk.dtype).expand(B, H, L, L).contiguous()
    return lsh_attention(qk, v, buckets, **options)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_dropout_mask_is_the_function_of_seed_and_coordinates(pattern: str, impl: str):
    B, H, L, p = 2, 3, 40, 0.3
    inputs = lsh_inputs(batch=B, heads=H, length=L, n_hashes=2, n_buckets=2, dtype=IMPLEMENTATIONS[impl])
    options = {"chunk_len": 8, "pattern": pattern, "causal": False, "impl": impl}
    plain = dense_weights(inputs.qk, inputs.buckets, **options)
    seed = as_seed(2**40 + 5)
    rows = row_keys(seed, torch.arange(B)[:, None, None], torch.arange(H)[:, None], torch.arange(L))
    kept = keep(rows[..., None], column_keys(seed, torch.arange(L)), p)
    for given in (2**40 + 5, seed, seed[None]):
        dropped = dense_weights(inputs.qk, inputs.buckets, dropout_p=p, dropout_seed=given, **options)
        assert_same(dropped, plain * kept / (1 - p), atol=1e-14)
        assert torch.equal(dropped == 0, (plain == 0) | ~kept)
    visible = plain > 0
    n = int(visible.sum())
    rate = float((dropped[visible] == 0).double().mean())
    assert abs(rate - p) < 5 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("impl", IMPLS)
def test_dropout_of_a_slice_of_the_batch_and_of_another_tiling(impl: str):
    inputs = lsh_inputs(batch=3, heads=2, length=50, n_hashes=2, dtype=IMPLEMENTATIONS[impl])
    options = {"pattern": "bucket", "dropout_p": 0.4, "dropout_seed": 9, "impl": impl}
    whole = lsh_attention(inputs.qk, inputs.v, inputs.buckets, chunk_len=8, **options)
    part = lsh_attention(inputs.qk[:2], inputs.v[:2], inputs.buckets[:2], chunk_len=8, **options)
    assert_same(part, whole[:2], rtol=1e-13, atol=1e-14)
    for chunk_len in (1, 5, 13, 64):
        other = lsh_attention(inputs.qk, inputs.v, inputs.buckets, chunk_len=chunk_len, **options)
        assert_same(other, whole)
    shorter = lsh_attention(inputs.qk[:, :, :30], inputs.v[:, :, :30], inputs.buckets[..., :30], chunk_len=8, **options)
    assert_same(shorter, whole[:, :, :30])
    other_seed = lsh_attention(inputs.qk, inputs.v, inputs.buckets, chunk_len=8, **{**options, "dropout_seed": 10})
    assert not torch.allclose(other_seed, whole)


def test_lse_is_that_without_dropout():
    for impl, dtype in IMPLEMENTATIONS.items():
        inputs = lsh_inputs(length=30, dtype=dtype)
        run = functools.partial(
            lsh_attention, inputs.qk, inputs.v, inputs.buckets, chunk_len=8, return_lse=True, impl=impl
        )
        assert torch.equal(run(dropout_p=0.5, dropout_seed=1)[1], run()[1])


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_same_bytes_every_time_and_with_any_number_of_threads(pattern: str, impl: str):
    inputs = lsh_inputs(length=700, n_hashes=4, head_dim=32, value_dim=32, n_buckets=20, layout="left").to(
        torch.float32
    )
    run = functools.partial(
        lsh_attention,
        buckets=inputs.buckets,
        segment_ids=inputs.segment_ids,
        chunk_len=32,
        pattern=pattern,
        dropout_p=0.1,
        dropout_seed=4,
        return_lse=True,
        impl=impl,
    )
    # Spans of work are at least 256 places long: 700 are three of them.
    assert_same_bytes(impl, lambda: outputs_and_gradients(run, inputs.qk, inputs.v))


def test_no_random_numbers_are_drawn():
    state = torch.get_rng_state()
    for impl, dtype in IMPLEMENTATIONS.items():
        inputs = lsh_inputs(length=20, dtype=dtype)
        lsh_attention(inputs.qk, inputs.v, inputs.buckets, chunk_len=4, dropout_p=0.5, dropout_seed=1, impl=impl)
    assert torch.equal(torch.get_rng_state(), state)


def test_types_of_the_results():
    for dtype, lse_dtype in (
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ):
        inputs = lsh_inputs(length=9, dtype=dtype)
        takes_it = dtype in (torch.float32, torch.bfloat16)
        for impl in (name for name in IMPLS if takes_it or name != "native"):
            out, lse = lsh_attention(inputs.qk, inputs.v, inputs.buckets, chunk_len=4, return_lse=True, impl=impl)
            assert (out.dtype, lse.dtype) == (dtype, lse_dtype)
            assert out.shape == inputs.v.shape and lse.shape == inputs.qk.shape[:3]


@pytest.mark.parametrize("impl", FAST)
def test_under_autocast_nothing_is_narrowed(impl: str):
    inputs = lsh_inputs(length=30, dtype=torch.float32)
    run = functools.partial(lsh_attention, buckets=inputs.buckets, chunk_len=8, impl=impl)
    expected = outputs_and_gradients(run, inputs.qk, inputs.v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs_and_gradients(run, inputs.qk, inputs.v)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_auto_says_what_it_is_and_why():
    choice = choose_implementation("auto", torch.device("cpu"), torch.float64)
    assert choice.name == "eager" and "cpu" in choice.reason and "not native: " in choice.reason
    assert choose_implementation("reference", torch.device("cpu")).reason == "asked for by name"
    inputs = lsh_inputs(length=20)
    auto, eager = (
        lsh_attention(inputs.qk, inputs.v, inputs.buckets, chunk_len=4, impl=i) for i in ("auto", choice.name)
    )
    assert torch.equal(auto, eager)


QK, V, BUCKETS = torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 8, 5), torch.zeros(2, 3, 2, 8).long()


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        ({"qk": QK[0]}, ValueError, ("qk must be", "[batch, heads, length, head_dim]", "got [3, 8, 4]")),
        ({"qk": QK.long()}, TypeError, ("qk must be floating point", "torch.int64")),
        ({"v": V[:1]}, ValueError, ("v must be", "[2, 3, 8, any]", "got [1, 3, 8, 5]")),
        ({"v": V[:, :, :7]}, ValueError, ("v must be", "got [2, 3, 7, 5]")),
        ({"v": V.double()}, TypeError, ("qk and v must have one dtype", "torch.float32 and torch.float64")),
        ({"v": V.to("meta")}, ValueError, ("on one device", "cpu and meta")),
        ({"buckets": BUCKETS.float()}, TypeError, ("buckets must hold integers", "torch.float32", ".long()")),
        ({"buckets": BUCKETS[:, 0]}, ValueError, ("buckets must be", "hash_vectors", "got [2, 2, 8]")),
        ({"buckets": BUCKETS[..., :5]}, ValueError, ("buckets must be", "[2, 3, any, 8]")),
        ({"buckets": BUCKETS[:, :, :0]}, ValueError, ("n_hashes must be at least 1, got 0",)),
        (
            {"qk": QK[:, :, :0], "v": V[:, :, :0], "buckets": BUCKETS[..., :0]},
            ValueError,
            ("length must be at least 1, got 0",),
        ),
        ({"qk": QK[..., :0]}, ValueError, ("head_dim must be at least 1, got 0",)),
        ({"segment_ids": torch.zeros(2, 8)}, TypeError, ("segment_ids must hold integers", "torch.float32")),
        ({"segment_ids": torch.zeros(8).long()}, ValueError, ("segment_ids must be", "[2, 8]", "got [8]")),
        ({"order": BUCKETS[..., :4]}, ValueError, ("order must be sort_by_bucket", "[2, 3, 2, 8]")),
        ({"order": BUCKETS.float()}, TypeError, ("order must hold integers",)),
        ({"chunk_len": 0}, ValueError, ("chunk_len must be at least 1, got 0",)),
        ({"chunk_len": 4.0}, TypeError, ("chunk_len must be an int, got float 4.0",)),
        ({"pattern": "papr"}, ValueError, ("pattern must be one of 'paper', 'bucket', 'trax', got 'papr'",)),
        ({"n_chunks_before": -1}, ValueError, ("n_chunks_before must be at least 0, got -1",)),
        ({"n_chunks_after": -1}, ValueError, ("n_chunks_after must be at least 0, got -1",)),
        ({"window": 3}, ValueError, ("window belongs to pattern='bucket'", "window=3", "'paper'")),
        ({"window": 0, "pattern": "bucket"}, ValueError, ("window must be at least 1, got 0",)),
        ({"n_chunks_before": 2, "pattern": "bucket"}, ValueError, ("no chunk edges", "n_chunks_before=2")),
        ({"dropout_p": 1.0, "dropout_seed": 1}, ValueError, ("dropout_p must be in [0, 1), got 1.0",)),
        ({"dropout_p": -0.1}, ValueError, ("dropout_p must be in [0, 1), got -0.1",)),
        ({"dropout_p": 0.1}, ValueError, ("needs dropout_seed", "no hidden random numbers")),
        ({"dropout_p": 0.1, "dropout_seed": 1.5}, TypeError, ("a seed must be an int",)),
        ({"impl": "cuda"}, ValueError, ("impl must be 'auto' or one of", "'eager'", "got 'cuda'")),
        ({"impl": "Eager"}, ValueError, ("got 'Eager'",)),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, dict) else None,
)
def test_shapes_dtypes_and_options_that_do_not_fit_are_refused(
    changes: dict, error: type[Exception], facts: tuple[str, ...]
):
    arguments = {"qk": QK, "v": V, "buckets": BUCKETS, "chunk_len": 4, **changes}
    with refuses(error, *facts):
        lsh_attention(**arguments)


@pytest.mark.parametrize("impl", IMPLS)
def test_more_neighbours_than_there_are_chunks_are_all_of_them(impl: str):
    inputs = lsh_inputs(length=50, n_hashes=2, layout="interleaved", dtype=IMPLEMENTATIONS[impl])
    results = [
        lsh_attention(
            inputs.qk, inputs.v, inputs.buckets, segment_ids=inputs.segment_ids, chunk_len=8, causal=False, impl=impl,
            n_chunks_before=many, n_chunks_after=many,
        )
        for many in (7, 10**10)
    ]  # fmt: skip
    assert torch.equal(*results)
