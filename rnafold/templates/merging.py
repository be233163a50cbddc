"""Parts of a library put together: each structure once, in a set order, with the loops that were cut of each part."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.rings import RingTable, stack_tables
from rnafold.structure import BoolArray
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import UNDATED, LibraryNames, TemplateLibrary, entry_code
from rnafold.templates.loops import LibraryChains
from rnafold.templates.prepared import PreparedLibrary

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some entries of a library to be, with the loops of their chains."""

    library: TemplateLibrary
    fragments: FragmentLibrary


def merge_parts(parts: Sequence[Part], dates: Mapping[str, date] | None = None) -> PreparedLibrary:
    """One library of the entries of all parts in order, those that an earlier one holds left out.

    Args:
        parts: in order of precedence.
        dates: release by PDB code, for entries that state none themselves.
    """
    kept = keep_first(part.library for part in parts)
    library = _join([part.library for part in parts], kept, dates or {})
    return PreparedLibrary(library=library, index=LibraryIndex(library), fragments=_join_loops(parts, kept, library))


def keep_first(libraries: Iterable[TemplateLibrary]) -> list[BoolArray]:
    """For each library (entries,) True where an entry has a chain that none before it has.

    A chain is known by its structure, its id and its sequence: so the same chain of a table and of a file counts once,
    and so does a structure whose chains a table holds together.
    """
    seen: set[tuple[str, str, bytes]] = set()
    kept = []
    for library in libraries:
        fresh = np.zeros(library.num_entries, dtype=np.bool_)
        keys = _chain_keys(library)
        for entry, own in enumerate(keys):
            fresh[entry] = any(key not in seen for key in own)
            seen.update(own)
        kept.append(fresh)
    return kept


def _chain_keys(library: TemplateLibrary) -> list[set[tuple[str, str, bytes]]]:
    """For each entry (structure, chain id, letters) of its chains."""
    keys: list[set[tuple[str, str, bytes]]] = [set() for _ in range(library.num_entries)]
    counts = np.bincount(library.chain_entry, minlength=library.num_entries)
    for chain in range(library.num_chains):
        entry = int(library.chain_entry[chain])
        name, identifier = library.chain_names[chain], library.ids[entry]
        code = entry_code(identifier)
        # a table's 1SCL_A says only in its id which chain it is
        if counts[entry] == 1 and identifier.upper().startswith(f"{code}_"):
            name = identifier[len(code) + 1 :]
        # copies of a chain are one: a table numbers them where a file has a letter for each
        keys[entry].add((code, name, library.tokens[library.chain_rows(chain)].tobytes()))
    return keys


def _join(
    libraries: Sequence[TemplateLibrary], kept: Sequence[BoolArray], dates: Mapping[str, date]
) -> TemplateLibrary:
    """The kept entries one after the other."""
    names = LibraryNames()
    columns: dict[str, list[npt.NDArray[np.generic]]] = {}
    entries = 0
    for library, keep in zip(libraries, kept, strict=True):
        chosen = np.flatnonzero(keep)
        names.ids += [library.ids[e] for e in chosen]
        names.groups += [library.groups[e] for e in chosen]
        names.frames += [library.frames[e] for e in chosen]
        names.codes += [sorted(library.codes[e]) for e in chosen]
        lengths = np.diff(library.starts)
        residues = np.repeat(keep, lengths)
        chains = keep[library.chain_entry]
        names.chain_names += [library.chain_names[c] for c in np.flatnonzero(chains)]
        number = np.cumsum(keep) - 1 + entries
        for name, array in (
            ("coords", library.coords[residues]),
            ("tokens", library.tokens[residues]),
            ("partner", library.partner[residues]),
            ("lengths", lengths[keep]),
            ("chain_entry", number[library.chain_entry[chains]]),
            ("chain_start", library.chain_start[chains]),
            ("chain_stop", library.chain_stop[chains]),
            ("chain_copy", library.chain_copy[chains]),
            ("released", library.released[keep]),
        ):
            columns.setdefault(name, []).append(array)
        entries += len(chosen)
    joined = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    joined["starts"] = np.concatenate([[0], np.cumsum(joined.pop("lengths"))])
    joined["released"] = _date(names, joined["released"].astype(np.int64), dates)
    return TemplateLibrary(names, **joined)


def _date(names: LibraryNames, released: IntArray, dates: Mapping[str, date]) -> IntArray:
    """Ordinal days with those of entries that state none filled in where their code has a date."""
    filled = released.copy()
    for entry in np.flatnonzero(released == UNDATED.toordinal()):
        found = next((dates[code] for code in names.codes[entry] if code in dates), None)
        found = found or dates.get(entry_code(names.ids[entry]))
        if found is not None:
            filled[entry] = found.toordinal()
    return filled


def _join_loops(parts: Sequence[Part], kept: Sequence[BoolArray], library: TemplateLibrary) -> FragmentLibrary:
    """The loops of the kept entries' chains, their chains renumbered."""
    rings: dict[int, list[RingTable]] = {}
    linkers: list[RingTable] = []
    numbers: list[IntArray] = []
    chains_before = fragments_before = 0
    for part, keep in zip(parts, kept, strict=True):
        chains = part.fragments.chains
        assert isinstance(chains, LibraryChains)
        chain_kept = keep[part.library.chain_entry]
        new_number = np.cumsum(chain_kept) - 1 + chains_before
        usable = chain_kept[chains.chains]
        place = (np.cumsum(usable) - 1 + fragments_before).astype(np.int32)
        numbers.append(new_number[chains.chains[usable]])
        for size, table in part.fragments.rings.items():
            rings.setdefault(size, []).append(_renumber(table, usable, place))
        linkers.append(_renumber(part.fragments.linkers, usable, place))
        chains_before += int(chain_kept.sum())
        fragments_before += int(usable.sum())
    chosen = np.concatenate([np.zeros(0, np.int64), *numbers])
    pool = LibraryChains(library, chosen)
    return FragmentLibrary(
        pool,
        {size: stack_tables(tables) for size, tables in sorted(rings.items())},
        stack_tables(linkers),
        pool.residues,
    )


def _renumber(table: RingTable, usable: BoolArray, place: npt.NDArray[np.int32]) -> RingTable:
    part = table.select(usable[table.chain])
    return replace(part, chain=place[part.chain])
