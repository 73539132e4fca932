"""The tables that the Triton kernels make in one pass are those of the plan in plain PyTorch."""

import pytest
import torch

from reformer.ops import Reach, sort_by_bucket
from reformer.ops.attention.eager.plan import interval_plan
from reformer.testing import segment_layout

pytestmark = pytest.mark.usefixtures("triton_kernels")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
B, H, R = 2, 2, 2
PATTERNS = {
    "chunks": {"chunk_len": 8, "n_chunks_before": 1, "n_chunks_after": 0},
    "chunks both ways": {"chunk_len": 3, "n_chunks_before": 2, "n_chunks_after": 4},
    "own chunk": {"chunk_len": 5, "n_chunks_before": 0, "n_chunks_after": 0},
    "far beyond the input": {"chunk_len": 1000, "n_chunks_before": 2**30, "n_chunks_after": 2**30},
    "window": {"chunk_len": None, "window": 4},
    "wide window": {"chunk_len": None, "window": 2**30},
    "whole bucket": {"chunk_len": None, "window": None},
}


def reach_of(*, buckets: bool, causal: bool, exclude_self: bool, options: dict) -> Reach:
    """Any reach of intervals, also those that no public function asks for."""
    by_bucket = "paper" if options["chunk_len"] else "bucket"
    usual = {"window": None, "n_chunks_before": 1, "n_chunks_after": 0, "wrap": False}
    pattern = by_bucket if buckets else "position"
    return Reach(**{**usual, **options}, pattern=pattern, causal=causal, exclude_self=exclude_self)


def plan_by_torch(order, bucket, segments, reach):
    """(coded order, rank, start, end, first_seer, last_seer) of rows, as ``interval_plan`` gives them."""
    from reformer.ops.attention.triton.plan import STEP

    plan = interval_plan(order, bucket, segments, reach, tile=STEP)
    assert plan.start_NRL is not None and plan.end_NRL is not None
    real = torch.ones_like(order[:, 0], dtype=torch.bool) if segments is None else segments >= 0
    is_real = real[:, None].expand_as(order).gather(-1, order)
    length = order.shape[-1]
    start, end = (x.gather(-1, order).masked_fill(~is_real, length) for x in (plan.start_NRL, plan.end_NRL))
    edges = torch.arange(0, length + STEP, STEP, dtype=torch.int32).expand(*order.shape[:2], -1).contiguous()
    coded = torch.where(is_real, order, -1 - order)
    n_real = is_real.sum(-1, keepdim=True)
    first, last = torch.searchsorted(end, edges, right=True), torch.searchsorted(start, edges)
    # Padding sees nothing, wherever it is cut off.
    return coded, plan.rank_NRL, plan.start_NRL, plan.end_NRL, first.minimum(n_real), last.minimum(n_real)


def test_rows_of_several_tiles():
    from reformer.ops.attention.triton.plan import interval_tables, seer_tables

    length, reach = 5000, Reach.lsh(chunk_len=64)
    bucket = torch.randint(0, 150, (1, 1, 1, length), generator=torch.Generator().manual_seed(0))
    order = sort_by_bucket(bucket).flatten(0, 1)
    tables = interval_tables(
        order.to(DEVICE), bucket[0].to(DEVICE), None, reach, slice(0, 1), 1, length=length, device=DEVICE
    )
    found = (tables.order_NRP, tables.rank_NRL, tables.start_NRL, tables.end_NRL, *seer_tables(tables))
    for ours, theirs in zip(found, plan_by_torch(order, bucket[0], None, reach)):
        assert torch.equal(ours.cpu().long(), theirs.long())


@pytest.mark.parametrize("layout", ["none", "interleaved"])
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("buckets", [True, False])
def test_tables_equal_the_plan_in_torch(name: str, layout: str, buckets: bool):
    from reformer.ops.attention.triton.plan import interval_tables, seer_tables

    for length in (70,) if DEVICE.type == "cpu" else (1, 16, 70, 300):
        generator = torch.Generator().manual_seed(length)
        segments = segment_layout(layout, B, length)
        rows = slice(1, B * H - 1)  # a slab that begins within the first sequence
        row_segments = None if segments is None else segments.repeat_interleave(H, 0)[rows]
        bucket = torch.randint(0, 6, (B, H, R, length), generator=generator)
        wide = 2**32 if layout == "none" else 1  # buckets that differ beyond 32 bits alone
        if buckets:
            order = sort_by_bucket(bucket, segments).flatten(0, 1)[rows].contiguous()
            row_bucket, n_rounds = bucket.flatten(0, 1)[rows].contiguous(), R
        else:
            zeros = torch.zeros(B, H, 1, length, dtype=torch.int64)
            order, row_bucket, n_rounds = sort_by_bucket(zeros, segments).flatten(0, 1)[rows].contiguous(), None, 1
        for number, (causal, exclude_self) in enumerate(((True, True), (False, True), (True, False))):
            reach = reach_of(buckets=buckets, causal=causal, exclude_self=exclude_self, options=PATTERNS[name])
            expected = plan_by_torch(order, row_bucket, row_segments, reach)
            dtype = (torch.int32, torch.int64)[number % 2]
            tables = interval_tables(
                None if segments is None and not buckets else order.to(DEVICE, dtype),
                None
                if row_bucket is None
                else (row_bucket * wide if dtype == torch.int64 else row_bucket).to(DEVICE, dtype),
                None if segments is None else segments.to(DEVICE),
                reach,
                rows,
                H,
                length=length,
                device=DEVICE,
            )
            found = (tables.order_NRP, tables.rank_NRL, tables.start_NRL, tables.end_NRL, *seer_tables(tables))
            assert found[0].shape == (rows.stop - rows.start, n_rounds, length)
            n_real = (found[0].cpu() >= 0).sum(-1, keepdim=True)
            for index, (ours, theirs) in enumerate(zip(found, expected)):
                ours = ours.cpu().long().minimum(n_real) if index > 3 else ours.cpu().long()
                assert torch.equal(ours, theirs.long()), (name, length, causal, exclude_self, index)
