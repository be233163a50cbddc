"""Template search: a k-mer prefilter, then exact profile alignments with affine gaps, in four settings.

The query's rows carry sequence and base-pairing probabilities, a library chain is a string of 15 letter x state codes.
Biopython's aligner takes integer sequences and any substitution matrix, so it aligns such profiles at C speed.
Source of the settings and weights: docs/studies/templates.md, Search.
"""

import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from Bio import Align

from rnafold import rna
from rnafold.structure import BoolArray, FloatArray, IntArray
from rnafold.templates.alignment import SETTINGS, Hit, Setting
from rnafold.templates.library import NUM_CODES, NUM_STATES, Gate, TemplateLibrary

CodeArray = npt.NDArray[np.int8]
KmerArray = npt.NDArray[np.uint16]

MATCH, MISMATCH, UNKNOWN_SCORE = 2.0, -1.5, -0.5
# Rows: what the library residue is (unpaired, opening, closing); columns: probability of the query residue to be so.
STATE_SCORES = np.array([[1.0, -0.5, -0.5], [-0.5, 1.3, -1.0], [-0.5, -1.0, 1.3]])
MINIMUM_COVERAGE = 0.3
KMER = 5
# Cells that one setting may fill in a search before the prefilter starts to drop chains: about 0.7 s.
CELL_BUDGET = 2.0e8
# Part of a target's time that alignments may take; the cells a second that are assumed before any were measured.
SEARCH_SHARE, FIRST_PACE = 0.25, 5.0e7
# Part of a target's time after which the best alignments found so far are all that is traced back.
TRACING_SHARE = 0.5
# Fewer cells are done too soon to tell the pace.
LEAST_TIMED = 1.0e6


def pairing_states(probabilities: npt.NDArray[np.float32]) -> FloatArray:
    """(L, 3) probability of each residue to be unpaired, paired with a later, paired with an earlier residue."""
    opening = np.triu(probabilities).sum(1).astype(np.float64)
    closing = np.tril(probabilities).sum(1).astype(np.float64)
    return np.stack([np.clip(1.0 - opening - closing, 0.0, 1.0), opening, closing], axis=1)


def build_profile_scores(tokens: IntArray, states: FloatArray, structure: float) -> FloatArray:
    """(L, 15) score of each query residue against each letter x state code."""
    letters = np.full((rna.NUM_TOKENS, rna.NUM_TOKENS), MISMATCH)
    np.fill_diagonal(letters, MATCH)
    letters[rna.UNKNOWN_TOKEN, :] = letters[:, rna.UNKNOWN_TOKEN] = UNKNOWN_SCORE
    scores = np.repeat(letters[tokens][:, :, None], NUM_STATES, axis=2)
    scores = scores + structure * (states @ STATE_SCORES.T)[:, None, :]
    return np.asarray(scores.reshape(len(tokens), NUM_CODES), dtype=np.float64)


class ProfileAligner:
    """Aligns one profile (L, 15) with strings of codes. Equal rows share a letter, so long queries stay small."""

    def __init__(self, profile: FloatArray, setting: Setting) -> None:
        rows, letters = np.unique(np.round(profile, 2), axis=0, return_inverse=True)
        self._query = letters.reshape(-1).astype(np.int32)
        self._first_code = len(rows)
        matrix = np.zeros((len(rows) + NUM_CODES, len(rows) + NUM_CODES))
        matrix[: len(rows), len(rows) :] = rows
        self._aligner = Align.PairwiseAligner()
        self._aligner.mode = "local" if setting.mode == "local" else "global"
        self._aligner.substitution_matrix = matrix
        self._aligner.open_gap_score = setting.opening
        self._aligner.extend_gap_score = setting.extension
        if setting.mode == "semi":
            self._aligner.end_gap_score = 0.0

    def encode(self, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Library codes as this aligner's letters."""
        return codes.astype(np.int32) + np.int32(self._first_code)

    def score(self, target: npt.NDArray[np.int32]) -> float:
        """Score of the best alignment with encoded codes."""
        return float(self._aligner.score(self._query, target))

    def align(self, target: npt.NDArray[np.int32]) -> IntArray:
        """(L,) index into `target` for each query residue of one best alignment, -1 where unaligned."""
        mapping = np.full(len(self._query), -1, dtype=np.int64)
        alignments = self._aligner.align(self._query, target)
        try:
            steps = alignments[0].coordinates
        except IndexError:  # a local alignment without any positive cell
            return mapping
        for (q0, q1), (t0, t1) in zip(zip(steps[0], steps[0][1:]), zip(steps[1], steps[1][1:])):
            if q1 > q0 and t1 > t0:
                mapping[q0:q1] = np.arange(t0, t1)
        return mapping


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


def prefilter(index: LibraryIndex, tokens: IntArray, chains: IntArray, budget: float = CELL_BUDGET) -> IntArray:
    """The chains to align: all while they fit the budget of cells, otherwise those that share most k-mers."""
    cells = len(tokens) * index.library.chain_length[chains].astype(np.float64)
    if cells.sum() <= budget:
        return chains
    order = np.argsort(-index.shared_kmers(tokens)[chains], kind="stable")
    count = int(np.searchsorted(np.cumsum(cells[order]), budget)) + 1
    return np.sort(chains[order[: max(count, 25)]])


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


def search_chain(
    index: LibraryIndex,
    sequence: str,
    probabilities: npt.NDArray[np.float32],
    gate: Gate | None,
    top: int = 25,
    settings: Sequence[Setting] = SETTINGS,
    allowed: BoolArray | None = None,
    seconds: float = math.inf,
) -> list[Hit]:
    """The best alignments of one chain with the library, `top` of each setting.

    Args:
        index: the library's index.
        sequence: L letters of one chain.
        probabilities: (L, L) base-pair probabilities within the chain.
        gate: what the target may see; None switches the date gate off (leaks).
        top: hits of each setting.
        settings: alignment settings to run.
        allowed: (chains,) a further restriction.
        seconds: that the chain's candidates may take in all; where they are few, fewer chains are aligned.
    """
    began = time.monotonic()
    tokens = rna.encode_sequence(sequence)
    length = len(tokens)
    chains = index.searchable(gate, MINIMUM_COVERAGE * length)
    if allowed is not None:
        chains = chains[allowed[chains]]
    if not length or not len(chains):
        return []
    affordable = index.pace * SEARCH_SHARE * seconds / len(settings)
    kept = prefilter(index, tokens, chains, min(CELL_BUDGET, affordable))
    if len(kept) < len(chains):
        kept = np.union1d(kept, find_with_mmseqs(index, sequence, chains))
    end = began + TRACING_SHARE * seconds
    return list(_align_all(index, tokens, pairing_states(probabilities), kept, top, settings, end))


def _align_all(
    index: LibraryIndex,
    tokens: IntArray,
    states: FloatArray,
    chains: IntArray,
    top: int,
    settings: Sequence[Setting],
    end: float,
) -> Iterator[Hit]:
    """The hits of each setting, until the moment `end` (time.monotonic())."""
    length = len(tokens)
    for number, setting in enumerate(settings):
        aligner = ProfileAligner(build_profile_scores(tokens, states, setting.structure), setting)
        encoded = [aligner.encode(index.codes_of(int(chain))) for chain in chains]
        began = time.monotonic()
        scores = np.array([aligner.score(codes) for codes in encoded])
        cells = length * float(index.library.chain_length[chains].sum())
        index.pace = cells / max(time.monotonic() - began, 1e-4) if cells > LEAST_TIMED else index.pace
        for row in np.argsort(-scores, kind="stable")[:top]:
            if time.monotonic() > end:
                return
            mapping = aligner.align(encoded[row])
            if (mapping >= 0).sum() < max(5, MINIMUM_COVERAGE * length):
                continue
            yield Hit(chain=int(chains[row]), setting=number, score=float(scores[row] / (2 * length)), mapping=mapping)
