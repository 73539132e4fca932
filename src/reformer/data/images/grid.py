"""Pictures beside and below one another, and PNG files of them."""

from pathlib import Path

import numpy as np

from reformer.data.errors import DataError, reason
from reformer.data.images.decoding import pillow

_GAP = 2
_GAP_GREY = 255


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
