"""One prediction of the network for one target of any length: whole if it fits, otherwise in superposed chunks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rnafold import geometry
from rnafold.features.batch import collate
from rnafold.features.build import MAX_WHOLE, Example, crop_example
from rnafold.model.network import PairNetwork, PlainNetwork

FloatArray = npt.NDArray[np.float64]
# Targets longer than MAX_WHOLE are folded in chunks of as many residues, each overlapping the one before by so many.
OVERLAP = 192


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """coords (L, 3) in Å, expected lDDT (L,), and the expected TM-scores of coords and of the start, all 0-1 (0 where
    the network has no such head)."""

    coords: FloatArray
    lddt: FloatArray
    expected_tm: float
    start_tm: float = 0.0


def count_pass_pairs(length: int) -> int:
    """Pairs of residues that one pass over a target of `length` residues looks at, chunk by chunk where it is long."""
    return length * min(length, MAX_WHOLE)


def fold_examples(
    network: PlainNetwork | PairNetwork, examples: Sequence[Example], recycles: int, device: torch.device | str
) -> list[Fold]:
    """Several starts of one target: in one pass where it is folded whole, else one after the other in chunks."""
    if all(example.length <= MAX_WHOLE for example in examples):
        return fold_batch(network, examples, recycles, device)
    return [fold_example(network, example, recycles, device) for example in examples]


@torch.inference_mode()
def fold_example(
    network: PlainNetwork | PairNetwork,
    example: Example,
    recycles: int,
    device: torch.device | str = "cpu",
    max_whole: int = MAX_WHOLE,
) -> Fold:
    """Coordinates of a target; one longer than `max_whole` is folded in chunks joined on their overlaps."""
    length = example.length
    if length <= max_whole:
        return fold_batch(network, [example], recycles, device)[0]
    overlap = min(OVERLAP, max_whole // 3)
    firsts = [*range(0, length - max_whole, max_whole - overlap), length - max_whole]
    crops = [crop_example(example, first, max_whole) for first in firsts]
    parts = [fold_batch(network, [crop], recycles, device)[0] for crop in crops]
    coords = join_chunks(length, firsts, [p.coords for p in parts])
    lddt, count = np.zeros(length), np.zeros(length)
    for first, part in zip(firsts, parts):
        lddt[first : first + max_whole] += part.lddt
        count[first : first + max_whole] += 1
    # nothing is known of how the parts lie to each other: the more parts, the less is expected of the whole
    expected, of_start = (float(np.mean(x)) / len(parts) for x in zip(*((p.expected_tm, p.start_tm) for p in parts)))
    return Fold(coords=coords, lddt=lddt / count, expected_tm=expected, start_tm=of_start)


@torch.inference_mode()
def fold_batch(
    network: PlainNetwork | PairNetwork, examples: Sequence[Example], recycles: int, device: torch.device | str
) -> list[Fold]:
    """One pass for several examples, each short enough to be folded whole; those of one length waste no padding."""
    output = network(collate(examples).to(device), recycles)
    coords = output.coords[:, :, 0].cpu().to(torch.float64).numpy()
    blank = torch.zeros(output.coords.shape[:2])
    lddt = (blank if output.lddt is None else output.lddt).cpu().to(torch.float64).numpy()
    expected, of_start = (
        (blank[:, 0] if x is None else x).cpu().to(torch.float64).tolist()
        for x in (output.expected_tm, output.start_tm)
    )
    return [
        Fold(coords=coords[k, :n], lddt=lddt[k, :n], expected_tm=expected[k], start_tm=of_start[k])
        for k, n in enumerate(example.length for example in examples)
    ]


def join_chunks(length: int, firsts: list[int], chunks: list[FloatArray]) -> FloatArray:
    """Chunks (n, 3), each superposed on what is placed already by their shared residues, blended across the overlap.

    Args:
        length: residues L of the whole.
        firsts: 0-based first residue of each chunk, increasing; neighbours overlap by three residues or more.
        chunks: coordinates in Å, each in a frame of its own.
    """
    coords = np.full((length, 3), np.nan)
    stop = 0
    for first, chunk in zip(firsts, chunks):
        shared = stop - first
        if stop == 0:
            coords[: len(chunk)] = chunk
        else:
            moved = geometry.transform(chunk, *geometry.superpose(chunk[:shared], coords[first:stop]))
            # the weight slides from the old chunk to the new one, so that no bond is torn at the seam
            blend = ((np.arange(shared) + 1.0) / (shared + 1.0))[:, None]
            coords[first:stop] = (1 - blend) * coords[first:stop] + blend * moved[:shared]
            coords[stop : first + len(chunk)] = moved[shared:]
        stop = first + len(chunk)
    return coords
