"""Each contender computes what it is said to compute, on the shape it is asked for."""

import dataclasses
from importlib.util import find_spec

import pytest
import torch

from reformer.bench.case import Case, Inputs
from reformer.bench.contenders import ATTENTION, absence, bfloat16_obstacle, pick_device
from reformer.bench.subject import DIRECTIONS, AttentionSubject
from reformer.ops import full_attention, local_attention

CASE = Case(batch=2, seq_len=128, n_heads=2, head_dim=16, dtype="float32", n_hashes=2, chunk_len=32)
HERE = [name for name in ATTENTION if absence(name, "cpu", "float32", 16) is None]


def operation(name, case=CASE):
    subject = AttentionSubject(name, "cpu", 1)
    return subject._operation(case.as_seen_by(ATTENTION[name].depends_on))


@pytest.mark.parametrize("name", [name for name, contender in ATTENTION.items() if not contender.cuda_only])
def test_every_contender_runs_forward_and_backward(name):
    reason = absence(name, "cpu", "float32", 16)
    if reason is not None:
        pytest.skip(reason)
    subject = AttentionSubject(name, "cpu", 1)
    case = dataclasses.asdict(CASE.as_seen_by(ATTENTION[name].depends_on))
    for direction in DIRECTIONS:
        assert subject.time(case, direction) > 0
    gradients = subject._call(CASE.as_seen_by(ATTENTION[name].depends_on), "forward+backward")()
    assert all(gradient.isfinite().all() for gradient in gradients)
    # The input's at least: peers' layers have weights that share nothing with ours.
    assert gradients[0].abs().sum() > 0


def test_ours_includes_hashing_and_full_attention_is_causal():
    ours, full = operation("reformer"), operation("sdpa")
    assert ours.runs == "eager" or ours.runs == "native"
    out = ours.call(*ours.leaves)
    assert out.shape == ours.leaves[0].shape
    # One bucket's worth of rounds: with a single chunk LSH attention of shared qk is nearly full attention.
    q, k, v = full.leaves
    later = v.clone()
    later[:, :, 64:] = 0
    assert torch.equal(full.call(q, k, later)[:, :, :64], full.call(q, k, v)[:, :, :64])
    assert torch.allclose(full.call(q, k, v), full_attention(q, k, v), atol=1e-5)


def test_local_attention_is_that_of_the_op():
    local = operation("reformer-local")
    assert torch.equal(local.call(*local.leaves), local_attention(*local.leaves, chunk_len=32))


def test_transformers_is_timed_without_its_projections():
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    found = operation("transformers")
    torch.manual_seed(0)
    out = found.call(*found.leaves)
    assert out.shape == (2, 128, 32)
    torch.manual_seed(0)
    # Values go in as they are: twice the values, twice the output.
    assert torch.allclose(found.call(found.leaves[0], 2 * found.leaves[1]), 2 * out, atol=1e-5)


def test_inputs_are_shared_within_a_shape_and_dropped_after_it():
    subject = AttentionSubject("reformer", "cpu", 1)
    first = subject._operation(CASE)
    other_rounds = subject._operation(dataclasses.replace(CASE, n_hashes=4))
    assert first.leaves[0] is other_rounds.leaves[0]
    longer = subject._operation(dataclasses.replace(CASE, seq_len=256))
    assert longer.leaves[0].shape[2] == 256
    assert len(subject._operations) == 1


def test_inputs_do_not_depend_on_who_asks():
    assert torch.equal(Inputs(CASE, "cpu").heads(1), Inputs(CASE, "cpu").heads(1))
    assert not torch.equal(Inputs(CASE, "cpu").heads(1), Inputs(CASE, "cpu").heads(0))


def test_memory_beyond_results_is_less_than_in_all():
    subject = AttentionSubject("sdpa", "cpu", 1)
    case = dataclasses.asdict(dataclasses.replace(CASE, seq_len=4096, head_dim=64).as_seen_by(()))
    found = subject.memory(case, "forward+backward")
    results = 4 * (2 * 2 * 4096 * 64 * 4)
    assert found["peak_bytes"] >= results / 2
    assert found["extra_bytes"] == max(found["peak_bytes"] - results, 0)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(ValueError, match="no CUDA device"):
        pick_device("cuda")
    with pytest.raises(ValueError, match="auto, cpu or cuda, got 'gpu'"):
        pick_device("gpu")
    assert bfloat16_obstacle("cpu") in (None, "no bf16 units")
