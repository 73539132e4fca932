import io
import struct

import numpy as np
import pytest
from PIL import Image

from reformer.data.images.decoding import UnreadablePicture, decode_picture, fit_raster

from .helpers import encoded, raster


def test_a_picture_of_the_right_size_keeps_every_byte():
    assert np.array_equal(decode_picture(encoded(raster(0)), 8), raster(0))


def test_where_each_byte_is():
    array = np.zeros((2, 2, 3), np.uint8)
    array[0, 0], array[0, 1], array[1, 0] = (1, 2, 3), (4, 5, 6), (7, 8, 9)
    found = decode_picture(encoded(array), 2)
    assert found.reshape(-1).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0]


def test_reduced_by_area():
    array = raster(1, 16, 16)
    blocks = array.reshape(4, 4, 4, 4, 3).astype(float).mean((1, 3))
    # Pillow rounds after each direction.
    assert np.abs(decode_picture(encoded(array), 4) - blocks).max() <= 1.0


@pytest.mark.parametrize(("height", "width"), [(8, 13), (11, 8)])
def test_the_middle_square_is_kept(height: int, width: int):
    array = raster(2, height, width)
    top, left = (height - 8) // 2, (width - 8) // 2
    assert np.array_equal(decode_picture(encoded(array), 8), array[top : top + 8, left : left + 8])


# Tag 274 of EXIF: how the stored rows and columns have to be turned to stand upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    assert np.array_equal(decode_picture(encoded(raster(3), exif=exif), 8), UPRIGHT[orientation](raster(3)))


def test_grey_becomes_three_equal_channels():
    grey = raster(4)[:, :, 0]
    assert np.array_equal(decode_picture(encoded(grey), 8), np.stack([grey] * 3, axis=-1))


def test_sixteen_bit_grey_keeps_its_high_byte():
    grey = raster(5)[:, :, 0].astype(np.uint16) * 256 + 77
    assert np.array_equal(decode_picture(encoded(grey), 8)[:, :, 0], raster(5)[:, :, 0])


@pytest.mark.parametrize("most", [65_535, 4095])
def test_wide_grey_of_a_pgm_is_brought_to_eight_bits(most: int):
    grey = np.arange(64).reshape(8, 8) * most // 63
    data = f"P5 8 8 {most}\n".encode() + grey.astype(">u2").tobytes()
    assert np.abs(decode_picture(data, 8)[:, :, 1] - grey * 255 / most).max() <= 1


def test_transparency_is_put_over_white():
    array = np.dstack([raster(6), np.full((8, 8), 255, np.uint8)])
    array[0, 0, 3] = 0
    array[0, 1] = (0, 0, 0, 51)
    found = decode_picture(encoded(array), 8)
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 1].tolist() == [204, 204, 204]
    assert np.array_equal(found[1:], raster(6)[1:])


def test_transparent_palette_entry():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    file = io.BytesIO()
    image.save(file, "GIF", transparency=0)
    found = decode_picture(file.getvalue(), 8)
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[3, 3].tolist() == [40, 50, 60]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_formats(kind: str):
    one_colour = np.full((8, 8, 3), (9, 200, 31), np.uint8)
    assert np.array_equal(decode_picture(encoded(one_colour, kind), 8), one_colour)


def test_jpeg_in_cmyk():
    found = decode_picture(encoded(np.full((8, 8, 3), (200, 40, 90), np.uint8), "JPEG", "CMYK"), 8)
    assert np.abs(found.astype(int) - (200, 40, 90)).max() <= 3


def test_float_values_are_refused():
    with pytest.raises(UnreadablePicture, match="32 bits"):
        decode_picture(encoded(np.ones((8, 8), np.float32), "TIFF"), 8)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "not a picture"),
        (b"some text", "not a picture"),
        (encoded(raster(7), "JPEG")[:-40], "damaged.*truncated"),
        (encoded(raster(7))[:60], "damaged"),
        # Encapsulated PostScript, which Pillow would hand to Ghostscript.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n", "not a picture"),
    ],
    ids=["empty", "text", "jpeg cut short", "png cut short", "postscript"],
)
def test_what_cannot_be_read_says_why(data: bytes, fact: str):
    with pytest.raises(UnreadablePicture, match=fact):
        decode_picture(data, 8)


def test_decompression_bombs_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch):
    data = encoded(raster(8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(UnreadablePicture, match="too many pixels"):
        decode_picture(data, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    assert np.array_equal(decode_picture(data, 8), raster(8))


def test_rasters_are_fitted_like_pictures():
    assert np.array_equal(fit_raster(raster(9, 8, 8), 4), decode_picture(encoded(raster(9, 8, 8)), 4))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_exif_tag_that_makes_no_sense_costs_no_picture(kind: str):
    # Two entries: a width that is no number (a text), and the orientation.
    entries = struct.pack("<HHI4s", 256, 2, 4, b"abc") + struct.pack("<HHII", 274, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + b"\0\0\0\0"
    grey = np.repeat(np.arange(0, 256, 32, dtype=np.uint8)[None], 8, 0)
    found = decode_picture(encoded(grey, kind, exif=exif), 8)
    assert np.abs(found[:, :, 0].astype(int) - np.rot90(grey, -1)).max() <= (8 if kind == "JPEG" else 0)


def test_the_transparent_value_of_sixteen_bit_grey_is_white():
    grey = raster(5)[:, :, 0].astype(np.uint16) * 256 + 77
    grey[grey == grey[2, 3]] = 12_345
    data = io.BytesIO()
    Image.fromarray(grey).save(data, "PNG", transparency=12_345)
    assert Image.open(data).info["transparency"] == 12_345
    found = decode_picture(data.getvalue(), 8)[:, :, 0]
    assert np.array_equal(found, np.where(grey == 12_345, 255, grey >> 8))
