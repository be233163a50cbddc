"""The pair track: what is known of each pair of residues, and its exchange with the single track.

Written for the memory bus: features that no recycle changes are projected once a batch, a stage normalises the track
once and reads attention and biases off one product, and sums go in place. Where no gradient is kept everything is
worked on in chunks of rows that stay in cache.

Shapes: B batch, L residues, R rows, H heads, C pair channels, D width. Coordinates in Å.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnafold.model import layers
from rnafold.model.chunks import count_rows
from rnafold.model.products import Linear, linear, linear_each

NUM_RELATIVE = 2 * 16 + 3
# Columns of the input: pairing, its logarithm, covariation and sampled pairs; how far the start is from the templates
# and the assemblies among the other candidates; how sure those are; the start's geometry; the distances they show.
KNOWN, OFF, SURE = slice(0, 4), slice(4, 6), slice(6, 8)
GEOMETRY = slice(8, 8 + layers.RBF_CENTRES + 3)
SHOWN = slice(GEOMETRY.stop, GEOMETRY.stop + 2 * layers.RBF_CENTRES)
PAIR_INPUTS = SHOWN.stop
# Pairs that are worked on at once where no gradient is kept (model.chunks).
CHUNK_PAIRS = 8192


def row_chunks(like: Tensor) -> list[slice]:
    """Slices of rows of `like` (B, L, ..), about CHUNK_PAIRS pairs each; all rows at once where a gradient is kept."""
    length = like.shape[1]
    size = length if torch.is_grad_enabled() else count_rows(like, CHUNK_PAIRS, card_parts=1)
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def by_rows(work: Callable[[slice], tuple[Tensor, ...]], like: Tensor) -> tuple[Tensor, ...]:
    """What `work` gives of each chunk of rows of `like` (B, L, ..), put together along axis 1."""
    parts = [work(rows) for rows in row_chunks(like)]
    return parts[0] if len(parts) == 1 else tuple(torch.cat(found, 1) for found in zip(*parts))


def add_in_place(change: Tensor, whole: Tensor) -> Tensor:
    """The sum, in the memory of `change` where the types agree (under autocast they do not)."""
    return change.add_(whole) if change.dtype == whole.dtype else whole + change


def normalize(pair: Tensor) -> Tensor:
    """Layer norm over the channels; by a scale of ones, since without any it takes a CPU twice as long."""
    channels = pair.shape[-1:]
    return F.layer_norm(pair, channels, pair.new_ones(channels), pair.new_zeros(channels))


def mask_keys(biases: Tensor, key_mask: Tensor) -> Tensor:
    """Biases, float32 and laid out anew where they are a turned view, plus a mask that broadcasts."""
    whole = biases.float().contiguous()
    return whole + key_mask if whole is biases else whole.add_(key_mask)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Consensus:
    """What the other candidates say of each pair; templates first, then assemblies.

    Attributes:
        basis: (B, L, L, 2 x RBF) their distances in radial basis functions, means weighted by confidence; None where
            no candidate is shown.
        mean: (B, L, L, 2) mean distance in Å; None where no candidate is shown.
        sure: (B, 2) the best confidence.
    """

    basis: Tensor | None
    mean: Tensor | None
    sure: Tensor


class PairInput(nn.Module):
    """Pair representation from pairing, covariation, relative position, the coordinates and other candidates."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = Linear(PAIR_INPUTS, channels)
        self.relative = nn.Embedding(NUM_RELATIVE, channels)

    def project_known(self, known: Sequence[Tensor], relative: Tensor, consensus: Consensus) -> Tensor:
        """The part (B, L, L, C) that does not depend on the coordinates that are refined.

        Args:
            known: (B, L, L) pairing, covariation and sampled pairs.
            relative: (B, L, L) of `relative_position`.
            consensus: of `measure_consensus`.
        """
        weight = self.features.weight
        columns = [weight[:, KNOWN]] if consensus.basis is None else [weight[:, KNOWN], weight[:, SHOWN]]
        chosen = torch.cat(columns, 1)
        # what is the same for all pairs of a target is added to its rows of the embedding
        constant = linear(consensus.sure, weight[:, SURE], self.features.bias)
        table = (self.relative.weight + constant[:, None]).flatten(0, 1)
        place = relative + NUM_RELATIVE * torch.arange(len(relative), device=relative.device)[:, None, None]

        def project(rows: slice) -> tuple[Tensor, ...]:
            pairing, covariation, sampled = (x[:, rows] for x in known)
            inputs = torch.stack([pairing, pairing.clamp_min(1e-4).log() / 10.0, covariation, sampled], -1)
            if consensus.basis is not None:
                inputs = torch.cat([inputs, consensus.basis[:, rows]], -1)
            return (add_in_place(linear(inputs, chosen), F.embedding(place[:, rows], table)),)

        return by_rows(project, relative)[0]

    def forward(self, projected: Tensor, coords: Tensor, frames: Tensor, consensus: Consensus) -> Tensor:
        """Pair representation (B, L, L, C).

        Args:
            projected: of `project_known`.
            coords: (B, L, 3) that are refined.
            frames: (B, L, 3, 3) of them.
            consensus: of `measure_consensus`.
        """
        columns = [GEOMETRY] if consensus.mean is None else [GEOMETRY, OFF]
        chosen = torch.cat([self.features.weight[:, part] for part in columns], 1)
        seen = (consensus.sure > 0)[:, None, None]

        def project(rows: slice) -> tuple[Tensor, ...]:
            with torch.autocast(coords.device.type, enabled=False):
                distance = layers.measure_distances(coords[:, rows], coords)
                inputs = layers.pair_geometry(coords, coords[:, rows], frames[:, rows], distance)
                if consensus.mean is not None:
                    off = ((distance[..., None] - consensus.mean[:, rows]) / 10.0).tanh() * seen
                    inputs = torch.cat([inputs, off], -1)
            return (add_in_place(linear(inputs, chosen), projected[:, rows]),)

        return by_rows(project, coords)[0]


class PairUpdate(nn.Module):
    """Pair representation updated by products of single features and a small transition; no triangle updates.

    The single track reads back: each residue takes the pair features of the others, weighted by attention of their own.
    Source: the product is the rank-one form of AlphaFold 2's outer product mean, the reading back that of its invariant
    point attention's pair part (Jumper et al., 2021).
    """

    def __init__(self, width: int, channels: int, heads: int) -> None:
        super().__init__()
        self.norm_single = nn.LayerNorm(width)
        self.left = Linear(width, channels)
        self.right = Linear(width, channels)
        self.combine = Linear(channels, channels)
        self.norm_pair = nn.LayerNorm(channels)
        self.expand = Linear(channels, 2 * channels)
        self.contract = Linear(2 * channels, channels)
        self.norm_read = nn.LayerNorm(channels)
        self.attend = Linear(channels, heads, bias=False)
        self.read = Linear(heads * channels, width)

    def forward(
        self, single: Tensor, pair: Tensor, key_mask: Tensor, bias: "BiasProjection"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both tracks updated, and the attention biases of the layers that follow.

        Args:
            single: (B, L, D).
            pair: (B, L, L, C).
            key_mask: (B, L) 0 where a residue is real, -inf where it is padding.
            bias: reads the biases off the updated pair track.
        """
        x = self.norm_single(single)
        left, right = self.left(x), self.right(x)
        length = right.shape[1]
        # the product of the singles and `combine` as one product: (R, C) of the left by (L x C, C) of the right, with
        # no (B, L, L, C) product in between
        right = (right[:, :, None] * self.combine.weight).flatten(1, 2)
        combined = self.combine.bias.repeat(length)
        heads = len(self.attend.weight)
        weight = torch.cat([self.attend.weight * self.norm_read.weight, bias.weight])
        offset = F.pad(bias.offset, (heads, 0))

        def update(rows: slice) -> tuple[Tensor, ...]:
            part = pair[:, rows]
            product = linear_each(left[:, rows], right, combined)
            part = add_in_place(product.view(part.shape), part)
            change = self.contract(F.gelu(self.expand(self.norm_pair(part))))
            part = add_in_place(change, part)
            # norms differ by scale and offset alone: the offset before the softmax would change no weight
            normed = normalize(part)
            attention, biases = linear(normed, weight, offset).tensor_split([heads], -1)
            weights = mask_keys(attention.permute(0, 1, 3, 2), key_mask[:, None, None]).softmax(-1)
            read = weights.to(normed.dtype) @ normed * self.norm_read.weight + self.norm_read.bias
            return part, self.read(read.flatten(2)), biases.permute(0, 1, 3, 2)

        pair, change, biases = by_rows(update, pair)
        return single + change, pair, bias.split(biases, key_mask)


class BiasProjection:
    """Attention biases of some layers in a row, read off the pair track by one product.

    Attributes:
        weight: (layers x H, C) with the scale of the norm before it.
        offset: (layers x H,).
    """

    def __init__(self, norm: nn.LayerNorm, projections: nn.ModuleList) -> None:
        whole = torch.cat([projection.get_parameter("weight") for projection in projections])
        self.weight, self.offset = whole * norm.weight, whole @ norm.bias
        self.num_layers = len(projections)

    def read(self, pair: Tensor, key_mask: Tensor) -> Tensor:
        """Masks (layers, B, H, L, L) for the attention of each layer, -inf for padded keys."""

        def project(rows: slice) -> tuple[Tensor, ...]:
            return (linear(normalize(pair[:, rows]), self.weight, self.offset).permute(0, 1, 3, 2),)

        return self.split(by_rows(project, pair)[0], key_mask)

    def split(self, biases: Tensor, key_mask: Tensor) -> Tensor:
        """The masks from biases (B, L, layers x H, L)."""
        batch, length = key_mask.shape
        apart = biases.reshape(batch, length, self.num_layers, -1, length).permute(2, 0, 3, 1, 4)
        return mask_keys(apart, key_mask[:, None, None])


def relative_position(chain_index: Tensor, residue_index: Tensor) -> Tensor:
    """(B, L, L) int64 bucket of the signed distance along the chain, clipped at 16; other chains get the last one."""
    step = (residue_index[:, None, :] - residue_index[:, :, None]).clamp(-16, 16) + 16
    other = chain_index[:, None, :] != chain_index[:, :, None]
    return step.masked_fill(other, NUM_RELATIVE - 1)


def sampled_pairs(samples: Tensor) -> Tensor:
    """(B, L, L) share of the sampled structures (B, S, L) of partners in which two residues pair; -1 = no partner."""
    batch, count, length = samples.shape
    counts = torch.zeros(batch, length, length + 1, device=samples.device)
    places = torch.where(samples >= 0, samples, length).transpose(1, 2)
    counts.scatter_add_(2, places, torch.ones(1, device=samples.device).expand(places.shape))
    return counts[..., :length] / max(count, 1)


@torch.no_grad()
def measure_consensus(others: Tensor, confidence: Tensor) -> Consensus:
    """What the other candidates say of each pair, added up one candidate at a time in chunks of rows.

    Args:
        others: (B, K, L, 3) coordinates in Å; K may be 0.
        confidence: (B, K, 2) expected TM-scores, column 0 of templates, column 1 of assemblies, 0 = none.
    """
    batch, count, length = others.shape[:3]
    if not count:
        return Consensus(basis=None, mean=None, sure=confidence.new_zeros(batch, 2))
    with torch.autocast(others.device.type, enabled=False):
        weights = confidence / confidence.sum(1, keepdim=True).clamp_min(1e-3)

        def add_up(rows: slice) -> tuple[Tensor, ...]:
            size = len(range(*rows.indices(length)))
            basis = others.new_zeros(batch, size, length, 2, layers.RBF_CENTRES)
            mean = others.new_zeros(batch, size, length, 2)
            for k in range(count):
                distance = layers.measure_distances(others[:, k, rows], others[:, k])
                weight = weights[:, None, None, k]
                mean.addcmul_(weight, distance[..., None])
                basis.addcmul_(weight[..., None], layers.radial_basis(distance)[..., None, :])
            return basis.flatten(3), mean

        basis, mean = by_rows(add_up, others[:, 0])
    return Consensus(basis=basis, mean=mean, sure=confidence.amax(1))
