"""LSH attention by the Triton kernels equals the definition (invariant 1), and what else holds of them (2, 5).

Without a GPU they run in Triton's interpreter: slowly, so inputs are small and few; tiles are of 32 places there.
"""

import functools
import itertools
import math

import pytest
import torch

from reformer.ops import PATTERNS, choose_implementation, lsh_attention
from reformer.testing import LAYOUTS, LSHInputs, assert_close_to_float64, lsh_inputs, outputs_and_gradients

from .helpers import refuses

pytestmark = pytest.mark.usefixtures("triton_kernels")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def attention(inputs: LSHInputs, impl: str = "triton", **options):
    """lsh_attention as a function of (qk, v) that returns (out, lse), on the CPU for every implementation."""
    device = DEVICE if impl == "triton" else torch.device("cpu")
    buckets, segments = (None if x is None else x.to(device) for x in (inputs.buckets, inputs.segment_ids))

    def function(qk, v):
        outputs = lsh_attention(
            qk.to(device), v.to(device), buckets, segment_ids=segments, return_lse=True, impl=impl, **options
        )
        return tuple(y.cpu() for y in outputs)

    return function


def compare(inputs: LSHInputs, dtype: torch.dtype = torch.float32, **options) -> None:
    reference = attention(inputs, "reference", **options)
    _, lse = reference(inputs.qk.double(), inputs.v.double())
    assert_close_to_float64(attention(inputs, **options), reference, (inputs.qk, inputs.v), dtype, lse=lse)


def small(**sizes) -> LSHInputs:
    return lsh_inputs(**{"heads": 1, "head_dim": 16, "value_dim": 6, **sizes})


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_equals_the_definition_at_every_length(pattern: str, causal: bool):
    for length, n_hashes in ((1, 2), (2, 1), (7, 5), (9, 2), (63, 2), (100, 1)):
        inputs = small(length=length, batch=1, n_hashes=n_hashes, n_buckets=6, seed=length)
        compare(inputs, pattern=pattern, causal=causal, chunk_len=8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_equals_the_definition_with_segments_and_dropout(pattern: str, causal: bool, layout: str):
    inputs = small(length=35, n_hashes=2, heads=2, layout=layout)
    compare(inputs, pattern=pattern, causal=causal, chunk_len=8, scale=0.5, dropout_p=0.3, dropout_seed=2**40 + 17)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_is_as_exact_as_the_definition_in_its_type(pattern: str, causal: bool, dtype: torch.dtype):
    for length, n_hashes, layout, dropout_p in ((40, 5, "none", 0.0), (50, 2, "interleaved", 0.2)):
        inputs = small(length=length, n_hashes=n_hashes, layout=layout, batch=1, seed=length)
        compare(inputs, dtype, pattern=pattern, causal=causal, chunk_len=8, dropout_p=dropout_p, dropout_seed=3)


@pytest.mark.parametrize(("D", "E"), [(1, 1), (3, 40), (17, 16), (64, 33)])
def test_head_sizes_that_are_no_powers_of_two(D: int, E: int):
    for pattern in ("paper", "trax"):
        compare(small(length=20, batch=1, head_dim=D, value_dim=E), pattern=pattern, chunk_len=4)


@pytest.mark.parametrize("reach", [(1, 1), (0, 0), (2, 3), (0, 1)])
@pytest.mark.parametrize("pattern", ["paper", "trax"])
def test_reach_equals_the_definition(pattern: str, reach: tuple[int, int]):
    # Chunks longer and shorter than a tile; in "trax" with 5 chunks of 4 also around more than once.
    before, after = reach
    for causal, (length, chunk_len) in itertools.product((True, False), ((61, 5), (61, 40), (10, 4))):
        inputs = small(length=length, batch=1, n_hashes=2, n_buckets=3, layout="interleaved")
        options = {"n_chunks_before": before, "n_chunks_after": after}
        compare(inputs, pattern=pattern, causal=causal, chunk_len=chunk_len, **options)


@pytest.mark.parametrize("window", [None, 1, 9, 40, 1000])
def test_windows_and_buckets_of_many_tiles(window: int | None):
    inputs = small(length=150, batch=1, n_hashes=2, n_buckets=2, layout="packed")
    for causal in (True, False):
        compare(inputs, pattern="bucket", window=window, causal=causal, chunk_len=5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tiles_of_other_sizes_and_slabs_of_one_row(pattern: str, monkeypatch: pytest.MonkeyPatch):
    from reformer.ops.attention.triton import attention as engine
    from reformer.ops.attention.triton import blocks

    monkeypatch.setattr(engine, "SLAB_TOKENS", 1)
    inputs = small(length=50, n_hashes=3, layout="interleaved")
    for m, n in ((16, 64), (64, 16)):
        if DEVICE.type == "cpu":
            monkeypatch.setattr(blocks, "INTERPRETED", blocks.Blocks(m, n, 1, 1))
        compare(inputs, pattern=pattern, chunk_len=7, dropout_p=0.2, dropout_seed=1)


@pytest.mark.parametrize("only", ["out", "lse"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_either_output_alone_can_be_differentiated(pattern: str, only: str):
    inputs = small(length=20, layout="right")
    gradients = {}
    for impl, dtype in (("triton", torch.float32), ("reference", torch.float64)):
        qk, v = (x.to(dtype).requires_grad_() for x in (inputs.qk, inputs.v))
        out, lse = attention(inputs, impl, pattern=pattern, chunk_len=4)(qk, v)
        loss = out.square().sum() if only == "out" else torch.where(lse.isfinite(), lse, 0.0).square().sum()
        gradients[impl] = torch.autograd.grad(loss, [qk, v], allow_unused=True, materialize_grads=True)
    for found, reference in zip(*gradients.values()):
        torch.testing.assert_close(found.double(), reference, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", ["paper", "bucket"])
def test_a_pair_counts_once_in_however_many_rounds(pattern: str):
    inputs = small(length=30, n_hashes=1)
    repeated = LSHInputs(
        qk=inputs.qk, v=inputs.v, buckets=inputs.buckets.expand(-1, -1, 4, -1).contiguous(), segment_ids=None
    )
    once, often = (
        outputs_and_gradients(attention(x, pattern=pattern, chunk_len=8), x.qk.float(), x.v.float())
        for x in (inputs, repeated)
    )
    for name, value in once.items():
        torch.testing.assert_close(often[name], value)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_later_token_changes_no_earlier_output(pattern: str):
    inputs = small(length=50, n_hashes=3, layout="interleaved").to(torch.float32)
    run = attention(inputs, pattern=pattern, chunk_len=8)
    before = run(inputs.qk, inputs.v)
    for position in (1, 20, 49):
        changed = [torch.cat([x[:, :, :position], 3.0 - x[:, :, position:]], 2) for x in (inputs.qk, inputs.v)]
        for old, new in zip(before, run(*changed)):
            assert torch.equal(old[:, :, :position], new[:, :, :position])
            assert not torch.equal(old[:, :, position:], new[:, :, position:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_padding_holds_does_not_matter(pattern: str, dtype: torch.dtype):
    inputs = small(length=45, n_hashes=2, layout="left").to(dtype)
    padding = (inputs.segment_ids < 0)[:, None, :].expand(-1, 1, -1)
    run = attention(inputs, pattern=pattern, chunk_len=8)
    expected = outputs_and_gradients(run, inputs.qk, inputs.v)
    assert expected.pop("out1")[padding].eq(-math.inf).all()
    for fill in (0.0, -6e4, math.inf, math.nan):
        found = outputs_and_gradients(run, *(x.masked_fill(padding[..., None], fill) for x in (inputs.qk, inputs.v)))
        for name, value in expected.items():
            assert torch.equal(found[name], value), name
            assert found[name][padding].eq(0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_zero_and_tiny_vectors_give_finite_results(pattern: str, dtype: torch.dtype):
    inputs = small(length=30, layout="left", dtype=dtype)
    inputs.qk[:, :, ::3] = 0.0
    inputs.qk[:, :, 1::6] *= 1e-4  # 1 / ||q|| times a gradient is then beyond what float16 holds
    results = outputs_and_gradients(attention(inputs, pattern=pattern, chunk_len=8), inputs.qk, inputs.v * 40)
    results["grad0"][:, :, 1::6] = 0.0  # a tiny vector's own gradient is that large
    lse = results.pop("out1")
    assert torch.where((inputs.segment_ids >= 0)[:, None], lse, 0.0).isfinite().all()
    assert all(value.isfinite().all() for value in results.values())


def test_same_bytes_every_time():
    for pattern in PATTERNS:
        inputs = small(length=70, n_hashes=2, layout="left").to(torch.float32)
        run = attention(inputs, pattern=pattern, chunk_len=8, dropout_p=0.1, dropout_seed=4)
        first, again = (outputs_and_gradients(run, inputs.qk, inputs.v) for _ in range(2))
        assert all(torch.equal(again[name], value) for name, value in first.items())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_segments_whose_ids_differ_beyond_32_bits(pattern: str):
    inputs = small(length=33, layout="interleaved")
    large = torch.where(inputs.segment_ids == 9, 9 + 2**33, torch.where(inputs.segment_ids == 4, 9, -1))
    run = functools.partial(outputs_and_gradients, seed=0)
    usual, found = (
        run(
            attention(
                LSHInputs(qk=inputs.qk, v=inputs.v, buckets=inputs.buckets, segment_ids=ids),
                pattern=pattern,
                chunk_len=8,
            ),
            inputs.qk.float(),
            inputs.v.float(),
        )
        for ids in (inputs.segment_ids, large)
    )
    for name, value in usual.items():
        torch.testing.assert_close(found[name], value)


def test_says_why_it_cannot_serve():
    for dtype, width, facts in (
        (torch.float64, 64, ("no torch.float64", "convert to float32")),
        (torch.float32, 129, ("torch.float32 heads of size 1 to 128", "got 129")),
        (torch.bfloat16, 257, ("torch.bfloat16 heads of size 1 to 256", "got 257")),
    ):
        with refuses(ValueError, "impl='triton' cannot serve this request", *facts):
            choose_implementation("triton", DEVICE, dtype, width)
    with refuses(ValueError, "run on CUDA devices", "the tensors are on meta"):
        choose_implementation("triton", torch.device("meta"))


def test_without_the_interpreter_a_cpu_is_not_served(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(ValueError, "run on CUDA devices", "the tensors are on cpu"):
        choose_implementation("triton", torch.device("cpu"))
    assert choose_implementation("auto", torch.device("cpu")).name != "triton"


def test_a_reach_of_too_many_places_is_refused():
    inputs = small(length=10).to(torch.float32)
    with refuses(ValueError, "pattern='trax' looks over", "shorten the reach"):
        attention(inputs, pattern="trax", chunk_len=8, n_chunks_before=2**29)(inputs.qk, inputs.v)
