"""Pictures one after another from files, archives of files and npz batches; archives are read, never unpacked."""

import math
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import IO, Self

import numpy as np

from reformer.data.errors import DataError, reason
from reformer.data.images.decoding import MAX_FILE_BYTES, UnreadablePicture, decode_picture, fit_raster

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
# Other npz files in a folder are not ours to open.
_BATCH = re.compile(r"(train|val)_data(_batch_\d+)?\.npz")
_ROWS_AT_ONCE = 256
_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
# (name, read): read(size) gives uint8 [size, size, 3] and must be called before the next one is taken.
Picture = tuple[str, Callable[[int], np.ndarray]]


def pictures(files: Iterable[tuple[str, Path]]) -> Iterator[Picture]:
    """Every picture in ``files`` (name, path), in order; those in archives are named ``archive/entry``.

    Files and entries without a picture's suffix, and hidden ones, are passed over. Raises DataError for an archive that
    cannot be read; a picture's ``read`` raises UnreadablePicture.
    """
    for name, path in files:
        if reader := _reader(path):
            yield from reader(name, path)


def names(files: Iterable[tuple[str, Path]]) -> Iterator[str]:
    """The names of `pictures`, without decompressing; an npz batch is named once, with all its pictures."""
    for name, path in files:
        reader = _reader(path)
        if reader is _from_npz:
            yield f"{name}/0"
        elif reader:
            yield from (found for found, _ in reader(name, path))


def holds_pictures(path: Path) -> bool:
    """Whether a file is one that `pictures` would look into, by its name."""
    return _reader(path) is not None


def _reader(path: Path) -> Callable[[str, Path], Iterator[Picture]] | None:
    name = path.name.lower()
    if name.endswith(SUFFIXES):
        return _from_file
    if name.endswith(".zip"):
        return _from_zip
    if name.endswith(_TAR):
        return _from_tar
    return _from_npz if _BATCH.fullmatch(name) else None


def _from_file(name: str, path: Path) -> Iterator[Picture]:
    def content() -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise UnreadablePicture(reason(error)) from error

    yield name, partial(_decode, content)


def _from_npz(name: str, path: Path) -> Iterator[Picture]:
    for index, raster in enumerate(_npz_rasters(path)):
        yield f"{name}/{index}", partial(fit_raster, raster)


def _from_zip(name: str, path: Path) -> Iterator[Picture]:
    def content(info: zipfile.ZipInfo) -> bytes:
        if info.flag_bits & 1:
            raise UnreadablePicture("encrypted; unpack the archive first")
        with archive.open(info) as file:
            # The size an entry claims may be a lie.
            return file.read(MAX_FILE_BYTES + 1)

    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path} as a zip archive ({reason(error)}); fetch it again") from error
    with archive:
        for info in archive.infolist():
            # Some programs of Windows write its separator, though the format has but one.
            entry = info.filename.replace("\\", "/")
            if not info.is_dir() and _is_picture_entry(entry):
                yield f"{name}/{entry}", partial(_decode, partial(content, info))


class _Header(tarfile.TarInfo):
    """A header that is cut short or damaged is an error anywhere: tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if isinstance(error, EOFHeaderError):
                raise
            raise ReadError(f"cut short or damaged: {error}") from error


def _from_tar(name: str, path: Path) -> Iterator[Picture]:
    def content(member: tarfile.TarInfo) -> bytes:
        file = archive.extractfile(member)
        assert file is not None  # only regular files come here
        return file.read(MAX_FILE_BYTES + 1)

    try:
        with tarfile.open(path, tarinfo=_Header) as archive:
            while (member := archive.next()) is not None:
                if member.isreg() and _is_picture_entry(member.name):
                    yield f"{name}/{member.name}", partial(_decode, partial(content, member))
                # A million headers would stay in memory.
                archive.members = []  # type: ignore[attr-defined]
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"cannot read {path} as a tar archive ({reason(error)}); fetch it again") from error


def _decode(content: Callable[[], bytes], size: int) -> np.ndarray:
    try:
        data = content()
    except (MemoryError, UnreadablePicture):
        raise
    # Each method of compression has its own exceptions.
    except Exception as error:
        raise UnreadablePicture(f"damaged: {reason(error)}") from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadablePicture(f"a file of more than {MAX_FILE_BYTES >> 20} MiB")
    return decode_picture(data, size)


def _is_picture_entry(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return name.lower().endswith(SUFFIXES) and not hidden and parts[0] != "__MACOSX"


def _npz_rasters(path: Path) -> Iterator[np.ndarray]:
    """The pictures of a batch of the downsampled ImageNet, uint8 [size, size, 3] each, their planes interleaved.

    The batch holds ``data`` [N, 3 * size * size] uint8, each row a red, a green and a blue plane.

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
