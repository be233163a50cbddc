"""How the network moves coordinates: toward changed distances, by shifts in local frames, and back to possible bonds.

Shapes: B batch, L residues, C pair channels, D width, K neighbours. Coordinates in Å.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnafold import rna
from rnafold.assembly.settle import MARGIN, STEP
from rnafold.model import layers
from rnafold.model.chunks import is_plain_on_cpu, is_traced
from rnafold.model.heads import tm_scale
from rnafold.model.products import Linear

# Distances in Å beyond this do not pull.
FARTHEST_PULL = 60.0
# Change of a distance and shift of a residue for one unit of their heads, in units of the metric's d0: fractions of an
# Å move a short target's TM-score, and an optimizer's first steps must not exceed that. Least d0 in Å.
DISTANCE_STEP, SHIFT_STEP, LEAST_SCALE = 2.0, 1.0, 0.5
# Steps toward the predicted distances before those that carry gradient: whole helices move slowly. A rate below 1
# keeps every step stable: the largest eigenvalue of a weighted graph Laplacian, normalised by its diagonal, is 2.
WARM_STEPS = 16
RELAXATION_RATE = 0.9
# Repair: rounds, and the neighbours that are looked at for clashes; step and margin are the assembly's.
REPAIR_ROUNDS, REPAIR_NEIGHBOURS = 12, 6


class Relaxation(nn.Module):
    """Moves coordinates toward changed distances by weighted majorization, then by a vector in each residue's frame.

    Each of the steps is the Jacobi form of SMACOF (de Leeuw, 1977): every other residue j proposes the point at the
    wanted distance from it, and the proposals are averaged with weights of their own. The update commutes with rigid
    motion and with reflection; the frame vectors make it tell mirror images apart. The wanted distances serve the
    coordinates alone: taught to be the likeliest ones as well, they drew every target to the mean of its candidates,
    nearer in distance and farther in TM-score. What is likeliest is the distogram's to say.
    """

    def __init__(self, width: int, channels: int, steps: int) -> None:
        super().__init__()
        self.norm_pair = nn.LayerNorm(channels)
        self.change = Linear(channels, 2)
        self.norm_single = nn.LayerNorm(width)
        self.shift = Linear(width, 3)
        self.rates = nn.Parameter(torch.full((steps,), RELAXATION_RATE))
        # nearly zero: a fresh network hands the start through to a hundredth of an Å, since a short target's TM-score
        # counts tenths of an Å
        nn.init.normal_(self.change.weight, std=1e-4)
        nn.init.zeros_(self.change.bias)
        nn.init.normal_(self.shift.weight, std=1e-4)
        nn.init.zeros_(self.shift.bias)

    def forward(self, single: Tensor, pair: Tensor, coords: Tensor, mask: Tensor) -> Tensor:
        """Coordinates (B, L, 3) from single (B, L, D), pair (B, L, L, C), coords (B, L, 3) and mask (B, L)."""
        raw = self.change(self.norm_pair(pair)).float()
        scale = tm_scale(mask.sum(1)).clamp_min(LEAST_SCALE)[:, None, None]
        shift = SHIFT_STEP * scale * self.shift(self.norm_single(single)).float()
        with torch.autocast(coords.device.type, enabled=False):
            raw = raw + raw.transpose(1, 2)
            distances = (layers.measure_distances(coords, coords) + DISTANCE_STEP * scale * raw[..., 0]).clamp_min(2.0)
            near = torch.sigmoid((FARTHEST_PULL - 2.0 - distances) / 2.0)
            real = mask[:, :, None] & mask[:, None, :]
            weights = torch.where(real, near * F.softplus(raw[..., 1]), torch.zeros_like(distances))
            total = weights.sum(-1, keepdim=True).clamp_min(1e-3)
            coords = warm_up(coords, distances, weights, total)
            for rate in self.rates:
                coords = coords + rate * majorize(coords, distances, weights) / total
            frames = layers.build_frames(coords, mask)
            moved: Tensor = coords + torch.einsum("blck,blk->blc", frames, shift) * mask[..., None]
        return moved


def majorize(coords: Tensor, distances: Tensor, weights: Tensor) -> Tensor:
    """(B, L, 3) sum over j of weights x (place at the wanted distance from j, minus the present place), in Å."""
    pull = weights * (distances / layers.measure_distances(coords, coords) - 1.0)
    move: Tensor = pull.sum(-1, keepdim=True) * coords - pull @ coords
    return move


@torch.no_grad()
def warm_up(coords: Tensor, distances: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    """Coordinates (B, L, 3) after WARM_STEPS steps toward the wanted distances, without gradient.

    Each step is `majorize`'s, with what no step changes worked out once and one (L, L) array for all that does.
    """
    wanted, rate = weights * distances, RELAXATION_RATE / total
    for _ in range(WARM_STEPS):
        square = (coords * coords).sum(-1)
        squared = torch.baddbmm(square[:, :, None] + square[:, None], coords, coords.transpose(1, 2), alpha=-2.0)
        pull = squared.clamp_min_(0.0).add_(1e-2).rsqrt_().mul_(wanted).sub_(weights)
        coords = coords + rate * (pull.sum(-1, keepdim=True) * coords - pull @ coords)
    return coords


def repair_geometry(coords: Tensor, same_chain_step: Tensor, mask: Tensor) -> Tensor:
    """Coordinates (B, L, 3) with bonds and clashes that are out of range moved back into it, the others left alone.

    Each round moves the two ends of a broken bond, and two residues that clash, by half of what is wanting each, at
    most STEP: position-based dynamics in its Jacobi form (Müller et al., J. Vis. Commun. Image Represent. 18,
    109, 2007). Ranges: rna.BOND_RANGE, rna.BOND_SOFT_MAXIMUM and rna.CLASH_HARD.

    Args:
        coords: from the network.
        same_chain_step: (B, L - 1) True where i and i + 1 are neighbours in a chain.
        mask: (B, L).
    """
    low, high = rna.BOND_RANGE[0] + MARGIN, rna.BOND_SOFT_MAXIMUM - MARGIN
    least = rna.CLASH_HARD + MARGIN
    with torch.autocast(coords.device.type, enabled=False):
        index, is_contact = find_contacts(coords, same_chain_step, mask)
        rows = torch.arange(len(coords), device=coords.device)[:, None, None]
        # on a card the question would cost more than the rounds
        can_stop = is_plain_on_cpu(coords) and not is_traced()
        for _ in range(REPAIR_ROUNDS):
            step = coords[:, 1:] - coords[:, :-1]
            size = (step * step).sum(-1, keepdim=True).add(1e-6).sqrt()
            wanting = (size - size.clamp(low, high)) * same_chain_step[..., None]
            pull = 0.5 * wanting * step / size
            move = F.pad(pull, (0, 0, 0, 1)) - F.pad(pull, (0, 0, 1, 0))
            apart = coords[:, :, None] - coords[rows, index]
            distance = (apart * apart).sum(-1, keepdim=True).add(1e-6).sqrt()
            push = 0.5 * (least - distance).clamp_min(0.0) * apart / distance
            move = move + (push * is_contact[..., None]).sum(2)
            if can_stop and not move.any():
                break  # nothing is out of range: further rounds would move nothing, with a gradient of nothing
            length = (move * move).sum(-1, keepdim=True).add(1e-6).sqrt()
            coords = coords + move * (STEP / length).clamp_max(1.0)
    return coords


@torch.no_grad()
def find_contacts(coords: Tensor, same_chain_step: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (B, L, K) of each residue's nearest but its neighbours in the chain, and which are real (B, L, K)."""
    size = coords.shape[1]
    distance = layers.measure_distances(coords, coords)
    distance = distance.masked_fill(~(mask[:, :, None] & mask[:, None, :]), 1e6)
    distance = distance + torch.diag_embed(distance.new_full((size,), 1e6))
    bonded = torch.diag_embed(same_chain_step.to(distance.dtype) * 1e6, offset=1)
    distance = distance + bonded + bonded.transpose(1, 2)
    nearest = distance.topk(min(REPAIR_NEIGHBOURS, size), largest=False)
    return nearest.indices, nearest.values < 1e5
