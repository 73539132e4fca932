"""The sets of sampled queries are the definitions', row for row."""

import pytest
import torch

from reformer.inspection.visibility import Visibility, full_visible
from reformer.ops import Reach
from reformer.ops.attention.reference import visible_counts
from reformer.testing import LAYOUTS, lsh_inputs, places_seen

PATTERNS = {
    "paper": {"pattern": "paper", "window": None, "n_chunks_before": 1, "n_chunks_after": 0},
    "paper, both sides": {"pattern": "paper", "window": None, "n_chunks_before": 1, "n_chunks_after": 1},
    "paper, own chunk": {"pattern": "paper", "window": None, "n_chunks_before": 0, "n_chunks_after": 0},
    "bucket": {"pattern": "bucket", "window": None, "n_chunks_before": 1, "n_chunks_after": 0},
    "bucket, window": {"pattern": "bucket", "window": 3, "n_chunks_before": 1, "n_chunks_after": 0},
    "trax": {"pattern": "trax", "window": None, "n_chunks_before": 1, "n_chunks_after": 0},
    "trax, both sides": {"pattern": "trax", "window": None, "n_chunks_before": 1, "n_chunks_after": 1},
}


def segments_of(inputs, length):
    return inputs.segment_ids if inputs.segment_ids is not None else torch.zeros(2, length, dtype=torch.int64)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 2, 37])
def test_lsh_sees_what_the_definition_says_after_any_number_of_rounds(length, causal, pattern):
    for layout in LAYOUTS:
        inputs = lsh_inputs(length=length, n_hashes=4, layout=layout, seed=length)
        segments, options = segments_of(inputs, length), {"chunk_len": 5, "causal": causal, **PATTERNS[pattern]}
        rows, reach = torch.arange(0, length, 2), Reach.lsh(**options)
        seen = Visibility(reach, segments, inputs.buckets)
        rounds = (1, 2, 4)
        for r, counts in zip(rounds, seen.counts(rows, rounds), strict=True):
            expected = visible_counts(inputs.buckets[:, :, :r], segments, reach)
            # How often the lone token of a softmax counts changes nothing; here it counts once.
            expected.diagonal(dim1=-2, dim2=-1).clamp_(max=1)
            assert torch.equal(counts.long(), expected[:, :, rows]), (layout, r)


@pytest.mark.parametrize("causal", [True, False])
def test_same_bucket_pairs_are_those_of_one_chunk_that_holds_everything(causal):
    for layout in LAYOUTS:
        inputs = lsh_inputs(length=31, n_hashes=3, layout=layout)
        segments, rows = segments_of(inputs, 31), torch.tensor([0, 7, 30])
        whole = {"chunk_len": 31, "causal": causal, **PATTERNS["paper"]}
        expected = visible_counts(inputs.buckets[:, :, :2], segments, Reach.lsh(**whole)).bool()
        expected &= ~torch.eye(31, dtype=torch.bool)
        seen = Visibility(Reach.lsh(**{**whole, "chunk_len": 4}), segments, inputs.buckets)
        assert torch.equal(seen.same_bucket(rows, 2), expected[:, :, rows])


@pytest.mark.parametrize("shared_qk", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"chunk_len": 4, "window": None, "n_chunks_before": 1, "n_chunks_after": 0},
        {"chunk_len": 3, "window": None, "n_chunks_before": 0, "n_chunks_after": 2},
        {"chunk_len": None, "window": 5, "n_chunks_before": 1, "n_chunks_after": 0},
        {"chunk_len": 4, "window": None, "n_chunks_before": 1, "n_chunks_after": 1, "wrap": True},
        None,
    ],
)
def test_local_and_full_see_what_the_oracle_says(options, causal, shared_qk):
    length = 23
    for layout in LAYOUTS:
        segments = segments_of(lsh_inputs(length=length, layout=layout), length)
        rows = torch.arange(1, length, 3)
        if options is None:
            got = full_visible(segments, rows, causal=causal, shared_qk=shared_qk)
            (as_reach,) = Visibility(Reach.full(shared_qk=shared_qk, causal=causal), segments).counts(rows)
            assert torch.equal(as_reach, got)
        else:
            (got,) = Visibility(Reach.local(shared_qk=shared_qk, causal=causal, **options), segments).counts(rows)
        cut = options or {"chunk_len": None, "window": None}
        for b in range(2):
            expected = places_seen(segments[b].tolist(), shared_qk=shared_qk, causal=causal, **cut)
            for place, i in enumerate(rows.tolist()):
                assert set(got[b, 0, place].nonzero().flatten().tolist()) == set(expected[i]), (layout, b, i)
