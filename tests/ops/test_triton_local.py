"""Local attention by the Triton kernels equals the definition."""

import itertools

import pytest
import torch

from reformer.ops import local_attention
from reformer.testing import LAYOUTS, assert_close_to_float64, exact_normal, outputs_and_gradients, segment_layout

pytestmark = pytest.mark.usefixtures("triton_kernels")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def vectors(length: int, *, shared: bool, batch: int = 2, D: int = 5, E: int = 3, seed: int = 0):
    """(q, v) for shared QK, or (q, v, k)."""
    q = exact_normal(batch, 2, length, D, seed=seed)
    v = exact_normal(batch, 2, length, E, seed=seed + 2)
    return (q, v) if shared else (q, v, exact_normal(batch, 2, length, D, seed=seed + 1))


def attention(impl: str = "triton", segment_ids: torch.Tensor | None = None, **options):
    device = DEVICE if impl == "triton" else torch.device("cpu")
    segments = None if segment_ids is None else segment_ids.to(device)

    def function(q, v, k=None):
        q, k, v = (None if x is None else x.to(device) for x in (q, k, v))
        return tuple(
            y.cpu() for y in local_attention(q, k, v, segment_ids=segments, return_lse=True, impl=impl, **options)
        )

    return function


def compare(tensors, dtype: torch.dtype = torch.float32, **options) -> None:
    _, lse = attention("reference", **options)(*tensors)
    assert_close_to_float64(attention(**options), attention("reference", **options), tensors, dtype, lse=lse)


@pytest.mark.parametrize(
    "reach",
    [{"chunk_len": 4}, {"chunk_len": 3, "n_chunks_before": 2, "n_chunks_after": 3}, {"chunk_len": 40}, {"window": 7}],
    ids=str,
)
@pytest.mark.parametrize("shared", [True, False])
def test_equals_the_definition(shared: bool, reach: dict):
    for causal, length in itertools.product((True, False), (1, 2, 50)):
        compare(vectors(length, shared=shared, batch=1), causal=causal, **reach)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shared", [True, False])
def test_equals_the_definition_with_segments_and_dropout(shared: bool, layout: str):
    for causal, reach in ((True, {"chunk_len": 8}), (False, {"window": 9})):
        segments = segment_layout(layout, 2, 37)
        compare(
            vectors(37, shared=shared), segment_ids=segments, causal=causal, dropout_p=0.25, dropout_seed=6, **reach
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shared", [True, False])
def test_is_as_exact_as_the_definition_in_its_type(shared: bool, dtype: torch.dtype):
    for causal, reach in ((True, {"chunk_len": 16}), (False, {"window": 20})):
        segments = segment_layout("interleaved", 1, 80)
        compare(vectors(80, shared=shared, batch=1, D=16, E=8), dtype, causal=causal, segment_ids=segments, **reach)


@pytest.mark.parametrize("shared", [True, False])
def test_what_padding_holds_does_not_matter_and_zeros_are_fine(shared: bool):
    ids = segment_layout("left", 2, 30)
    padding = (ids < 0)[:, None, :, None]
    for zeros in (0, 4):
        results = []
        for fill in (0.0, -1e4, float("inf")):
            tensors = [x.float().masked_fill(padding, fill) for x in vectors(30, shared=shared)]
            tensors[0][:, :, 30 - zeros :] = 0.0
            if shared and fill == float("inf"):
                continue  # its keys are made outside of the kernel
            results.append(outputs_and_gradients(attention(segment_ids=ids, chunk_len=8), *tensors))
        for name, value in results[0].items():
            assert name == "out1" or value.isfinite().all()
            for found in results[1:]:
                assert torch.equal(found[name], value)
