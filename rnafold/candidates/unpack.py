"""Text of a file as it lies there, .gz or .zst."""

import gzip
import zlib
from pathlib import Path
from typing import Final

# Full confidences of 5,000 residues as text take 500 MB.
MOST_BYTES: Final = 1 << 30
_PIECE_BYTES: Final = 1 << 14


def read_packed(path: Path) -> str:
    """The text of a file, unpacked, line ends as newlines; bytes that are no UTF-8 are replaced.

    Raises:
        ValueError: a damaged archive, more than 1 GiB of text, a file that cannot be read, or .zst without the package
            zstandard.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as packed:
                data = packed.read(MOST_BYTES + 1)
        elif path.suffix.lower() == ".zst":
            data = _unpack_zstandard(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot be unpacked ({' '.join(str(error).split())})") from error
    if len(data) > MOST_BYTES:
        raise ValueError(f"unpacks to more than {MOST_BYTES >> 20} MiB")
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _unpack_zstandard(data: bytes) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise ValueError("packed with zstandard, which is not installed (pip install zstandard)") from None
    # in pieces, so that a file that unfolds without end is stopped on the way
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    parts: list[bytes] = []
    size = 0
    try:
        for start in range(0, len(data), _PIECE_BYTES):
            parts.append(unpacker.decompress(data[start : start + _PIECE_BYTES]))
            size += len(parts[-1])
            if size > MOST_BYTES or unpacker.eof:
                break
    except zstandard.ZstdError as error:
        raise ValueError(f"cannot be unpacked ({error})") from error
    if not unpacker.eof and size <= MOST_BYTES:
        raise ValueError("cannot be unpacked (cut off)")
    return b"".join(parts)
