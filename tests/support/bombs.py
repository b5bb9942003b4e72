"""Files of few bytes that unfold to many."""

from __future__ import annotations

import struct
import zlib

BLOCK = 1 << 20
PNG_KINDS = {"L": 0, "RGB": 2, "P": 3}


def deflate_zeros(length: int) -> bytes:
    """Return a zlib stream of ``length`` zero bytes.

    A block after a full flush stands for itself, so that it is compressed once and repeated.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    count, rest = divmod(length, BLOCK)
    last = packer.compress(bytes(rest)) + packer.flush()
    # Adler-32 of zeros: one sum stays 1, the other counts.
    return b"\x78\xda" + block * count + last + struct.pack(">HH", length % 65521, 1)


def build_png(width: int, height: int, mode: str, unfolded: int) -> bytes:
    """Return a PNG that declares a size, with ``unfolded`` zero bytes behind it once it is inflated."""
    palette = [(b"PLTE", bytes(768))] if mode == "P" else []
    head = struct.pack(">IIBBBBB", width, height, 8, PNG_KINDS[mode], 0, 0, 0)
    chunks = [(b"IHDR", head), *palette, (b"IDAT", deflate_zeros(unfolded)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
