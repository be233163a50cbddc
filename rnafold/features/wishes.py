"""Pairs that a user wants to form or not to form: read from dot-bracket files, imposed on whatever is predicted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from rnafold import rna
from rnafold.errors import InputError
from rnafold.structure import FloatArray, IntArray, Pairing

Pair = tuple[int, int]
# Marks a residue that must not pair with any other, and begins a line of pairs that must not form.
UNPAIRED: Final = "x"
FORBIDDEN_LINE: Final = "!"
# Energy in kcal/mol with which folding is told of a wish: more than any loop costs, so that the rest of the structure
# is the best one given the wish.
WISH_KCAL: Final = 20.0
# Residues beside an unwanted place of a template that are released with it.
_RELEASED_BESIDE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PairWishes:
    """What a user knows of the pairs of one RNA.

    Attributes:
        formed: 0-based residues (i, j), i < j, that must pair with each other.
        forbidden: residues (i, j) that must not pair with each other.
        unpaired: residues that must not pair at all.
    """

    formed: tuple[Pair, ...] = ()
    forbidden: tuple[Pair, ...] = ()
    unpaired: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is wished for."""
        return bool(self.formed or self.forbidden or self.unpaired)

    def obey(self, partner: IntArray) -> IntArray:
        """Partners (L,) changed as little as the wishes ask: what they forbid, or what crosses a wished pair, goes."""
        found = partner.copy()
        lost = [k for pair in self.forbidden if found[pair[0]] == pair[1] for k in pair]
        lost += [k for i in (*self.unpaired, *(k for pair in self.formed for k in pair)) for k in (i, int(found[i]))]
        first = np.flatnonzero(found > np.arange(len(found)))
        second = found[first]
        for i, j in self.formed:
            crossing = ((first > i) & (first < j)) != ((second > i) & (second < j))
            lost += [int(k) for k in (*first[crossing], *second[crossing])]
        found[[k for k in lost if k >= 0]] = -1
        for i, j in self.formed:
            found[i], found[j] = j, i
        return found

    def weigh(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Pair probabilities (L, L) with wished pairs at 1 and unwanted ones at 0."""
        found = probabilities.copy()
        for k in (*self.unpaired, *(k for pair in self.formed for k in pair)):
            found[k] = found[:, k] = 0.0
        for value, pairs in ((0.0, self.forbidden), (1.0, self.formed)):
            for i, j in pairs:
                found[i, j] = found[j, i] = value
        return found

    def impose(self, pairing: Pairing) -> Pairing:
        """A prediction that obeys: probabilities, best structure, samples and alternatives."""
        samples = [self.obey(sample) for sample in pairing.samples]
        return replace(
            pairing,
            probabilities=self.weigh(pairing.probabilities),
            partner=self.obey(pairing.partner),
            samples=np.stack(samples) if samples else pairing.samples,
            source=f"{pairing.source}, with wishes",
            alternatives=tuple(replace(a, partner=self.obey(a.partner)) for a in pairing.alternatives),
        )

    def release(self, carried: FloatArray) -> FloatArray:
        """Template coordinates (L, 3), NaN where none, without those that keep a wished pair apart or an unwanted one
        together; what is released is built anew around the pairs."""
        kept = carried.copy()
        wrong = [pair for pair in self.formed if not is_formed(carried, pair, missing=True)]
        wrong += [pair for pair in self.forbidden if is_formed(carried, pair)]
        for k in [k for pair in wrong for k in pair]:
            kept[max(k - _RELEASED_BESIDE, 0) : k + _RELEASED_BESIDE + 1] = np.nan
        return kept

    def cut(self, start: int, stop: int) -> "PairWishes":
        """The wishes about residues start <= i < stop alone, counted from `start`."""

        def inside(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
            return tuple((i - start, j - start) for i, j in pairs if start <= i and j < stop)

        alone = tuple(i - start for i in self.unpaired if start <= i < stop)
        return PairWishes(formed=inside(self.formed), forbidden=inside(self.forbidden), unpaired=alone)


def is_formed(coords: FloatArray, pair: Pair, *, missing: bool = False) -> bool:
    """Whether two residues of coords (L, 3) are as far apart as a pair is; `missing` where one has no place."""
    distance = float(np.linalg.norm(coords[pair[0]] - coords[pair[1]]))
    return missing if np.isnan(distance) else rna.FORMED_RANGE[0] < distance < rna.FORMED_RANGE[1]


def read_wishes(path: str | Path, sequences: dict[str, str]) -> dict[str, PairWishes]:
    """Wishes by name from a dot-bracket file.

    A record is `>name`, the sequence (optional), and a line of brackets, as long as the sequence, chains joined by &:
    brackets are pairs that must form (() [] {} <> and Aa .. Ee), `x` residues that must stay unpaired, dots are free. A
    line that begins with `!` holds in the same way pairs that must not form. Without `>name` the record is of the only
    RNA there is.

    Args:
        path: the file.
        sequences: of each RNA, letters ACGU and N, chains concatenated.

    Raises:
        InputError: no such file, a name that is not among the sequences or stands twice, another length or sequence,
            unbalanced brackets, or wishes that contradict each other; with the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    name = next(iter(sequences)) if len(sequences) == 1 else ""
    found: dict[str, PairWishes] = {}
    named: set[str] = set()
    for number, line in enumerate(lines, start=1):
        text, place = line.strip(), f"{path}: line {number}"
        if text.startswith(">"):
            name = (text[1:].split() or [""])[0]
            if name not in sequences or name in named:
                why = "stands twice" if name in named else f"expected one of {', '.join(list(sequences)[:3])}"
                raise InputError(f"{place}: {name!r} {why}")
            named.add(name)
        elif text:
            if not name:
                raise InputError(f"{place}: expected >name first, there are {len(sequences)} sequences")
            found[name] = _add_line(found.get(name, PairWishes()), text, sequences[name], place)
    return found


def _add_line(known: PairWishes, text: str, sequence: str, place: str) -> PairWishes:
    """The wishes with those of one more line."""
    forbids = text.startswith(FORBIDDEN_LINE)
    plain = text.removeprefix(FORBIDDEN_LINE).strip().replace("&", "")
    if not forbids and plain.isalpha() and plain.upper().replace("T", "U") != UNPAIRED.upper() * len(plain):
        if rna.encode_sequence(plain).tolist() != rna.encode_sequence(sequence).tolist():
            raise InputError(f"{place}: another sequence than the one to fold")
        return known
    if len(plain) != len(sequence):
        raise InputError(f"{place}: {len(plain)} places, expected {len(sequence)} as in the sequence")
    alone = tuple(k for k, letter in enumerate(plain) if letter == UNPAIRED)
    try:
        partner = rna.parse_dot_bracket(plain.replace(UNPAIRED, "."))
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    pairs = tuple((i, int(j)) for i, j in enumerate(partner) if j > i)
    if forbids:
        wishes = replace(known, forbidden=known.forbidden + pairs, unpaired=known.unpaired + alone)
    else:
        wishes = replace(known, formed=known.formed + pairs, unpaired=known.unpaired + alone)
    _check_contradictions(wishes, place)
    return wishes


def _check_contradictions(wishes: PairWishes, place: str) -> None:
    used = [k for pair in wishes.formed for k in pair]
    for k in used:
        if used.count(k) > 1 or k in wishes.unpaired:
            raise InputError(f"{place}: position {k + 1} is asked to pair with two others, or with one and with none")
    both = sorted(set(wishes.formed) & set(wishes.forbidden))
    if both:
        raise InputError(f"{place}: positions {both[0][0] + 1} and {both[0][1] + 1} are asked to pair and not to")
