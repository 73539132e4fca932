"""Every number against loops over the definition's sets, in float64."""

import math

import pytest
import torch

from reformer.inspection import evenly_spaced, recall_by_rounds
from reformer.inspection import statistics as statistics_module
from reformer.inspection.statistics import attention_sums, distance_bin, n_distance_bins
from reformer.inspection.visibility import Visibility
from reformer.ops import Reach
from reformer.ops.keys import unit_keys
from reformer.testing import LAYOUTS, largest_tensor, lsh_inputs, places_seen, tokens_seen

TOP_K = (1, 3, 8)


def brute_force(q, k, segments, views, rows, *, causal, own):
    """``attention_sums`` of one head (q, k [L, D]) by loops; ``views``: for each view the Counter each token sees."""
    full = places_seen(segments, shared_qk=k is None, causal=causal, chunk_len=None)
    keys = unit_keys(q) if k is None else k
    logit = (q @ keys.t()).tolist()
    n_bins = n_distance_bins(len(q))
    sums = {"queries": 0, "keys": [0.0] * len(views), "mass": [0.0] * len(views)}
    sums |= {
        "top": [[0.0] * len(TOP_K) for _ in views],
        "distance_full": [0.0] * n_bins,
        "distance_own": [0.0] * n_bins,
    }
    for i in rows:
        if segments[i] < 0:
            continue
        sums["queries"] += 1
        mass = softmax({j: logit[i][j] for j in full[i]})
        best = sorted(full[i], key=lambda j: -logit[i][j])
        for j, share in mass.items():
            sums["distance_full"][bin_of(i - j)] += share
        for j, share in softmax({j: logit[i][j] + math.log(n) for j, n in views[own][i].items()}).items():
            sums["distance_own"][bin_of(i - j)] += share
        for v, seen in enumerate(views):
            sums["keys"][v] += len(set(seen[i]) & set(full[i])) / len(full[i])
            sums["mass"][v] += sum(share for j, share in mass.items() if j in seen[i])
            for n, k_ in enumerate(TOP_K):
                sums["top"][v][n] += sum(j in seen[i] for j in best[:k_]) / len(best[:k_])
    return sums


def softmax(logits):
    total = sum(math.exp(value) for value in logits.values())
    return {j: math.exp(value) / total for j, value in logits.items()}


def bin_of(distance):
    return 0 if distance == 0 else int(math.log2(abs(distance))) + 1


def assert_sums(got, expected, b, h):
    for name, value in expected.items():
        value = torch.tensor(value, dtype=torch.float64)
        torch.testing.assert_close(got[name][b, h], value, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("pattern", ["paper", "bucket", "trax"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 29])
def test_lsh_sums_are_those_of_the_definition(length, causal, pattern, monkeypatch):
    monkeypatch.setattr(statistics_module, "BLOCK_ENTRIES", 4 * length * 3)  # 3 queries a block
    options = {"chunk_len": 4, "pattern": pattern, "window": 4 if pattern == "bucket" else None}
    options |= {"n_chunks_before": 1, "n_chunks_after": 0 if causal or pattern == "bucket" else 1}
    rounds = (1, 3)
    for seed, layout in enumerate(LAYOUTS):
        inputs = lsh_inputs(length=length, n_hashes=3, layout=layout, seed=seed)
        segments = torch.zeros(2, length, dtype=torch.int64) if inputs.segment_ids is None else inputs.segment_ids
        rows = evenly_spaced(length, 20)
        seen = Visibility(Reach.lsh(causal=causal, **options), segments, inputs.buckets)
        got = attention_sums(inputs.qk, None, seen, rows, scale=1.0, rounds=rounds, own_rounds=3, top_k=TOP_K)
        for b in range(2):
            for h in range(2):
                row_segments, buckets = segments[b].tolist(), inputs.buckets[b, h].tolist()
                views = [tokens_seen(buckets[:r], row_segments, causal=causal, **options) for r in rounds]
                expected = brute_force(inputs.qk[b, h], None, row_segments, views, rows.tolist(), causal=causal, own=1)
                assert_sums(got, expected, b, h)
                same = {
                    (i, j)
                    for i in rows.tolist()
                    for j in range(length)
                    if (j < i if causal else j != i)
                    and row_segments[i] == row_segments[j] >= 0
                    and any(bucket[i] == bucket[j] for bucket in buckets)
                }
                assert got["same_bucket"][b, h] == len(same)
                assert got["same_bucket_seen"][b, h] == sum(j in views[1][i] for i, j in same)


@pytest.mark.parametrize("shared_qk", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_local_sums_are_those_of_the_definition(causal, shared_qk):
    length, options = 26, {"chunk_len": 5, "window": None, "n_chunks_before": 1, "n_chunks_after": int(not causal)}
    for layout in LAYOUTS:
        inputs, other = lsh_inputs(length=length, layout=layout, seed=3), lsh_inputs(length=length, seed=9)
        segments = torch.zeros(2, length, dtype=torch.int64) if inputs.segment_ids is None else inputs.segment_ids
        k, rows = None if shared_qk else other.qk, evenly_spaced(length, 11)
        who = {"causal": causal, "shared_qk": shared_qk}
        visibility = Visibility(Reach.local(**who, **options), segments)
        got = attention_sums(inputs.qk, k, visibility, rows, scale=1.0, top_k=TOP_K)
        for b in range(2):
            seen = [places_seen(segments[b].tolist(), **who, **options)]
            of_head = None if k is None else k[b, 1]
            expected = brute_force(
                inputs.qk[b, 1], of_head, segments[b].tolist(), seen, rows.tolist(), causal=causal, own=0
            )
            assert_sums(got, expected, b, 1)


def test_one_bucket_in_one_chunk_recalls_everything_and_more_rounds_never_less():
    inputs = lsh_inputs(length=40, n_hashes=4)
    whole = recall_by_rounds(inputs.qk, torch.zeros_like(inputs.buckets), Reach.lsh(chunk_len=40))
    for value in whole.values():
        torch.testing.assert_close(value, torch.ones_like(value))
    assert whole["top"].shape == (2, 2, 4, 3)
    part = recall_by_rounds(inputs.qk, inputs.buckets, Reach.lsh(chunk_len=4))
    assert (part["mass"].diff(dim=-1) >= 0).all() and (part["mass"][..., 0] < part["mass"][..., -1]).all()
    assert (part["mass"] < 1).all()
    asked = recall_by_rounds(inputs.qk, inputs.buckets, Reach.lsh(chunk_len=4), rounds=(2, 4))
    torch.testing.assert_close(asked["top"], part["top"][:, :, [1, 3]])


@pytest.mark.parametrize("rounds", [(), (0, 1), (2, 1), (1, 1), (1, 5)])
def test_rounds_must_rise_within_the_buckets(rounds):
    inputs = lsh_inputs(length=8, n_hashes=4)
    with pytest.raises(ValueError, match="rising numbers from 1 to 4"):
        recall_by_rounds(inputs.qk, inputs.buckets, Reach.lsh(chunk_len=4), rounds=rounds)


def test_distance_bins_and_sampled_queries():
    assert distance_bin(torch.tensor([0, 1, 2, 3, 4, 7, 8, -1, -8, 2**30])).tolist() == [0, 1, 2, 2, 3, 3, 4, 1, 4, 31]
    assert [n_distance_bins(length) for length in (1, 2, 3, 4, 5, 4096, 4097)] == [1, 2, 3, 3, 4, 13, 14]
    assert evenly_spaced(10, 5).tolist() == [1, 3, 5, 7, 9]
    assert evenly_spaced(3, 9).tolist() == [0, 1, 2]
    assert evenly_spaced(4096, 1000)[-1] == 4095


def test_no_tensor_grows_with_the_square_of_the_length(monkeypatch):
    monkeypatch.setattr(statistics_module, "BLOCK_ENTRIES", 2**14)
    largest = {}
    for length in (1024, 4096):
        inputs = lsh_inputs(batch=1, heads=1, length=length, n_buckets=64, dtype=torch.float32)
        largest[length] = largest_tensor(
            recall_by_rounds, inputs.qk, inputs.buckets, Reach.lsh(chunk_len=16), n_queries=64
        )
    assert largest[4096] <= 4 * largest[1024]
