"""What a search needs of a library, computed once: codes and k-mers of all chains, and which have the same content."""

import functools

import numpy as np
import numpy.typing as npt

from rnafold import rna
from rnafold.structure import FloatArray, IntArray
from rnafold.templates.library import NUM_STATES, Gate, TemplateLibrary

CodeArray = npt.NDArray[np.int8]
KmerArray = npt.NDArray[np.uint16]

KMER = 5
# Cells a second of an alignment that are assumed before any were measured.
FIRST_PACE = 5.0e7


class LibraryIndex:
    """What a search needs of a library, computed once: codes of every chain, k-mers, chains with equal content."""

    def __init__(self, library: TemplateLibrary, stored: tuple[CodeArray, KmerArray] | None = None) -> None:
        """`stored` are the `arrays` of an earlier index of the same library."""
        self.library = library
        self._ends = np.concatenate([[0], np.cumsum(library.chain_length)])
        if stored is None:
            parts = [library.chain_codes(chain).astype(np.int8) for chain in range(library.num_chains)]
            codes = np.concatenate([np.zeros(0, np.int8), *parts])
            stored = codes, _kmers(codes // NUM_STATES).astype(np.uint16)
        self._codes, self._kmers = stored
        # cells a second of the latest alignments: how many more a deadline allows
        self.pace = FIRST_PACE

    @property
    def arrays(self) -> tuple[CodeArray, KmerArray]:
        """All chains' letter x state codes one after the other, and the k-mers that begin at each."""
        return self._codes, self._kmers

    def codes_of(self, chain: int) -> CodeArray:
        """(L,) letter x state codes of a chain, as of TemplateLibrary.chain_codes."""
        return self._codes[int(self._ends[chain]) : int(self._ends[chain + 1])]

    @functools.cached_property
    def contents(self) -> IntArray:
        """(chains,) the first chain with the same codes: what is aligned with one is aligned with all of them."""
        first: dict[bytes, int] = {}
        same = [first.setdefault(self.codes_of(chain).tobytes(), chain) for chain in range(self.library.num_chains)]
        return np.array(same, dtype=np.int64)

    def distinct(self, chains: IntArray) -> IntArray:
        """Of chains (in ascending order) the first of each content."""
        return np.asarray(chains[np.sort(np.unique(self.contents[chains], return_index=True)[1])], dtype=np.int64)

    def choose_copy(self, chain: int, chains: IntArray, mapping: IntArray) -> int:
        """Of those of `chains` with a chain's content the one of which most residues in `mapping` are resolved."""
        copies = chains[self.contents[chains] == self.contents[chain]]
        if len(copies) < 2:
            return chain
        used = mapping[mapping >= 0]
        rows = self.library.first_residue[copies][:, None] + used
        return int(copies[np.argmax(np.isfinite(self.library.coords[rows, 0]).sum(1))])

    def searchable(self, gate: Gate | None, shortest: float) -> IntArray:
        """Chains that the gate allows, at least `shortest` residues long, one of each set of copies in an entry."""
        library = self.library
        keep = library.allowed(gate) & (library.chain_length >= max(shortest, 3)) & (library.chain_copy <= 1)
        return np.flatnonzero(keep)

    def shared_kmers(self, tokens: IntArray) -> FloatArray:
        """(chains,) share of each chain's k-mers that the query has, over the share expected by chance."""
        have = np.zeros(rna.NUM_TOKENS**KMER, dtype=np.float64)
        have[_kmers(tokens)] = 1.0
        found = np.concatenate([[0.0], np.cumsum(have[self._kmers])])
        stops = np.maximum(self._ends[1:] - KMER + 1, self._ends[:-1])
        stops = np.minimum(stops, len(self._kmers))
        starts = np.minimum(self._ends[:-1], len(self._kmers))
        count = np.maximum(stops - starts, 1)
        chance = max(float(have.sum()) / 4.0**KMER, 1e-3)
        hits = found[stops] - found[starts]
        return np.asarray((hits - chance * count) / np.sqrt(chance * count + 1.0), dtype=np.float64)


def _kmers(tokens: npt.NDArray[np.integer]) -> IntArray:
    if len(tokens) < KMER:
        return np.zeros(0, dtype=np.int64)
    weights = rna.NUM_TOKENS ** np.arange(KMER)
    windows = np.lib.stride_tricks.sliding_window_view(tokens.astype(np.int64), KMER)
    return np.asarray(windows @ weights, dtype=np.int64)
