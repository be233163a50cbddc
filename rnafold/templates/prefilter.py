"""Which chains of a library are worth an alignment: all of a small one, of a large one those with the best stretches.

Alignments are what a search costs, so that only so many residues are aligned, however large the library is. They are
chosen by their best stretch without gaps, letters and pairing states together, for a thirtieth of an alignment's
time; where even that is too much, chains that share k-mers with the query are looked at, and what MMseqs2 finds.
Source of the figures: docs/studies/templates.md, Search.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnafold import rna
from rnafold.structure import FloatArray, IntArray
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import NUM_STATES

# Residues of the library that are aligned with a query, and the cells that one setting may fill: about 0.7 s.
ALIGNED_RESIDUES, ALIGNED_CELLS = 80_000, 2.0e8
# Cells in which stretches are looked for: about 0.3 s.
STRETCH_CELLS = 4.0e8
# Never are fewer chains aligned.
LEAST_CHAINS = 25
# What the best stretch of a chain of n residues owes to their number alone grows like the logarithm of n.
SCORE_OF_LENGTH = 3.0
# Residues worked on at once: what stays in a processor's cache.
BLOCK_RESIDUES = 1 << 16


def shortlist(index: LibraryIndex, tokens: IntArray, chains: IntArray, budget: float = ALIGNED_CELLS) -> IntArray:
    """The chains in which stretches are looked for: all while they fit, otherwise those that share most k-mers."""
    cells = len(tokens) * index.library.chain_length[chains].astype(np.float64)
    most = STRETCH_CELLS / ALIGNED_CELLS * min(budget, ALIGNED_CELLS)
    if cells.sum() <= most:
        return chains
    return _take_best(chains, index.shared_kmers(tokens)[chains], cells, most)


def prefilter(index: LibraryIndex, profile: FloatArray, chains: IntArray, budget: float = ALIGNED_CELLS) -> IntArray:
    """The chains to align: all while they fit the budget of cells, otherwise those with the best stretches.

    Args:
        index: the library's index.
        profile: (L, 15) score of each query residue against each code, pairing states included.
        chains: in ascending order.
        budget: cells that one setting may fill.
    """
    lengths = index.library.chain_length[chains].astype(np.float64)
    most = min(ALIGNED_RESIDUES, budget / len(profile))
    if lengths.sum() <= most:
        return chains
    return _take_best(
        chains, score_stretches(index, profile, chains) - SCORE_OF_LENGTH * np.log(lengths), lengths, most
    )


def _take_best(chains: IntArray, scores: FloatArray, sizes: FloatArray, most: float) -> IntArray:
    """The best chains whose sizes add up to `most`, in ascending order."""
    order = np.argsort(-scores, kind="stable")
    count = int(np.searchsorted(np.cumsum(sizes[order]), most)) + 1
    return np.sort(chains[order[: max(count, LEAST_CHAINS)]])


def score_stretches(index: LibraryIndex, profile: FloatArray, chains: IntArray) -> FloatArray:
    """(chains,) score of the best stretch of each chain that is aligned without a gap, nothing below zero."""
    lengths = index.library.chain_length[chains]
    found = [np.zeros(0)]
    for part in np.split(chains, np.flatnonzero(np.diff(np.cumsum(lengths) // BLOCK_RESIDUES)) + 1):
        if len(part):
            codes = np.concatenate([index.codes_of(int(chain)) for chain in part]).astype(np.intp)
            starts = np.concatenate([[0], np.cumsum(index.library.chain_length[part])[:-1]])
            found.append(_score_block(profile.astype(np.float32), codes, starts))
    return np.concatenate(found)


def _score_block(profile: npt.NDArray[np.float32], codes: npt.NDArray[np.intp], starts: IntArray) -> FloatArray:
    """The same of chains that begin at `starts` of `codes`."""
    best = np.zeros(len(codes), np.float32)
    # of each residue, the score of the stretch that ends one residue earlier in query and chain
    before = np.zeros(len(codes), np.float32)
    for row in profile:
        here = row.take(codes)
        here += before
        np.maximum(here, 0.0, out=here)
        np.maximum(best, here, out=best)
        before[1:] = here[:-1]
        before[starts] = 0.0
    return np.maximum.reduceat(best, starts).astype(np.float64)


def find_with_mmseqs(index: LibraryIndex, sequence: str, chains: IntArray, seconds: float = 60.0) -> IntArray:
    """Chains that MMseqs2 finds for a sequence among `chains`, best first; none where mmseqs is missing or fails."""
    program = shutil.which("mmseqs")
    if program is None or not len(chains):
        return np.zeros(0, dtype=np.int64)
    with tempfile.TemporaryDirectory(prefix="rnafold-mmseqs-") as folder:
        place = Path(folder)
        (place / "query.fasta").write_text(f">query\n{sequence}\n", encoding="ascii")
        letters = np.array(list(rna.ALPHABET + rna.UNKNOWN))
        records = (f">{chain}\n{''.join(letters[index.codes_of(int(chain)) // NUM_STATES])}\n" for chain in chains)
        (place / "library.fasta").write_text("".join(records), encoding="ascii")
        command = [program, "easy-search", "query.fasta", "library.fasta", "hits.tsv", "scratch"]
        command += ["--search-type", "3", "-s", "7.5", "-e", "10", "--threads", "1", "--format-output", "target"]
        try:
            subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=seconds)
            found = (place / "hits.tsv").read_text(encoding="ascii").split()
        except (OSError, subprocess.SubprocessError):
            return np.zeros(0, dtype=np.int64)
    known = {str(chain) for chain in chains}
    return np.array([int(name) for name in dict.fromkeys(found) if name in known], dtype=np.int64)
