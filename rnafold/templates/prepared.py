"""A library with all that a search needs of it, in one folder that may be moved and mounted: known by its contents.

Arrays are memory-mapped, so thousands of structures are at hand in a second. `library.json`, written last, says what
the folder holds and makes it a library; its identity is the digest of what was read, never a time or a place.
"""

import datetime
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.rings import RingTable, complete_table, count_unresolved
from rnafold.errors import InputError
from rnafold.files.atomic import replace_folder
from rnafold.files.mounts import walk_files
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import UNDATED, TemplateLibrary
from rnafold.templates.loops import LibraryChains

MANIFEST: Final = "library.json"
PREPARED_VERSION: Final = 1
_TABLE_FIELDS: Final = tuple(one.name for one in fields(RingTable))
# The columns that every library has.
_FIRST_FIELDS: Final = _TABLE_FIELDS[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a library holds and what it was made of.

    `identity` is a digest of the contents; `first` and `last` are the release dates (ISO) of its dated entries, blank
    without any; `sources` count the entries of each table and folder; `left_out` are files that could not be read.
    """

    version: int
    identity: str
    num_entries: int
    num_chains: int
    num_residues: int
    num_undated: int
    first: str
    last: str
    sources: Mapping[str, int]
    left_out: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedLibrary:
    """A library, its search index and its loops."""

    library: TemplateLibrary
    index: LibraryIndex
    fragments: FragmentLibrary


def find_prepared(folder: str | Path) -> list[Path]:
    """Folders below (or at) a folder that hold a prepared library, in alphabetical order."""
    if (Path(folder) / MANIFEST).is_file():
        return [Path(folder)]
    return sorted(path.parent for path in walk_files(folder) if path.name == MANIFEST)


def describe(library: TemplateLibrary, sources: Mapping[str, int], left_out: Sequence[str] = ()) -> Manifest:
    """The manifest of a library."""
    dated = library.released[library.released != UNDATED.toordinal()]
    first, last = ((datetime.date.fromordinal(int(day)).isoformat() for day in (dated.min(), dated.max()))
                   if len(dated) else ("", ""))  # fmt: skip
    return Manifest(
        version=PREPARED_VERSION,
        identity=identify(library),
        num_entries=library.num_entries,
        num_chains=library.num_chains,
        num_residues=len(library.tokens),
        num_undated=library.num_undated,
        first=first,
        last=last,
        sources=dict(sources),
        left_out=list(left_out),
    )


def identify(library: TemplateLibrary) -> str:
    """Digest of a library's contents: the same wherever it lies and whenever it was made."""
    digest = hashlib.sha256(json.dumps([library.ids, library.groups, library.chain_names]).encode())
    for array in (library.coords, library.tokens, library.chain_entry, library.chain_start, library.released):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def save_prepared(folder: str | Path, prepared: PreparedLibrary, manifest: Manifest) -> None:
    """Writes library, index and loops into a folder, put in place in one step.

    Raises:
        InputError: the folder cannot be written.
    """
    with replace_folder(folder) as place:
        prepared.library.write_arrays(place)
        codes, kmers = prepared.index.arrays
        np.save(place / "index-codes.npy", codes)
        np.save(place / "index-kmers.npy", kmers)
        write_loops(place, prepared.fragments)
        (place / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")


def load_prepared(folder: str | Path) -> tuple[PreparedLibrary, Manifest]:
    """A library with index and loops, memory-mapped.

    Raises:
        InputError: a file is missing or of another version.
    """
    place = Path(folder)
    manifest = read_manifest(place)
    library = TemplateLibrary.load(place)
    try:
        codes, kmers = (map_array(place / f"index-{name}.npy") for name in ("codes", "kmers"))
        fragments = read_loops(place, library)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{place}: not a complete template library: {error}; make it anew") from error
    index = LibraryIndex(library, (codes, kmers))
    return PreparedLibrary(library=library, index=index, fragments=fragments), manifest


def read_manifest(folder: Path) -> Manifest:
    """What a library says it holds.

    Raises:
        InputError: no library there, or one of another version.
    """
    path = folder / MANIFEST
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        version = plain["version"]
        if version == PREPARED_VERSION:
            return Manifest(**plain)
    except FileNotFoundError:
        raise InputError(f"{folder}: holds no {MANIFEST}, expected a folder that `rnafold library` made") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a library's manifest ({error})") from error
    raise InputError(f"{path}: a library of version {version}, expected {PREPARED_VERSION}; make it anew")


def map_array(path: Path) -> npt.NDArray[Any]:
    """A .npy file memory-mapped."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def write_loops(place: Path, fragments: FragmentLibrary) -> None:
    """The loops of a library as one .npy a column."""
    chains = fragments.chains
    assert isinstance(chains, LibraryChains)
    np.save(place / "loops-chains.npy", chains.chains)
    np.save(place / "loops-sizes.npy", np.array(sorted(fragments.rings), dtype=np.int64))
    tables = {f"ring{size}": table for size, table in fragments.rings.items()} | {"linker": fragments.linkers}
    for name, table in tables.items():
        for field in _TABLE_FIELDS:
            np.save(place / f"loops-{name}-{field}.npy", getattr(table, field))


def read_loops(place: Path, library: TemplateLibrary) -> FragmentLibrary:
    """What `write_loops` wrote, as the loops of a library."""

    chains = LibraryChains(library, np.array(map_array(place / "loops-chains.npy")))
    residues = chains.residues
    unresolved = functools.cache(lambda: count_unresolved(residues))

    def table(name: str) -> RingTable:
        paths = {field: place / f"loops-{name}-{field}.npy" for field in _TABLE_FIELDS}
        columns = {field: map_array(path) for field, path in paths.items() if path.is_file() or field in _FIRST_FIELDS}
        if len(columns) < len(_TABLE_FIELDS):  # a library made before loops were judged
            return complete_table({field: columns[field] for field in _FIRST_FIELDS}, residues, unresolved())
        return RingTable(**columns)

    rings = {int(size): table(f"ring{size}") for size in map_array(place / "loops-sizes.npy")}
    return FragmentLibrary(chains, rings, table("linker"), residues)
