import itertools
import math

import pytest
import torch

from reformer.ops import as_seed, derive_seed, dropout
from reformer.ops.counter_rng import column_keys, feature_keep, keep, row_keys

from .helpers import refuses


def seed_of(value: int) -> torch.Tensor:
    return as_seed(value)


def test_derived_seeds_are_distinct_and_not_negative():
    values = [
        int(derive_seed(seed_of(seed), *coordinates))
        for seed in (0, 1, 2**31, 2**40 + 3, 2**62)
        for coordinates in [(), *((a,) for a in range(40)), *itertools.product(range(40), range(5))]
    ]
    assert len(set(values)) == len(values)
    assert min(values) >= 0
    assert max(values) > 2**61  # 63 bits are used, not 32


def test_derived_seeds_depend_on_the_order_of_coordinates():
    assert int(derive_seed(seed_of(5), 1, 2)) != int(derive_seed(seed_of(5), 2, 1))
    assert int(derive_seed(seed_of(5), 0)) != int(derive_seed(seed_of(5)))


def test_derived_seed_is_a_pure_function():
    torch.manual_seed(1)
    first = derive_seed(seed_of(7), 3, 4)
    torch.manual_seed(2)
    torch.rand(3)
    assert torch.equal(first, derive_seed(seed_of(7), 3, 4))
    assert first.dtype == torch.int64 and first.dim() == 0


def test_the_high_half_of_a_seed_counts():
    low, high = (int(derive_seed(seed_of(s), 1)) for s in (3, 3 + 2**40))
    assert low != high
    rows = [row_keys(seed_of(s), 0, 0, torch.arange(64)) for s in (3, 3 + 2**40)]
    assert not torch.equal(*rows)


def mix_by_hand(x: int) -> int:
    x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
    x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


def combine_by_hand(key: int, coordinate: int) -> int:
    return mix_by_hand(((key ^ (coordinate * 0x9E3779B1 % 2**32)) + 0x7F4A7C15) % 2**32)


def fold_by_hand(seed: int) -> int:
    return combine_by_hand(mix_by_hand(seed % 2**32), (seed >> 32) % 2**32)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**40 + 12345, 2**62 + 7])
def test_bits_are_those_of_unsigned_arithmetic(seed: int):
    # Plain integers modulo 2³²: what C++ and Triton compute with uint32.
    b, h = 3, 70000
    rows, columns = [0, 1, 500, 2**20], [0, 1, 2, 999, 2**20 + 1]
    row_key = [combine_by_hand(combine_by_hand(combine_by_hand(fold_by_hand(seed), b), h), i) for i in rows]
    column_key = [combine_by_hand(combine_by_hand(fold_by_hand(seed), 0x2545F491), j) for j in columns]
    expected = [[mix_by_hand((r + c) % 2**32) >> 8 >= round(0.3 * 2**24) for c in column_key] for r in row_key]
    found_rows = row_keys(seed_of(seed), b, h, torch.tensor(rows))
    found = keep(found_rows[:, None], column_keys(seed_of(seed), torch.tensor(columns)), 0.3)
    assert found.tolist() == expected
    low = combine_by_hand(combine_by_hand(fold_by_hand(seed), 4), 9)
    high = combine_by_hand(combine_by_hand(fold_by_hand(seed), 4 ^ 0x2545F491), 9 ^ 0x2545F491)
    assert int(derive_seed(seed_of(seed), 4, 9)) == ((high & 0x7FFFFFFF) << 32) + low


class Traced(torch.Tensor):
    """A tensor whose number ``derive_seed`` must not ask for, as under torch.compile."""


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**31, 2**40 + 12345, 2**63 - 1])
def test_a_traced_seed_derives_the_same(seed: int):
    for coordinates in ((), (0,), (3, 2**31 + 5), (7, 1, 2**40)):
        plain = derive_seed(seed_of(seed), *coordinates)
        traced = derive_seed(seed_of(seed).as_subclass(Traced), *coordinates)
        assert type(traced) is Traced and type(plain) is torch.Tensor
        assert int(plain) == int(traced)


def test_seeds_in_a_batch_and_on_another_default_device_derive_the_same():
    seeds = torch.tensor([3, -5, 2**40])
    alone = torch.stack([derive_seed(seed, 7) for seed in seeds])
    assert torch.equal(torch.vmap(lambda seed: derive_seed(seed, 7))(seeds), alone)
    with torch.device("meta"):
        assert derive_seed(seeds[0], 7).device.type == "cpu"


@pytest.mark.parametrize("dropout_p", [0.05, 0.1, 0.5, 0.9])
def test_keep_has_the_right_rate(dropout_p: float):
    n = 1000
    kept = keep(
        row_keys(seed_of(3), 0, 0, torch.arange(n))[:, None], column_keys(seed_of(3), torch.arange(n)), dropout_p
    )
    sigma = math.sqrt(dropout_p * (1 - dropout_p) / n**2)
    assert abs(float(kept.double().mean()) - (1 - dropout_p)) < 5 * sigma
    # Nor does any row or column, on its own, keep too many or too few.
    for axis in (0, 1):
        spread = (kept.double().mean(axis) - (1 - dropout_p)) / math.sqrt(dropout_p * (1 - dropout_p) / n)
        assert float(spread.abs().max()) < 5.5
        assert 0.85 < float(spread.std()) < 1.15


def test_masks_of_neighbours_are_independent():
    n = 500
    rows, columns = row_keys(seed_of(9), 0, 0, torch.arange(n)), column_keys(seed_of(9), torch.arange(n))
    kept = keep(rows[:, None], columns, 0.5).double() - 0.5
    other_head = keep(row_keys(seed_of(9), 0, 1, torch.arange(n))[:, None], columns, 0.5).double() - 0.5
    other_batch = keep(row_keys(seed_of(9), 1, 0, torch.arange(n))[:, None], columns, 0.5).double() - 0.5
    pairs = [
        (kept[1:], kept[:-1]),
        (kept[:, 1:], kept[:, :-1]),
        (kept, kept.t()),
        (kept, other_head),
        (kept, other_batch),
        (other_head, other_batch),
    ]
    for a, b in pairs:
        assert abs(float((a * b).mean()) * 4) < 5 / n  # a correlation of n² pairs has deviation 1/n


def test_dropout_scales_what_it_keeps_and_zeroes_the_rest():
    x = torch.randn(2, 50, 30, dtype=torch.float64)
    dropped = dropout(x, 0.25, seed_of(4))
    kept = feature_keep(x, 0.25, seed_of(4), 0)
    assert torch.equal(dropped, torch.where(kept, x / 0.75, 0.0))
    assert 0.70 < float(kept.double().mean()) < 0.80
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(kept, feature_keep(x, 0.25, seed_of(5), 0))


def test_dropout_of_a_slice_is_the_slice_of_the_dropout():
    x = torch.randn(3, 40, 7)
    whole = dropout(x, 0.4, seed_of(8))
    assert torch.equal(dropout(x[:, 13:29], 0.4, seed_of(8), first_position=13), whole[:, 13:29])
    assert torch.equal(dropout(x[:2], 0.4, seed_of(8)), whole[:2])


def test_dropout_of_probability_zero_is_the_identity():
    x = torch.randn(1, 2, 3)
    assert dropout(x, 0.0, None) is x


def test_dropout_gradient_is_its_mask():
    x = torch.randn(2, 9, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(dropout(x, 0.3, seed_of(1)).sum(), x)
    assert torch.equal(gradient, feature_keep(x, 0.3, seed_of(1), 0).double() / 0.7)


def test_as_seed_accepts_ints_and_integer_tensors():
    assert torch.equal(as_seed(5), torch.tensor(5))
    assert torch.equal(as_seed(torch.tensor([7], dtype=torch.int32)), torch.tensor(7))


@pytest.mark.parametrize("bad", [1.5, True, None, "1", torch.tensor(1.0), torch.tensor([1, 2])])
def test_as_seed_refuses_anything_else(bad: object):
    with refuses(TypeError, "a seed must be an int or an int64 tensor of one element"):
        as_seed(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1, -(2**63) - 1])
def test_a_seed_beyond_64_bits_is_refused(seed: int):
    with pytest.raises(ValueError, match=f"at most {2**63 - 1}, got {seed}"):
        as_seed(seed)
    assert as_seed(2**63 - 1).item() == 2**63 - 1
