"""The imagenet64 recipes are the paper's and the authors' code's of October 2019, and differ in what they say."""

import dataclasses

import pytest

from reformer.layers import AxialPositions
from reformer.tasks.config import differences
from reformer.tasks.registry import recipe


def test_the_papers_imagenet64():
    config = recipe("imagenet64-3l")
    model = config.model
    assert (config.task, config.seq_len, config.batch_size * config.accumulate) == ("images", 12_288, 8)
    assert (model.d_model, model.d_ff, model.n_heads, model.d_attn) == (1024, 4096, 8, 8 * 64)
    assert (model.attention, model.n_hashes, model.n_buckets, model.lsh_chunk_len) == (("lsh",) * 3, 2, 192, 128)
    assert (model.axial_shape, model.axial_dims, model.dropout) == ((64, 64, 3), (384, 384, 256), 0.0)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.schedule, optimizer.warmup_steps) == (
        "adafactor",
        2.0,
        "rsqrt",
        8000,
    )
    # m = 2L / b, as the paper has it.
    assert 2 * config.seq_len // 192 == model.lsh_chunk_len


def test_axes_that_are_not_the_pictures_are_refused():
    config = recipe("imagenet64-3l")
    with pytest.raises(ValueError, match=r"axes 32 32 3 .* got 64 64 3; give --model.axial-shape 32 32 3"):
        dataclasses.replace(config, seq_len=3 * 32 * 32)
    model = dataclasses.replace(config.model, axial_shape=(32, 32, 3))
    assert dataclasses.replace(config, seq_len=3 * 32 * 32, model=model).picture_side == 32


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full", ["model.attention: ['lsh', 'lsh', 'lsh'] → ['full', 'full', 'full']"]),
        ("lsh4", ["model.n_hashes: 2 → 4"]),
        ("lsh8", ["model.n_hashes: 2 → 8"]),
        ("lsh16", ["model.n_hashes: 2 → 16"]),
    ],
)
def test_variants_differ_in_one_thing(name: str, expected: list[str]):
    base = recipe("imagenet64-3l")
    variant = dataclasses.replace(recipe(f"imagenet64-3l-{name}"), name=base.name)
    assert differences(base.as_dict(), variant.as_dict()) == expected


def test_three_axes_are_row_column_and_channel():
    positions = AxialPositions((4, 5, 3), (2, 3, 4))
    vectors = positions(60)
    row, column, channel = 2, 3, 1
    found = vectors[row * 15 + column * 3 + channel]
    expected = [*positions.tables[0][row].tolist(), *positions.tables[1][column].tolist()]
    assert found.tolist() == [*expected, *positions.tables[2][channel].tolist()]


def test_the_laptop_recipe_follows_its_length():
    config = recipe("images-small")
    larger = dataclasses.replace(config, seq_len=3 * 64 * 64)
    assert (config.picture_side, larger.picture_side) == (32, 64)
    # A local layer sees the pixel above, whatever the place in its chunk.
    assert config.model.local_chunk_len >= 3 * config.picture_side
