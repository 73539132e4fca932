import itertools

import pytest
import torch

from reformer.ops import Dropout, Reach, full_attention
from reformer.ops.attention.local import attend_by_position
from reformer.testing import (
    LAYOUTS,
    assert_close_to_float64,
    exact_normal,
    local_attention_oracle,
    outputs_and_gradients,
    segment_layout,
)

from .helpers import FAST, IMPLEMENTATIONS, IMPLS, LOW_PRECISION, assert_same, in_dtype_of, refuses


def vectors(length: int, *, shared: bool, D: int = 4, E: int = 3, seed: int = 0):
    q = exact_normal(2, 2, length, D, seed=seed)
    k = None if shared else exact_normal(2, 2, length, D, seed=seed + 1)
    return q, k, exact_normal(2, 2, length, E, seed=seed + 2)


def attend(q, k, v, *, impl: str, return_lse: bool = False, **options):
    """full_attention; by the C++ kernels too, which serve it as local attention without bounds."""
    if impl != "native":
        return full_attention(q, k, v, impl=impl, return_lse=return_lse, **options)
    reach = Reach.full(shared_qk=k is None, causal=options.pop("causal", True))
    dropout = Dropout.of(options.pop("dropout_p", 0.0), options.pop("dropout_seed", None))
    out, lse = attend_by_position(q, k, v, reach, dropout=dropout, impl=impl, **options)
    return (out, lse) if return_lse else out


def compare(impl: str, q, k, v, dtype: torch.dtype, *, lse: bool, **options) -> None:
    def attention(impl: str):
        def function(q, v, k=None):
            return attend(q, k, v, return_lse=lse, impl=impl, **options)

        return function

    tensors = (q, v) if k is None else (q, v, k)
    _, exact_lse = full_attention(q, k, v, return_lse=True, impl="reference", **options)
    assert_close_to_float64(attention(impl), attention("reference"), tensors, dtype, lse=exact_lse)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_every_implementation_equals_the_oracle(shared: bool, causal: bool, layout: str):
    for n, L in enumerate((1, 2, 21)):
        q, k, v = vectors(L, shared=shared, seed=n)
        options = {"causal": causal, "segment_ids": segment_layout(layout, 2, L), "scale": 0.8 if L == 2 else None}
        out, lse = local_attention_oracle(q, k, v, **options)
        for impl, dtype in (*IMPLEMENTATIONS.items(), ("auto", torch.float64)):
            tensors = [None if x is None else x.to(dtype) for x in (q, k, v)]
            found = attend(*tensors, return_lse=True, impl=impl, **options)
            assert_same(found[0], out)
            assert_same(found[1], lse)
            assert_same(attend(*tensors, impl=impl, **options), out)


@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("layout", ["none", "left", "interleaved", "packed"])
@pytest.mark.parametrize("shared", [True, False])
def test_tiles_equal_the_definition(shared: bool, layout: str, impl: str):
    # 300 is more than two tiles of 128, eager's and the keys of the C++ kernels.
    for causal, length in itertools.product((True, False), (1, 2, 63, 300)):
        q, k, v = vectors(length, shared=shared)
        dropout = {"dropout_p": 0.25, "dropout_seed": 6} if length == 63 else {}
        segments = segment_layout(layout, 2, length)
        compare(impl, q, k, v, IMPLEMENTATIONS[impl], lse=True, causal=causal, segment_ids=segments, **dropout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shared", [True, False])
def test_dense_equals_the_definition(shared: bool, layout: str, dtype: torch.dtype):
    for causal, length in itertools.product((True, False), (1, 2, 63)):
        q, k, v = vectors(length, shared=shared)
        options = {"causal": causal, "segment_ids": segment_layout(layout, 2, length), "scale": 0.7}
        compare("dense", q, k, v, dtype, lse=False, **options)
        if dtype == torch.float64:
            compare("dense", q, k, v, dtype, lse=False, **options, dropout_p=0.25, dropout_seed=6)


def test_auto_is_dense_up_to_a_length():
    q, k, v = (x.float() for x in vectors(257, shared=False))
    ids = torch.zeros(2, 257, dtype=torch.int64)
    ids[:, 200:] = -1
    for length, impl in ((256, "dense"), (257, "eager")):
        part = [x[:, :, :length] for x in (q, k, v)]
        found, expected = (full_attention(*part, segment_ids=ids[:, :length], impl=i) for i in ("auto", impl))
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("D", "E"), [(4, 4), (4, 7), (7, 4)])
@pytest.mark.parametrize(("shared", "causal"), [(True, True), (False, True), (False, False)])
def test_sdpa_equals_the_definition(shared: bool, causal: bool, D: int, E: int, dtype: torch.dtype):
    for length in (1, 2, 3, 63):
        if shared and length == 1:
            continue
        q, k, v = vectors(length, shared=shared, D=D, E=E)
        for scale in (None, 0.7):
            compare("sdpa", q, k, v, dtype, lse=False, causal=causal, scale=scale)


@pytest.mark.parametrize(("impl", "dtype"), LOW_PRECISION)
@pytest.mark.parametrize("shared", [True, False])
def test_low_precision_tiles(shared: bool, impl: str, dtype: torch.dtype):
    q, k, v = vectors(150, shared=shared, D=16, E=8)
    for causal in (True, False):
        compare(impl, q, k, v, dtype, lse=True, causal=causal)


def test_auto_takes_sdpa_where_it_applies(monkeypatch: pytest.MonkeyPatch):
    calls = []
    sdpa = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or sdpa(*a, **k)
    )
    # Longer than what "dense" is for.
    q, k, v = (x[..., :2] for x in vectors(260, shared=False))
    full_attention(q, k, v)
    full_attention(q, None, v)
    full_attention(q, k, v, causal=False)
    assert len(calls) == 3
    full_attention(q, None, v, causal=False)
    full_attention(q, k, v, dropout_p=0.1, dropout_seed=1)
    full_attention(q, k, v, return_lse=True)
    full_attention(q, k, v, segment_ids=torch.zeros(2, 260).long())
    full_attention(q, k, v, impl="eager")
    assert len(calls) == 3


def test_shared_qk_equals_separate_unit_keys_but_for_oneself():
    q, _, _ = vectors(30, shared=True)
    unit = q / q.norm(dim=-1, keepdim=True)
    eye = torch.eye(30, dtype=torch.float64).expand(2, 2, 30, 30)
    shared = full_attention(q, None, eye, causal=False)
    separate = full_attention(q, unit, eye, causal=False, scale=1.0)
    off_diagonal = separate * ~torch.eye(30).bool()
    torch.testing.assert_close(shared, off_diagonal / off_diagonal.sum(-1, keepdim=True), rtol=1e-11, atol=1e-12)
    assert shared.diagonal(dim1=-2, dim2=-1).eq(0).all()


@pytest.mark.parametrize("impl", IMPLS)
def test_a_segment_has_the_outputs_it_has_alone(impl: str):
    q, k, v = in_dtype_of(impl, *vectors(40, shared=False))
    ids = torch.tensor([1, 2, -1, 1, 2])[torch.arange(40) % 5].expand(2, 40)
    for keys, causal in itertools.product((k, None), (True, False)):
        packed = attend(q, keys, v, causal=causal, segment_ids=ids, impl=impl)
        for segment in (1, 2):
            own = ids[0] == segment
            alone = attend(*(None if x is None else x[:, :, own] for x in (q, keys, v)), causal=causal, impl=impl)
            assert_same(packed[:, :, own], alone, rtol=1e-11, atol=1e-12)
        assert packed[:, :, ids[0] < 0].eq(0).all()


@pytest.mark.parametrize("impl", ["sdpa", *IMPLS])
@pytest.mark.parametrize("shared", [True, False])
def test_a_later_token_changes_no_earlier_output(shared: bool, impl: str):
    q, k, v = in_dtype_of("native" if impl == "native" else "reference", *vectors(40, shared=shared))
    changed = [None if x is None else torch.cat([x[:, :, :22], 2 - x[:, :, 22:]], 2) for x in (q, k, v)]
    before, after = attend(q, k, v, impl=impl), attend(*changed, impl=impl)
    assert_same(before[:, :, :22], after[:, :, :22], rtol=1e-13, atol=1e-14)
    assert not torch.allclose(before[:, :, 22:], after[:, :, 22:])


def test_zero_vectors_give_finite_results():
    q, _, v = vectors(12, shared=True)
    q[:, :, ::2] = 0.0
    for impl, dtype in (*IMPLEMENTATIONS.items(), ("sdpa", torch.float64)):
        tensors = q.to(dtype), v.to(dtype)
        found = outputs_and_gradients(lambda q, v, impl=impl: attend(q, None, v, impl=impl), *tensors)
        assert all(value.isfinite().all() for value in found.values())


Q, V = torch.zeros(2, 3, 8, 4), torch.zeros(2, 3, 8, 5)


@pytest.mark.parametrize(
    ("changes", "error", "facts"),
    [
        (
            {"impl": "flash"},
            ValueError,
            ("impl must be one of 'auto', 'sdpa', 'dense', 'eager', 'reference', got 'flash'",),
        ),
        ({"return_lse": True, "impl": "sdpa"}, ValueError, ("impl='sdpa' cannot serve", "no lse", "impl='eager'")),
        ({"segment_ids": torch.zeros(2, 8).long(), "impl": "sdpa"}, ValueError, ("cannot serve", "segments")),
        ({"dropout_p": 0.1, "dropout_seed": 1, "impl": "sdpa"}, ValueError, ("cannot serve", "dropout")),
        ({"k": None, "causal": False, "impl": "sdpa"}, ValueError, ("cannot serve", "own key")),
        (
            {"q": Q[:, :, :1], "k": None, "v": V[:, :, :1], "impl": "sdpa"},
            ValueError,
            ("cannot serve", "no other token"),
        ),
        ({"dropout_p": 0.1}, ValueError, ("needs dropout_seed",)),
        ({"q": Q[0]}, ValueError, ("q must be", "got [3, 8, 4]")),
        ({"k": Q.double()}, TypeError, ("q and k must have one dtype",)),
        ({"v": V[:, :, :3]}, ValueError, ("v must be", "[2, 3, 8, any]")),
        ({"segment_ids": torch.zeros(2, 8)}, TypeError, ("segment_ids must hold integers",)),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, dict) else None,
)
def test_shapes_dtypes_and_options_that_do_not_fit_are_refused(
    changes: dict, error: type[Exception], facts: tuple[str, ...]
):
    with refuses(error, *facts):
        full_attention(**{"q": Q, "k": Q, "v": V, **changes})
