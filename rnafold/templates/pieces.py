"""How a training chain is cut into pieces for start structures, how many candidates a piece gets, and their cost."""

from collections.abc import Iterable

# Up to this length starts are made of whole chains; beyond, of overlapping pieces: a crop of up to half a piece lies
# in one of them.
LONGEST_WHOLE, PIECE = 2000, 1000
# A chain up to this length gets all candidates asked for, a longer one fewer in proportion, but no less than so many.
FULL_COUNTS_UP_TO, LEAST_OF_LONG = 400, 2
# Seconds of one core of a residue of a candidate, and the length at which a residue costs twice that. Source: 48 pieces
# of 10 to 1,909 residues of a part-2-sized set took 239 s, these figures give 254 s (docs/results.md, Size).
SECONDS_PER_RESIDUE, TWICE_AT = 1e-3, 1500


def cut_pieces(length: int) -> list[tuple[int, int]]:
    """The whole chain, or overlapping pieces (first, stop) of a long one: any stretch of half a piece is in one."""
    if length <= LONGEST_WHOLE:
        return [(0, length)]
    last = length - PIECE
    return [(first, first + PIECE) for first in [*range(0, last, PIECE // 2), last]]


def scale_count(count: int, length: int) -> int:
    """How many of `count` candidates a chain of `length` residues gets: fewer of a long one, as each takes longer."""
    return min(count, max(LEAST_OF_LONG, round(count * min(1.0, FULL_COUNTS_UP_TO / length))))


def estimate_starts(lengths: Iterable[int], counts: tuple[int, int]) -> float:
    """Seconds of one core that the candidates of pieces take, their base pairs not counted.

    Args:
        lengths: of the pieces.
        counts: hybrids and assemblies asked for of each.
    """
    return sum(
        SECONDS_PER_RESIDUE * (1.0 + length / TWICE_AT) * length * sum(scale_count(count, length) for count in counts)
        for length in lengths
    )
