"""Pictures that need no data: rectangles before a gradient."""

import numpy as np

from reformer.data._randomness import PICTURES, below, random_rows, unit

N_PICTURES = {"train": 400, "validation": 20, "test": 20}
RULE = "rectangles of one colour before a gradient, drawn from a fixed seed: first train, then validation, then test"
_RECTANGLES = 3


def shape_picture(index: int, size: int) -> np.ndarray:
    """The ``index``-th picture, uint8 [size, size, 3]."""
    bits = random_rows(PICTURES, 0, 0, index, 1, 6 + 7 * _RECTANGLES)[0]
    corners = below(bits[:6], 256).reshape(2, 1, 1, 3)
    share = np.linspace(0.0, 1.0, size)[:, None, None]
    picture = np.broadcast_to((1 - share) * corners[0] + share * corners[1], (size, size, 3)).round().astype(np.uint8)
    for rectangle in bits[6:].reshape(_RECTANGLES, 7):
        top, left = (unit(rectangle[:2]) * size).astype(int)
        height, width = 1 + (unit(rectangle[2:4]) * size / 2).astype(int)
        picture[top : top + height, left : left + width] = below(rectangle[4:], 256)
    return picture
