"""One structure file, packed or not, read by what it holds: its RNA chains, release date and PDB code."""

import datetime
import gzip
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rnafold.data.structures.chains import RnaChain
from rnafold.data.structures.cif import read_cif
from rnafold.data.structures.pdb import read_pdb
from rnafold.data.structures.sites import PLAIN_BYTES
from rnafold.data.tables import open_binary
from rnafold.errors import InputError

ENDINGS: Final = tuple(f".{kind}{packed}" for kind in ("cif", "mmcif", "pdb", "ent") for packed in ("", ".gz"))
_SUFFIX: Final = re.compile(r"\.(cif|mmcif|pdb|ent)(\.gz)?$", re.IGNORECASE)
_OWN_CODE: Final = re.compile(r"(?:pdb)?([0-9](?=[a-z0-9]*[a-z])[a-z0-9]{3})(?:-assembly\d+|-sf)?", re.IGNORECASE)
# The largest entries of the PDB unpack to about 2 GB; more is no structure file but a trap.
MOST_BYTES: Final = 4 << 30
_IS_CIF: Final = re.compile(rb"^\s*(?:#[^\n]*\n\s*)*data_|^_atom_site\.", re.MULTILINE | re.IGNORECASE)
_IS_PDB: Final = re.compile(rb"^(?:ATOM  |HETATM)", re.MULTILINE)


def cut_endings(name: str) -> str:
    """A structure file's name without its endings."""
    return _SUFFIX.sub("", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureFile:
    """What a structure file holds.

    Attributes:
        stem: file name without its endings.
        code: PDB code, in upper case, as the file or its name states it; blank for none.
        released: first release; None if the file does not say.
        chains: name (author's chain id, after the block's name where a file has several) and RNA chain; may be empty.
            Chains of one block share a coordinate frame.
    """

    stem: str
    code: str
    released: datetime.date | None
    chains: tuple[tuple[str, RnaChain], ...]


def read_structure(path: str | Path) -> StructureFile:
    """All RNA chains of a .cif, .mmcif, .pdb or .ent file, also .gz; no RNA is no fault.

    Raises:
        InputError: no such file, another kind of file, damaged, cut off, without atoms, or coordinates no numbers.
    """
    path = Path(path)
    if not _SUFFIX.search(path.name):
        raise InputError(f"{path}: found suffix {path.suffix!r}, expected .cif, .mmcif, .pdb or .ent, also with .gz")
    data = _read_bytes(path)
    stem = cut_endings(path.name)
    own = _OWN_CODE.fullmatch(stem)
    named = own.group(1).upper() if own else ""
    try:
        if _is_cif(path, data):
            blocks = read_cif(data)
            chains = [
                (f"{block.name}_{chain.chain_id}", replace(chain, block=block.name))
                if index
                else (chain.chain_id, chain)
                for index, block in enumerate(blocks)
                for chain in block.chains
            ]
            released = min((block.released for block in blocks if block.released), default=None)
            code = blocks[0].code
        else:
            found, released, code = read_pdb(data.translate(PLAIN_BYTES).decode("ascii"))
            chains = [(chain.chain_id, chain) for chain in found]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return StructureFile(stem=stem, code=code or named, released=released, chains=_name_apart(chains))


def _name_apart(chains: list[tuple[str, RnaChain]]) -> tuple[tuple[str, RnaChain], ...]:
    """Each name once: a second A is A.2."""
    seen: set[str] = set()
    named = []
    for name, chain in chains:
        own, number = name, 1
        while own in seen:
            number += 1
            own = f"{name}.{number}"
        seen.add(own)
        named.append((own, chain))
    return tuple(named)


def _read_bytes(path: Path) -> bytes:
    """The file unpacked, its line ends newlines, without a byte-order mark."""
    with open_binary(path) as handle:
        try:
            data = handle.read(MOST_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked ({error})") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error})") from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{path}: more than {MOST_BYTES >> 30} GiB unpacked, expected a structure file")
    if data.startswith(b"\x1f\x8b"):
        raise InputError(f"{path}: packed by gzip, expected a name that ends in .gz")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise InputError(f"{path}: the file is empty, expected a structure")
    return data


def _is_cif(path: Path, data: bytes) -> bool:
    """What the file's name says, unless its contents are plainly of the other kind."""
    named = "cif" in path.name.lower().removesuffix(".gz").rpartition(".")[2]
    other = _IS_PDB if named else _IS_CIF
    own = _IS_CIF if named else _IS_PDB
    start = data[: 1 << 16]
    return named != bool(other.search(start) and not own.search(start))
