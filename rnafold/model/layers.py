"""Building blocks: rotary self-attention with a pair bias, feed-forward, and geometry in torch.

Shapes: B batch, L residues, H heads, C pair channels, D width. Coordinates in Å.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RBF_CENTRES = 16
RBF_MAXIMUM = 40.0


def rotary_angles(position: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, L, channels / 2) of rotary position embedding. Source: Su et al., RoFormer (2021)."""
    rates = torch.exp(torch.arange(0, channels, 2, device=position.device) * (-math.log(1e4) / channels))
    angle = position[:, None, :, None].float() * rates
    return angle.cos(), angle.sin()


def apply_rotary(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates the two halves of the last axis of x (B, H, L, c) by the angles."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def key_mask(mask: Tensor) -> Tensor:
    """(B, L) what is added to a bias: 0 where a residue is real, -inf where it is padding."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))


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
        """x (B, L, D), rotary angles, a boolean mask True = seen or biases, broadcast to (B, H, L, L) -> (B, L, D)."""
        batch, length, width = x.shape
        q, k, v = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k = apply_rotary(q, *rotary), apply_rotary(k, *rotary)
        if mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: Tensor = self.project_out(out.transpose(1, 2).reshape(batch, length, width))
        return result


class TransformerBlock(nn.Module):
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


def measure_distances(rows: Tensor, points: Tensor) -> Tensor:
    """(B, R, L) distances in Å of points (B, R, 3) to points (B, L, 3), through their products, so that only (R, L)
    values are kept."""
    square = (rows * rows).sum(-1)[:, :, None] + (points * points).sum(-1)[:, None]
    product = torch.baddbmm(square, rows, points.transpose(1, 2), alpha=-2.0)
    result: Tensor = product.clamp_min(0.0).add(1e-2).sqrt()
    return result


def radial_basis(distance: Tensor) -> Tensor:
    """(.., RBF_CENTRES) Gaussians of distances in Å, evenly spaced from 2 to RBF_MAXIMUM."""
    centres = torch.linspace(2.0, RBF_MAXIMUM, RBF_CENTRES, device=distance.device)
    width = (RBF_MAXIMUM - 2.0) / (RBF_CENTRES - 1)
    scaled = (distance[..., None] - centres).mul_(1.0 / width)
    # exp() of less than -87 is denormal, which costs a CPU seventy times as much; nothing tells e^-80 from 0
    return scaled.square_().neg_().clamp_min_(-80.0).exp_()


def pair_geometry(points: Tensor, rows: Tensor, frames: Tensor, distance: Tensor) -> Tensor:
    """(B, R, L, RBF + 3): distances in radial basis functions and directions seen from each residue's own frame.

    Both are invariant to rigid motion; the directions change sign under reflection, so mirror images differ.

    Args:
        points: (B, L, 3) that are seen.
        rows: (B, R, 3) from where.
        frames: (B, R, 3, 3) of the rows.
        distance: (B, R, L).
    """
    # (x_j - x_i) in the frame of i, from products with the frames alone: no (R, L, 3, 3) array is built
    own = torch.einsum("bic,bick->bik", rows, frames)[:, :, None]
    local = (torch.matmul(points[:, None], frames) - own) / (distance[..., None] + 1.0)
    return torch.cat([radial_basis(distance), local], dim=-1)


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
