"""Text of a file as it lies there, .gz or .zst."""

import gzip
from pathlib import Path


def read_packed(path: Path) -> str:
    """The text of a file, unpacked; bytes that are no UTF-8 are replaced.

    Raises:
        ValueError: a damaged archive, a file that cannot be read, or .zst without the package zstandard.
    """
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
        elif path.suffix.lower() == ".zst":
            data = _unpack_zstandard(data)
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot be unpacked ({' '.join(str(error).split())})") from error
    return data.decode("utf-8", errors="replace").replace("\r\n", "\n")


def _unpack_zstandard(data: bytes) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise ValueError("packed with zstandard, which is not installed (pip install zstandard)") from None
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    try:
        unpacked = unpacker.decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"cannot be unpacked ({error})") from error
    if not unpacker.eof:
        raise ValueError("cannot be unpacked (cut off)")
    return bytes(unpacked)
