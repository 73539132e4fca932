import itertools
import math
from collections.abc import Callable

import pytest
import torch

from reformer.ops import (
    automatic_n_buckets,
    bucket_factors,
    hash_vectors,
    hashing,
    places_in_segments,
    random_rotations,
    seeded_buckets,
    sort_by_bucket,
)
from reformer.ops.attention.native import hashing as native_hashing
from reformer.ops.hashing import hash_by_slices, sort_by_torch
from reformer.testing import LAYOUTS, exact_normal, segment_layout

from .helpers import needs_native, refuses


def test_rotations_have_the_shape_and_moments_of_normal_numbers():
    rotations = random_rotations(
        64, n_hashes=8, n_buckets=(16, 6), n_heads=4, generator=torch.Generator().manual_seed(0)
    )
    assert rotations.shape == (4, 64, 8, 11)
    assert rotations.dtype == torch.float32
    n = rotations.numel()
    values = rotations.double().flatten()
    assert abs(float(values.mean())) < 5 / math.sqrt(n)
    assert abs(float(values.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float(values.pow(4).mean()) - 3) < 5 * math.sqrt(96 / n)


def test_rotations_follow_the_generator_alone():
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return random_rotations(4, n_hashes=2, n_buckets=6, n_heads=3, generator=generator)

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = draw(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(draw(5), first)
    assert not torch.equal(draw(6), first)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n_buckets", [2, 8, (2, 4), (4, 2, 6)])
def test_hash_is_the_argmax_of_the_rotated_vector_and_its_negative(n_buckets, dtype: torch.dtype):
    factors = bucket_factors(n_buckets)
    B, H, L, D, R = 2, 3, 37, 5, 4
    # Products of two bfloat16 numbers are exact in float32; no two sums here are as near as its roundings.
    x = exact_normal(B, H, L, D, seed=1, dtype=dtype)
    rotations = exact_normal(H, D, R, sum(factors) // 2, seed=2, dtype=dtype)
    vectors, matrices = x.tolist(), rotations.tolist()
    buckets = hash_vectors(x, rotations, n_buckets)
    assert buckets.shape == (B, H, R, L) and buckets.dtype == torch.int64
    for b, h, r, i in itertools.product(range(B), range(H), range(R), range(L)):
        expected, stride, first = 0, 1, 0
        for factor in factors:
            columns = range(first, first + factor // 2)
            rotated = [sum(vectors[b][h][i][d] * matrices[h][d][r][c] for d in range(D)) for c in columns]
            candidates = rotated + [-value for value in rotated]
            expected += stride * candidates.index(max(candidates))
            stride, first = stride * factor, first + factor // 2
        assert int(buckets[b, h, r, i]) == expected
    assert buckets.unique().numel() > min(6, math.prod(factors) // 2)


def test_zero_vectors_go_to_bucket_zero():
    rotations = random_rotations(3, n_hashes=2, n_buckets=(4, 6), n_heads=1)
    assert hash_vectors(torch.zeros(1, 1, 5, 3), rotations, (4, 6)).eq(0).all()


def test_ties_go_to_the_lower_index():
    # Columns 1 and 2 are the same; column 3 is the negative of column 0, so index 3 ties with 4 + 0, and 0 with 4 + 3.
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    rotations = torch.stack([a, b, b, -a], dim=-1).view(1, 2, 1, 4)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        found = hash_vectors(x.view(1, 1, 6, 2).to(dtype), rotations, 8)
        assert found.flatten().tolist() == [0, 3, 1, 5, 0, 0]


def test_opposite_vectors_are_half_the_buckets_apart():
    x = exact_normal(1, 2, 50, 6)
    rotations = random_rotations(6, n_hashes=3, n_buckets=10, n_heads=2)
    there, back = (hash_vectors(y, rotations, 10) for y in (x, -x))
    assert torch.equal((there + 5) % 10, back)


def test_hash_does_not_depend_on_length_of_the_vector():
    x = exact_normal(1, 1, 80, 6)
    rotations = random_rotations(6, n_hashes=3, n_buckets=16, n_heads=1)
    assert torch.equal(hash_vectors(x, rotations, 16), hash_vectors(x * 4, rotations, 16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_hashed_in_float32(dtype: torch.dtype):
    x = torch.randn(2, 2, 400, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    rotations = random_rotations(16, n_hashes=4, n_buckets=64, n_heads=2, generator=torch.Generator().manual_seed(1))
    expected = hash_vectors(x.float(), rotations, 64)
    assert torch.equal(hash_vectors(x, rotations, 64), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(hash_vectors(x.float(), rotations, 64), expected)
    # The test can tell: a product in half precision hashes some of these elsewhere.
    rotated = torch.einsum("bhld,hdrc->bhrlc", x, rotations.to(dtype))
    assert not torch.equal(torch.cat([rotated, -rotated], -1).argmax(-1), expected)


@pytest.mark.parametrize("elements", [1, 50, 1000])
def test_slicing_does_not_change_the_hash(elements: int, monkeypatch: pytest.MonkeyPatch):
    x = exact_normal(2, 2, 101, 6)
    rotations = exact_normal(2, 6, 3, 5, seed=3)
    whole = hash_vectors(x, rotations, (6, 4))
    monkeypatch.setattr(hashing, "SLICE_ELEMENTS", elements)
    assert torch.equal(hash_vectors(x, rotations, (6, 4)), whole)


def test_buckets_are_constants_for_the_gradient():
    x = torch.randn(1, 1, 4, 3, requires_grad=True)
    assert not hash_vectors(x, random_rotations(3, n_hashes=1, n_buckets=4, n_heads=1), 4).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: bucket_factors(7), ValueError, ("n_buckets must be even", "got 7", "6 and 8")),
        (lambda: bucket_factors((4, 3)), ValueError, ("n_buckets must be even", "(4, 3)")),
        (lambda: bucket_factors(1), ValueError, ("must be even", "2 and 2")),
        (lambda: bucket_factors(0), ValueError, ("n_buckets must be at least 1, got 0",)),
        (lambda: bucket_factors(()), ValueError, ("at least one factor",)),
        (lambda: bucket_factors(2.0), TypeError, ("n_buckets must be an int", "float 2.0")),
        (
            lambda: random_rotations(0, n_hashes=1, n_buckets=2, n_heads=1),
            ValueError,
            ("head_dim must be at least 1, got 0",),
        ),
        (
            lambda: hash_vectors(torch.zeros(1, 2, 3, 4), torch.zeros(2, 4, 1, 3), 4),
            ValueError,
            ("rotations must be", "[2, 4, any, 2]", "got [2, 4, 1, 3]"),
        ),
        (
            lambda: hash_vectors(torch.zeros(2, 3, 4), torch.zeros(2, 4, 1, 2), 4),
            ValueError,
            ("x must be", "[2, 3, 4]"),
        ),
        (
            lambda: hash_vectors(torch.zeros(1, 2, 3, 4).long(), torch.zeros(2, 4, 1, 2), 4),
            TypeError,
            ("x must be floating point", "torch.int64"),
        ),
        (lambda: sort_by_bucket(torch.zeros(1, 1, 1, 3)), TypeError, ("buckets must hold integers", "torch.float32")),
        (
            lambda: sort_by_bucket(torch.zeros(1, 1, 1, 3).long(), torch.zeros(1, 3)),
            TypeError,
            ("segment_ids must hold integers",),
        ),
        (
            lambda: sort_by_bucket(torch.zeros(2, 1, 1, 0).long()),
            ValueError,
            ("buckets must have at least one element along every axis", "got [2, 1, 1, 0]"),
        ),
        (lambda: places_in_segments(torch.zeros(1, 3)), TypeError, ("segment_ids must hold integers",)),
    ],
)
def test_sizes_shapes_and_dtypes_that_do_not_fit_are_refused(call, error, facts):
    with refuses(error, *facts):
        call()


@pytest.mark.parametrize(
    ("length", "chunk_len", "expected"),
    [
        (1, 64, 2),
        (64, 64, 2),
        (128, 64, 4),
        (1024, 64, 32),
        (4096, 64, 128),
        (8192, 64, (16, 16)),
        (65536, 64, (32, 64)),
        (2**20, 64, (128, 256)),
        (100, 64, 4),
    ],
)
def test_automatic_n_buckets(length, chunk_len, expected):
    assert automatic_n_buckets(length, chunk_len) == expected


def test_automatic_n_buckets_are_even_and_near_the_papers():
    for length in [*range(1, 300), 5000, 2**17 + 1, 10**6, 10**7]:
        for chunk_len in (1, 3, 64, 100):
            factors = bucket_factors(automatic_n_buckets(length, chunk_len))
            total, wanted = math.prod(factors), max(2.0, 2 * length / chunk_len)
            assert all(f % 2 == 0 and f >= 2 for f in factors)
            assert wanted / math.sqrt(2) - 1e-9 <= total <= wanted * math.sqrt(2) + 1e-9


def sorted_by_python(buckets: list[int], segments: list[int]) -> list[int]:
    return [i for *_, i in sorted((s < 0, max(s, -1), b, i) for i, (b, s) in enumerate(zip(buckets, segments)))]


@pytest.mark.parametrize("sort", [sort_by_bucket, sort_by_torch])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sort_is_by_segment_bucket_and_position_padding_last(layout: str, sort: Callable):
    B, H, R, L = 3, 2, 3, 41
    buckets = torch.randint(0, 4, (B, H, R, L), generator=torch.Generator().manual_seed(0))
    segments = segment_layout(layout, B, L)
    order = sort(buckets, segments)
    assert order.dtype == torch.int64
    for b, h, r in itertools.product(range(B), range(H), range(R)):
        ids = [0] * L if segments is None else segments[b].tolist()
        assert order[b, h, r].tolist() == sorted_by_python(buckets[b, h, r].tolist(), ids)


def test_sort_does_not_overflow():
    # A composite key bucket · L + position would wrap around.
    huge = torch.tensor([2**62, -(2**62), 2**63 - 1, 0, 2**62, -(2**63)]).view(1, 1, 1, 6)
    segments = torch.tensor([[2**40, 2**40, 1, -(2**40), 1, -1]])
    for sort in (sort_by_bucket, sort_by_torch):
        assert sort(huge, None).flatten().tolist() == [5, 1, 3, 0, 4, 2]
        assert sort(huge, segments).flatten().tolist() == [4, 2, 1, 0, 5, 3]


def wide_integers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Integers of every magnitude that the type holds, both signs, many of them twice."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**63), 2**63 - 1, shape, generator=generator)
    shift = torch.randint(0, 64, shape, generator=generator)
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    values = (bits >> shift).clamp(low, high).to(dtype)
    values[..., 0], values[..., 1] = low, high
    return values


@needs_native
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_native_sort_equals_that_of_torch(layout: str, dtype: torch.dtype):
    # Histograms of the whole range, and digit by digit: one pass, and up to six over 64 bits.
    for length in (1, 2, 63, 700, 20_000):
        buckets = wide_integers(dtype, 2, 2, 3, length) if length > 1 else torch.ones(2, 2, 3, 1, dtype=dtype)
        segments = segment_layout(layout, 2, length)
        assert torch.equal(native_hashing.sort_by_bucket(buckets, segments), sort_by_torch(buckets, segments))
        few = (buckets.long() % 37).to(dtype)
        assert torch.equal(native_hashing.sort_by_bucket(few, segments), sort_by_torch(few, segments))


@needs_native
@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
def test_native_sort_by_any_segment_ids(dtype: torch.dtype):
    buckets = torch.randint(0, 5, (3, 2, 2, 500), generator=torch.Generator().manual_seed(1))
    segments = wide_integers(dtype, 3, 500)
    for ids in (segments, segments.clamp_min(0), segments.clamp_max(-1), segments.bitwise_not()):
        assert torch.equal(native_hashing.sort_by_bucket(buckets, ids), sort_by_torch(buckets, ids))
        turned = buckets.transpose(2, 3).contiguous().transpose(2, 3)
        assert torch.equal(native_hashing.sort_by_bucket(turned, ids), sort_by_torch(buckets, ids))


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("width", "n_buckets"),
    [(1, 2), (3, 6), (8, (4, 2, 6)), (17, 64), (64, (16, 32)), (20, 1000), (136, (250, 258)), (1030, (2,) * 9)],
)
def test_native_hash_equals_that_of_torch(width: int, n_buckets, dtype: torch.dtype, instruction_set: str):
    # Small integers: every sum is exact in any order, and ties between columns and between signs are many.
    factors, generator = bucket_factors(n_buckets), torch.Generator().manual_seed(width)
    for length in (1, 15, 16, 67):
        x = torch.randint(-2, 3, (2, 3, length, width), generator=generator).to(dtype)
        x[:, :, ::7] = 0.0
        rotations = torch.randint(-1, 2, (3, width, 2, sum(factors) // 2), generator=generator).float()
        expected = hash_by_slices(x, rotations, factors)
        for given in (x, x.transpose(1, 2).contiguous().transpose(1, 2), x.mT.contiguous().mT):
            assert torch.equal(native_hashing.hash_vectors(given, rotations, factors), expected)
        assert torch.equal(native_hashing.hash_vectors(x, rotations.double(), factors), expected)


@needs_native
def test_native_hash_of_numbers_that_are_not_finite_is_a_bucket():
    x = torch.full((1, 1, 20, 5), math.nan)
    x[0, 0, 1::3], x[0, 0, 2::3] = math.inf, -math.inf
    buckets = hash_vectors(x, random_rotations(5, n_hashes=2, n_buckets=(4, 6), n_heads=1), (4, 6))
    assert buckets.ge(0).all() and buckets.lt(24).all()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_small_integer_types_sort_alike(dtype: torch.dtype):
    buckets = torch.randint(0, 100, (2, 1, 2, 64), generator=torch.Generator().manual_seed(0))
    segments = torch.randint(0, 3, (2, 64), generator=torch.Generator().manual_seed(1))
    assert torch.equal(sort_by_bucket(buckets.to(dtype), segments.to(dtype)), sort_by_bucket(buckets, segments))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_places_in_segments_by_counting(layout: str):
    segments = segment_layout(layout, 3, 29)
    if segments is None:
        segments = torch.zeros(3, 29, dtype=torch.int64)
    places = places_in_segments(segments)
    for row, found in zip(segments.tolist(), places.tolist()):
        expected = [0 if s < 0 else sum(other == s for other in row[:i]) for i, s in enumerate(row)]
        assert found == expected


def test_seeded_buckets_are_a_pure_function_of_the_seed():
    x = exact_normal(2, 2, 50, 8, dtype=torch.float32)

    def buckets(seed: int) -> torch.Tensor:
        return seeded_buckets(x, torch.tensor(seed), n_hashes=2, n_buckets=8, chunk_len=4)

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = buckets(2**62)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(buckets(2**62), first)
    assert not torch.equal(buckets(1), first)
    rotations = random_rotations(8, n_hashes=2, n_buckets=8, n_heads=2, generator=torch.Generator().manual_seed(2**62))
    assert torch.equal(first, hash_vectors(x, rotations, 8))


@pytest.mark.parametrize("n_buckets", [None, 8, (4, 2)])
def test_a_row_has_the_buckets_it_has_alone_and_unpadded(n_buckets):
    L, lengths = 600, (600, 37, 300, 1)
    x = exact_normal(4, 2, L, 8, dtype=torch.float32)
    position = torch.arange(L)
    segments = torch.stack(
        [
            torch.zeros(L, dtype=torch.int64),
            torch.where(position < 37, 0, -1),
            torch.where(position >= L - 300, 5, -1),
            torch.where(position == 77, 0, -1),
        ]
    )
    options = {"n_hashes": 3, "n_buckets": n_buckets, "chunk_len": 2}
    batch = seeded_buckets(x, torch.tensor(9), segment_ids=segments, **options)
    for row in range(4):
        real = segments[row] >= 0
        alone = seeded_buckets(x[row : row + 1, :, real], torch.tensor(9), **options)
        assert alone.shape[-1] == lengths[row]
        assert torch.equal(batch[row : row + 1][..., real], alone)
    if n_buckets is None:
        # The rows do differ in their number of buckets.
        assert int(batch[0].max()) > 100 and int(batch[3, ..., 77].max()) < 2


def test_seeded_buckets_of_a_row_of_padding_exist():
    x = exact_normal(1, 1, 5, 4)
    segments = torch.full((1, 5), -1)
    buckets = seeded_buckets(x, torch.tensor(0), n_hashes=2, n_buckets=None, chunk_len=4, segment_ids=segments)
    assert buckets.shape == (1, 1, 2, 5)
