"""Small generated pictures, and the files that hold them."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def raster(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    image = Image.fromarray(array)
    file = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_npz(path: Path, rasters: np.ndarray, **more: np.ndarray) -> Path:
    """As the downsampled ImageNet is published: rows of a red, a green and a blue plane."""
    planar = rasters.transpose(0, 3, 1, 2).reshape(len(rasters), -1)
    np.savez(path, data=planar, labels=np.arange(len(rasters)), **more)
    return path


def some_pictures(n: int, prefix: str = "", first: int = 0) -> dict[str, bytes]:
    return {f"{prefix}{i:03}.png": encoded(raster(first + i)) for i in range(n)}
