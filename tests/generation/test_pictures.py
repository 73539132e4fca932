import numpy as np
import pytest

from reformer.generation import SamplingConfig, draw_pictures, generate
from reformer.models import ReformerConfig, ReformerLM

SIZE = 4
SAMPLING = SamplingConfig()


@pytest.fixture(scope="module")
def model() -> ReformerLM:
    config = ReformerConfig(
        d_model=12, d_ff=16, n_heads=2, attention=("local", "lsh"), axial_shape=(SIZE, SIZE, 3), lsh_chunk_len=8
    )
    return ReformerLM(config).eval()


def nothing(n: int) -> list[np.ndarray]:
    return [np.empty((0, SIZE, 3), np.uint8)] * n


def test_pictures_are_the_bytes_of_the_model_in_raster_order(model: ReformerLM):
    drawn = draw_pictures(model, SIZE, nothing(2), SAMPLING, seed=5)
    rows = generate(model, [b"", b""], 48, SAMPLING, seeds=[5, 6], rotation_seed=5, max_len=48)
    assert drawn.shape == (2, SIZE, SIZE, 3) and drawn.dtype == np.uint8
    assert drawn.reshape(2, -1).tolist() == rows
    assert drawn[1, 2, 3, 1] == rows[1][2 * 12 + 3 * 3 + 1]


def test_more_pictures_change_none_and_another_seed_all(model: ReformerLM):
    two, three = (draw_pictures(model, SIZE, nothing(n), SAMPLING, seed=1) for n in (2, 3))
    assert np.array_equal(two, three[:2])
    other = draw_pictures(model, SIZE, nothing(2), SAMPLING, seed=9)
    assert (other != two).any(axis=(1, 2, 3)).all()


def test_completions_keep_what_was_given(model: ReformerLM):
    given = np.random.default_rng(0).integers(0, 256, (3, 2, SIZE, 3), dtype=np.uint8)
    counts: list[tuple[int, int]] = []
    drawn = draw_pictures(model, SIZE, list(given), SAMPLING, progress=lambda *c: counts.append(c))
    assert np.array_equal(drawn[:, :2], given)
    assert (drawn[0, 2:] != drawn[1, 2:]).any()
    assert counts[-1] == (24, 24)


@pytest.mark.parametrize("rows", [[SIZE], [1, 2]])
def test_beginnings_that_do_not_fit(model: ReformerLM, rows: list[int]):
    with pytest.raises(ValueError, match=f"same number of rows, 0 to {SIZE - 1}"):
        draw_pictures(model, SIZE, [np.zeros((n, SIZE, 3), np.uint8) for n in rows], SAMPLING)
