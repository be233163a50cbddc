"""From a target, its pairing, its alignment and a start structure to the arrays of one example."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rnafold import rna
from rnafold.structure import Pairing, Structure, Target

FloatArray = npt.NDArray[np.float64]
# Alignment profile A C G U unknown gap (6), has an alignment (1), probability of pairing up- and downstream and of
# being unpaired (3), confidence of the start structure (1).
NUM_RESIDUE_CHANNELS = 11


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """Arrays of one target of L residues; the meaning of each is that of features.batch.Batch without B."""

    target_id: str
    tokens: npt.NDArray[np.int64]
    chain_index: npt.NDArray[np.int64]
    residue_index: npt.NDArray[np.int64]
    residue_channels: npt.NDArray[np.float32]
    pairing: npt.NDArray[np.float32]
    covariation: npt.NDArray[np.float32] | None
    start: npt.NDArray[np.float32]
    coords: npt.NDArray[np.float32]
    coord_mask: npt.NDArray[np.bool_]
    partner: npt.NDArray[np.int64]

    @property
    def length(self) -> int:
        """Number of residues L."""
        return len(self.tokens)


def build_example(
    target: Target,
    pairing: Pairing,
    start: FloatArray,
    *,
    start_confidence: float = 0.0,
    profile: npt.NDArray[np.float32] | None = None,
    covariation: npt.NDArray[np.float32] | None = None,
    reference: Structure | None = None,
    reference_partner: npt.NDArray[np.int64] | None = None,
) -> Example:
    """One example; without `reference` (prediction) the coordinates are zeros and masked out.

    Args:
        target: the target of L residues.
        pairing: its base-pair probabilities.
        start: (L, 3) finite coordinates in Å that the network refines.
        start_confidence: expected TM-score of the start, 0-1.
        profile: (L, 6) alignment frequencies, None without an alignment.
        covariation: (L, L) scores in 0-1, None without an alignment.
        reference: the known structure.
        reference_partner: (L,) pairs of the reference; None means those of `pairing`.
    """
    length = target.length
    chain_index, residue_index = np.zeros(length, np.int64), np.zeros(length, np.int64)
    for index, chain in enumerate(target.chains):
        chain_index[chain.start : chain.stop] = index
        residue_index[chain.start : chain.stop] = np.arange(chain.stop - chain.start)
    probabilities = pairing.probabilities
    channels = np.zeros((length, NUM_RESIDUE_CHANNELS), np.float32)
    if profile is not None:
        channels[:, :6], channels[:, 6] = profile, 1.0
    channels[:, 7], channels[:, 8] = np.triu(probabilities).sum(1), np.tril(probabilities).sum(1)
    channels[:, 9] = np.clip(1.0 - channels[:, 7] - channels[:, 8], 0.0, 1.0)
    channels[:, 10] = start_confidence
    if reference is None:
        coords, coord_mask = np.zeros((length, 1, 3), np.float32), np.zeros((length, 1), np.bool_)
    else:
        coord_mask = reference.mask
        centre = reference.coords[coord_mask].mean(0) if coord_mask.any() else np.zeros(3)
        coords = np.where(coord_mask[..., None], reference.coords - centre, 0.0).astype(np.float32)
    return Example(
        target_id=target.target_id,
        tokens=rna.encode_sequence(target.sequence),
        chain_index=chain_index,
        residue_index=residue_index,
        residue_channels=channels,
        pairing=probabilities,
        covariation=covariation,
        start=(start - start.mean(0))[:, None, :].astype(np.float32),
        coords=coords,
        coord_mask=coord_mask,
        partner=pairing.partner if reference_partner is None else reference_partner,
    )


def crop_example(example: Example, first: int, size: int) -> Example:
    """Residues `first` .. `first + size` of an example; pairs that leave the crop are dropped, the start is centred."""
    stop = min(first + size, example.length)
    if first == 0 and stop == example.length:
        return example
    part = slice(first, stop)
    partner = example.partner[part] - first
    start = example.start[part]
    return replace(
        example,
        tokens=example.tokens[part],
        chain_index=example.chain_index[part],
        residue_index=example.residue_index[part],
        residue_channels=example.residue_channels[part],
        pairing=example.pairing[part, part],
        covariation=None if example.covariation is None else example.covariation[part, part],
        start=start - start.mean((0, 1)),
        coords=example.coords[part],
        coord_mask=example.coord_mask[part],
        partner=np.where((partner >= 0) & (partner < stop - first) & (example.partner[part] >= 0), partner, -1),
    )
