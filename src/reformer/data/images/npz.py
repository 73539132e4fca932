"""The downsampled ImageNet's npz batches: ``data`` [N, 3 * size * size] uint8, each row a red, a green and a blue plane."""

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from reformer.data.errors import DataError, reason

_ROWS_AT_ONCE = 256
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


def npz_rasters(path: Path) -> Iterator[np.ndarray]:
    """The pictures of a batch, uint8 [size, size, 3] each, their planes interleaved.

    Read in blocks of rows, since an official batch decompresses to 1.6 GB. Nothing is unpickled; labels and means are
    not looked at. Raises DataError for a file that is no such batch, or damaged.
    """
    fix = "fetch it again, or give pictures (a folder, zip or tar)"
    try:
        with zipfile.ZipFile(path) as archive, archive.open("data.npy") as file:
            n_rows, size = _read_header(file, path)
            for first in range(0, n_rows, _ROWS_AT_ONCE):
                planes = _read_rows(file, min(_ROWS_AT_ONCE, n_rows - first), size)
                yield from np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{path} holds no array named data; {fix}") from error
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged or no npz file ({reason(error)}); {fix}") from error


def _read_header(file: IO[bytes], path: Path) -> tuple[int, int]:
    """Rows, and the side of the pictures."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    size = math.isqrt(shape[1] // 3) if len(shape) == 2 else 0
    if dtype != np.uint8 or fortran_order or size < 1 or shape[1] != 3 * size * size:
        what = f"its data is {dtype} {list(shape)}{' in Fortran order' if fortran_order else ''}"
        raise DataError(f"{path} is no batch of pictures: {what}, expected uint8 [N, 3 * size * size]")
    return shape[0], size


def _read_rows(file: IO[bytes], n_rows: int, size: int) -> np.ndarray:
    """uint8 [n_rows, 3, size, size]."""
    data = file.read(n_rows * 3 * size * size)
    if len(data) < n_rows * 3 * size * size:
        raise EOFError("the array is cut short")
    return np.frombuffer(data, dtype=np.uint8).reshape(n_rows, 3, size, size)
