"""The fused hash of the Triton kernels gives the buckets of the plain one."""

import pytest
import torch

from reformer.ops import bucket_factors, hash_vectors, random_rotations
from reformer.testing import exact_normal

pytestmark = pytest.mark.usefixtures("triton_kernels")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def integers(*shape: int, seed: int) -> torch.Tensor:
    """Small integers: every product and sum is exact in float32, in whatever order it is taken."""
    return (exact_normal(*shape, seed=seed, dtype=torch.float32) * 2).round()


def hashed(x: torch.Tensor, rotations: torch.Tensor, n_buckets) -> torch.Tensor:
    return hash_vectors(x.to(DEVICE), rotations.to(DEVICE), n_buckets).cpu()


@pytest.mark.parametrize("n_buckets", [2, 8, (2, 4), (4, 2, 6), (90, 6)])
def test_equals_the_plain_hash_ties_included(n_buckets):
    # 45 columns are two blocks of 32 in the interpreter, where a tie may lie across blocks.
    x = integers(2, 2, 37, 5, seed=1)
    rotations = integers(2, 5, 2, sum(bucket_factors(n_buckets)) // 2, seed=2)
    expected = hash_vectors(x.double(), rotations, n_buckets)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(hashed(x.to(dtype), rotations, n_buckets), expected)


def test_ties_go_to_the_lower_index():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    rotations = torch.stack([a, b, b, -a], dim=-1).view(1, 2, 1, 4)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    assert hashed(x.view(1, 1, 6, 2), rotations, 8).flatten().tolist() == [0, 3, 1, 5, 0, 0]


def test_half_precision_is_hashed_in_float32():
    x = torch.randn(1, 2, 60, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    rotations = random_rotations(16, n_hashes=2, n_buckets=64, n_heads=2, generator=torch.Generator().manual_seed(1))
    expected = hash_vectors(x.double(), rotations.double(), 64)
    # A sum in another order may decide a near tie differently, of these it does not.
    assert torch.equal(hashed(x, rotations, 64), expected)
