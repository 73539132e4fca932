from pathlib import Path

import numpy as np
from PIL import Image

from reformer.data.images import picture_grid, write_png

from ..helpers import refuses
from .helpers import raster


def test_rows_and_columns():
    pictures = np.stack([raster(i, 4, 4) for i in range(6)]).reshape(2, 3, 4, 4, 3)
    grid = picture_grid(pictures)
    assert grid.shape == (4 + 2 + 4, 4 + 2 + 4 + 2 + 4, 3)
    assert np.array_equal(grid[6:10, 12:16], raster(5, 4, 4))
    assert np.array_equal(grid[:4, 6:10], raster(1, 4, 4))
    assert (grid[4:6] == 255).all() and (grid[:, 4:6] == 255).all()


def test_png_keeps_every_byte(tmp_path: Path):
    write_png(tmp_path / "grid.png", raster(0, 5, 9))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "grid.png")), raster(0, 5, 9))
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    with refuses("cannot write", "choose another --out"):
        write_png(tmp_path / "nowhere" / "grid.png", raster(0))
