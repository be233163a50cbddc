"""Self-attention with rotary positions and a pair bias.

Where the biases ask for a gradient, a CPU is not given torch's general path of some sixty small operations forward and
back, but one function that keeps what its gradient needs: the rotated queries and keys and the weights.

Shapes: B batch, L residues, H heads, c channels of a head, D width.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from rnafold.model.chunks import is_plain_on_cpu
from rnafold.model.products import Linear


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


class Attention(nn.Module):
    """Multi-head self-attention; attention dropout is always 0.

    Rotary positions keep every parameter live: without them the key bias would cancel in the softmax.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = Linear(width, 3 * width)
        self.project_out = Linear(width, width)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x (B, L, D), rotary angles, a boolean mask True = seen or biases, broadcast to (B, H, L, L) -> (B, L, D)."""
        batch, length, width = x.shape
        projected = self.project_in(x).view(batch, length, 3, self.heads, width // self.heads)
        if mask.requires_grad and is_plain_on_cpu(projected):
            out = _attend_with_gradient(projected, *rotary, mask)
        else:
            out = attend(projected, rotary, mask)
        result: Tensor = self.project_out(out)
        return result


def attend(projected: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """(B, L, D) from queries, keys and values (B, L, 3, H, c), by torch's own choice of kernel."""
    q, k, v = projected.permute(2, 0, 3, 1, 4)
    q, k = apply_rotary(q, *rotary), apply_rotary(k, *rotary)
    if mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


class _BiasedAttention(torch.autograd.Function):
    """`attend` for float32 biases (B, H, L, L) and a gradient that is written down."""

    @staticmethod
    def forward(ctx: FunctionCtx, projected: Tensor, cosine: Tensor, sine: Tensor, bias: Tensor) -> Tensor:
        batch, length, _, heads, channels = projected.shape
        apart = projected.permute(2, 0, 3, 1, 4)
        rotated = apart.new_empty(2, batch, heads, length, channels)
        rotate(apart[:2], cosine, sine, rotated)
        q, k = rotated.flatten(1, 2)
        v = apart[2].reshape(batch * heads, length, channels)
        scores = torch.baddbmm(bias.flatten(0, 1), q, k.transpose(1, 2), alpha=channels**-0.5)
        weights = scores.softmax(-1)
        ctx.save_for_backward(q, k, v, weights, cosine, sine)
        return torch.bmm(weights, v).view(batch, heads, length, channels).transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, cosine, sine = ctx.saved_tensors
        batch, length = gradients[0].shape[:2]
        channels = q.shape[-1]
        shape = (batch, -1, length, channels)
        of_out = gradients[0].view(batch, length, -1, channels).transpose(1, 2).flatten(0, 1)
        of_weights = torch.bmm(of_out, v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_turned = of_scores * channels**-0.5
        turned = torch.stack([torch.bmm(of_turned, k), torch.bmm(of_turned.transpose(1, 2), q)])
        found = gradients[0].new_empty(batch, length, 3, len(q) // batch, channels)
        apart = found.permute(2, 0, 3, 1, 4)
        rotate(turned.view(2, *shape), cosine, -sine, apart[:2])
        apart[2] = torch.bmm(weights.transpose(1, 2), of_out).view(shape)
        return found, None, None, of_scores.view(batch, -1, length, length)


_attend_with_gradient: Callable[..., Tensor] = _BiasedAttention.apply


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, out: Tensor) -> None:
    """`apply_rotary` of x (.., H, L, c), written to `out`."""
    (first, second), (out_first, out_second) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(first, cosine, out=out_first).addcmul_(second, sine, value=-1.0)
    torch.mul(second, cosine, out=out_second).addcmul_(first, sine)
