"""Where each chain of a multi-chain target lies in its concatenated sequence (part 2's stoichiometry)."""

import re
from collections.abc import Sequence
from typing import Final

from rnafold.structure import Chain, parse_stoichiometry, whole_chain

_AUTHOR: Final = re.compile(r"([^\s,\[\]]+)\s*(?:\[auth\s+([^\]]+)\])?")


def clean_sequence(text: str) -> str:
    """Upper-case ACGU and N: T becomes U, any other letter (and a bracketed residue name in a FASTA) becomes N."""
    plain = re.sub(r"\([^)]*\)", "N", "".join(text.split())).upper().replace("T", "U")
    return re.sub(r"[^ACGU]", "N", plain)


def parse_all_sequences(text: str) -> list[tuple[tuple[str, ...], str]]:
    """(author chain ids, cleaned sequence) of each FASTA record in an `all_sequences` cell; blank gives none.

    A header reads `>9I9W_1|Chains A[auth AAA], B[auth BBB]|name|`: the author's id counts where one is given.
    """
    records: list[tuple[tuple[str, ...], str]] = []
    for part in ("\n" + text.strip()).split("\n>")[1:]:
        header, _, sequence = part.partition("\n")
        match = re.search(r"\|\s*Chains?\s+([^|]*)", header)
        ids = tuple(auth or plain for plain, auth in _AUTHOR.findall(match.group(1))) if match else ()
        records.append((ids, clean_sequence(sequence)))
    return records


def build_chains(lengths: Sequence[tuple[str, int, int]]) -> tuple[Chain, ...]:
    """Chains laid one after the other from (chain id, number of copies, length of one copy)."""
    chains: list[Chain] = []
    start = 0
    for chain_id, num_copies, length in lengths:
        for copy in range(1, num_copies + 1):
            chains.append(Chain(chain_id=chain_id, copy=copy, start=start, stop=start + length))
            start += length
    return tuple(chains)


def split_chains(sequence: str, stoichiometry: str, all_sequences: str) -> tuple[tuple[Chain, ...], str]:
    """Chains and copies of a target's concatenated sequence, in the order of its stoichiometry.

    A stoichiometry that is of no known form, or fits no chains, leaves one chain and a note for the caller to log: a
    target must not be lost for it.

    Lengths come from the FASTA records of `all_sequences` (by author id, else by matching text), one unknown length
    from what is left, and repeats of the sequence itself.

    Args:
        sequence: cleaned sequence (L,).
        stoichiometry: such as "A:2;B:1"; blank means one chain.
        all_sequences: FASTA text, may be blank.

    Returns:
        The chains, and what is wrong with the stoichiometry ("" for nothing).
    """
    if not stoichiometry.strip():
        return whole_chain(len(sequence)), ""
    try:
        parts = parse_stoichiometry(stoichiometry)
    except ValueError as error:
        return whole_chain(len(sequence)), f"{error}; taken as one chain"
    if sum(count for _, count in parts) > len(sequence):
        return whole_chain(len(sequence)), f"{stoichiometry!r} has more chains than the sequence residues"
    records = parse_all_sequences(all_sequences)
    lengths = _place_parts(sequence, parts, records, 0)
    if lengths is None:
        lengths = _lengths_from_ids(sequence, parts, records)
    if lengths is None:
        fault = f"stoichiometry {stoichiometry!r} does not fit a sequence of {len(sequence)}; taken as one chain"
        return whole_chain(len(sequence), parts[0][0]), fault
    return build_chains([(*part, length) for part, length in zip(parts, lengths, strict=True)]), ""


def _place_parts(
    sequence: str, parts: Sequence[tuple[str, int]], records: Sequence[tuple[tuple[str, ...], str]], start: int
) -> list[int] | None:
    """Length of one copy of each part such that the copies spell the sequence exactly; None if none does."""
    if not parts:
        return [] if start == len(sequence) else None
    (chain_id, num_copies), rest = parts[0], parts[1:]
    own = [text for ids, text in records if chain_id in ids]
    other = [text for ids, text in records if chain_id not in ids]
    if not rest and (len(sequence) - start) % num_copies == 0:
        other.append(sequence[start : start + (len(sequence) - start) // num_copies])
    for text in own + other:
        if text and sequence.startswith(text * num_copies, start):
            found = _place_parts(sequence, rest, records, start + num_copies * len(text))
            if found is not None:
                return [len(text), *found]
    return None


def _lengths_from_ids(
    sequence: str, parts: Sequence[tuple[str, int]], records: Sequence[tuple[tuple[str, ...], str]]
) -> list[int] | None:
    """Lengths by author id alone (letters may differ); one id without a record takes what is left."""
    by_id = {chain_id: len(text) for ids, text in records for chain_id in ids}
    known = sum(count * by_id[chain_id] for chain_id, count in parts if chain_id in by_id)
    unknown = [(chain_id, count) for chain_id, count in parts if chain_id not in by_id]
    left = len(sequence) - known
    if len(unknown) == 1 and left > 0 and left % unknown[0][1] == 0:
        by_id[unknown[0][0]] = left // unknown[0][1]
    elif unknown or left:
        total = sum(count for _, count in parts)
        return [len(sequence) // total] * len(parts) if len(sequence) % total == 0 and not records else None
    return [by_id[chain_id] for chain_id, _ in parts]
