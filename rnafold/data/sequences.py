"""RNAs to fold as a user writes them: a sequence, or a FASTA file of one or many; several chains joined by &."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rnafold.data.stoichiometry import build_chains, clean_sequence
from rnafold.errors import InputError
from rnafold.structure import Target

CHAIN_BREAK: Final = "&"
# Letters of IUPAC's nucleotide codes: what is not ACGU of them becomes N.
_LETTERS: Final = frozenset("ACGUTNRYSWKMBDHVXI")
_COUNT: Final = re.compile(r"(?:count|copies)=([0-9]{1,4})|[xX]([0-9]{1,4})")
_CHAIN_NAMES: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One FASTA record: where it begins, its name, how many copies its header asks for, and its chains."""

    place: str
    name: str
    count: int
    chains: tuple[str, ...]


def read_sequences(text: str, *, one_complex: bool = False) -> list[Target]:
    """The RNAs of a sequence or of a FASTA file; lower case, T and gaps are understood.

    Args:
        text: a sequence (letters ACGU, chains joined by &), or the name of a FASTA file.
        one_complex: all records are chains of one RNA named by the file, as often as their headers say: `>name x2`.

    Returns:
        One target a record, chains in order; chains of the same sequence are copies of one chain.

    Raises:
        InputError: neither a file nor a sequence, a letter that is no nucleotide, an empty record, a name that stands
            twice.
    """
    path = Path(text)
    if _is_file(path):
        records = list(_read_fasta(path))
        if one_complex:
            parts = [part for record in records for part in record.chains * record.count]
            records = [_Record(place=str(path), name=path.stem, count=1, chains=tuple(parts))]
    elif set(text.strip().upper()) <= _LETTERS | {CHAIN_BREAK, "-", "."} and text.strip():
        records = [_Record(place="SEQUENCE", name="rna", count=1, chains=_split("SEQUENCE", text))]
    else:
        raise InputError(f"{text[:60]}: no such file, and no sequence (expected letters ACGU, chains joined by &)")
    twice = [name for name, times in Counter(_file_name(record.name) for record in records).items() if times > 1]
    if twice:
        raise InputError(f"{path}: {len(twice)} names stand twice, first {twice[0]!r}; every RNA needs its own")
    return [build_target(_file_name(record.name), record.chains * record.count) for record in records]


def build_target(name: str, sequences: Sequence[str]) -> Target:
    """The target of chains with these sequences, in order; equal ones are copies of one chain."""
    letters = [clean_sequence(sequence) for sequence in sequences]
    names = {sequence: _name_chain(k) for k, sequence in enumerate(dict.fromkeys(letters))}
    seen: Counter[str] = Counter()
    chains = []
    for chain in build_chains([(names[sequence], 1, len(sequence)) for sequence in letters]):
        seen[chain.chain_id] += 1
        chains.append(replace(chain, copy=seen[chain.chain_id]))
    return Target(target_id=name, sequence="".join(letters), chains=tuple(chains))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a sequence longer than a file's name may be
        return False


def _read_fasta(path: Path) -> Iterator[_Record]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    header, first, parts = "", 0, list[str]()
    for number, line in enumerate([*lines, ">"], start=1):
        if not line.startswith(">"):
            parts += [line.strip()] if line.strip() and not line.startswith(";") else []
            continue
        if first or parts:
            yield _build_record(path, first or 1, header, "".join(parts))
        header, first, parts = line[1:].strip(), number, []
    if first == 1 and not lines:
        raise InputError(f"{path}: empty, expected FASTA records")


def _build_record(path: Path, line: int, header: str, text: str) -> _Record:
    place = f"{path}: line {line}"
    words = header.split()
    counts = [match for word in words[1:] if (match := _COUNT.fullmatch(word))]
    count = int(counts[0].group(1) or counts[0].group(2)) if counts else 1
    if count < 1:
        raise InputError(f"{place}: a count of {count}, expected 1 or more")
    return _Record(place=place, name=words[0] if words else path.stem, count=count, chains=_split(place, text))


def _split(place: str, text: str) -> tuple[str, ...]:
    chains = tuple("".join(part.split()).replace("-", "").replace(".", "") for part in text.split(CHAIN_BREAK))
    for chain in chains:
        if not chain:
            raise InputError(f"{place}: a chain without letters, expected letters ACGU")
        wrong = next((letter for letter in chain.upper() if letter not in _LETTERS), None)
        if wrong is not None:
            raise InputError(f"{place}: {wrong!r} at position {chain.upper().index(wrong) + 1}, expected letters ACGU")
    return chains


def _file_name(name: str) -> str:
    """A name that is one part of a path on every system."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip(".")
    return plain[:80] or "rna"


def _name_chain(number: int) -> str:
    return _CHAIN_NAMES[number % 26] * (1 + number // 26)
