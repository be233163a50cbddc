"""Template search: a prefilter of large libraries, then exact profile alignments with affine gaps, in four settings.

The query's rows carry sequence and base-pairing probabilities, a library chain is a string of 15 letter x state codes.
Biopython's aligner takes integer sequences and any substitution matrix, so it aligns such profiles at C speed.
Source of the settings and weights: docs/studies/templates.md, Search.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from Bio import Align

from rnafold import rna
from rnafold.structure import BoolArray, FloatArray, IntArray
from rnafold.templates.alignment import SETTINGS, Hit, Setting
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import NUM_CODES, NUM_STATES, Gate
from rnafold.templates.prefilter import ALIGNED_CELLS, find_with_mmseqs, prefilter, shortlist

MATCH, MISMATCH, UNKNOWN_SCORE = 2.0, -1.5, -0.5
# Rows: what the library residue is (unpaired, opening, closing); columns: probability of the query residue to be so.
STATE_SCORES = np.array([[1.0, -0.5, -0.5], [-0.5, 1.3, -1.0], [-0.5, -1.0, 1.3]])
MINIMUM_COVERAGE = 0.3
# Part of a target's time that alignments may take.
SEARCH_SHARE = 0.25
# What the prefilter goes by: the setting with most to say.
FILTERED_BY = SETTINGS[1]
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
    states = pairing_states(probabilities)
    affordable = min(ALIGNED_CELLS, index.pace * SEARCH_SHARE * seconds / len(settings))
    distinct = index.distinct(chains)
    seen = shortlist(index, tokens, distinct, affordable)
    if len(seen) < len(distinct):
        seen = np.union1d(seen, find_with_mmseqs(index, sequence, distinct, min(60.0, SEARCH_SHARE * seconds)))
    kept = prefilter(index, build_profile_scores(tokens, states, FILTERED_BY.structure), seen, affordable)
    end = began + TRACING_SHARE * seconds
    hits = _align_all(index, tokens, states, kept, top, settings, end)
    return [replace(hit, chain=index.choose_copy(hit.chain, chains, hit.mapping)) for hit in hits]


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
