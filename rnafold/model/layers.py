"""Building blocks: rotary self-attention with a pair bias, feed-forward, and geometry in torch.

Shapes: B batch, L residues, H heads, C pair channels, D width. Coordinates in Å.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnafold.model.attention import Attention
from rnafold.model.chunks import is_plain_on_cpu
from rnafold.model.products import Linear

RBF_CENTRES = 16
RBF_MAXIMUM = 40.0


def key_mask(mask: Tensor) -> Tensor:
    """(B, L) what is added to a bias: 0 where a residue is real, -inf where it is padding."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))


class TransformerBlock(nn.Module):
    """Pre-norm transformer layer: attention and a GELU feed-forward, each with residual dropout."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_forward = nn.LayerNorm(width)
        self.expand = Linear(width, feed_forward)
        self.contract = Linear(feed_forward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L, D)."""
        x = self._add(x, self.attention(self.norm_attention(x), rotary, mask))
        return self._add(x, self.contract(F.gelu(self.expand(self.norm_forward(x)))))

    def _add(self, x: Tensor, change: Tensor) -> Tensor:
        """x plus the change with dropout."""
        if self.training and self.dropout.p and is_plain_on_cpu(change):
            return torch.addcmul(x, change, draw_kept(change, self.dropout.p))
        added: Tensor = x + self.dropout(change)
        return added


def draw_kept(like: Tensor, p: float) -> Tensor:
    """Factors of dropout in the shape of `like`: 0 with probability p, to 2^-16, else 1 / (1 - p).

    Four to a 64-bit random number: torch draws one for each, which took a fifteenth of a step on a CPU.
    """
    dropped = round(p * 2**16)
    numbers = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    kept = numbers.view(torch.int16)[: like.numel()].view(like.shape) >= dropped - 2**15
    factors: Tensor = kept.to(like.dtype).mul_(2**16 / (2**16 - dropped))
    return factors


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
