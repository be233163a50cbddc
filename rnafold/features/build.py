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
START_CONFIDENCE_CHANNEL = 10
# Other candidates whose distances the network sees beside its start, and sampled secondary structures.
NUM_OTHERS, NUM_SAMPLES = 8, 4
# Lengths are padded to a multiple of this, the unit of fast attention kernels.
LENGTH_MULTIPLE = 8
# The longest target that goes through the network whole; model.folding cuts longer ones into chunks of this length.
MAX_WHOLE = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Others:
    """Candidates beside the start: coords (K, L, 3) in Å, expected TM-scores (K,), and which are of templates (K,)."""

    coords: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    is_template: npt.NDArray[np.bool_]


def choose_others(
    coords: npt.NDArray[np.float32], confidence: npt.NDArray[np.float32], is_template: npt.NDArray[np.bool_]
) -> Others:
    """Of candidates (K, L, 3) the most confident templates and assemblies, half of NUM_OTHERS each at most."""
    order = np.argsort(-confidence, kind="stable")
    half = NUM_OTHERS // 2
    kept = np.concatenate([order[is_template[order]][:half], order[~is_template[order]][:half]])
    return Others(coords=coords[kept], confidence=confidence[kept], is_template=is_template[kept])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartPoint:
    """What the network refines: coords (L, 3) in Å, finite; the expected TM-score, 0 where nobody knows; and what is
    seen beside it, None for nothing."""

    coords: FloatArray
    confidence: float = 0.0
    others: Others | None = None


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
    samples: npt.NDArray[np.int64]
    start: npt.NDArray[np.float32]
    others: npt.NDArray[np.float32]
    other_confidence: npt.NDArray[np.float32]
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
    start: StartPoint,
    *,
    profile: npt.NDArray[np.float32] | None = None,
    covariation: npt.NDArray[np.float32] | None = None,
    reference: Structure | None = None,
    reference_partner: npt.NDArray[np.int64] | None = None,
    first: int = 0,
    pairs_beyond: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
) -> Example:
    """One example; without `reference` (prediction) the coordinates are zeros and masked out.

    Args:
        target: the target of L residues; or of more, of which the example is the stretch from `first` on: all other
            arguments are of the stretch alone.
        pairing: its base-pair probabilities.
        start: what the network refines; of its others the first NUM_OTHERS are seen.
        profile: (L, 6) alignment frequencies, None without an alignment.
        covariation: (L, L) scores in 0-1, None without an alignment.
        reference: the known structure.
        reference_partner: (L,) pairs of the reference; None means those of `pairing`.
        first: 0-based residue of the target that the stretch begins with.
        pairs_beyond: (L,) probabilities of pairing down- and upstream, pairs that leave the stretch counted too; None
            takes those of `pairing`.
    """
    length = len(start.coords)
    chain_index, residue_index = number_residues(target, first, first + length)
    probabilities = pairing.probabilities
    channels = np.zeros((length, NUM_RESIDUE_CHANNELS), np.float32)
    if profile is not None:
        channels[:, :6], channels[:, 6] = profile, 1.0
    channels[:, 7], channels[:, 8] = pairs_beyond or (np.triu(probabilities).sum(1), np.tril(probabilities).sum(1))
    channels[:, 9] = np.clip(1.0 - channels[:, 7] - channels[:, 8], 0.0, 1.0)
    channels[:, START_CONFIDENCE_CHANNEL] = start.confidence
    if reference is None:
        coords, coord_mask = np.zeros((length, 1, 3), np.float32), np.zeros((length, 1), np.bool_)
    else:
        coord_mask = reference.mask
        centre = reference.coords[coord_mask].mean(0) if coord_mask.any() else np.zeros(3)
        coords = np.where(coord_mask[..., None], reference.coords - centre, 0.0).astype(np.float32)
    other_coords, other_confidence = _pack_others(start.others, length)
    return Example(
        target_id=target.target_id,
        tokens=rna.encode_sequence(target.sequence[first : first + length]),
        chain_index=chain_index,
        residue_index=residue_index,
        residue_channels=channels,
        pairing=probabilities,
        covariation=covariation,
        samples=pairing.samples[:NUM_SAMPLES],
        start=(start.coords - start.coords.mean(0))[:, None, :].astype(np.float32),
        others=other_coords,
        other_confidence=other_confidence,
        coords=coords,
        coord_mask=coord_mask,
        partner=pairing.partner if reference_partner is None else reference_partner,
    )


def number_residues(target: Target, first: int, stop: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """0-based chain of residues first <= i < stop and their 0-based places in it."""
    chain_index, residue_index = np.zeros(stop - first, np.int64), np.zeros(stop - first, np.int64)
    for index, chain in enumerate(target.chains):
        begin, end = max(chain.start, first), min(chain.stop, stop)
        if begin < end:
            chain_index[begin - first : end - first] = index
            residue_index[begin - first : end - first] = np.arange(begin - chain.start, end - chain.start)
    return chain_index, residue_index


def _pack_others(others: Others | None, length: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Centred coordinates (K, L, 3), and confidences (K, 2): in column 0 of templates, in column 1 of others."""
    if others is None:
        return np.zeros((0, length, 3), np.float32), np.zeros((0, 2), np.float32)
    coords = others.coords[:NUM_OTHERS]
    kind = others.is_template[:NUM_OTHERS]
    confidence = np.stack([kind, ~kind], axis=1) * others.confidence[:NUM_OTHERS, None]
    return coords - coords.mean(1, keepdims=True), confidence.astype(np.float32)


def padded_length(length: int) -> int:
    """`length` rounded up to the unit of padding."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def crop_partners(partner: npt.NDArray[np.int64], first: int, stop: int) -> npt.NDArray[np.int64]:
    """Partners (.., L) of residues `first` .. `stop`, counted from `first`; -1 where the partner is outside."""
    part = partner[..., first:stop]
    return np.where((part >= first) & (part < stop), part - first, -1)


def crop_example(example: Example, first: int, size: int) -> Example:
    """Residues `first` .. `first + size` of an example; pairs that leave the crop are dropped, the start is centred."""
    stop = min(first + size, example.length)
    if first == 0 and stop == example.length:
        return example
    part = slice(first, stop)
    start, others = example.start[part], example.others[:, part]
    return replace(
        example,
        tokens=example.tokens[part],
        chain_index=example.chain_index[part],
        residue_index=example.residue_index[part],
        residue_channels=example.residue_channels[part],
        pairing=example.pairing[part, part],
        covariation=None if example.covariation is None else example.covariation[part, part],
        samples=crop_partners(example.samples, first, stop),
        start=start - start.mean((0, 1)),
        others=others - others.mean(1, keepdims=True),
        coords=example.coords[part],
        coord_mask=example.coord_mask[part],
        partner=crop_partners(example.partner, first, stop),
    )
