import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reformer.data import duplication_batch, masked_batch
from reformer.data.randomness import below, unit

from .helpers import refuses, unhurried

TOKENS = np.random.default_rng(0).integers(0, 256, (4, 50_000))


@unhurried
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 300), st.integers(0, 2**32))
def test_duplication_is_0w0w_scored_on_the_second_w(half: int, batch: int, n_symbols: int, seed: int):
    sequence, mask = duplication_batch(half, batch, seed=seed, step=3, n_symbols=n_symbols)
    assert sequence.shape == mask.shape == (batch, 2 * half + 2)
    assert sequence.dtype == np.int64
    assert mask.dtype == bool
    first, second = sequence[:, : half + 1], sequence[:, half + 1 :]
    assert (first == second).all()
    assert (first[:, 0] == 0).all()
    assert first[:, 1:].min() >= 1
    assert first[:, 1:].max() <= n_symbols
    assert mask.sum(axis=1).tolist() == [half] * batch
    assert mask[:, half + 2 :].all()


def test_duplication_of_the_paper():
    sequence, _ = duplication_batch(511, 40, seed=0, step=0)
    assert sequence.shape == (40, 1024)
    counts = np.bincount(sequence[:, 1:512].ravel(), minlength=128)
    assert counts[0] == 0
    mean = 40 * 511 / 127
    # Chi-square with 126 degrees of freedom is below 195 with probability 0.9999.
    assert ((counts[1:] - mean) ** 2 / mean).sum() < 195


def test_duplication_rows_are_a_function_of_seed_step_and_row():
    whole, _ = duplication_batch(64, 6, seed=1, step=2)
    assert (whole[2:5] == duplication_batch(64, 3, seed=1, step=2, first_row=2)[0]).all()
    assert (whole != duplication_batch(64, 6, seed=1, step=3)[0]).any(axis=1).all()
    assert (whole != duplication_batch(64, 6, seed=2, step=2)[0]).any(axis=1).all()
    assert len(np.unique(whole, axis=0)) == 6


@pytest.mark.parametrize(("half", "batch", "n"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_duplication_refuses_sizes_below_one(half: int, batch: int, n: int):
    with refuses("is 0: expected at least 1"):
        duplication_batch(half, batch, n_symbols=n, seed=0, step=0)


def test_masking_shares():
    before = TOKENS.copy()
    inputs, mask = masked_batch(TOKENS, mask_id=256, seed=0, step=0)
    assert (before == TOKENS).all()
    n = mask.sum()
    # Five standard deviations of each share around its mean.
    assert abs(n / mask.size - 0.15) < 5 * (0.15 * 0.85 / mask.size) ** 0.5
    assert abs((inputs[mask] == 256).sum() / n - 0.8) < 5 * (0.8 * 0.2 / n) ** 0.5
    swapped = mask & (inputs != 256) & (inputs != TOKENS)
    share = 0.1 * 255 / 256  # a random symbol may be the old one
    assert abs(swapped.sum() / n - share) < 5 * (share * (1 - share) / n) ** 0.5
    assert len(np.unique(inputs[swapped])) == 256
    assert (inputs[~mask] == TOKENS[~mask]).all()
    assert inputs.dtype == np.int64


def test_masking_at_rate_one_and_other_symbols():
    inputs, mask = masked_batch(TOKENS[:, :2000], mask_id=0, rate=1.0, n_symbols=3, seed=0, step=0)
    assert mask.all()
    changed = inputs != TOKENS[:, :2000]
    assert set(np.unique(inputs[changed])) <= {0, 1, 2}


def test_masking_rows_are_a_function_of_seed_step_and_row():
    tokens = TOKENS[:, :300]
    inputs, mask = masked_batch(tokens, mask_id=256, seed=1, step=2)
    again, same = masked_batch(tokens[1:3], mask_id=256, seed=1, step=2, first_row=1)
    assert (again == inputs[1:3]).all()
    assert (same == mask[1:3]).all()
    assert (masked_batch(tokens, mask_id=256, seed=1, step=3)[1] != mask).any(axis=1).all()
    assert (mask[0] != mask[1]).any()


def test_masking_takes_small_integers_without_overflow():
    inputs, mask = masked_batch(TOKENS.astype(np.uint8)[:, :500], mask_id=256, seed=0, step=0)
    assert inputs.max() == 256
    assert mask.dtype == bool


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": 1.5}, "rate is 1.5"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"n_symbols": 0}, "n_symbols is 0"),
        ({"tokens": TOKENS[0]}, "[50000]"),
        ({"tokens": TOKENS[:1, :2] * 0.5}, "float64"),
        ({"tokens": TOKENS[:0]}, "batch_size is 0"),
    ],
)
def test_masking_refuses_bad_arguments(arguments: dict, fact: str):
    with refuses(fact, "expected"):
        masked_batch(**{"tokens": TOKENS[:1, :5], "mask_id": 256, "seed": 0, "step": 0, **arguments})


@unhurried
@given(st.integers(0, 2**64 - 1), st.integers(1, 2**32 - 1))
@example(2**64 // 3 + 1, 3)  # the low half of the bits decides
def test_below_is_the_exact_product(bits: int, n: int):
    assert below(np.array([bits], dtype=np.uint64), n)[0] == bits * n >> 64


def test_unit_stays_below_one():
    ends = unit(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert ends[0] == 0
    assert 1 - 2**-52 < ends[1] < 1
