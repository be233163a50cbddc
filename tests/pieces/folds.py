"""A small made-up library for the template tests: known folds built by the assembler, with dates and groups."""

import datetime

import numpy as np

from rnafold import rna
from rnafold.assembly import assemble
from rnafold.structure import Chain, Entry, Pairing, Target, structure_from_points, whole_chain

FOLDS = {
    "1AAA_A": (
        "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA",
        "(((((((..((((........)))).((((.........)))).....(((((.......))))))))))))....",
        "2001-05-01",
    ),
    "1BBB_A": (
        "GGCUAGCGAAAGCUAGCCAACCGGAUCUUCGGAUCCGG",
        "(((((((....)))))))..((((((((..))))))))",
        "2005-05-01",
    ),
    "1BBB_B": ("GGGAUCCCUUCGGGGAUCCC", "((((((((....))))))))", "2005-05-01"),
    "1CCC_A": ("GGCACUUCGGUGCCAAAAGGACGAAAGUCC", "((((((..))))))....((((....))))", "2010-05-01"),
    "1DDD_A": ("GGGGAUAUCCAAGAAGGAUAUCCCC", "((((((((((.....))))))))))", "2015-05-01"),
    "1EEE_A": (
        "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA",
        "(((((((..((((........)))).((((.........)))).....(((((.......))))))))))))....",
        "2020-05-01",
    ),
}


def make_entry(name: str, sequence: str, text: str, date: str, group: str = "", seed: int = 0) -> Entry:
    """An entry whose structure is the assembler's for a dot-bracket text."""
    coords = assemble(sequence, rna.parse_dot_bracket(text), seed=seed)
    target = Target(
        target_id=name,
        sequence=sequence,
        chains=whole_chain(len(sequence)),
        cutoff=datetime.date.fromisoformat(date),
    )
    return Entry(target=target, references=(structure_from_points(coords),), group=group or sequence[:8])


def make_entries() -> list[Entry]:
    """All of FOLDS."""
    return [make_entry(name, *fold, seed=number) for number, (name, fold) in enumerate(FOLDS.items())]


def make_pairing(text: str, samples: int = 2) -> Pairing:
    """A pairing that is certain of a dot-bracket text."""
    partner = rna.parse_dot_bracket(text)
    probabilities = np.zeros((len(text), len(text)), dtype=np.float32)
    paired = np.flatnonzero(partner >= 0)
    probabilities[paired, partner[paired]] = 1.0
    return Pairing(probabilities=probabilities, partner=partner, samples=np.tile(partner, (samples, 1)), source="test")


def make_target(name: str, cutoff: str | None = "2018-01-01", copies: int = 1) -> Target:
    """A target with the sequence of one of FOLDS, in `copies` copies."""
    sequence = FOLDS[name][0]
    length = len(sequence)
    chains = tuple(Chain(chain_id="A", copy=k + 1, start=k * length, stop=(k + 1) * length) for k in range(copies))
    date = None if cutoff is None else datetime.date.fromisoformat(cutoff)
    return Target(target_id="9ZZZ", sequence=sequence * copies, chains=chains, cutoff=date)
