import functools
import itertools
import math

import pytest
import torch

from reformer.ops import as_seed, local_attention
from reformer.ops.attention.eager import plan
from reformer.ops.counter_rng import column_keys, keep, row_keys
from reformer.testing import (
    LAYOUTS,
    assert_close_to_float64,
    exact_normal,
    local_attention_oracle,
    outputs_and_gradients,
    segment_layout,
)

from .helpers import (
    FAST,
    IMPLEMENTATIONS,
    IMPLS,
    LOW_PRECISION,
    assert_same,
    assert_same_bytes,
    fills,
    in_dtype_of,
    refuses,
)

REACHES = (
    {"chunk_len": 4},
    {"chunk_len": 4, "n_chunks_before": 1, "n_chunks_after": 1},
    {"chunk_len": 5, "n_chunks_before": 0, "n_chunks_after": 0},
    {"chunk_len": 3, "n_chunks_before": 2, "n_chunks_after": 3},
    {"chunk_len": 100},
    {"chunk_len": 1},
    {"window": 1},
    {"window": 7},
    {"window": 1000},
)


def vectors(length: int, *, shared: bool, batch: int = 2, D: int = 4, E: int = 3, seed: int = 0):
    q = exact_normal(batch, 2, length, D, seed=seed)
    k = None if shared else exact_normal(batch, 2, length, D, seed=seed + 1)
    return q, k, exact_normal(batch, 2, length, E, seed=seed + 2)


def compare(q, k, v, impl: str, dtype: torch.dtype | None = None, **options) -> None:
    """``impl`` against the definition, in ``dtype`` or the widest it takes."""

    def attention(impl: str):
        def function(q, v, k=None):
            return local_attention(q, k, v, return_lse=True, impl=impl, **options)

        return function

    tensors = (q, v) if k is None else (q, v, k)
    _, lse = attention("reference")(*tensors)
    dtype = dtype or IMPLEMENTATIONS[impl]
    assert_close_to_float64(attention(impl), attention("reference"), tensors, dtype, lse=lse)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_every_implementation_equals_the_oracle(shared: bool, causal: bool, layout: str):
    for n, (reach, L) in enumerate(itertools.product(REACHES, (1, 2, 21))):
        q, k, v = vectors(L, shared=shared, seed=n)
        options = {"causal": causal, "segment_ids": segment_layout(layout, 2, L), **reach}
        if n % 2:
            options["scale"] = 0.9
        out, lse = local_attention_oracle(q, k, v, **options)
        for impl in IMPLS:
            tensors = in_dtype_of(impl, q, k, v)
            found = local_attention(*tensors, return_lse=True, impl=impl, **options)
            assert_same(found[0], out)
            assert_same(found[1], lse)


WRAPPING = (
    {"chunk_len": 4, "wrap": True},
    {"chunk_len": 4, "n_chunks_after": 1, "wrap": True},
    {"chunk_len": 7, "n_chunks_before": 2, "n_chunks_after": 2, "wrap": True},
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_wrapping_around_the_ends(shared: bool, causal: bool, layout: str):
    for n, (reach, L) in enumerate(itertools.product(WRAPPING, (1, 4, 7, 21))):
        q, k, v = vectors(L, shared=shared, seed=n)
        options = {"causal": causal, "segment_ids": segment_layout(layout, 2, L), **reach}
        out, lse = local_attention_oracle(q, k, v, **options)
        for impl in ("reference", "eager"):
            found = local_attention(q, k, v, return_lse=True, impl=impl, **options)
            assert_same(found[0], out)
            assert_same(found[1], lse)
        compare(q, k, v, "eager", torch.float64, dropout_p=0.25, dropout_seed=n, **options)


def test_wrapping_lets_the_first_chunk_see_the_last():
    q, k, v = vectors(12, shared=False)
    out = local_attention(q, k, v, causal=False, chunk_len=4, wrap=True)
    inner = local_attention(q, k, v, causal=False, chunk_len=4)
    assert_same(out[:, :, 4:], inner[:, :, 4:])
    seen = [0, 1, 2, 3, 8, 9, 10, 11]
    keys, values = k[:, :, seen], v[:, :, seen]
    weights = (q[:, :, :4] @ keys.transpose(-1, -2) / 2.0).softmax(-1)
    assert_same(out[:, :, :4], weights @ values)


def test_wrapping_needs_chunks_and_plain_pytorch():
    q, k, v = vectors(6, shared=True)
    for options in ({"window": 3}, {"chunk_len": 3, "impl": "native"}):
        with refuses(ValueError, "wrap=True needs chunk_len and impl 'auto', 'eager', 'reference'"):
            local_attention(q, k, v, wrap=True, **options)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("reach", REACHES, ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_equal_the_definition(shared: bool, reach: dict, impl: str):
    for causal, layout, length in itertools.product((True, False), ("none", "left", "interleaved", "packed"), (1, 63)):
        q, k, v = vectors(length, shared=shared)
        dropout = {"dropout_p": 0.25, "dropout_seed": 6} if length == 63 and causal else {}
        compare(q, k, v, impl, causal=causal, segment_ids=segment_layout(layout, 2, length), **reach, **dropout)


@pytest.mark.parametrize("shared", [True, False])
def test_chunks_longer_than_a_tile(shared: bool, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("LARGEST_TILE", 8), ("USUAL_TILE", 8), ("SMALLEST_TILE", 4)):
        monkeypatch.setattr(plan, name, value)
    for chunk_len, layout, after in itertools.product((7, 9, 30, 200), ("none", "interleaved", "packed"), (0, 1)):
        q, k, v = vectors(61, shared=shared)
        segments = segment_layout(layout, 2, 61)
        for causal in (True, False):
            reach = {"chunk_len": chunk_len, "n_chunks_after": after}
            compare(q, k, v, "eager", causal=causal, segment_ids=segments, **reach)
    compare(q, k, v, "eager", window=50, segment_ids=segments)


@pytest.mark.parametrize(("impl", "dtype"), LOW_PRECISION)
@pytest.mark.parametrize("shared", [True, False])
def test_low_precision_is_as_exact_as_the_definition_in_it(shared: bool, impl: str, dtype: torch.dtype):
    for causal, layout, reach in itertools.product(
        (True, False), ("none", "interleaved"), ({"chunk_len": 16}, {"window": 20})
    ):
        q, k, v = vectors(100, shared=shared, D=16, E=8)
        compare(q, k, v, impl, dtype, causal=causal, segment_ids=segment_layout(layout, 2, 100), **reach)


@pytest.mark.parametrize("impl", ["eager", "reference"])
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_are_those_of_finite_differences(shared: bool, impl: str):
    for causal, reach, dropout_p in ((True, {"chunk_len": 3}, 0.0), (False, {"window": 2}, 0.3)):
        leaves = [x.requires_grad_() for x in vectors(8, shared=shared, batch=1, D=3, E=2) if x is not None]

        def function(*tensors, causal=causal, reach=reach, dropout_p=dropout_p):
            q, k, v = (tensors[0], None, tensors[1]) if shared else tensors
            return local_attention(
                q, k, v, causal=causal, dropout_p=dropout_p, dropout_seed=1, return_lse=True, impl=impl, **reach
            )

        assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reach", [{"chunk_len": 8, "n_chunks_after": 1}, {"window": 6}], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_a_segment_has_the_outputs_it_has_alone(shared: bool, reach: dict, impl: str):
    L = 60
    q, k, v = in_dtype_of(impl, *vectors(L, shared=shared, batch=1))
    # Padding first, a segment of 19, one of 30 mixed with padding.
    ids = torch.full((1, L), -1)
    ids[0, 5:24] = 3
    ids[0, 24:54] = 1
    ids[0, 30] = ids[0, 41] = -2
    for causal in (True, False):
        run = functools.partial(local_attention, causal=causal, return_lse=True, impl=impl, **reach)
        packed = run(q, k, v, segment_ids=ids)
        for segment in (1, 3):
            own = ids[0] == segment
            alone = run(*(None if x is None else x[:, :, own] for x in (q, k, v)))
            for one, other in zip(packed, alone):
                assert_same(one[:, :, own], other)
        assert packed[0][:, :, ids[0] < 0].eq(0).all()


@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_wraps_around(impl: str):
    q, _, v = in_dtype_of(impl, *vectors(32, shared=True))
    for reach, first, last in (({"chunk_len": 8, "n_chunks_after": 1}, 8, 24), ({"window": 8}, 8, 24)):
        run = functools.partial(local_attention, k=None, causal=False, impl=impl, **reach)
        before = run(q=q, v=v)
        after = run(
            q=torch.cat([q[:, :, :last], -q[:, :, last:]], 2), v=torch.cat([v[:, :, :last], -v[:, :, last:]], 2)
        )
        assert torch.equal(before[:, :, :first], after[:, :, :first])
        assert not torch.equal(before[:, :, last:], after[:, :, last:])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shared", [True, False])
def test_a_later_token_changes_no_earlier_output(shared: bool, impl: str):
    q, k, v = in_dtype_of(impl, *vectors(40, shared=shared))
    for reach, position in itertools.product(({"chunk_len": 7}, {"window": 5}), (1, 22)):
        run = functools.partial(local_attention, impl=impl, **reach)
        changed = [None if x is None else torch.cat([x[:, :, :position], 2 - x[:, :, position:]], 2) for x in (q, k, v)]
        before, after = run(q, k, v), run(*changed)
        assert torch.equal(before[:, :, :position], after[:, :, :position])
        assert not torch.equal(before[:, :, position:], after[:, :, position:])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shared", [True, False])
def test_dropout_mask_is_the_function_of_seed_and_coordinates(shared: bool, impl: str):
    L, p = 30, 0.35
    q, k, _ = in_dtype_of(impl, *vectors(L, shared=shared))
    unit = torch.eye(L, dtype=q.dtype).expand(2, 2, L, L)
    run = functools.partial(local_attention, q, k, unit, window=9, causal=False, impl=impl)
    seed = as_seed(12)
    rows = row_keys(seed, torch.arange(2)[:, None, None], torch.arange(2)[:, None], torch.arange(L))
    kept = keep(rows[..., None], column_keys(seed, torch.arange(L)), p)
    assert_same(run(dropout_p=p, dropout_seed=12), run() * kept / (1 - p), atol=1e-14)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("shared", [True, False])
def test_what_padding_holds_does_not_matter_and_zeros_are_fine(shared: bool, impl: str):
    q, k, v = in_dtype_of(impl, *vectors(30, shared=shared))
    ids = segment_layout("left", 2, 30)
    padding = (ids < 0)[:, None, :, None]

    def results(fill: float, zeros: int):
        tensors = [x.masked_fill(padding, fill) for x in (q, v, k) if x is not None]
        tensors[0][:, :, 29 - zeros :] = 0.0

        def run(q, v, k=None):
            return local_attention(q, k, v, chunk_len=8, segment_ids=ids, impl=impl)

        return outputs_and_gradients(run, *tensors)

    for zeros in (0, 4):
        expected = results(0.0, zeros)
        assert all(value.isfinite().all() for value in expected.values())
        for fill in fills(q.dtype):
            found = results(fill, zeros)
            for name, value in expected.items():
                assert torch.equal(found[name], value)
                assert found[name].masked_select(padding).eq(0).all()


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("reach", [{}, {"n_chunks_after": 1, "causal": False}], ids=["causal", "look-ahead"])
def test_same_bytes_every_time(reach: dict, impl: str):
    q, k, v = (x.float() for x in vectors(900, shared=False, D=32, E=32))
    run = functools.partial(local_attention, chunk_len=64, return_lse=True, impl=impl, **reach)
    assert_same_bytes(impl, lambda: outputs_and_gradients(run, q, k, v))


def test_default_scale_and_self():
    for impl in IMPLS:
        q, k, v = in_dtype_of(impl, *vectors(1, shared=False))
        _, separate = local_attention(q, k, v, window=1, return_lse=True, impl=impl)
        assert_same(separate, (q * k).sum(-1) / math.sqrt(4), atol=1e-12)
        _, shared = local_attention(q, None, v, window=1, return_lse=True, impl=impl)
        assert_same(shared, q.norm(dim=-1), atol=1e-12)


Q, V = torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 8, 5)


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        ({"chunk_len": None}, ValueError, ("exactly one of chunk_len and window", "chunk_len=None, window=None")),
        ({"window": 3}, ValueError, ("exactly one of chunk_len and window", "chunk_len=4, window=3")),
        ({"chunk_len": 0}, ValueError, ("chunk_len must be at least 1, got 0",)),
        ({"chunk_len": None, "window": 0}, ValueError, ("window must be at least 1, got 0",)),
        ({"n_chunks_before": -1}, ValueError, ("n_chunks_before must be at least 0",)),
        ({"n_chunks_after": 0.5}, TypeError, ("n_chunks_after must be an int",)),
        ({"q": Q[0]}, ValueError, ("q must be", "got [3, 8, 4]")),
        ({"q": Q.int()}, TypeError, ("q must be floating point",)),
        ({"q": Q[:, :, :0], "k": None, "v": V[:, :, :0]}, ValueError, ("at least one element", "[2, 3, 0, 4]")),
        ({"k": Q[..., :3]}, ValueError, ("k must be", "[2, 3, 8, 4]", "got [2, 3, 8, 3]")),
        ({"k": Q.double()}, TypeError, ("q and k must have one dtype",)),
        ({"v": V[:, :2]}, ValueError, ("v must be", "[2, 3, 8, any]")),
        ({"v": V.half()}, TypeError, ("q and v must have one dtype",)),
        ({"segment_ids": torch.zeros(2, 7).long()}, ValueError, ("segment_ids must be", "[2, 8]")),
        ({"segment_ids": torch.zeros(2, 8)}, TypeError, ("segment_ids must hold integers",)),
        ({"dropout_p": 0.1}, ValueError, ("needs dropout_seed",)),
        ({"dropout_p": 1.5, "dropout_seed": 1}, ValueError, ("must be in [0, 1)",)),
        (
            {"impl": "sdpa"},
            ValueError,
            ("impl must be 'auto' or one of 'triton', 'native', 'eager', 'reference', got 'sdpa'",),
        ),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, dict) else None,
)
def test_shapes_dtypes_and_options_that_do_not_fit_are_refused(
    changes: dict, error: type[Exception], facts: tuple[str, ...]
):
    with refuses(error, *facts):
        local_attention(**{"q": Q, "k": Q, "v": V, "chunk_len": 4, **changes})
