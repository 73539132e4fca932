"""Memory is linear in the length and does not multiply with the rounds (invariant 4, design "Implementations")."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from reformer.ops import PATTERNS, Reach, hashing, lsh_attention, random_rotations, sort_by_bucket
from reformer.ops.attention.eager import attention as eager
from reformer.ops.attention.eager import plan, tile
from reformer.ops.attention.native import attention as native
from reformer.ops.attention.reach import Request
from reformer.testing import all_tensors, exact_normal, largest_tensor, lsh_inputs

from .helpers import needs_native

WIDTH, CHUNK, BYTES = 16, 16, 4


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    # The fixed working set of a slab would hide what grows with the length at these sizes.
    monkeypatch.setitem(tile.SLAB_ELEMENTS, "cpu", 2**11)


def lsh_memory(
    measure: Callable[..., int], module: ModuleType, length: int, pattern: str, n_hashes: int, width: int = WIDTH
) -> tuple[int, int]:
    """What ``measure`` says of the forward and of the backward pass of an implementation."""
    # As many buckets as chunks, as for hashed vectors.
    inputs = lsh_inputs(
        batch=1, heads=1, length=length, head_dim=width, value_dim=width, n_hashes=n_hashes,
        n_buckets=length // CHUNK, dtype=torch.float32,
    )  # fmt: skip
    order, reach = sort_by_bucket(inputs.buckets), Reach.lsh(chunk_len=CHUNK, pattern=pattern)
    request = Request(inputs.qk, None, inputs.v, inputs.buckets, order, None, reach, 1.0, None)
    return forward_and_backward(measure, module, request)


def forward_and_backward(measure: Callable[..., int], module: ModuleType, request: Request) -> tuple[int, int]:
    """What ``measure`` says of the forward and of the backward pass of an engine."""
    out, lse, alone = module.forward(request)
    rows = request.q.shape[:3]
    results = out.view(request.v.shape), lse.view(rows), alone.view(rows)
    grads = torch.ones_like(results[0]), torch.ones_like(results[1])
    return measure(module.forward, request), measure(module.backward, request, *grads, *results)


def lsh_largest(length: int, pattern: str, n_hashes: int) -> tuple[int, int]:
    """Bytes of the largest tensor of the eager forward and backward pass."""
    return lsh_memory(largest_tensor, eager, length, pattern, n_hashes)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_lsh_attention_is_linear_in_the_length(pattern: str):
    length, n_hashes = 512, 4
    short, long = lsh_largest(length, pattern, n_hashes), lsh_largest(4 * length, pattern, n_hashes)
    for small, large in zip(short, long):
        assert large <= 4.2 * small
        # int64 orders of all rounds, and a few vectors a token; in "trax" the output of each round until it is merged.
        vectors = 4 + (n_hashes if pattern == "trax" else 0)
        assert large <= 4 * length * (8 * n_hashes + vectors * WIDTH * BYTES)
        assert large < (4 * length) ** 2 * BYTES / 10


@pytest.mark.parametrize("pattern", ["paper", "bucket"])
def test_lsh_attention_copies_no_vectors_per_round(pattern: str):
    length, n_hashes = 512, 8
    # Only the integers of the order grow with the rounds: a vector a token and round would be 8 times the bytes.
    assert max(lsh_largest(length, pattern, n_hashes)) <= max(length * WIDTH * BYTES * 2, length * n_hashes * 8)


@needs_native
@pytest.mark.parametrize("pattern", PATTERNS)
def test_native_makes_little_beside_outputs_and_gradients(pattern: str):
    # The scratch memory of a thread, some 300 kB, is not torch's and does not depend on the length.
    length, n_hashes, width = 2048, 8, 64
    vectors = length * width * BYTES
    forward, backward = lsh_memory(all_tensors, native, length, pattern, n_hashes, width)
    assert forward - vectors <= vectors
    assert backward - 2 * vectors <= vectors
    doubled = lsh_memory(all_tensors, native, 2 * length, pattern, n_hashes, width)
    assert doubled[0] <= 2.01 * forward and doubled[1] <= 2.01 * backward


def test_the_measure_sees_all_that_was_made():
    x = torch.zeros(1000)
    # Two tensors of 4000 bytes, one freed before the other is made, and their sums; the argument and its views are none.
    assert all_tensors(lambda x: [(x + n).sum() for n in range(2)], x) == 2 * (4000 + 4)
    assert all_tensors(lambda x: x[1:].view(-1).mul_(2), x) == 0


def test_the_measure_sees_a_square():
    length = 256
    inputs = lsh_inputs(batch=1, heads=1, length=length, dtype=torch.float32)
    found = largest_tensor(lsh_attention, inputs.qk, inputs.v, inputs.buckets, chunk_len=CHUNK, impl="reference")
    assert found >= length**2 * BYTES


REACHES = {
    "chunks": Reach.local(shared_qk=False, chunk_len=CHUNK),
    "window": Reach.local(shared_qk=False, window=CHUNK),
    "full": Reach.full(shared_qk=False),
}


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
def test_local_and_full_attention_are_linear_in_the_length(reach: Reach, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "USUAL_TILE", CHUNK)

    def largest(length: int) -> int:
        q, k, v = (exact_normal(1, 1, length, WIDTH, seed=n, dtype=torch.float32) for n in range(3))
        return max(forward_and_backward(largest_tensor, eager, Request(q, k, v, None, None, None, reach, 1.0, None)))

    short, long = largest(512), largest(2048)
    assert long <= 4.2 * short
    assert long <= 2048 * 4 * WIDTH * BYTES


def test_hashing_never_holds_all_rotated_vectors(monkeypatch: pytest.MonkeyPatch):
    length, n_hashes, n_buckets = 2048, 4, 128
    monkeypatch.setattr(hashing, "SLICE_ELEMENTS", 2**14)
    x = exact_normal(1, 1, length, WIDTH, dtype=torch.float32)
    rotations = random_rotations(WIDTH, n_hashes=n_hashes, n_buckets=n_buckets, n_heads=1)
    found = largest_tensor(hashing.hash_by_slices, x, rotations, [n_buckets])
    assert found <= max(length * n_hashes * 8, 2**14 * 8, x.numel() * BYTES)
    assert found < length * n_hashes * n_buckets // 2 * BYTES / 8


def test_a_long_sequence_of_many_rounds_runs():
    # 16,384 tokens: one [L, L] tensor of a head would be 1 GB.
    assert max(lsh_largest(2**14, "paper", 2)) <= 2**14 * WIDTH * BYTES * 2
