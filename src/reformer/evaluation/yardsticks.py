"""What general-purpose compressors make of the same held-out bytes."""

import bz2
import gzip
import lzma


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
