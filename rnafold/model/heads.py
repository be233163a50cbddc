"""Heads on the pair track: distogram, pair logits, and the confidence head: the expected TM-scores of start and result.

Shapes: B batch, L residues, C pair channels, D width, K bins. Coordinates in Å.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnafold import rna
from rnafold.model.chunks import count_rows
from rnafold.model.products import Linear

# Centres of the distogram's bins in Å; the last bin holds everything beyond.
DISTOGRAM_MINIMUM, DISTOGRAM_STEP, DISTOGRAM_BINS = 3.0, 1.0, 40
NEAR = 20.0
MEASURES = 4
# Pairs that structures are compared with the heads on at once: each has DISTOGRAM_BINS values.
CHUNK_PAIRS = 4096
# On a card in so many parts of all rows.
CARD_PARTS = 8


def tm_scale(resolved: Tensor) -> Tensor:
    """d0 (B,) in Å of the competition's TM-score for a count of resolved residues. Source: docs of US-align for RNA."""
    steps = torch.tensor([12, 16, 20, 24, 30], device=resolved.device)
    table = torch.tensor([0.3, 0.4, 0.5, 0.6, 0.7, 0.0], device=resolved.device)
    short = table[torch.bucketize(resolved.long(), steps, right=True)]
    return torch.where(resolved >= 30, 0.6 * (resolved.float() - 0.5).clamp_min(0.0).sqrt() - 2.5, short)


def distogram_centres(device: torch.device) -> Tensor:
    """(K,) distances in Å at the middle of each bin."""
    return DISTOGRAM_MINIMUM + DISTOGRAM_STEP * torch.arange(DISTOGRAM_BINS, device=device)


def distogram_bins(distances: Tensor) -> Tensor:
    """Index of the bin of each distance in Å; the first and the last take what lies beyond."""
    return ((distances - DISTOGRAM_MINIMUM) / DISTOGRAM_STEP).round().long().clamp(0, DISTOGRAM_BINS - 1)


class PairHeads(nn.Module):
    """Distogram (B, R, L, K) and logits of base pairs (B, R, L), both symmetric, from the symmetrised pair track."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.distogram = Linear(channels, DISTOGRAM_BINS)
        self.pairs = Linear(channels, 1)
        nn.init.constant_(self.pairs.bias, -4.0)  # most residues do not pair with each other

    def forward(self, symmetric: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, R, L, C) of pair + its transpose -> distogram logits and pair logits, float32."""
        x = self.norm(symmetric)
        return self.distogram(x).float(), self.pairs(x)[..., 0].float()


class ConfidenceHead(nn.Module):
    """Expected TM-scores of the start and of the refined coordinates.

    Each is asked how well its distances agree with the distogram, by the kernel of the TM-score itself, and how many of
    the expected pairs it forms; a small network corrects the confidence that the start came with.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = Linear(width + 2 * MEASURES + 4, 64)
        self.correct = Linear(64, 2)
        nn.init.normal_(self.correct.weight, std=1e-2)
        nn.init.zeros_(self.correct.bias)

    def forward(self, out: Tensor, lddt: Tensor, measures: Tensor, confidence: Tensor, mask: Tensor) -> Tensor:
        """Expected TM-scores (B, 2) of the start and of the result.

        Args:
            out: (B, L, D) normalised single representation.
            lddt: (B, L) expected lDDT.
            measures: (B, 2, MEASURES) of start and result.
            confidence: (B,) that the start came with, 0 = unknown.
            mask: (B, L).
        """
        real = mask.to(lddt.dtype)
        count = real.sum(1)
        pooled = (out.float() * real[..., None]).sum(1) / count[:, None]
        known = (confidence > 0).to(lddt.dtype)
        prior = torch.where(confidence > 0, torch.logit(confidence.clamp(0.02, 0.98)), 0.0)
        mean_lddt = (lddt.detach() * real).sum(1) / count
        rest = torch.stack([mean_lddt, count.log() / 5.0, prior, known], -1)
        change = self.correct(F.gelu(self.expand(torch.cat([pooled, measures.flatten(1), rest], -1)))).float()
        return torch.sigmoid(prior[:, None] + change)


@torch.no_grad()
def measure_agreement(
    heads: PairHeads,
    symmetric: Tensor,
    structures: tuple[Tensor, ...],
    mask: Tensor,
    logits: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """How structures (B, L, 3) agree with the heads (B, S, MEASURES), worked on in chunks of rows.

    The measures: mean over pairs of the TM-score's kernel of the error expected from the distogram, the same for the
    best row (the residue that most others are well placed around) and for pairs nearer than NEAR in the structure,
    and the share of expected base pairs that are formed.

    Args:
        heads: on the symmetrised pair track.
        symmetric: (B, L, L, C) pair + its transpose.
        structures: coordinates in Å.
        mask: (B, L).
        logits: what the heads gave of all rows, where that is there already.
    """
    centres = distogram_centres(symmetric.device)
    scale = tm_scale(mask.sum(1)).clamp_min(1.0)[:, None, None]
    rows: list[list[Tensor]] = [[] for _ in structures]
    length = mask.shape[1]
    size = count_rows(mask, CHUNK_PAIRS, CARD_PARTS)
    for first in range(0, length, size):
        part = slice(first, first + size)
        bins, pair_logits = heads(symmetric[:, part]) if logits is None else (x[:, part] for x in logits)
        real = (mask[:, part, None] & mask[:, None, :]).float()
        expected = torch.sigmoid(pair_logits) * real
        probability = bins.softmax(-1)
        for at, coords in enumerate(structures):
            distance = _rows_of_distances(coords, part)
            error = (distance[..., None] - centres).div_(scale[..., None])
            kernel = (probability / error.square_().add_(1.0)).sum(-1) * real
            near = real * (distance < NEAR)
            least, most = rna.FORMED_RANGE
            formed = torch.sigmoid((distance - least) * 2.0) * torch.sigmoid((most - distance) * 2.0)
            sums = [kernel, real, kernel * near, near, expected * formed, expected]
            rows[at].append(torch.stack([x.sum(-1) for x in sums], -1))
    return torch.stack([_summarise(torch.cat(found, 1)) for found in rows], 1)


def _rows_of_distances(coords: Tensor, part: slice) -> Tensor:
    """Distances (B, R, L) of some residues to all, float32."""
    with torch.autocast(coords.device.type, enabled=False):
        return torch.cdist(coords[:, part].float(), coords.float())


def _summarise(sums: Tensor) -> Tensor:
    """(B, MEASURES) of the sums over columns (B, L, 6) of `measure_agreement`."""
    best = (sums[..., 0] / sums[..., 1].clamp_min(1.0)).amax(1)
    total = sums.sum(1)
    return torch.stack(
        [
            total[:, 0] / total[:, 1].clamp_min(1.0),
            best,
            total[:, 2] / total[:, 3].clamp_min(1.0),
            total[:, 4] / (total[:, 5] + 1.0),
        ],
        -1,
    )
