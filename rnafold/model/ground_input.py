"""What the start's residues rest on as an input: of each residue, and of each pair how unsure the way between them is.

Two residues of one rigid part (a helix, a carried domain) have a sure place to each other; of two parts it is as unsure
as the loops on the way are expected to be off. Shapes: B batch, L residues, C pair channels, D width. Lengths in Å.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnafold import rna
from rnafold.features.batch import Batch
from rnafold.features.build import NUM_GROUND_CHANNELS
from rnafold.model import layers
from rnafold.model.encoder import Embeddings
from rnafold.model.products import Linear

# Where C1' atoms of two residues that could pair are so far apart in the start, one leads surely to the other.
PAIR_RANGE = (9.0, 12.2)
LEAST_SEPARATION = 4
# Unsure in units of so many Å.
UNIT = 5.0
# What two residues are at most off by, and any two between which no way leads.
FAR = 50.0


class GroundInput(nn.Module):
    """Two projections to the network's inputs, zero at first: without them the network is what it was."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.single = Linear(NUM_GROUND_CHANNELS, width, bias=False)
        self.pair = Linear(2, channels, bias=False)
        nn.init.zeros_(self.single.weight)
        nn.init.zeros_(self.pair.weight)

    def forward(self, batch: Batch) -> Embeddings:
        """What is to be added to the single (B, L, D) and pair (B, L, L, C) representation."""
        unsure = measure_ways(batch) / UNIT
        told = torch.cat([batch.grounds[..., :-1], (batch.grounds[..., -1:] / UNIT).tanh()], -1)
        return Embeddings(
            single=self.single(told),
            pair=self.pair(torch.stack([unsure.tanh(), (-unsure).exp()], -1)),
        )


@torch.no_grad()
def measure_ways(batch: Batch) -> Tensor:
    """(B, L, L) the least sum of expected deviations in Å on a way along the strands and across the start's pairs.

    A loop of known deviation costs that much, however long its strand is. Where no way leads, `FAR`.
    """
    cost = spread_deviation(batch)
    step = (cost[:, 1:] + cost[:, :-1]) / 2
    size = cost.shape[1]
    ways = cost.new_full((len(cost), size, size), FAR)
    index = torch.arange(size, device=cost.device)
    ways[:, index, index] = 0.0
    along = torch.where(batch.same_chain_step, step, FAR)
    ways[:, index[:-1], index[1:]] = along
    ways[:, index[1:], index[:-1]] = along
    ways.masked_fill_(find_contacts(batch), 0.0)
    for k in range(size):  # Floyd and Warshall
        ways = torch.minimum(ways, ways[:, :, k, None] + ways[:, None, k])
    return ways.clamp_max(FAR)


def spread_deviation(batch: Batch) -> Tensor:
    """(B, L) each residue's share of the expected deviation of the run of equal grounds that it is in."""
    grounds = batch.grounds
    changes = F.pad((grounds[:, 1:] != grounds[:, :-1]).any(-1) | ~batch.same_chain_step, (1, 0), value=1.0)
    run = changes.cumsum(1) - 1
    members = torch.zeros_like(grounds[..., 0]).scatter_add_(1, run, torch.ones_like(grounds[..., 0]))
    return grounds[..., -1] / members.gather(1, run)


def find_contacts(batch: Batch) -> Tensor:
    """(B, L, L) True where the start has two residues that may pair at a pair's distance, stacked on two such."""
    coords = batch.start[:, :, 0].float()
    distance = layers.measure_distances(coords, coords)
    letters = torch.from_numpy(rna.canonical_pair_matrix()).to(coords.device)
    index = torch.arange(coords.shape[1], device=coords.device)
    near = (distance > PAIR_RANGE[0]) & (distance < PAIR_RANGE[1])
    near &= letters[batch.tokens[:, :, None], batch.tokens[:, None, :]]
    near &= (index[:, None] - index[None]).abs() >= LEAST_SEPARATION
    near &= batch.mask[:, :, None] & batch.mask[:, None, :]
    inner = F.pad(near[:, 1:, :-1], (1, 0, 0, 1))
    outer = F.pad(near[:, :-1, 1:], (0, 1, 1, 0))
    return near & (inner | outer)
