"""How identical two sequences are, and which of many are at least so identical to one: the definition behind splits.

Identity of two sequences = identical letters in their best global alignment / length of the longer one. Best means
match 2, mismatch -1, gap -2, ties going to more identities. Since every alignment of lengths K and L has
2 matches + 2 mismatches + gaps = K + L, that score is K + L - 3 (mismatches + gaps): the best alignments are those of
the least edit distance d, and the identical letters lie between longer - d and (K + L - d) / 2. So a bit-parallel edit
distance decides nearly every pair, at any length.
Source: Myers, J. ACM 46, 395 (1999); edlib: Šošić & Šikić, Bioinformatics 33, 1394 (2017).
"""

import math
import re
from collections.abc import Sequence
from typing import Final

import edlib
import numpy as np
import numpy.typing as npt

from rnafold.rna import UNKNOWN, UNKNOWN_TOKEN, encode_sequence

IntArray = npt.NDArray[np.int64]

MATCH: Final = 2
MISMATCH: Final = -1
GAP: Final = -2
# Below this length every pair that the letters allow is aligned; from it on only pairs that share k-mers.
LONG: Final = 200
# Up to this length ties of the alignment are settled exactly; beyond, the identities of the one that edlib gives count.
MAX_SETTLED: Final = 1000
KMER: Final = 12
# Different k-mers kept of a long sequence, and the part of those that evenly spread differences leave which must be
# shared: real differences come in stretches and leave more.
SKETCH: Final = 512
SHARED_PART: Final = 0.25
# Multiplier of Fibonacci hashing: 2^64 / golden ratio, odd. Source: Knuth, The Art of Computer Programming 3, 6.4.
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)


def count_identical(query: IntArray, others: Sequence[IntArray]) -> IntArray:
    """Identical letters (K,) in the best global alignment (match 2, mismatch -1, gap -2) of a query with each other.

    All K alignments run at once: row by row of the query, with the gap along the row as a running maximum. Score and
    number of identities travel in one integer, so that ties go to more identities. Unknown letters match nothing.
    """
    if not others:
        return np.zeros(0, dtype=np.int64)
    lengths = np.array([len(other) for other in others])
    width = int(lengths.max())
    padded = np.full((len(others), width), -1, dtype=np.int64)
    for row, other in zip(padded, others, strict=True):
        row[: len(other)] = other
    # One unit of score is worth more than all identities together.
    unit = 1 << 20
    slope = GAP * unit * np.arange(width + 1)
    best = np.broadcast_to(slope, (len(others), width + 1)).copy()
    for letter in query.tolist():
        equal = (padded == letter) & (letter != UNKNOWN_TOKEN)
        diagonal = best[:, :-1] + np.where(equal, MATCH * unit + 1, MISMATCH * unit)
        fresh = best + GAP * unit
        np.maximum(fresh[:, 1:], diagonal, out=fresh[:, 1:])
        best = np.maximum.accumulate(fresh - slope, axis=1) + slope
    final = best[np.arange(len(others)), lengths]
    return np.asarray(final - (final >> 20 << 20), dtype=np.int64)


def count_needed(first: int, second: int, identity: float) -> int:
    """Identical letters that two sequences of these lengths need for an identity (0-1)."""
    # as the quotient is compared elsewhere: 0.8 * 15 is 12.000000000000002
    longer = max(first, second)
    needed = math.ceil(identity * longer)
    return needed - 1 if needed and (needed - 1) / longer >= identity else needed


def find_identity(one: str, other: str, identity: float) -> float | None:
    """Identity of two sequences if it is at least `identity`, else None.

    Where the edit distance alone decides, the identities are those of one best alignment; else ties are settled
    (up to MAX_SETTLED residues).
    """
    longer, total = max(len(one), len(other)), len(one) + len(other)
    needed = count_needed(len(one), len(other), identity)
    most = total - 2 * needed
    if most < 0:
        return None
    # an unknown letter is like no other, not even like an unknown one
    query, target = one.replace(UNKNOWN, "X"), other.replace(UNKNOWN, "Y")
    distance = int(edlib.align(query, target, task="distance", k=most)["editDistance"])
    if distance < 0:
        return None
    path = edlib.align(query, target, task="path", k=max(distance, 1))["cigar"] if distance else f"{longer}="
    same = sum(int(count) for count in re.findall(r"(\d+)=", path or ""))
    if same < needed and longer <= MAX_SETTLED:
        same = int(count_identical(encode_sequence(one), [encode_sequence(other)])[0])
    return same / longer if same >= needed else None


def list_kmers(tokens: IntArray, size: int) -> IntArray:
    """Sorted codes of the different k-mers without unknown letters."""
    if len(tokens) < size:
        return np.zeros(0, dtype=np.int64)
    codes = np.zeros(len(tokens) - size + 1, dtype=np.int64)
    for place in range(size):
        codes = codes * 4 + np.minimum(tokens[place : place + len(codes)], 3)
    unknown = np.concatenate([[0], np.cumsum(tokens >= 4)])
    return np.unique(codes[unknown[size:] == unknown[:-size]])


def sketch(tokens: IntArray) -> IntArray:
    """About SKETCH of the different k-mers, those whose hash is small: what two sketches share, two sequences share."""
    codes = list_kmers(tokens, KMER)
    if len(tokens) <= SKETCH:
        return codes
    with np.errstate(over="ignore"):
        hashed = (codes.astype(np.uint64) * _MIXER) >> np.uint64(32)
    return codes[hashed.astype(np.float64) < 2.0**32 * SKETCH / len(tokens)]


class IdentityIndex:
    """Sequences ready to be asked which of them are at least so identical to another.

    Letters first: identical letters cannot exceed the shared letters (exact). Pairs whose longer one has fewer than 200
    residues are then aligned; of longer ones those whose sketches share enough k-mers (a heuristic), which an inverted
    index finds without a look at the others. Sequences of equal text are found whatever their letters.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self.texts = list(sequences)
        self.tokens = [encode_sequence(sequence) for sequence in sequences]
        self.lengths = np.array([len(tokens) for tokens in self.tokens], dtype=np.int64)
        self._letters = np.array([np.bincount(tokens, minlength=5)[:4] for tokens in self.tokens]).reshape(-1, 4)
        self._equal: dict[str, list[int]] = {}
        for number, text in enumerate(self.texts):
            self._equal.setdefault(text, []).append(number)
        sketches = [sketch(tokens) for tokens in self.tokens]
        self._sizes = np.array([len(codes) for codes in sketches], dtype=np.int64)
        owners = np.repeat(np.arange(len(sketches)), self._sizes)
        codes = np.concatenate([np.zeros(0, np.int64), *sketches])
        order = np.argsort(codes, kind="stable")
        self._codes, self._owners = codes[order], owners[order]

    def find(self, sequence: str, identity: float) -> list[tuple[int, float]]:
        """(index, identity) of the sequences at least `identity` (0-1) identical to one, in order."""
        equal = self._equal.get(sequence, [])
        tokens = encode_sequence(sequence)
        among = np.setdiff1d(np.arange(len(self.texts)), equal)
        short, long, _ = self.candidates(tokens, identity, among)
        found = [(number, 1.0) for number in equal]
        found += self.align_short(sequence, tokens, short, identity)
        for number in long.tolist():
            share = find_identity(sequence, self.texts[number], identity)
            if share is not None:
                found.append((number, share))
        return sorted(found)

    def candidates(self, tokens: IntArray, identity: float, among: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Of the sequences `among`: those short ones to align, and those long ones that share k-mers, the most first.

        The third array counts the k-mers that each long one shares.
        """
        longer = np.maximum(self.lengths[among], len(tokens))
        letters = np.bincount(tokens, minlength=5)[:4]
        fits = np.minimum(self._letters[among], letters).sum(axis=1) >= identity * longer - 1e-9
        among, longer = among[fits], longer[fits]
        short, long = among[longer < LONG], among[longer >= LONG]
        if not len(long):
            return short, long, long
        own = sketch(tokens)
        shared = self._count_shared(own)[long]
        expected = identity**KMER * np.minimum(self._sizes[long], len(own))
        enough = shared >= np.maximum(SHARED_PART * expected, 1)
        long, shared = long[enough], shared[enough]
        order = np.argsort(-shared, kind="stable")
        return short, long[order], shared[order]

    def _count_shared(self, codes: IntArray) -> IntArray:
        """(N,) k-mers that each sequence's sketch shares with a sketch."""
        starts = np.searchsorted(self._codes, codes, "left")
        counts = np.searchsorted(self._codes, codes, "right") - starts
        at = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(starts, counts)
        return np.bincount(self._owners[at], minlength=len(self.texts))

    def align_short(
        self, sequence: str, tokens: IntArray, candidates: IntArray, identity: float
    ) -> list[tuple[int, float]]:
        """(index, identity) of the candidates that an exact alignment finds at least `identity` identical."""
        query = sequence.replace(UNKNOWN, "X")
        near = []
        for number in candidates.tolist():
            text = self.texts[number]
            most = len(text) + len(sequence) - 2 * count_needed(len(text), len(sequence), identity)
            if edlib.align(query, text.replace(UNKNOWN, "Y"), task="distance", k=most)["editDistance"] >= 0:
                near.append(number)
        found = []
        for start in range(0, len(near), 256):
            part = near[start : start + 256]
            same = count_identical(tokens, [self.tokens[number] for number in part])
            for number, count in zip(part, same.tolist(), strict=True):
                if count >= count_needed(len(self.texts[number]), len(sequence), identity):
                    found.append((number, count / max(len(self.texts[number]), len(sequence))))
        return found
