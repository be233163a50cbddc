"""One nested structure from base-pair probabilities: maximum expected accuracy, and seeded variations of it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from rnafold.structure import Chain, Pairing

MIN_PROBABILITY: Final = 0.01
# Spread of the Gumbel noise on a stem's log probability: between keeping and replacing a stem of p = 0.5.
NOISE: Final = 1.0


def choose_partners(probabilities: npt.NDArray[np.float32], gain: float = 1.0) -> npt.NDArray[np.int64]:
    """Partner (L,), -1 where unpaired, of the nested structure with the largest sum of 2 gain p_ij + unpaired q_i.

    Only pairs with p >= 0.01 are considered, which makes it fast at 5,000 residues; memory is two (L, L) arrays of
    four bytes.

    Source: Do, Woods & Batzoglou, Bioinformatics 22, e90 (2006).
    """
    length = len(probabilities)
    partner = np.full(length, -1, dtype=np.int64)
    if length < 2:
        return partner
    unpaired = np.maximum(1.0 - probabilities.sum(axis=1), 0.0).astype(np.float32)
    # best[j, i]: score of residues i .. j-1; opened[j, i]: partner of j-1 in it, -1 where that is unpaired.
    best = np.zeros((length + 1, length + 1), dtype=np.float32)
    opened = np.full((length + 1, length + 1), -1, dtype=np.int32)
    for j in range(length):
        row = best[j, : j + 1] + unpaired[j]
        source = opened[j + 1, : j + 1]
        for k in np.flatnonzero(probabilities[j, :j] >= MIN_PROBABILITY).tolist():
            with_pair = best[k, : k + 1] + (best[j, k + 1] + 2 * gain * probabilities[j, k])
            better = with_pair > row[: k + 1]
            row[: k + 1][better] = with_pair[better]
            source[: k + 1][better] = k
        best[j + 1, : j + 1] = row
    stack = [(0, length)]
    while stack:
        start, stop = stack.pop()
        while stop > start:
            opening = int(opened[stop, start])
            if opening >= 0:
                partner[opening], partner[stop - 1] = stop - 1, opening
                stack.append((opening + 1, stop - 1))
                stop = opening
            else:
                stop -= 1
    return partner


def pairs_across_chains(partner: npt.NDArray[np.int64], chains: Sequence[Chain]) -> int:
    """How many pairs join two chains."""
    owner = np.zeros(len(partner), dtype=np.int64)
    for number, chain in enumerate(chains):
        owner[chain.start : chain.stop] = number
    paired = np.flatnonzero(partner > np.arange(len(partner)))
    return int((owner[paired] != owner[partner[paired]]).sum())


def heed_alternatives(pairing: Pairing) -> npt.NDArray[np.float32]:
    """Probabilities (L, L), where there are alternatives half of each how often they form the pair."""
    if not pairing.alternatives:
        return pairing.probabilities
    formed = np.zeros_like(pairing.probabilities)
    for alternative in pairing.alternatives:
        paired = np.flatnonzero(alternative.partner >= 0)
        formed[paired, alternative.partner[paired]] += np.float32(1 / len(pairing.alternatives))
    return (pairing.probabilities + formed) / np.float32(2)


def vary_partners(
    probabilities: npt.NDArray[np.float32], num_samples: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(S, L) further structures: the choice repeated with Gumbel noise on the log odds, alike within a stem.

    Stands in for Boltzmann sampling where no partition function of the whole is at hand (windowed folding, consensus,
    several chains): an approximation whose frequencies only follow the probabilities.
    """
    length = len(probabilities)
    samples = np.full((num_samples, length), -1, dtype=np.int64)
    left, right = np.nonzero(probabilities >= MIN_PROBABILITY / 10)
    keep = left < right
    left, right = left[keep], right[keep]
    values = np.clip(probabilities[left, right].astype(np.float64), 1e-6, 1 - 1e-6)
    # Pairs of one stem share i + j and lie close together: one draw for each diagonal and stretch of eight.
    _, stem = np.unique((left + right) * (length // 8 + 1) + (right - left) // 16, return_inverse=True)
    for index in range(num_samples):
        noise = rng.gumbel(scale=NOISE, size=int(stem.max(initial=0)) + 1)[stem] - NOISE * np.euler_gamma
        odds = values / (1 - values) * np.exp(noise)
        varied = np.zeros((length, length), dtype=np.float32)
        varied[left, right] = varied[right, left] = odds / (1 + odds)
        total = varied.sum(axis=1)
        varied /= np.sqrt(np.maximum(np.outer(np.maximum(total, 1), np.maximum(total, 1)), 1)).astype(np.float32)
        samples[index] = choose_partners(varied)
    return samples
