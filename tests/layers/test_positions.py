import math

import pytest
import torch

from reformer.layers import AxialPositions, rotate, sinusoidal_positions
from reformer.testing import exact_normal

from .helpers import refuses


@pytest.mark.parametrize(
    ("shape", "dims"), [((7,), (5,)), ((3, 4), (2, 5)), ((4, 3), (5, 2)), ((2, 3, 4), (1, 2, 3)), ((1, 6), (2, 2))]
)
def test_coordinates_by_hand(shape: tuple[int, ...], dims: tuple[int, ...]):
    positions = AxialPositions(shape, dims).double()
    total = math.prod(shape)
    found = positions(total)
    assert found.shape == (total, sum(dims))
    for p in range(total):
        # The last axis runs fastest.
        coordinates, rest = [], p
        for size in reversed(shape):
            coordinates.insert(0, rest % size)
            rest //= size
        expected = torch.cat([table[c] for c, table in zip(coordinates, positions.tables)])
        assert torch.equal(found[p], expected)
    assert len({tuple(row.tolist()) for row in found}) == total


def test_any_shorter_length_is_a_prefix():
    positions = AxialPositions((3, 5), (4, 4))
    whole = positions(15)
    for length in range(1, 16):
        assert torch.equal(positions(length), whole[:length])


def test_given_position_ids():
    positions = AxialPositions((3, 5), (4, 4))
    ids = torch.tensor([[3, 0, 14], [7, 7, 1]])
    assert torch.equal(positions(3, ids), positions(15)[ids])


def test_number_of_parameters_is_a_sum_not_a_product():
    positions = AxialPositions((64, 128), (16, 48))
    assert sum(p.numel() for p in positions.parameters()) == 64 * 16 + 128 * 48
    assert positions.max_len == 64 * 128


def test_gradients_sum_over_the_other_axes():
    positions = AxialPositions((2, 3), (1, 1))
    positions(5).sum().backward()
    assert positions.tables[0].grad.flatten().tolist() == [3, 2]
    assert positions.tables[1].grad.flatten().tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("call", "facts"),
    [
        (lambda: AxialPositions((2, 3), (4, 4))(7), ("length 7 is beyond the 6 positions of axial shape (2, 3)",)),
        (lambda: AxialPositions((2, 3), (4,)), ("positive and as many",)),
        (lambda: AxialPositions((), ()), ("positive and as many",)),
        (lambda: AxialPositions((2, 0), (4, 4)), ("positive and as many", "(2, 0)")),
    ],
)
def test_axes_that_do_not_fit_and_lengths_beyond_them_are_refused(call, facts):
    with refuses(ValueError, *facts):
        call()


@pytest.mark.parametrize("d_model", [2, 3, 8, 9])
def test_sinusoidal_positions_by_hand(d_model: int):
    ids = torch.tensor([[0, 1, 17], [5, 1000, 3]])
    found = sinusoidal_positions(ids, d_model)
    assert found.shape == (2, 3, d_model)
    half = (d_model + 1) // 2
    for row, line in zip(ids.tolist(), found.tolist()):
        for position, vector in zip(row, line):
            rates = [10_000.0 ** (-n / max(half - 1, 1)) for n in range(half)]
            expected = [math.sin(position * r) for r in rates] + [math.cos(position * r) for r in rates]
            # The angle is a float32: its rounding is position · ε.
            assert vector == pytest.approx(expected[:d_model], abs=4 * 1.2e-7 * max(position, 1))


def test_rotation_by_hand_keeps_norms():
    x = exact_normal(2, 3, 5, 8)
    found = rotate(x)
    torch.testing.assert_close(found.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    assert torch.equal(found[:, :, 0], x[:, :, 0])
    for position in range(5):
        for n in range(4):
            angle = position * 10_000.0 ** (-2 * n / 8)
            a, b = x[0, 0, position, n], x[0, 0, position, n + 4]
            assert float(found[0, 0, position, n]) == pytest.approx(
                float(a) * math.cos(angle) - float(b) * math.sin(angle), abs=1e-5
            )
            assert float(found[0, 0, position, n + 4]) == pytest.approx(
                float(b) * math.cos(angle) + float(a) * math.sin(angle), abs=1e-5
            )


def test_products_of_rotated_vectors_depend_on_the_distance_only():
    q, k = exact_normal(1, 1, 1, 16), exact_normal(1, 1, 1, 16, seed=1)

    def product(i: int, j: int) -> float:
        at_i, at_j = (rotate(x, torch.tensor([[p]])) for x, p in ((q, i), (k, j)))
        return float((at_i * at_j).sum())

    scale = float(q.norm() * k.norm())
    for distance in (-3, 0, 1, 40):
        # Angles are float32: the rounding of the larger position, ε · 140.
        assert product(50 + distance, 50) == pytest.approx(product(100 + distance, 100), abs=scale * 1.2e-7 * 140)
    assert abs(product(50, 50) - product(51, 50)) > 1e-2


def test_rotation_takes_the_position_ids_of_each_row():
    x = exact_normal(2, 2, 4, 6)
    ids = torch.tensor([[0, 1, 2, 3], [9, 4, 4, 0]])
    found = rotate(x, ids)
    for b in range(2):
        for n, p in enumerate(ids[b].tolist()):
            long = torch.zeros(1, 2, p + 1, 6, dtype=torch.float64)
            long[:, :, p] = x[b, :, n]
            torch.testing.assert_close(found[b, :, n], rotate(long)[0, :, p])
