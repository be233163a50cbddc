"""Files of alignments as programs write them: where they lie, and their rows (FASTA, a3m, Stockholm, Clustal).

Stockholm and Clustal files go through Biopython; FASTA is read here, since an a3m may hold a million rows of which the
first thousands are used.
"""

import io
import itertools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from rnafold.data.tables import open_binary
from rnafold.errors import InputError

Record = tuple[str, str]
# What may follow the target's id in a file's name, in the order in which they are looked for: the competition's, then
# those of HMMER, Infernal, MAFFT and HH-suite.
ENDINGS: Final = tuple(
    ending + packed
    for ending in (".MSA.fasta", ".a3m", ".afa", ".sto", ".stk", ".stockholm", ".aln", ".clustal")
    for packed in ("", ".gz")
)
_SUBFOLDERS: Final = ("", "MSA", "MSA_v2")
# How the first line of a file of several blocks begins, and Biopython's name of the format.
_FORMATS: Final = {"# STOCKHOLM": "stockholm", "CLUSTAL": "clustal", "MUSCLE": "clustal", "PROBCONS": "clustal"}
_LONGEST_HEAD: Final = 100
# Alignments of several blocks are read whole: no more than this (Rfam's largest seed has 2 MB).
MAX_BLOCK_BYTES: Final = 1_000_000_000


def find_msa(directories: Iterable[str | Path], target_id: str) -> Path | None:
    """The alignment of a target in one of the folders or its MSA or MSA_v2 folder; None without one.

    It is called by the target's id and one of ENDINGS. A target_id that is no plain file name has none: it would lead
    out of the folder.
    """
    if Path(target_id).name != target_id or "\\" in target_id or "\0" in target_id:
        return None
    for directory, below, ending in itertools.product(directories, _SUBFOLDERS, ENDINGS):
        path = Path(directory) / below / f"{target_id}{ending}"
        if path.is_file():
            return path
    return None


def iter_records(path: str | Path) -> Iterator[Record]:
    """(header, letters) of each row, as they stand in the file.

    FASTA and a3m are read as far as they are asked for. Of a file with several alignments the first is read.

    Raises:
        InputError: no such file, empty, a damaged .gz, or no alignment of a known format.
    """
    try:
        with open_binary(path) as handle:
            head = handle.read(_LONGEST_HEAD).decode("utf-8-sig", errors="replace").lstrip()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error})") from error
    kind = next((name for start, name in _FORMATS.items() if head.startswith(start)), None)
    return _iter_fasta(path) if kind is None else _iter_blocks(path, kind)


def _iter_blocks(path: str | Path, kind: str) -> Iterator[Record]:
    """Rows of a Stockholm or Clustal file."""
    from Bio import AlignIO

    try:
        with open_binary(path) as handle:
            content = handle.read(MAX_BLOCK_BYTES + 1)
        if len(content) > MAX_BLOCK_BYTES:
            raise InputError(
                f"{path}: above {MAX_BLOCK_BYTES:,} bytes unpacked; convert it to a3m, which is read by rows"
            )
        text = content.decode("utf-8-sig", errors="replace").lstrip().replace("\r\n", "\n").replace("\r", "\n")
        for row in next(iter(AlignIO.parse(io.StringIO(text), kind)), ()):
            yield row.id, str(row.seq)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error})") from error
    except (ValueError, KeyError, IndexError, AssertionError) as error:  # what Biopython says of a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: no {kind} alignment ({reason[:120]})") from error


def _iter_fasta(path: str | Path) -> Iterator[Record]:
    """Rows of a FASTA or a3m file; lines with # before the first are passed over."""
    header, letters, number = "", list[str](), 0
    with open_binary(path) as handle:
        try:
            for line in itertools.chain.from_iterable(part.replace(b"\r\n", b"\n").split(b"\r") for part in handle):
                text = line.decode("utf-8-sig" if not number else "utf-8", errors="replace").strip()
                if not text or (not number and text.startswith("#")):
                    continue
                number += 1
                if number == 1 and not text.startswith(">"):
                    raise InputError(f"{path}: line 1 starts with {text[:1]!r}, expected '>' and a FASTA alignment")
                if not text.startswith(">"):
                    letters.append("".join(text.split()))
                    continue
                if number > 1:
                    yield header, "".join(letters)
                header, letters = text[1:].strip(), []
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked ({error})") from error
    if not number:
        raise InputError(f"{path}: the file is empty, expected a FASTA alignment")
    yield header, "".join(letters)
