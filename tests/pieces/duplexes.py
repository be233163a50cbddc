"""Ideal duplexes as examples with known coordinates."""

import numpy as np

from rnafold import geometry
from rnafold.features.build import Example, StartPoint, build_example
from rnafold.structure import Chain, Pairing, Target, structure_from_points

COMPLEMENT = {"A": "U", "C": "G", "G": "C", "U": "A"}


def make_duplex(num_pairs: int, seed: int = 0, noise: float = 0.0, unresolved: int = 0) -> Example:
    """An ideal A-form duplex; the start is the reference with `noise` Å, the first residues are unresolved."""
    rng = np.random.default_rng(seed)
    strand, other = geometry.build_helix(num_pairs)
    points = np.concatenate([strand, other[::-1]])
    letters = "".join(rng.choice(list("ACGU"), num_pairs))
    sequence = letters + "".join(COMPLEMENT[x] for x in reversed(letters))
    size = 2 * num_pairs
    partner = np.arange(size)[::-1].copy()
    probabilities = np.zeros((size, size), np.float32)
    probabilities[np.arange(size), partner] = 0.9
    chains = (
        Chain(chain_id="A", copy=1, start=0, stop=num_pairs),
        Chain(chain_id="B", copy=1, start=num_pairs, stop=size),
    )
    known = points.copy()
    known[:unresolved] = np.nan
    return build_example(
        Target(target_id=f"duplex{num_pairs}", sequence=sequence, chains=chains),
        Pairing(probabilities=probabilities, partner=partner, samples=np.zeros((0, size), np.int64), source="ideal"),
        StartPoint(coords=points + rng.normal(scale=noise, size=points.shape) if noise else points),
        reference=structure_from_points(known),
    )
