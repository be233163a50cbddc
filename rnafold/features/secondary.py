"""Base-pair probabilities, best structure and samples of a sequence, by ViennaRNA or, without it, by `stem_energy`."""

import functools
import importlib
import logging
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rnafold.errors import InputError
from rnafold.features.pair_choice import MIN_PROBABILITY, choose_partners, vary_partners
from rnafold.features.stem_energy import fold_partition
from rnafold.features.wishes import WISH_KCAL, PairWishes
from rnafold.rna import parse_dot_bracket
from rnafold.structure import Chain, Msa, Pairing, whole_chain

logger = logging.getLogger(__name__)

METHOD_VERSION: Final = 2
CUTOFF: Final = 1e-3
# One partition function up to this length (8 s at 1,460 residues); longer ones are folded in windows.
MAX_UNWINDOWED: Final = 1500
WINDOW: Final = 600
MAX_SPAN: Final = 400
# Window and span where time is short: 0.9 s at 1,460 residues, against 3 s with the usual ones and 9 s whole.
HURRIED: Final = (300, 200)
# 0.16 s at 300 residues, 0.75 at 600, 2.9 at 1,000, 9.1 at 1,460.
SECONDS_PER_CUBE: Final = 3e-9
FALLBACK_WINDOW: Final = 400
# (L, L) float32 is 1.6 GB there; nothing in the competition's test sets comes near, and training reads windows
# (features.pairing_cache).
MAX_LENGTH: Final = 20_000
MAX_CONSENSUS_LENGTH: Final = 1000
MAX_CONSENSUS_ROWS: Final = 24
# Measured on 58 training chains of 40-200 residues, F1 against pairs in the structure: from 8 rows on half the weight
# lifts 0.593 to 0.659 (46 chains), with fewer rows it lowers 0.722 to 0.681 (12 chains).
MIN_CONSENSUS_ROWS: Final = 8
MIN_CONSENSUS_COVERAGE: Final = 0.6
# Sets of energies that ViennaRNA carries beside its usual ones, and what loads them. The structures agree with the
# known pairs at F1 .693 and .686, those of the usual ones at .682 (240 training chains of 40-300 residues). Source:
# Langdon, Petke & Lorenz, EvoMUSART (2018); Andronescu et al., Bioinformatics 23, i19 (2007).
ENERGIES: Final = {
    "Langdon 2018": "params_load_RNA_Langdon2018",
    "Andronescu 2007": "params_load_RNA_Andronescu2007",
}
# Gas constant times 310.15 K, in kcal/mol.
BOLTZMANN_KCAL: Final = 0.61632

ProbabilityArray = npt.NDArray[np.float32]


def estimate_folding(length: int) -> float:
    """Seconds of one core that ViennaRNA's partition function of a sequence takes."""
    return SECONDS_PER_CUBE * float(length) ** 3


@functools.cache
def load_vienna() -> Any | None:
    """The ViennaRNA module, None (and one log line) where it is not installed."""
    try:
        return importlib.import_module("RNA")
    except ImportError:
        logger.warning(
            "ViennaRNA is not installed (pip install viennarna): base pairs come from the built-in stem-energy model, "
            "which agrees less well with experiments"
        )
        return None


def predict_pairing(
    sequence: str,
    chains: Sequence[Chain] | None = None,
    num_samples: int = 4,
    seed: int = 0,
    msa: Msa | None = None,
    wishes: PairWishes | None = None,
    seconds: float = math.inf,
) -> Pairing:
    """Base pairs of a sequence of one or several chains.

    Up to 1,500 residues all chains are folded together with ViennaRNA's partition function; beyond, each different
    chain alone, and chains beyond 1,500 in windows of 600 with pairs up to 400 apart. An alignment with eight or
    more differing rows contributes half of the probabilities through RNAalifold's consensus of each chain.
    `partner` is the minimum-free-energy structure, or the one of maximum expected accuracy where windows, an
    alignment or the fallback come in. Samples are Boltzmann-sampled for one chain folded whole without an alignment,
    else seeded variations (`pair_choice.vary_partners`).

    Args:
        sequence: (L,) letters ACGU and N, chains concatenated.
        chains: where each chain lies; None means one chain.
        num_samples: further structures.
        seed: of the samples; the same seed gives the same samples.
        msa: alignment whose first row is the sequence.
        wishes: pairs that must form or must not: what is folded whole takes them for energies, and all that is
            returned obeys them.
        seconds: that ViennaRNA, which cannot be interrupted, may take; what it would fold whole for longer than that
            is folded in windows of 300 residues.

    Raises:
        InputError: longer than 20,000 residues.
    """
    length = len(sequence)
    if length > MAX_LENGTH:
        raise InputError(f"sequence of {length} residues: pair probabilities need at most {MAX_LENGTH}; crop it first")
    chains = tuple(chains) if chains else whole_chain(length)
    vienna = load_vienna()
    samples = np.full((num_samples, length), -1, dtype=np.int64)
    if vienna is None:
        probabilities, source = _fold_chains_apart(sequence, chains, _fold_fallback), "stem-energy fallback"
        partner = None
    elif estimate_folding(min(length, MAX_UNWINDOWED)) > seconds and length > HURRIED[0]:
        probabilities = _fold_chains_apart(sequence, chains, functools.partial(_fold_in_windows, vienna, *HURRIED))
        partner, source = None, "viennarna in short windows"
    elif length <= MAX_UNWINDOWED:
        probabilities, partner, drawn = _fold_whole(vienna, sequence, chains, num_samples, seed, wishes)
        source = "viennarna"
        samples = samples if drawn is None else drawn
    else:
        fold = functools.partial(_fold_long, vienna)
        windows = any(chain.stop - chain.start > MAX_UNWINDOWED for chain in chains)
        source = "viennarna in windows" if windows else "viennarna, each chain alone"
        probabilities = _fold_chains_apart(sequence, chains, fold)
        partner = None
    consensus = _fold_consensus(vienna, chains, msa) if vienna is not None and msa is not None else None
    if consensus is not None:
        probabilities, partner = (probabilities + consensus) / np.float32(2), None
        source += " with alignment"
    if num_samples and (partner is None or len(chains) > 1):
        rng = np.random.default_rng([seed, zlib.crc32(sequence.encode())])
        samples = vary_partners(probabilities, num_samples, rng)
    if partner is None:
        partner = choose_partners(probabilities)
    pairing = Pairing(probabilities=probabilities, partner=partner, samples=samples, source=source)
    return wishes.impose(pairing) if wishes else pairing


def _fold_whole(
    vienna: Any,
    sequence: str,
    chains: Sequence[Chain],
    num_samples: int,
    seed: int,
    wishes: PairWishes | None = None,
) -> tuple[ProbabilityArray, npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Probabilities, minimum-free-energy partners and, for one chain, Boltzmann samples (S, L)."""
    model = vienna.md()
    model.uniq_ML = 1
    strands = "&".join(sequence[chain.start : chain.stop] for chain in chains)
    fold = vienna.fold_compound(strands, model)
    _tell_wishes(fold, wishes or PairWishes())
    structure, energy = fold.mfe()
    # Without rescaling by the MFE the partition function overflows from about 1,000 residues on.
    fold.exp_params_rescale(energy)
    fold.pf()
    probabilities = np.zeros((len(sequence), len(sequence)), dtype=np.float32)
    for pair in fold.plist_from_probs(CUTOFF):
        probabilities[pair.i - 1, pair.j - 1] = probabilities[pair.j - 1, pair.i - 1] = pair.p
    partner = parse_dot_bracket(structure.replace("&", ""))
    if len(chains) > 1 or not num_samples:
        # ViennaRNA 2.7's sampling of several strands leaves all strands but the first unpaired.
        return probabilities, partner, None
    vienna.init_rand((seed + zlib.crc32(sequence.encode())) % (1 << 31))
    drawn = [parse_dot_bracket(text) for text in fold.pbacktrack(num_samples)]
    return probabilities, partner, np.stack(drawn)


def _tell_wishes(fold: Any, wishes: PairWishes) -> None:
    """Gives what is to be folded the energies of wishes."""
    for pairs, energy in ((wishes.formed, -WISH_KCAL), (wishes.forbidden, WISH_KCAL)):
        for i, j in pairs:
            fold.sc_add_bp(i + 1, j + 1, energy)
    for i in wishes.unpaired:
        fold.sc_add_up(i + 1, -WISH_KCAL)


def _fold_long(vienna: Any, sequence: str) -> ProbabilityArray:
    """One chain's probabilities: whole up to MAX_UNWINDOWED residues, else averaged over all windows around a pair."""
    if len(sequence) <= MAX_UNWINDOWED:
        return _fold_whole(vienna, sequence, whole_chain(len(sequence)), 0, 0)[0]
    return _fold_in_windows(vienna, WINDOW, MAX_SPAN, sequence)


def _fold_in_windows(vienna: Any, window: int, span: int, sequence: str) -> ProbabilityArray:
    """One chain's probabilities, averaged over all windows around a pair, of pairs up to `span` apart."""
    length = len(sequence)
    probabilities = np.zeros((length, length), dtype=np.float32)
    for pair in vienna.pfl_fold(sequence, min(window, length), min(span, length), CUTOFF):
        probabilities[pair.i - 1, pair.j - 1] = probabilities[pair.j - 1, pair.i - 1] = pair.p
    return probabilities


def fold_by_energies(energies: str, strands: str) -> npt.NDArray[np.int64] | None:
    """Partners of the minimum-free-energy structure of strands joined by &, by another set of ViennaRNA's energies.

    Args:
        energies: a key of ENERGIES.
        strands: letters ACGU and N.

    Returns:
        (L,) the strands one after the other, -1 where unpaired; None without ViennaRNA or beyond 1,500 residues.
    """
    vienna = load_vienna()
    if vienna is None or len(strands) > MAX_UNWINDOWED:
        return None
    # The energies are one for the process: what is folded after this must find the usual ones.
    try:
        getattr(vienna, ENERGIES[energies])()
        structure = str(vienna.fold_compound(strands).mfe()[0])
    finally:
        vienna.params_load_RNA_Turner2004()
    return parse_dot_bracket(structure.replace("&", ""))


def fold_stretch(sequence: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], ProbabilityArray]:
    """Pairs (left, right, probability) of a stretch of a long chain: averaged over windows, spans up to MAX_SPAN."""
    vienna = load_vienna()
    if vienna is None:
        probabilities = np.triu(_fold_fallback(sequence))
        left, right = np.nonzero(probabilities)
        return left, right, probabilities[left, right]
    found = vienna.pfl_fold(sequence, min(WINDOW, len(sequence)), min(MAX_SPAN, len(sequence)), CUTOFF)
    pairs = np.array([(pair.i - 1, pair.j - 1) for pair in found], dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], np.array([pair.p for pair in found], dtype=np.float32)


def _fold_fallback(sequence: str) -> ProbabilityArray:
    """One chain's probabilities by `stem_energy`; beyond 400 residues averaged over overlapping windows."""
    length = len(sequence)
    if length <= FALLBACK_WINDOW:
        found = fold_partition(sequence)[1].astype(np.float32)
        return np.where(found >= CUTOFF, found, np.float32(0))
    total = np.zeros((length, length), dtype=np.float32)
    count = np.zeros((length, length), dtype=np.uint8)
    starts = [*range(0, length - FALLBACK_WINDOW, FALLBACK_WINDOW // 2), length - FALLBACK_WINDOW]
    for start in starts:
        part = slice(start, start + FALLBACK_WINDOW)
        total[part, part] += fold_partition(sequence[part])[1].astype(np.float32)
        count[part, part] += 1
    total /= np.maximum(count, 1)
    total[total < CUTOFF] = 0.0
    return total


def _fold_chains_apart(
    sequence: str, chains: Sequence[Chain], fold: Callable[[str], ProbabilityArray]
) -> ProbabilityArray:
    """Each different chain folded once, on the diagonal of (L, L); pairs between chains are left at zero."""
    probabilities = np.zeros((len(sequence), len(sequence)), dtype=np.float32)
    done: dict[str, ProbabilityArray] = {}
    for chain in chains:
        part = sequence[chain.start : chain.stop]
        if part not in done:
            done[part] = fold(part)
        probabilities[chain.start : chain.stop, chain.start : chain.stop] = done[part]
    return probabilities


def _fold_consensus(vienna: Any, chains: Sequence[Chain], msa: Msa) -> ProbabilityArray | None:
    """Consensus probabilities (L, L) of each chain's columns by RNAalifold; None where a chain has too few rows."""
    length = msa.tokens.shape[1]
    probabilities = np.zeros((length, length), dtype=np.float32)
    num_folded = 0
    for chain in chains:
        rows = select_rows(Msa(tokens=msa.tokens[:, chain.start : chain.stop]))
        if len(rows) < MIN_CONSENSUS_ROWS or chain.stop - chain.start > MAX_CONSENSUS_LENGTH:
            continue
        num_folded += 1
        letters = np.array(list("ACGUN-"))
        texts = ["".join(letters[msa.tokens[row, chain.start : chain.stop]]) for row in rows]
        fold = vienna.fold_compound(texts)
        fold.exp_params_rescale(fold.mfe()[1])
        fold.pf()
        for pair in fold.plist_from_probs(CUTOFF):
            i, j = chain.start + pair.i - 1, chain.start + pair.j - 1
            probabilities[i, j] = probabilities[j, i] = min(float(pair.p), 1.0)
    return probabilities if num_folded == len(chains) else None


@functools.lru_cache(maxsize=64)
def _fold_with_bonus(strands: str, pairs: tuple[tuple[int, int], ...], bonus_kcal: float) -> str:
    """The structure of minimum free energy by ViennaRNA; likes among a target's templates give the same pairs."""
    vienna = load_vienna()
    assert vienna is not None
    fold = vienna.fold_compound(strands)
    for i, j in pairs:
        fold.sc_add_bp(i + 1, j + 1, bonus_kcal)
    return str(fold.mfe()[0])


def fold_with_bonus(
    sequence: str, pairs: Sequence[tuple[int, int]], bonus_kcal: float, chains: Sequence[Chain] | None = None
) -> npt.NDArray[np.int64]:
    """Partners (L,) of the minimum-free-energy structure when each of `pairs` gets a bonus energy.

    Args:
        sequence: (L,) letters ACGU and N, chains concatenated.
        pairs: 0-based residues (i, j) with i < j, for example those of a template; given twice, a pair counts twice.
        bonus_kcal: energy added where such a pair forms; negative favours it.
        chains: where each chain lies; None means one chain.

    Without ViennaRNA, or beyond 1,500 residues, the bonus raises the odds of the pairs' probabilities instead
    (Boltzmann's factor at 37 degrees Celsius), from which the structure of maximum expected accuracy is taken.
    """
    layout = tuple(chains) if chains else whole_chain(len(sequence))
    if load_vienna() is not None and len(sequence) <= MAX_UNWINDOWED:
        strands = "&".join(sequence[chain.start : chain.stop] for chain in layout)
        return parse_dot_bracket(_fold_with_bonus(strands, tuple(pairs), bonus_kcal).replace("&", ""))
    probabilities = predict_pairing(sequence, layout, num_samples=0).probabilities.copy()
    factor = float(np.exp(min(-bonus_kcal / BOLTZMANN_KCAL, 20.0)))
    for i, j in pairs:
        before = min(max(float(probabilities[i, j]), MIN_PROBABILITY), 1.0 - 1e-6)
        odds = factor * before / (1.0 - before)
        after = odds / (1.0 + odds)
        for k in (i, j):  # what the two residues did otherwise becomes as much rarer
            probabilities[k] *= (1.0 - after) / (1.0 - before)
            probabilities[:, k] = probabilities[k]
        probabilities[i, j] = probabilities[j, i] = after
    return choose_partners(probabilities)


def select_rows(msa: Msa, max_rows: int = MAX_CONSENSUS_ROWS) -> list[int]:
    """Rows for a consensus: the query, then from the top those that cover it and differ from all chosen by > 5 %."""
    tokens = msa.tokens
    covered = (tokens < 4).mean(axis=1) >= MIN_CONSENSUS_COVERAGE
    chosen = [0]
    for row in np.flatnonzero(covered)[:2000]:
        if len(chosen) >= max_rows:
            break
        if row and (tokens[chosen] == tokens[row]).mean(axis=1).max() < 0.95:
            chosen.append(int(row))
    return chosen
