"""Loops cut out of known structures, as tables: rings of stems, and linkers between two neighbouring stems.

Every closed loop is a ring of stems. Read from another of its stems the same ring is one more example, so an internal
loop counts twice and a three-way junction three times.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from rnafold.assembly.loops import Pair, clean_pairing, find_loops
from rnafold.files.budget import Budget
from rnafold.structure import BoolArray, IntArray

# Pairs of each stem, and residues at each end of a segment, by whose letters two loops are the same one seen again.
CONTEXT_PAIRS, CONTEXT_RESIDUES = 5, 6
_MIXER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingTable:
    """Loops with the same number S of stems, ordered by their sizes, the same loop seen again beside the first.

    Attributes:
        stems: (F, S, 2) residues that enter and leave each stem from inside.
        sizes: (F, S) unpaired residues after each stem.
        depths: (F, S) pairs of each stem.
        chain: (F,) its chain.
        kin: (F,) digest of sizes and letters, also of the stems: alike for one loop solved many times.
        whole: (F,) True where every residue between the stems is resolved.
    """

    stems: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    depths: npt.NDArray[np.int16]
    chain: npt.NDArray[np.int32]
    kin: npt.NDArray[np.uint64]
    whole: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.chain)

    def select(self, keep: BoolArray | IntArray) -> "RingTable":
        """The rows where `keep` (F,) is True, or of these numbers."""
        return RingTable(**{one.name: getattr(self, one.name)[keep] for one in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FragmentChain:
    """One chain that fragments are cut from: tokens (L,), coords (L, 3) in Å, NaN where unresolved, partner (L,).

    `released` is datetime.date.max where nobody knows it; `codes` are the names by which a target is known to be it.
    """

    chain_id: str
    group: str
    codes: frozenset[str]
    released: datetime.date
    tokens: npt.NDArray[np.integer]
    coords: npt.NDArray[np.floating]
    partner: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Residues:
    """The residues that loops are made of: tokens (N,), coords (N, 3) in Å, first (C,) of each chain, length (C,)."""

    tokens: npt.NDArray[np.integer]
    coords: npt.NDArray[np.floating]
    first: IntArray
    length: IntArray


def join_residues(chains: Sequence[FragmentChain]) -> Residues:
    """The residues of chains one after the other."""
    length = np.array([len(chain.tokens) for chain in chains], dtype=np.int64)
    return Residues(
        tokens=np.concatenate([np.zeros(0, np.int64), *(chain.tokens for chain in chains)]),
        coords=np.concatenate([np.zeros((0, 3)), *(chain.coords for chain in chains)]),
        first=np.cumsum(length) - length,
        length=length,
    )


Row = tuple[list[Pair], list[int], list[int], int]


def cut_loops(chains: Sequence[FragmentChain], budget: Budget | None = None) -> tuple[dict[int, list[Row]], list[Row]]:
    """Every loop whose anchors (two pairs of each stem) are resolved, while there is time: rings by their number of
    stems, and linkers.
    """
    rings: dict[int, list[Row]] = {}
    linkers: list[Row] = []
    for index, chain in enumerate(chains):
        if budget is not None and budget.spent:
            break
        known = np.asarray(np.isfinite(chain.coords).all(1), dtype=np.bool_)
        for stems, sizes, depths, closed in _rings(chain):
            fit = [_stem_known(known, stem) for stem in stems]
            if closed and all(fit):
                for turn in range(len(stems)):
                    order = [(turn + k) % len(stems) for k in range(len(stems))]
                    rings.setdefault(len(stems), []).append(
                        ([stems[k] for k in order], [sizes[k] for k in order], [depths[k] for k in order], index)
                    )
            for k in range(len(stems) - (0 if closed and len(stems) > 1 else 1)):
                n = (k + 1) % len(stems)
                if fit[k] and fit[n]:
                    linkers.append(([stems[k], stems[n]], [sizes[k], 0], [depths[k], depths[n]], index))
    return rings, linkers


def _rings(chain: FragmentChain) -> Iterator[tuple[list[Pair], list[int], list[int], bool]]:
    """(stems from inside, sizes, depths, closed) of each loop of a chain; the exterior loop is not closed."""
    breaks = np.zeros(max(len(chain.tokens) - 1, 0), dtype=np.bool_)
    nested = clean_pairing(chain.partner, breaks)
    for loop in find_loops(nested, breaks):
        if loop.closing is None:
            yield list(loop.branches), list(loop.sizes[1:-1]), list(loop.depths[1:]), False
        else:
            i, j = loop.closing
            yield [(j, i), *loop.branches], list(loop.sizes), list(loop.depths), True


def _stem_known(known: BoolArray, stem: Pair) -> bool:
    enter, leave = stem
    rows = [enter, enter + 1, leave, leave - 1]
    return min(rows) >= 0 and max(rows) < len(known) and bool(known[rows].all())


def count_unresolved(residues: Residues) -> IntArray:
    """(N + 1,) how many residues before each are unresolved."""
    return np.concatenate([[0], np.cumsum(~np.isfinite(residues.coords).all(1))])


def make_table(rows: Sequence[Row], size: int, residues: Residues, unresolved: IntArray) -> RingTable:
    """The table of loops with `size` stems; `unresolved` of `count_unresolved`."""
    return complete_table(
        {
            "stems": np.array([stems for stems, _, _, _ in rows], dtype=np.int32).reshape(-1, size, 2),
            "sizes": np.array([sizes for _, sizes, _, _ in rows], dtype=np.int32).reshape(-1, size),
            "depths": np.array([depths for _, _, depths, _ in rows], dtype=np.int16).reshape(-1, size),
            "chain": np.array([chain for _, _, _, chain in rows], dtype=np.int32),
        },
        residues,
        unresolved,
    )


def complete_table(
    columns: Mapping[str, npt.NDArray[np.integer]], residues: Residues, unresolved: IntArray
) -> RingTable:
    """A table of the first four columns alone, as older libraries have them, in order and with the other two."""
    stems, sizes, chain = columns["stems"].astype(np.int64), columns["sizes"], columns["chain"]
    first, length = residues.first[chain][:, None], residues.length[chain][:, None]
    digest = np.zeros(len(chain), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for places in (sizes, *_context(stems, sizes, residues, first, length)):
            for column in places.T:
                digest = (digest ^ (column.astype(np.int64) + 2).astype(np.uint64)) * _MIXER
                digest ^= digest >> np.uint64(29)
    begin = first + stems[:, :, 1] + 1
    missing = unresolved[np.minimum(begin + sizes, len(unresolved) - 1)] - unresolved[begin]
    table = RingTable(
        stems=columns["stems"].astype(np.int32, copy=False),
        sizes=columns["sizes"].astype(np.int32, copy=False),
        depths=columns["depths"].astype(np.int16, copy=False),
        chain=columns["chain"].astype(np.int32, copy=False),
        kin=digest,
        whole=~missing.any(1),
    )
    return order_rows(table)


def _context(
    stems: IntArray, sizes: npt.NDArray[np.integer], residues: Residues, first: IntArray, length: IntArray
) -> Iterator[IntArray]:
    """Letters (F, n) of the stems and of the ends of segments, -1 outside of the chain or the segment."""

    def letters(places: IntArray, inside: BoolArray) -> IntArray:
        inside = inside & (places >= 0) & (places < length)
        return np.where(inside, residues.tokens[np.where(inside, first + places, 0)], -1)

    steps, ends = np.arange(CONTEXT_PAIRS), np.arange(1, CONTEXT_RESIDUES + 1)
    always = np.ones((1, CONTEXT_PAIRS), dtype=np.bool_)
    for k in range(stems.shape[1]):
        after = (k + 1) % stems.shape[1]
        yield letters(stems[:, k, :1] + steps, always)
        yield letters(stems[:, k, 1:] - steps, always)
        yield letters(stems[:, k, 1:] + ends, ends <= sizes[:, k : k + 1])
        yield letters(stems[:, after, :1] - ends, ends <= sizes[:, k : k + 1])


def order_rows(table: RingTable) -> RingTable:
    """The rows by sizes, then kin; what is the same in both stays in its order."""
    return table.select(np.lexsort((table.kin, *table.sizes.T[::-1])))


def stack_tables(tables: Sequence[RingTable]) -> RingTable:
    """The rows of several tables in one."""
    columns = {one.name: np.concatenate([getattr(t, one.name) for t in tables]) for one in fields(RingTable)}
    return order_rows(RingTable(**columns))
