"""The architecture of RibonanzaNet (nine layers, 256 wide) with the parameter names and shapes of its public weights.

Written from the layout of the public checkpoint; no code is taken over. Differences that change no value for a single
unpadded chain: there is no dropout; padding and other chains are masked everywhere, so several chains in one batch give
what each gives alone; the outer product is contracted before its (L, L, 1024) array would be built.

Source: He et al., Ribonanza (2024), github.com/Shujun-He/RibonanzaNet, Network.py.
Shapes: B batch, L residues, H heads, D width, C pair channels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PAD_TOKEN = 4
# Parts of a checkpoint that make the embeddings; its heads are left out.
PARTS = ("encoder", "transformer_encoder", "outer_product_mean", "pos_encoder")
TRIANGLE_ATTENTION_HEADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RibonanzaShape:
    """Sizes of an encoder, all of which its weights tell."""

    num_tokens: int
    width: int
    attention_heads: int
    feed_forward: int
    pair_channels: int
    product_channels: int
    relative_bins: int
    kernels: tuple[int, ...]
    triangle_attention: bool

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.kernels)


def read_shape(shapes: Mapping[str, tuple[int, ...]]) -> RibonanzaShape:
    """The sizes of an encoder from the shapes of its tensors.

    Raises:
        ValueError: a tensor that tells a size is missing, or its shape is none that this layout has.
    """

    def find(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in shapes:
            raise ValueError(f"{name} is missing")
        if len(shapes[name]) != dimensions:
            raise ValueError(f"{name} is of shape {shapes[name]}, expected {dimensions} dimensions")
        return shapes[name]

    indices = {int(m[1]) for m in (re.match(r"transformer_encoder\.(\d+)\.", name) for name in shapes) if m}
    if not indices or indices != set(range(len(indices))):
        raise ValueError(f"layers {sorted(indices)}, expected transformer_encoder.0, .1, ..")
    num_tokens, width = find("encoder.weight", 2)
    heads, channels = find("transformer_encoder.0.pairwise2heads.weight", 2)
    kernels = tuple(find(f"transformer_encoder.{k}.conv.weight", 3)[2] for k in sorted(indices))
    bins = find("pos_encoder.linear.weight", 2)[1]
    if num_tokens <= PAD_TOKEN or width % heads or not bins % 2 or not all(k % 2 for k in kernels):
        raise ValueError(
            f"{num_tokens} tokens, width {width}, {heads} heads, {bins} relative positions, kernels {kernels}: "
            "expected 5 tokens or more, a width that the heads divide, odd numbers of positions and odd kernels"
        )
    return RibonanzaShape(
        num_tokens=num_tokens,
        width=width,
        attention_heads=heads,
        feed_forward=find("transformer_encoder.0.linear1.weight", 2)[0],
        pair_channels=channels,
        product_channels=find("outer_product_mean.proj_down1.weight", 2)[0],
        relative_bins=bins,
        kernels=kernels,
        triangle_attention="transformer_encoder.0.triangle_attention_out.to_qkv.weight" in shapes,
    )


class OuterProduct(nn.Module):
    """Pair features from products of all channels of two residues; the sum over c and d is taken one at a time."""

    def __init__(self, width: int, inner: int, channels: int) -> None:
        super().__init__()
        self.inner = inner
        self.proj_down1 = nn.Linear(width, inner)
        self.proj_down2 = nn.Linear(inner * inner, channels)

    def forward(self, single: Tensor) -> Tensor:
        """single (B, L, D) -> (B, L, L, C)."""
        x = self.proj_down1(single)
        weight = self.proj_down2.weight.view(-1, self.inner, self.inner)
        half = torch.einsum("bjd,pcd->bjpc", x, weight)
        pair: Tensor = torch.einsum("bic,bjpc->bijp", x, half) + self.proj_down2.bias
        return pair


class TriangleProduct(nn.Module):
    """Triangle multiplication: pair (i, j) from pairs (i, k), (j, k) ("outgoing") or (k, j), (k, i)."""

    def __init__(self, channels: int, outgoing: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.left_proj = nn.Linear(channels, channels)
        self.right_proj = nn.Linear(channels, channels)
        self.left_gate = nn.Linear(channels, channels)
        self.right_gate = nn.Linear(channels, channels)
        self.out_gate = nn.Linear(channels, channels)
        self.to_out_norm = nn.LayerNorm(channels)
        self.to_out = nn.Linear(channels, channels)
        self.mixing = "bikd,bjkd->bijd" if outgoing else "bkjd,bkid->bijd"

    def forward(self, pair: Tensor, visible: Tensor) -> Tensor:
        """pair (B, L, L, C), visible (B, L, L) bool -> (B, L, L, C)."""
        x = self.norm(pair)
        seen = visible[..., None].to(x.dtype)
        left = self.left_proj(x) * seen * self.left_gate(x).sigmoid()
        right = self.right_proj(x) * seen * self.right_gate(x).sigmoid()
        mixed = self.to_out_norm(torch.einsum(self.mixing, left, right))
        out: Tensor = self.to_out(mixed * self.out_gate(x).sigmoid())
        return out


class TriangleAttention(nn.Module):
    """Attention of pairs along a row or a column, biased by the pair between the two ends."""

    def __init__(self, channels: int, along_rows: bool) -> None:
        super().__init__()
        heads, inner = TRIANGLE_ATTENTION_HEADS, channels // 4
        self.along_rows = along_rows
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * inner * heads, bias=False)
        self.linear_for_pair = nn.Linear(channels, heads, bias=False)
        self.to_gate = nn.Sequential(nn.Linear(channels, channels), nn.Sigmoid())
        self.to_out = nn.Linear(heads * inner, channels)

    def forward(self, pair: Tensor, visible: Tensor) -> Tensor:
        """pair (B, L, L, C), visible (B, L, L) bool -> (B, L, L, C)."""
        z = self.norm(pair)
        batch, length = z.shape[:2]
        bias = self.linear_for_pair(z).permute(0, 3, 1, 2)[:, None]
        # columns are the rows of the transposed array; the bias is that of (query, key) in both
        lines = z if self.along_rows else z.transpose(1, 2)
        q, k, v = self.to_qkv(lines).view(batch, length, length, 3, TRIANGLE_ATTENTION_HEADS, -1).unbind(3)
        own = torch.eye(length, dtype=torch.bool, device=z.device)
        # on line r residue i looks at j if they see each other and r sees j; always at itself, so that no row is empty
        seen = ((visible[:, None] & visible[:, :, None, :]) | own)[:, :, None]
        mask = bias.to(q.dtype).masked_fill(~seen, float("-inf")).flatten(0, 1)
        q, k, v = (t.transpose(2, 3).flatten(0, 1) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = out.transpose(1, 2).reshape(batch, length, length, -1)
        out = out if self.along_rows else out.transpose(1, 2)
        result: Tensor = self.to_out(self.to_gate(z) * out)
        return result


class SelfAttention(nn.Module):
    """Multi-head attention of the single track with a bias from the pair track; residual and norm inside."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.w_qs = nn.Linear(width, width, bias=False)
        self.w_ks = nn.Linear(width, width, bias=False)
        self.w_vs = nn.Linear(width, width, bias=False)
        self.fc = nn.Linear(width, width, bias=False)
        self.layer_norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, L, D), bias (B, H, L, L) with -inf where nothing may be seen -> (B, L, D)."""
        q, k, v = (w(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for w in (self.w_qs, self.w_ks, self.w_vs))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        result: Tensor = self.layer_norm(self.fc(out.transpose(1, 2).flatten(2)) + x)
        return result


class RibonanzaLayer(nn.Module):
    """Convolution along the chain, biased attention, feed-forward, then the pair track; norms after each residual."""

    def __init__(self, shape: RibonanzaShape, kernel: int) -> None:
        super().__init__()
        width, channels = shape.width, shape.pair_channels
        self.self_attn = SelfAttention(width, shape.attention_heads)
        self.linear1 = nn.Linear(width, shape.feed_forward)
        self.linear2 = nn.Linear(shape.feed_forward, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.pairwise2heads = nn.Linear(channels, shape.attention_heads, bias=False)
        self.pairwise_norm = nn.LayerNorm(channels)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.triangle_update_out = TriangleProduct(channels, outgoing=True)
        self.triangle_update_in = TriangleProduct(channels, outgoing=False)
        self.triangle_attention = shape.triangle_attention
        if shape.triangle_attention:
            self.triangle_attention_out = TriangleAttention(channels, along_rows=True)
            self.triangle_attention_in = TriangleAttention(channels, along_rows=False)
        self.outer_product_mean = OuterProduct(width, shape.product_channels, channels)
        expand, contract = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.pair_transition = nn.Sequential(nn.LayerNorm(channels), expand, nn.ReLU(), contract)

    def forward(self, single: Tensor, pair: Tensor, chain: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """single (B, L, D), pair (B, L, L, C), chain (B, L) with -1 = padding, visible (B, L, L) -> single, pair."""
        single = single * (chain >= 0)[..., None].to(single.dtype)
        single = self.norm3(single + self._convolve(single, chain))
        bias = self.pairwise2heads(self.pairwise_norm(pair)).permute(0, 3, 1, 2)
        bias = bias.masked_fill(~visible[:, None], float("-inf"))
        single = self.norm1(single + self.self_attn(single, bias))
        single = self.norm2(single + self.linear2(F.gelu(self.linear1(single))))
        pair = pair + self.outer_product_mean(single)
        pair = pair + self.triangle_update_out(pair, visible)
        pair = pair + self.triangle_update_in(pair, visible)
        if self.triangle_attention:
            pair = pair + self.triangle_attention_out(pair, visible)
            pair = pair + self.triangle_attention_in(pair, visible)
        return single, pair + self.pair_transition(pair)

    def _convolve(self, x: Tensor, chain: Tensor) -> Tensor:
        """The convolution as a product over shifted copies, so that what lies in another chain counts as zero."""
        kernel = self.conv.kernel_size[0]
        reach = kernel // 2
        near = F.pad(chain, (reach, reach), value=-1).unfold(1, kernel, 1) == chain[..., None]
        columns = F.pad(x, (0, 0, reach, reach)).unfold(1, kernel, 1) * near[:, :, None].to(x.dtype)
        return F.linear(columns.flatten(2), self.conv.weight.flatten(1), self.conv.bias)


class Tokens(nn.Module):
    """The token embedding, under the name that it has in the public weights."""

    def __init__(self, num_tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_tokens, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, D)."""
        return F.embedding(tokens, self.weight)


class RelativePosition(nn.Module):
    """Pair features of the clipped distance along the sequence: a linear map of its one-hot code, as a look-up."""

    def __init__(self, bins: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(bins, channels)

    def forward(self, residue_index: Tensor) -> Tensor:
        """(B, L) -> (B, L, L, C)."""
        most = self.linear.in_features // 2
        step = (residue_index[:, :, None] - residue_index[:, None, :]).clamp(-most, most) + most
        return F.embedding(step, self.linear.weight.t()) + self.linear.bias


class RibonanzaNet(nn.Module):
    """Per-residue and pair embeddings of RNA sequences; the heads of the public weights are left out."""

    def __init__(self, shape: RibonanzaShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Tokens(shape.num_tokens, shape.width)
        self.transformer_encoder = nn.ModuleList(RibonanzaLayer(shape, kernel) for kernel in shape.kernels)
        self.outer_product_mean = OuterProduct(shape.width, shape.product_channels, shape.pair_channels)
        self.pos_encoder = RelativePosition(shape.relative_bins, shape.pair_channels)

    def forward(
        self, tokens: Tensor, chain: Tensor, residue_index: Tensor, visible: Tensor, num_trained: int, recompute: bool
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, D) and (B, L, L, C); all but the last `num_trained` layers run without gradient.

        Args:
            tokens: (B, L) A 0, C 1, G 2, U 3, anything else and padding 4.
            chain: (B, L) index of the chain, -1 = padding.
            residue_index: (B, L) position inside the chain.
            visible: (B, L, L) bool, which residues may see each other; every residue sees itself.
            num_trained: how many of the last layers carry gradient.
            recompute: trained layers are computed again in the backward pass instead of being kept.
        """
        first_trained = len(self.transformer_encoder) - num_trained
        with torch.no_grad():
            single = self.encoder(tokens)
            pair = self.outer_product_mean(single) + self.pos_encoder(residue_index)
            for layer in self.transformer_encoder[:first_trained]:
                single, pair = layer(single, pair, chain, visible)
        for layer in self.transformer_encoder[first_trained:]:
            if recompute:
                single, pair = checkpoint(layer, single, pair, chain, visible, use_reentrant=False)
            else:
                single, pair = layer(single, pair, chain, visible)
        return single, pair
