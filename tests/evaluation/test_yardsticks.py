import bz2
import gzip
import lzma
import math

import numpy as np
import pytest

from reformer.evaluation.yardsticks import compressor_bits_per_byte, order0_entropy, picture_bits_per_dim


def test_order0_entropy_by_hand():
    assert order0_entropy(np.array([3, 3, 3], np.uint8)) == 0.0
    assert order0_entropy(np.array([0, 1, 2, 3], np.uint8)) == 2.0
    assert order0_entropy(np.array([[0, 0], [0, 255]], np.uint8)) == pytest.approx(
        0.75 * math.log2(4 / 3) + 0.25 * 2.0, rel=1e-12
    )


def test_noise_cannot_be_compressed_and_one_colour_can():
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = picture_bits_per_dim(noise)
    assert 7.9 < found["order-0"] <= 8.0
    assert 8.0 < found["PNG"] < 8.4
    flat = picture_bits_per_dim(np.full((3, 32, 32, 3), 7, np.uint8))
    assert flat["order-0"] == 0.0
    assert 0.0 < flat["PNG"] < 0.4


def test_png_counts_the_files_themselves():
    import io

    from PIL import Image

    pictures = np.random.default_rng(1).integers(0, 4, (2, 8, 8, 3), dtype=np.uint8)
    total = 0
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG", optimize=True)
        total += len(file.getvalue())
    assert picture_bits_per_dim(pictures)["PNG"] == 8 * total / (2 * 8 * 8 * 3)


def test_no_pictures_are_refused():
    with pytest.raises(ValueError, match="no pictures"):
        picture_bits_per_dim(np.empty((0, 8, 8, 3), np.uint8))


def test_compressors_see_the_same_bytes():
    data = b"the quick brown fox jumps over the lazy dog " * 40
    result = compressor_bits_per_byte(data)
    assert result["gzip -9"] == 8 * len(gzip.compress(data, 9)) / len(data)
    assert result["bzip2 -9"] == 8 * len(bz2.compress(data, 9)) / len(data)
    assert lzma.decompress(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) == data
    with pytest.raises(ValueError, match="nothing to compress"):
        compressor_bits_per_byte(b"")
