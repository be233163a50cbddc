"""The template library: known RNA structures with release dates, in flat arrays memory-mapped from disk."""

import datetime
import hashlib
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold import rna
from rnafold.assembly.pairs import pairs_from_coords
from rnafold.errors import InputError
from rnafold.files.atomic import replace_folder
from rnafold.files.bounded import parse_json
from rnafold.structure import BoolArray, Entry, FloatArray, IntArray, Target
from rnafold.templates.alignment import Hit

FORMAT_VERSION = 2
# The release of a structure that nobody dates: behind the gate of any target.
UNDATED = datetime.date.max
_PDB_CODE = re.compile(r"([0-9][A-Za-z0-9]{3})(?:_.*)?")
NUM_STATES = 3
NUM_CODES = rna.NUM_TOKENS * NUM_STATES
_ARRAYS = (
    "coords",
    "tokens",
    "partner",
    "starts",
    "chain_entry",
    "chain_start",
    "chain_stop",
    "chain_copy",
    "released",
)


def entry_code(entry_id: str) -> str:
    """The structure that an entry is a chain of, in upper case: the PDB code that its id begins with (1SCL of 1SCL_A).

    An id that begins with no PDB code stands for itself.
    """
    match = _PDB_CODE.fullmatch(entry_id)
    return (match.group(1) if match else entry_id).upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Which library entries a target may see: released before `before` (None: any date), not in `codes` or `groups`.

    `codes` are structure codes as of `entry_code`; `undated` lets structures through of which nobody knows the release.
    """

    before: datetime.date | None
    codes: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    undated: bool = False


def gate_for(
    target: Target, before: datetime.date | None = None, groups: Collection[str] = (), undated: bool = False
) -> Gate:
    """The honest gate of a target: entries released before its temporal cutoff, and never the target's own entry.

    Args:
        target: the target; its cutoff counts.
        before: the date to use for a target without a cutoff.
        groups: sequence groups to leave out as well.
        undated: the user vouches for the structures without a release date.

    Raises:
        InputError: the target has no cutoff and no date is given.
    """
    cutoff = target.cutoff or before
    if cutoff is None:
        raise InputError(f"target {target.target_id} has no temporal_cutoff: a date must be stated to search templates")
    own = frozenset({entry_code(target.target_id), target.target_id.upper()})
    return Gate(before=cutoff, codes=own, groups=frozenset(groups), undated=undated)


def gate_for_training(entry: Entry) -> Gate:
    """The gate of a training chain used as a target: `gate_for`, and nothing of its sequence group either."""
    return gate_for(entry.target, groups=(entry.group,) if entry.group else ())


@dataclass(slots=True, kw_only=True)
class LibraryNames:
    """What a library has in words: of its chains `chain_names`, the rest of its entries; see TemplateLibrary."""

    ids: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    codes: list[list[str]] = field(default_factory=list)
    chain_names: list[str] = field(default_factory=list)


def encode_states(partner: IntArray) -> IntArray:
    """(L,) 0 unpaired, 1 paired with a later residue, 2 paired with an earlier one."""
    index = np.arange(len(partner))
    return np.where(partner < 0, 0, np.where(partner > index, 1, 2)).astype(np.int64)


class TemplateLibrary:
    """Known structures: residues of all entries one after the other, and a table of their chains.

    `coords` (N, 3) float32 Å, NaN where unresolved; `tokens` (N,) int8; `partner` (N,) int32 within the entry, -1 none;
    entry e holds residues starts[e] .. starts[e + 1]; chain c of entry chain_entry[c] holds residues chain_start[c] ..
    chain_stop[c] of it. `released` (E,) are ordinal days. `chain_names` are of chains; of entries, `frames` name the
    structure whose coordinate frame they share, and `codes` are the names by which a target is known to be the entry.
    """

    def __init__(self, names: LibraryNames, **arrays: npt.NDArray[np.generic]):
        self.ids, self.groups, self.chain_names = list(names.ids), list(names.groups), list(names.chain_names)
        self.frames, self.codes = list(names.frames), [frozenset(known) for known in names.codes]
        self.coords: npt.NDArray[np.float32] = arrays["coords"].astype(np.float32, copy=False)
        self.tokens: npt.NDArray[np.int8] = arrays["tokens"].astype(np.int8, copy=False)
        self.partner: npt.NDArray[np.int32] = arrays["partner"].astype(np.int32, copy=False)
        self.starts, self.chain_entry, self.chain_start, self.chain_stop, self.chain_copy, self.released = (
            np.asarray(arrays[name], dtype=np.int64) for name in _ARRAYS[3:]
        )
        self.chain_length: IntArray = self.chain_stop - self.chain_start
        self.first_residue: IntArray = self.starts[self.chain_entry] + self.chain_start

    @classmethod
    def from_entries(
        cls, entries: Iterable[Entry], with_undated: bool = False, show_progress: bool = True
    ) -> "TemplateLibrary":
        """Library of entries, first conformation, pairs found from C1'; of those without a date only where told so."""
        names = LibraryNames()
        coords, tokens, partners, released = [], [], [], []
        table: list[tuple[int, int, int, int]] = []
        for entry in tqdm(entries, desc="library", unit="entry", disable=None if show_progress else True):
            target = entry.target
            if not entry.references or not target.length or (target.cutoff is None and not with_undated):
                continue
            letters = rna.encode_sequence(target.sequence)
            points = entry.references[0].c1
            for chain in target.chains:
                table.append((len(names.ids), chain.start, chain.stop, chain.copy))
                names.chain_names.append(chain.chain_id)
            names.ids.append(target.target_id)
            names.groups.append(entry.group)
            names.frames.append(entry.source or entry_code(target.target_id))
            names.codes.append(_list_codes(entry))
            released.append((target.cutoff or UNDATED).toordinal())
            coords.append(points.astype(np.float32))
            tokens.append(letters.astype(np.int8))
            partners.append(pairs_from_coords(letters, points).astype(np.int32))
        columns = np.array(table, dtype=np.int64).reshape(-1, 4)
        lengths = [len(part) for part in tokens]
        return cls(
            names,
            coords=np.concatenate(coords) if coords else np.zeros((0, 3), np.float32),
            tokens=np.concatenate(tokens) if tokens else np.zeros(0, np.int8),
            partner=np.concatenate(partners) if partners else np.zeros(0, np.int32),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            chain_entry=columns[:, 0],
            chain_start=columns[:, 1],
            chain_stop=columns[:, 2],
            chain_copy=columns[:, 3],
            released=np.array(released, dtype=np.int64),
        )

    @property
    def num_entries(self) -> int:
        """Number of entries E."""
        return len(self.ids)

    @property
    def num_undated(self) -> int:
        """Number of entries of which nobody knows the release."""
        return int((self.released == UNDATED.toordinal()).sum())

    @property
    def num_chains(self) -> int:
        """Number of chain copies over all entries."""
        return len(self.chain_entry)

    def chain_id(self, chain: int) -> str:
        """Id of the entry that chain (by index) belongs to."""
        return self.ids[int(self.chain_entry[chain])]

    def chain_rows(self, chain: int) -> slice:
        """Rows of the residue arrays that chain (by index) holds."""
        first = int(self.first_residue[chain])
        return slice(first, first + int(self.chain_length[chain]))

    def chain_partner(self, chain: int) -> IntArray:
        """(L,) partner within the chain, -1 where unpaired or paired with another chain."""
        rows = self.chain_rows(chain)
        partner = self.partner[rows].astype(np.int64) - int(self.chain_start[chain])
        outside = (self.partner[rows] < 0) | (partner < 0) | (partner >= int(self.chain_length[chain]))
        return np.where(outside, -1, partner)

    def chain_codes(self, chain: int) -> IntArray:
        """(L,) letter x state codes 0..14 of a chain: token * 3 + (0 unpaired, 1 opening, 2 closing)."""
        rows = self.chain_rows(chain)
        partner = self.partner[rows].astype(np.int64)
        state = encode_states(np.where(partner < 0, -1, partner - int(self.chain_start[chain])))
        return self.tokens[rows].astype(np.int64) * NUM_STATES + np.where(partner < 0, 0, state)

    def chain_date(self, chain: int) -> datetime.date:
        """Release date of a chain's entry, UNDATED where nobody knows it."""
        return datetime.date.fromordinal(int(self.released[self.chain_entry[chain]]))

    def allowed(self, gate: Gate | None) -> BoolArray:
        """(chains,) True where the gate lets a target see the chain; None lets everything through."""
        if gate is None:
            return np.ones(self.num_chains, dtype=np.bool_)
        limit = gate.before.toordinal() if gate.before is not None else 10**9
        fine = self.released < limit
        if gate.undated:
            fine |= self.released == UNDATED.toordinal()
        if gate.codes:
            fine &= np.array([gate.codes.isdisjoint(known) for known in self.codes], dtype=np.bool_)
        if gate.groups:
            fine &= np.array([not group or group not in gate.groups for group in self.groups], dtype=np.bool_)
        return np.asarray(fine[self.chain_entry], dtype=np.bool_)

    def carry_coords(self, hit: Hit) -> FloatArray:
        """(L, 3) the template's coordinates on the query's residues, NaN where unaligned or unresolved."""
        coords = np.full((len(hit.mapping), 3), np.nan)
        aligned = hit.mapping >= 0
        coords[aligned] = self.coords[self.chain_rows(hit.chain)][hit.mapping[aligned]]
        return coords

    def map_pairs(self, hit: Hit) -> tuple[IntArray, IntArray, int]:
        """Query residues (i, j), i < j, of a template's pairs with both ends aligned; how many have one end aligned."""
        partner = self.chain_partner(hit.chain)
        back = np.full(len(partner), -1, dtype=np.int64)
        aligned = np.flatnonzero(hit.mapping >= 0)
        back[hit.mapping[aligned]] = aligned
        first = np.flatnonzero(partner > np.arange(len(partner)))
        i, j = back[first], back[partner[first]]
        both = (i >= 0) & (j >= 0)
        return i[both], j[both], int(((i >= 0) ^ (j >= 0)).sum())

    def save(self, directory: str | Path) -> None:
        """Write a new folder, put in place in one step."""
        with replace_folder(directory) as folder:
            self.write_arrays(folder)

    def write_arrays(self, folder: Path) -> None:
        """Write one .npy file an array and names.json into a folder."""
        names = LibraryNames(
            ids=self.ids,
            groups=self.groups,
            frames=self.frames,
            codes=[sorted(known) for known in self.codes],
            chain_names=self.chain_names,
        )
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        (folder / "names.json").write_text(json.dumps({"version": FORMAT_VERSION} | asdict(names)), encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> "TemplateLibrary":
        """A saved library, its residue arrays memory-mapped.

        Raises:
            InputError: a file is missing, or another version wrote them.
        """
        folder = Path(directory)
        try:
            names = parse_json((folder / "names.json").read_text(encoding="utf-8"))
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
            version = names.get("version")
            words = LibraryNames(**{one.name: names[one.name] for one in fields(LibraryNames)} if version else {})
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"{folder}: not a template library: {error}") from error
        if version != FORMAT_VERSION:
            raise InputError(f"{folder}: template library of version {version}, expected {FORMAT_VERSION}")
        return cls(words, **arrays)


def _list_codes(entry: Entry) -> list[str]:
    """The names by which a target may be this entry: PDB code, file name, and the entry's own id."""
    own = entry.target.target_id
    names = {own, entry.code or entry_code(own), entry.source.rpartition("/")[2]}
    return sorted(name.upper() for name in names if name)


def fingerprint(paths: Iterable[str | Path]) -> str:
    """A short name for the present contents of files: changes with their names, sizes and times of change."""
    digest = hashlib.sha256(str(FORMAT_VERSION).encode())
    for path in sorted(Path(path) for path in paths):
        status = path.stat()
        digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]
