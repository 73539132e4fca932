"""Rasters, uint8 [height, width, 3]: from the bytes of a picture's file, several in a grid, to a PNG file."""

import io
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from reformer.data.errors import DataError, reason

MAX_FILE_BYTES = 1 << 28
# Pillow's other readers are rarer and weaker, and one of them runs Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
HOW = (
    "turned upright by EXIF, 16-bit grey to its high byte, transparency over white, RGB; "
    "the middle square of the short side, reduced by a box filter"
)
_GAP = 2
_GAP_GREY = 255
_WHITE = (255, 255, 255, 255)
_ORIENTATION = 0x0112
# Of EXIF's orientations, which begin with 1: upright.
_TURNS = dict(
    enumerate(
        ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"],
        start=2,
    )
)


class UnreadablePicture(DataError):
    """A file that is no picture, a damaged one or one too large; the message is the reason alone."""


def decode_picture(data: bytes, size: int) -> np.ndarray:
    """uint8 [size, size, 3] of an encoded picture, as `HOW` says. Animations: the first frame. Deterministic.

    Raises UnreadablePicture, also for one of more pixels than Pillow thinks safe; DataError where Pillow is missing.
    """
    Image = pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _fit(_as_rgb(_upright(image), wide=image.format == "PPM"), size)
    except (MemoryError, UnreadablePicture):
        raise
    # Each format has its own exceptions (OSError, SyntaxError, ValueError, struct.error, zlib.error, ...).
    except Exception as error:
        raise UnreadablePicture(_why(error)) from error


def fit_raster(raster: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size, size, 3] of a raster [height, width, 3]: unchanged if it has that size, else as `decode_picture`."""
    if raster.shape == (size, size, 3):
        return raster
    return _fit(pillow().fromarray(raster), size)


def picture_grid(pictures: np.ndarray) -> np.ndarray:
    """uint8 [height, width, 3] of ``pictures`` [rows, columns, size, size, 3], white lines of 2 pixels between them."""
    rows, columns, height, width, channels = pictures.shape
    step = (height + _GAP, width + _GAP)
    grid = np.full((rows * step[0] - _GAP, columns * step[1] - _GAP, channels), _GAP_GREY, dtype=np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * step[0], column * step[1]
            grid[top : top + height, left : left + width] = pictures[row, column]
    return grid


def write_png(path: Path, raster: np.ndarray) -> None:
    """Write uint8 [height, width, 3] as PNG, whatever the name ends in. Raises DataError if the file cannot be written."""
    try:
        pillow().fromarray(raster).save(path, "PNG")
    except OSError as error:
        raise DataError(f"cannot write {path}: {reason(error)}; choose another --out") from error


def pillow() -> ModuleType:
    """``PIL.Image``. Raises DataError, with the command that installs it, where it is missing."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("pictures need the Pillow package: pip install 'reformer-torch[train]'") from error
    return Image


def _upright(image: Any) -> Any:
    # Not ImageOps.exif_transpose, which writes all of EXIF anew and so fails at a tag that has nothing to do with it.
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(pillow().Transpose[turn])


def _as_rgb(image: Any, *, wide: bool) -> Any:
    """``wide``: 16 bits of grey may come in 32, as Pillow reads a PGM."""
    Image = pillow()
    if image.mode.startswith("I;16") or (wide and image.mode == "I"):
        grey = np.asarray(image)
        high = (grey >> 8).astype(np.uint8)
        if isinstance(transparent := image.info.get("transparency"), int):
            high[grey == transparent] = 255
        return Image.fromarray(high).convert("RGB")
    if image.mode in ("I", "F"):
        raise UnreadablePicture("grey values of 32 bits have no agreed range")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")


def _fit(image: Any, size: int) -> np.ndarray:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), pillow().Resampling.BOX, box=box))


def _why(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return f"not a picture ({', '.join(FORMATS)})"
    if "DecompressionBomb" in type(error).__name__:
        return "too many pixels"
    return f"damaged: {reason(error)}"
