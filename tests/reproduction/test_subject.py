"""Each contender computes what it is said to compute, on the shape it is asked for."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from reformer.ops import full_attention, local_attention
from reproduction.benchmarks.attention import DIRECTIONS, AttentionSubject
from reproduction.benchmarks.benchmark import pick_device, require_bfloat16
from reproduction.benchmarks.contenders import ATTENTION, require_present
from reproduction.benchmarks.operations import Inputs, Shape
from reproduction.case import NotRun

SHAPE = Shape(batch=2, seq_len=128, n_heads=2, head_dim=16, dtype="float32", n_hashes=2, chunk_len=32)


def operation(name, shape=SHAPE):
    subject = AttentionSubject(name, "cpu", 1)
    return subject.operation(shape.as_seen_by(ATTENTION[name].depends_on))


@pytest.mark.parametrize("name", [name for name, contender in ATTENTION.items() if not contender.cuda_only])
def test_every_contender_runs_forward_and_backward(name):
    try:
        require_present(name, "cpu", "float32", 16)
    except NotRun as reason:
        pytest.skip(str(reason))
    subject = AttentionSubject(name, "cpu", 1)
    shape = SHAPE.as_seen_by(ATTENTION[name].depends_on)
    for direction in DIRECTIONS:
        assert subject.time(shape, direction) > 0
    gradients = subject.call(shape, "forward+backward")()
    assert all(gradient.isfinite().all() for gradient in gradients)
    # The input's at least: peers' layers have weights that share nothing with ours.
    assert gradients[0].abs().sum() > 0


def test_ours_includes_hashing_and_full_attention_is_causal():
    ours, full = operation("reformer"), operation("sdpa")
    assert require_present("reformer", "cpu", "float32", 16) in ("eager", "native")
    assert require_present("sdpa", "cpu", "float32", 16) == ""
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
    first = subject.operation(SHAPE)
    other_rounds = subject.operation(dataclasses.replace(SHAPE, n_hashes=4))
    assert first.leaves[0] is other_rounds.leaves[0]
    longer = subject.operation(dataclasses.replace(SHAPE, seq_len=256))
    assert longer.leaves[0].shape[2] == 256
    # The shorter ones were let go.
    assert subject.operation(SHAPE).leaves[0] is not first.leaves[0]


def test_inputs_do_not_depend_on_who_asks():
    assert torch.equal(Inputs(SHAPE, "cpu").heads(1)[0], Inputs(SHAPE, "cpu").heads(2)[0])
    assert not torch.equal(*Inputs(SHAPE, "cpu").heads(2))


def test_memory_beyond_results_is_less_than_in_all():
    subject = AttentionSubject("sdpa", "cpu", 1)
    shape = dataclasses.replace(SHAPE, seq_len=4096, head_dim=64).as_seen_by(())
    found = subject.memory(shape, "forward+backward")
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
    monkeypatch.setattr(Path, "read_text", lambda path: "flags: fpu avx2")
    with pytest.raises(NotRun, match="no bf16 units"):
        require_bfloat16("cpu")
    monkeypatch.setattr(Path, "read_text", lambda path: "flags: fpu avx512_bf16")
    require_bfloat16("cpu")
