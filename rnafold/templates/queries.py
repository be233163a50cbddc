"""Chains that train the ranker and the jury: later chains as targets, and parts of long chains that fold by themselves.

The ranker learns from the first chain of each sequence group from 2010 on. The jury, whose figures differ more between
targets than within one, takes all it can get: short chains, earlier ones and domains, cut where a stem closes.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from rnafold import rna
from rnafold.assembly.loops import clean_pairing
from rnafold.errors import InputError
from rnafold.features.alternatives import add_alternatives
from rnafold.features.secondary import predict_pairing
from rnafold.structure import Entry, Pairing, whole_chain
from rnafold.templates.folds import fold_by_date
from rnafold.templates.library import Gate, TemplateLibrary, gate_for_training
from rnafold.templates.single import MOST_SAMPLES

FIRST_YEAR = 2010
SHORTEST, SHORT, SHARE_OF_SHORT = 10, 30, 0.22
LEAST_RESOLVED = 0.8
NUM_FOLDS = 5
# The jury's: earlier chains from this year and length on. Its share in r is on record in experiments/README.md; of the
# constants below only the weight was tried at two values (1 and 0.4).
EARLY_YEAR, EARLY_LENGTH = 2000, 28
# Domains: of chains this long, their own lengths, up to so many residues more at each end, the greatest part of a
# chain, and what one weighs beside a chain.
LONG_CHAIN, DOMAIN_LENGTHS, DOMAIN_ENDS, DOMAIN_PART, DOMAIN_WEIGHT = 60, (24, 140), 2, 0.8, 0.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """A training chain used as a target.

    Attributes:
        entry: the chain or the part of it, with its known conformations.
        pairing: its predicted pairs.
        gate: what it may see: earlier structures of other entries and groups.
        fold: the stretch of time that it belongs to, for cross-validation.
        whole: False for a domain.
        common: True for those that train the ranker too, and that figures are reported on.
    """

    entry: Entry
    pairing: Pairing
    gate: Gate
    fold: int
    whole: bool = True
    common: bool = True

    @property
    def weight(self) -> float:
        """What the query weighs in training."""
        return 1.0 if self.whole else DOMAIN_WEIGHT


def select_queries(library: TemplateLibrary, entries: Sequence[Entry], seed: int, step: int = 1) -> list[Query]:
    """The common queries first, then the jury's own, every `step`-th of each; folds are stretches of time.

    The common ones are the first chain of each group from 2010 on, most short ones left out.

    Raises:
        InputError: fewer than NUM_FOLDS common ones.
    """
    rng = np.random.default_rng(seed)
    first: dict[str, Entry] = {}
    for entry in sorted(entries, key=_date):
        if entry.target.cutoff is not None:
            first.setdefault(entry.group or entry.target.sequence, entry)
    usable = [e for e in first.values() if e.target.length >= SHORTEST and _resolved(e) > LEAST_RESOLVED]
    late = [e for e in usable if _date(e).year >= FIRST_YEAR]
    common = [e for e in late if e.target.length >= SHORT or rng.random() < SHARE_OF_SHORT]
    taken = {entry.target.target_id for entry in common}
    common = common[::step]
    if len(common) < NUM_FOLDS:
        found = f"found {len(common)}, expected at least {NUM_FOLDS}"
        raise InputError(f"training queries: chains of {FIRST_YEAR} and later, one a sequence group: {found}")
    folds = [number * NUM_FOLDS // len(common) for number in range(len(common))]
    begins = [_date(common[folds.index(fold)]) for fold in range(NUM_FOLDS)]
    early = [e for e in usable if EARLY_YEAR <= _date(e).year < FIRST_YEAR and e.target.length >= EARLY_LENGTH]
    more = [entry for entry in [*late, *early] if entry.target.target_id not in taken]
    domains = cut_domains(library, [e for e in first.values() if _date(e).year >= EARLY_YEAR], rng)
    known = {entry.group or entry.target.target_id: fold for entry, fold in zip(common, folds)}

    def fold_of(entry: Entry, chain_id: str) -> int:
        return known.get(entry.group or chain_id, fold_by_date(begins, _date(entry)))

    jobs = [(entry, fold, True, True) for entry, fold in zip(common, folds)]
    jobs += [(entry, fold_of(entry, entry.target.target_id), True, False) for entry in more[::step]]
    jobs += [
        (entry, fold_of(entry, entry.target.target_id.rpartition("_")[0]), False, False) for entry in domains[::step]
    ]
    return [
        Query(
            entry=entry,
            pairing=_pair(entry, seed),
            gate=gate_for_training(entry),
            fold=fold,
            whole=whole,
            common=shared,
        )
        for entry, fold, whole, shared in tqdm(jobs, desc="base pairs", disable=None)
    ]


def cut_domains(library: TemplateLibrary, entries: Sequence[Entry], rng: np.random.Generator) -> list[Entry]:
    """Parts of long single chains that a stem of the known structure closes, none overlapping another.

    A domain's id is its chain's with the residues' range, and it keeps the chain's entry code, group and date.
    """
    row = {library.chain_id(chain): chain for chain in range(library.num_chains)}
    found = []
    for entry in entries:
        target = entry.target
        if target.length < LONG_CHAIN or len(target.chains) > 1 or target.target_id not in row:
            continue
        pairs = clean_pairing(library.chain_partner(row[target.target_id]), np.zeros(target.length - 1, dtype=np.bool_))
        ranges = []
        for i, j, _ in rna.find_stems(pairs):
            before, after = (int(x) for x in rng.integers(0, DOMAIN_ENDS + 1, 2))
            start, stop = max(0, i - before), min(target.length, j + 1 + after)
            if DOMAIN_LENGTHS[0] <= stop - start <= min(DOMAIN_LENGTHS[1], DOMAIN_PART * target.length):
                ranges.append((start, stop))
        taken: list[tuple[int, int]] = []
        for at in rng.permutation(len(ranges)):
            start, stop = ranges[at]
            domain = _cut(entry, start, stop)
            if all(stop <= a or b <= start for a, b in taken) and _resolved(domain) > LEAST_RESOLVED:
                taken.append((start, stop))
                found.append(domain)
    return found


def _cut(entry: Entry, start: int, stop: int) -> Entry:
    """Residues start <= i < stop of a single-chain entry."""
    name = f"{entry.target.target_id}_{start + 1}-{stop}"
    sequence = entry.target.sequence[start:stop]
    target = replace(entry.target, target_id=name, sequence=sequence, chains=whole_chain(stop - start))
    references = tuple(replace(r, coords=r.coords[start:stop], mask=r.mask[start:stop]) for r in entry.references)
    return replace(entry, target=target, references=references)


def _date(entry: Entry) -> datetime.date:
    return entry.target.cutoff or datetime.date.max


def _resolved(entry: Entry) -> float:
    return float(entry.references[0].residue_mask.mean())


def _pair(entry: Entry, seed: int) -> Pairing:
    target = entry.target
    pairing = predict_pairing(target.sequence, target.chains, num_samples=MOST_SAMPLES, seed=seed)
    return add_alternatives(pairing, target.sequence, target.chains)
