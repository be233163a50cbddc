"""Building blocks: rotary self-attention with a pair bias, feed-forward, pair track, and geometry in torch.

Shapes: B batch, L residues, H heads, C pair channels, D width. Coordinates in Å.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RBF_CENTRES = 16
RBF_MAXIMUM = 40.0
NUM_RELATIVE = 2 * 16 + 3
# Pairing, its logarithm, covariation and sampled pairs; the start's geometry; for templates and for assemblies among
# the other candidates the distances they show, how sure they are, and how far the start is from them.
PAIR_INPUTS = 4 + (RBF_CENTRES + 3) + 2 * (RBF_CENTRES + 2)
# Rows of the pair track that are worked on at once where nothing is kept for a gradient.
ROW_CHUNK = 64


def rotary_angles(position: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, L, channels / 2) of rotary position embedding. Source: Su et al., RoFormer (2021)."""
    rates = torch.exp(torch.arange(0, channels, 2, device=position.device) * (-math.log(1e4) / channels))
    angle = position[:, None, :, None].float() * rates
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates the two halves of the last axis of x (B, H, L, c) by the angles."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def attention_mask(mask: Tensor, bias: Tensor | None) -> Tensor:
    """The mask SDPA takes: boolean (B, 1, 1, L) without a bias; with one, the bias with padded keys at -inf."""
    if bias is None:
        return mask[:, None, None, :]
    return bias.masked_fill(~mask[:, None, None, :], float("-inf"))


class Attention(nn.Module):
    """Multi-head self-attention through scaled_dot_product_attention; attention dropout is always 0.

    Rotary positions keep every parameter live: without them the key bias would cancel in the softmax.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x (B, L, D), rotary angles, mask as `attention_mask` gives it -> (B, L, D)."""
        batch, length, width = x.shape
        q, k, v = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        if mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: Tensor = self.project_out(out.transpose(1, 2).reshape(batch, length, width))
        return result


class Block(nn.Module):
    """Pre-norm transformer layer: attention and a GELU feed-forward, each with residual dropout."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feed_forward)
        self.contract = nn.Linear(feed_forward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L, D)."""
        x = x + self.dropout(self.attention(self.norm_attention(x), rotary, mask))
        change: Tensor = self.dropout(self.contract(F.gelu(self.expand(self.norm_forward(x)))))
        return x + change


class PairUpdate(nn.Module):
    """Pair representation updated by products of single features and a small transition; no triangle updates.

    The single track reads back: each residue takes the pair features of the others, weighted by attention of their own.
    Source: the product is the rank-one form of AlphaFold 2's outer product mean, the reading back that of its invariant
    point attention's pair part (Jumper et al., 2021).
    """

    def __init__(self, width: int, channels: int, heads: int) -> None:
        super().__init__()
        self.norm_single = nn.LayerNorm(width)
        self.left = nn.Linear(width, channels)
        self.right = nn.Linear(width, channels)
        self.combine = nn.Linear(channels, channels)
        self.norm_pair = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 2 * channels)
        self.contract = nn.Linear(2 * channels, channels)
        self.norm_read = nn.LayerNorm(channels)
        self.attend = nn.Linear(channels, heads, bias=False)
        self.read = nn.Linear(heads * channels, width)

    def forward(self, single: Tensor, pair: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """single (B, L, D), pair (B, L, L, C), mask (B, L) -> both updated, worked on in chunks of rows."""
        x = self.norm_single(single)
        left, right = self.left(x), self.right(x)
        size = pair.shape[1] if torch.is_grad_enabled() else ROW_CHUNK
        parts = [
            self._update(left[:, first : first + size], right, pair[:, first : first + size], mask)
            for first in range(0, pair.shape[1], size)
        ]
        if len(parts) == 1:
            return single + parts[0][1], parts[0][0]
        return single + torch.cat([p[1] for p in parts], 1), torch.cat([p[0] for p in parts], 1)

    def _update(self, left: Tensor, right: Tensor, pair: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the pair track (B, R, L, C), and what their residues read (B, R, D)."""
        pair = pair + self.combine(left[:, :, None] * right[:, None, :])
        pair = pair + self.contract(F.gelu(self.expand(self.norm_pair(pair))))
        normed = self.norm_read(pair)
        weights = self.attend(normed).masked_fill(~mask[:, None, :, None], -1e4).softmax(2)
        read = weights.transpose(2, 3) @ normed
        return pair, self.read(read.flatten(2))


class PairInput(nn.Module):
    """Pair representation from pairing, covariation, relative position, the coordinates and other candidates."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Linear(PAIR_INPUTS, channels)
        self.relative = nn.Embedding(NUM_RELATIVE, channels)

    def forward(
        self, known: Sequence[Tensor], relative: Tensor, coords: Tensor, frames: Tensor, consensus: Sequence[Tensor]
    ) -> Tensor:
        """Pair representation (B, L, L, C).

        Args:
            known: (B, L, L) pairing, covariation and sampled pairs.
            relative: (B, L, L) of `relative_position`.
            coords: (B, L, 3) that are refined.
            frames: (B, L, 3, 3) of them.
            consensus: of `measure_consensus`.
        """
        pairing, covariation, sampled = known
        with torch.autocast(coords.device.type, enabled=False):
            distance = measure_distances(coords)
            geometry = pair_geometry(coords, frames, distance)
            off = [((distance - mean) / 10.0).tanh() * (sure > 0) for mean, sure in consensus[1:]]
            plain = [pairing, pairing.clamp_min(1e-4).log() / 10.0, covariation, sampled]
            sure = [sure.expand_as(distance) for _, sure in consensus[1:]]
            inputs = torch.cat([torch.stack([*plain, *off, *sure], -1), geometry, consensus[0]], -1)
        result: Tensor = self.features(inputs) + self.relative(relative)
        return result


def relative_position(chain_index: Tensor, residue_index: Tensor) -> Tensor:
    """(B, L, L) int64 bucket of the signed distance along the chain, clipped at 16; other chains get the last one."""
    step = (residue_index[:, None, :] - residue_index[:, :, None]).clamp(-16, 16) + 16
    other = chain_index[:, None, :] != chain_index[:, :, None]
    return torch.where(other, torch.full_like(step, NUM_RELATIVE - 1), step)


def measure_distances(coords: Tensor) -> Tensor:
    """(B, L, L) distances in Å of points (B, L, 3), through the Gram matrix, so that only (L, L) values are kept."""
    square = (coords * coords).sum(-1)
    gram = coords @ coords.transpose(1, 2)
    result: Tensor = (square[:, :, None] + square[:, None, :] - 2.0 * gram).clamp_min(0.0).add(1e-2).sqrt()
    return result


def radial_basis(distance: Tensor) -> Tensor:
    """(.., RBF_CENTRES) Gaussians of distances in Å, evenly spaced from 2 to RBF_MAXIMUM."""
    centres = torch.linspace(2.0, RBF_MAXIMUM, RBF_CENTRES, device=distance.device)
    width = (RBF_MAXIMUM - 2.0) / (RBF_CENTRES - 1)
    # exp() of less than -87 is denormal, which costs a CPU seventy times as much; nothing tells e^-80 from 0
    return (distance[..., None] - centres).div(width).square().neg().clamp_min(-80.0).exp()


def pair_geometry(coords: Tensor, frames: Tensor, distance: Tensor) -> Tensor:
    """(B, L, L, RBF + 3): distances in radial basis functions and directions seen from each residue's own frame.

    Both are invariant to rigid motion; the directions change sign under reflection, so mirror images differ.
    """
    # (x_j - x_i) in the frame of i, from products with the frames alone: no (L, L, 3, 3) array is built
    local = torch.einsum("bjc,bick->bijk", coords, frames) - torch.einsum("bic,bick->bik", coords, frames)[:, :, None]
    return torch.cat([radial_basis(distance), local / (distance[..., None] + 1.0)], dim=-1)


def build_frames(coords: Tensor, mask: Tensor) -> Tensor:
    """(B, L, 3, 3) right-handed frames of a trace (B, L, 3): columns from the residues before, at and after each one.

    The first and last residue of a target take the frame of the neighbouring triple. Straight triples are handled by
    a small constant and give a frame that is finite, though not rotation-exact.
    """
    length = coords.shape[1]
    last = mask.sum(1, keepdim=True).sub(2).clamp_min(1)
    centre = torch.arange(length, device=coords.device)[None].clamp_min(1).minimum(last)
    before, at, after = (
        torch.gather(coords, 1, (centre + k).clamp(0, length - 1)[..., None].expand(-1, -1, 3)) for k in (-1, 0, 1)
    )
    x = F.normalize(after - before, dim=-1, eps=1e-4)
    y = at - before
    y = F.normalize(y - (y * x).sum(-1, keepdim=True) * x, dim=-1, eps=1e-4)
    return torch.stack([x, y, torch.linalg.cross(x, y, dim=-1)], dim=-1)


def sampled_pairs(samples: Tensor) -> Tensor:
    """(B, L, L) share of the sampled structures (B, S, L) of partners in which two residues pair; -1 = no partner."""
    batch, count, length = samples.shape
    counts = torch.zeros(batch, length, length + 1, device=samples.device)
    places = torch.where(samples >= 0, samples, length).transpose(1, 2)
    counts.scatter_add_(2, places, torch.ones(1, device=samples.device).expand(places.shape))
    return counts[..., :length] / max(count, 1)


@torch.no_grad()
def measure_consensus(
    others: Tensor, confidence: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What the other candidates say of each pair, added up one candidate at a time.

    Args:
        others: (B, K, L, 3) coordinates in Å.
        confidence: (B, K, 2) expected TM-scores, column 0 of templates, column 1 of assemblies, 0 = none.

    Returns:
        (B, L, L, 2 x RBF) their distances in radial basis functions, means weighted by confidence; and for templates
        and assemblies the mean distance (B, L, L) in Å with the best confidence (B, 1, 1).
    """
    with torch.autocast(others.device.type, enabled=False):
        weights = confidence / confidence.sum(1, keepdim=True).clamp_min(1e-3)
        size = others.shape[2]
        basis = torch.zeros(len(others), size, size, 2, RBF_CENTRES, device=others.device)
        mean = torch.zeros(len(others), size, size, 2, device=others.device)
        for k in range(others.shape[1]):
            distance = measure_distances(others[:, k])
            weight = weights[:, None, None, k]
            mean += weight * distance[..., None]
            basis += weight[..., None] * radial_basis(distance)[..., None, :]
        best = confidence.amax(1)[:, None, None]
        return basis.flatten(3), (mean[..., 0], best[..., 0]), (mean[..., 1], best[..., 1])
