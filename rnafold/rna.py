"""The alphabet of RNA, its base pairs, and the measured ideal geometry of C1' atoms, each figure with its source.

Lengths in Å, angles in degrees. "Measured" means: over 618 non-redundant RNA structures of the PDB (41,473 residues),
see docs/studies/geometry.md.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

ALPHABET: Final = "ACGU"
UNKNOWN: Final = "N"
NUM_TOKENS: Final = 5
UNKNOWN_TOKEN: Final = 4
ATOM_NAME: Final = "C1'"

# Distance C1'-C1' of a canonical pair: mean and standard deviation. Source: measured (7,000 GC, 3,206 AU, 726 GU).
PAIR_DISTANCE: Final[dict[str, tuple[float, float]]] = {"GC": (10.64, 0.23), "AU": (10.54, 0.32), "GU": (10.38, 0.47)}
# C1'-C1' distances between which a predicted pair counts as formed. Source: PAIR_DISTANCE and its tails.
FORMED_RANGE: Final = (8.5, 12.5)
# Cross distances of stacked pairs (i, j), (i+1, j-1): C1'(i+1)-C1'(j) and C1'(i)-C1'(j-1). Source: measured in stems.
CROSS_DISTANCE_NEAR: Final = (7.90, 0.45)
CROSS_DISTANCE_FAR: Final = (13.75, 0.38)

# Virtual bond C1'(i)-C1'(i+1): p1 and p95-p99 of all residues; mean and deviation inside stems. Source: measured.
BOND_RANGE: Final = (4.7, 6.5)
BOND_SOFT_MAXIMUM: Final = 9.5
STEM_BOND: Final = (5.50, 0.30)
# Virtual angle of three consecutive C1': p5-p95 of all residues. Source: measured (69 and 164; the wall stands at 170).
ANGLE_RANGE_DEGREES: Final = (70.0, 170.0)
# Nearest C1' with |i-j| >= 2: 4 of 41,450 residues below 3.5 Å, 220 below 4.0 Å. Source: measured.
CLASH_HARD: Final = 3.5
CLASH_SOFT: Final = 4.0

# A-form helix of C1' atoms. Source: fit to 288 measured stems of >= 7 pairs (rise 2.65 ± 0.24, twist 32.53 ± 1.12,
# radius 8.45 ± 0.34; Arnott's fibre model has 2.81, 32.7, 8.55). Partner strand: rotation and shift along the axis.
HELIX_RISE: Final = 2.65
HELIX_TWIST_DEGREES: Final = 32.5
HELIX_RADIUS: Final = 8.45
HELIX_PARTNER_TWIST_DEGREES: Final = 73.8
HELIX_PARTNER_RISE: Final = -3.54

_TOKEN = {letter: index for index, letter in enumerate(ALPHABET)} | {"T": 3}
_TOKEN_OF_BYTE = np.array([_TOKEN.get(chr(byte).upper(), UNKNOWN_TOKEN) for byte in range(256)], dtype=np.int64)
_OPENING, _CLOSING = "([{<ABCDE", ")]}>abcde"


def encode_sequence(sequence: str) -> IntArray:
    """Tokens (L,) of a sequence: A 0, C 1, G 2, U (and T) 3, anything else 4. Lower case counts as upper case."""
    return _TOKEN_OF_BYTE[np.frombuffer(sequence.encode("ascii", errors="replace"), dtype=np.uint8)]


def canonical_pair_matrix() -> npt.NDArray[np.bool_]:
    """(5, 5) True where two tokens can form a Watson-Crick or wobble pair (GC, AU, GU)."""
    matrix = np.zeros((NUM_TOKENS, NUM_TOKENS), dtype=np.bool_)
    for pair in PAIR_DISTANCE:
        first, second = _TOKEN[pair[0]], _TOKEN[pair[1]]
        matrix[first, second] = matrix[second, first] = True
    return matrix


def parse_dot_bracket(text: str) -> IntArray:
    """Partner index (L,) of each residue, -1 where unpaired. Knows () [] {} <> and Aa .. Ee for pseudoknots.

    Raises:
        ValueError: an unbalanced bracket or an unknown character, with its position.
    """
    partner = np.full(len(text), -1, dtype=np.int64)
    stacks: dict[int, list[int]] = {}
    for index, letter in enumerate(text):
        if letter in _OPENING:
            stacks.setdefault(_OPENING.index(letter), []).append(index)
        elif letter in _CLOSING:
            stack = stacks.get(_CLOSING.index(letter))
            if not stack:
                raise ValueError(f"dot-bracket: {letter!r} at position {index + 1} closes nothing")
            other = stack.pop()
            partner[index], partner[other] = other, index
        elif letter not in ".-,:_":
            raise ValueError(f"dot-bracket: {letter!r} at position {index + 1} is not a bracket or a dot")
    left = [stack[-1] for stack in stacks.values() if stack]
    if left:
        raise ValueError(f"dot-bracket: {text[left[0]]!r} at position {left[0] + 1} is never closed")
    return partner


def format_dot_bracket(partner: Sequence[int] | IntArray) -> str:
    """The dot-bracket text (L letters) of a partner array; what crosses goes into () [] {} <> and Aa .. Ee in turn.

    Longer stems get the earlier brackets; a stem that finds all of them crossed is left out.
    """
    text = ["."] * len(partner)
    levels: list[list[tuple[int, int]]] = [[] for _ in _OPENING]
    for i, j, n in sorted(find_stems(partner), key=lambda stem: -stem[2]):
        for level, kept in enumerate(levels):
            if not any((a < i < b) != (a < j < b) for a, b in kept):
                kept.append((i, j))
                text[i : i + n], text[j - n + 1 : j + 1] = _OPENING[level] * n, _CLOSING[level] * n
                break
    return "".join(text)


def find_stems(partner: Sequence[int] | IntArray) -> list[tuple[int, int, int]]:
    """Stems (i, j, n) of a partner array: pairs (i, j), (i+1, j-1), .. n of them, 0-based, i < j, in order of i."""
    stems = []
    i = 0
    while i < len(partner):
        j = int(partner[i])
        n = 1
        if j > i:
            while i + n < j - n and partner[i + n] == j - n:
                n += 1
            stems.append((i, j, n))
        i += n
    return stems
