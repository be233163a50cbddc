"""How neighbouring stems lie to each other: the loss term on the rotation and shift between their frames.

Two stems are neighbours where a strand leads from one to the other without a pair in between (a joint). Shapes: B
batch, L residues; whatever belongs to a stem stands at each of its residues. Lengths in Å.
Source: docs/studies/arrangement.md (helix arrangement to about 2 Å is what pays).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rnafold.features.batch import Batch

# Stems of fewer pairs have no axis to speak of.
LEAST_PAIRS = 3
# A shift of so many Å and a turn of so many times the unit chord (29 degrees) cost half of what hopeless ones do: our
# assemblies stand at about 4 Å and 23 degrees off.
SHIFT_SCALE, CHORD_SCALE = 4.0, 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stems:
    """Of each residue in a stem (B, L): the opening residues of the stem's outermost and innermost pair."""

    outer: Tensor
    inner: Tensor


def find_stems(partner: Tensor) -> Stems:
    """Stems of partners (B, L), -1 = none; residues without a partner get numbers without meaning."""
    size = partner.shape[1]
    index = torch.arange(size, device=partner.device).expand_as(partner)
    opening = partner > index
    goes_on = F.pad(opening[:, 1:] & opening[:, :-1] & (partner[:, 1:] == partner[:, :-1] - 1), (1, 0))
    begins, ends = opening & ~goes_on, opening & ~F.pad(goes_on[:, 1:], (0, 1))
    outer = torch.where(begins, index, 0).cummax(1).values
    inner = torch.where(ends, index, size - 1).flip(1).cummin(1).values.flip(1)
    own = torch.where(opening | (partner < 0), index, partner)  # a closing residue has the stem of its partner
    return Stems(outer=outer.gather(1, own), inner=inner.gather(1, own))


def find_joints(batch: Batch, stems: Stems) -> tuple[Tensor, Tensor]:
    """The next residue (B, L) with a partner after each, and where that is a joint: a strand to another stem.

    Both stems have LEAST_PAIRS pairs or more, both lie in one chain, and their outermost and innermost pairs are
    resolved.
    """
    partner, size = batch.partner, batch.partner.shape[1]
    index = torch.arange(size, device=partner.device).expand_as(partner)
    paired = (partner >= 0) & batch.mask
    following = torch.where(paired, index, size).flip(1).cummin(1).values.flip(1)
    following = F.pad(following[:, 1:], (0, 1), value=size)
    found, following = following < size, following.clamp_max(size - 1)
    resolved = batch.coord_mask[:, :, 0]
    known = paired & resolved.gather(1, stems.outer) & resolved.gather(1, stems.inner)
    for end in (stems.outer, stems.inner):
        known = known & resolved.gather(1, partner.gather(1, end).clamp_min(0))
    known = known & (stems.inner - stems.outer >= LEAST_PAIRS - 1)
    other_stem = stems.outer.gather(1, following) != stems.outer
    same_chain = batch.chain_index.gather(1, following) == batch.chain_index
    return following, found & known & known.gather(1, following) & other_stem & same_chain


def build_stem_frames(coords: Tensor, partner: Tensor, stems: Stems) -> tuple[Tensor, Tensor]:
    """Centre (B, L, 3) of each residue's stem in `coords` (B, L, 3) and its frame (B, L, 3, 3).

    The frame's columns: along the axis from the outermost pair's middle to the innermost's, across the outermost pair,
    and the normal of both.
    """

    def take(index: Tensor) -> Tensor:
        return coords.gather(1, index[..., None].expand(-1, -1, 3))

    ends = [(take(end), take(partner.gather(1, end).clamp_min(0))) for end in (stems.outer, stems.inner)]
    outer, inner = ((opening + closing) / 2 for opening, closing in ends)
    x = F.normalize(inner - outer, dim=-1, eps=1e-2)
    across = ends[0][0] - ends[0][1]
    y = F.normalize(across - (across * x).sum(-1, keepdim=True) * x, dim=-1, eps=1e-2)
    return (outer + inner) / 2, torch.stack([x, y, torch.linalg.cross(x, y, dim=-1)], dim=-1)


def measure_arrangement(coords: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """What each joint (B, L) costs, 0 to 2, and which are there; residues are those before a joint.

    Half of it for how far either stem's centre is from its place as seen from the other, half for the turn between
    them; both saturate, since what is hopeless must not pull.
    """
    stems = find_stems(batch.partner)
    following, joint = find_joints(batch, stems)
    seen = [_look(x, batch.partner, stems, following) for x in (coords, batch.coords[:, :, 0])]
    shift = sum(_fade((seen[0][k] - seen[1][k]).square().sum(-1), SHIFT_SCALE) for k in (0, 1)) / 2
    # half the square of the difference of two rotations is the square of the chord, 2 (1 - cos)
    turn = _fade((seen[0][2] - seen[1][2]).square().sum((-2, -1)) / 2, CHORD_SCALE)
    return shift + turn, joint


def _look(coords: Tensor, partner: Tensor, stems: Stems, following: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The next stem's centre in this one's frame, this one's in that, and the rotation between the frames."""
    centre, frame = build_stem_frames(coords, partner, stems)
    next_centre = centre.gather(1, following[..., None].expand_as(centre))
    next_frame = frame.gather(1, following[..., None, None].expand_as(frame))
    way = (next_centre - centre)[..., None]
    return (
        (frame.transpose(-1, -2) @ way)[..., 0],
        (next_frame.transpose(-1, -2) @ -way)[..., 0],
        frame.transpose(-1, -2) @ next_frame,
    )


def _fade(square: Tensor, scale: float) -> Tensor:
    """losses.saturate of a value given by its square: no root, so no infinite slope at zero."""
    return square / (square + scale * scale)
