"""What needs no model: general-purpose compressors on bytes, order-0 entropy and lossless picture formats on pictures."""

import bz2
import gzip
import io
import lzma

import numpy as np

from reformer.data.images import pillow


def compressor_bits_per_byte(data: bytes) -> dict[str, float]:
    """{"gzip -9", "bzip2 -9", "xz -9e"} bits per byte of ``data`` compressed alone, headers included."""
    if not data:
        raise ValueError("nothing to compress: the held-out data is empty")
    sizes = {
        "gzip -9": len(gzip.compress(data, 9)),
        "bzip2 -9": len(bz2.compress(data, 9)),
        "xz -9e": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
    }
    return {name: 8 * size / len(data) for name, size in sizes.items()}


def picture_bits_per_dim(pictures: np.ndarray) -> dict[str, float]:
    """Bits per dim of ``pictures``, uint8 [n, height, width, 3], by name of the yardstick.

    "order-0": the entropy of the bytes' frequencies in these very pictures, the least that a code which knows no
    neighbours could reach. "PNG", "WebP" (lossless, where Pillow has it): each picture a file of its own, headers
    included. Raises ValueError for no pictures.
    """
    if not len(pictures):
        raise ValueError("no pictures to measure: the held-out data is empty")
    found = {"order-0": order0_entropy(pictures), "PNG": _encoded_bits(pictures, "PNG", optimize=True)}
    from PIL import features

    if features.check("webp"):
        found["WebP lossless"] = _encoded_bits(pictures, "WEBP", lossless=True, quality=100, method=6)
    return found


def order0_entropy(data: np.ndarray) -> float:
    """Entropy in bits of the frequencies of the bytes of ``data``."""
    counts = np.bincount(data.reshape(-1), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def _encoded_bits(pictures: np.ndarray, kind: str, **options: bool | int) -> float:
    total = 0
    for picture in pictures:
        file = io.BytesIO()
        pillow().fromarray(picture).save(file, kind, **options)
        total += len(file.getvalue())
    return 8 * total / pictures.size
