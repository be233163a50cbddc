"""A small random encoder in the layout of the public weights, and a naive forward pass to hold ours against."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rnafold.model.ribonanza import RibonanzaNet, RibonanzaShape

SMALL = RibonanzaShape(
    num_tokens=5,
    width=16,
    attention_heads=2,
    feed_forward=64,
    pair_channels=8,
    product_channels=4,
    relative_bins=17,
    kernels=(5, 5, 1),
    triangle_attention=False,
)


def random_tensors(shape: RibonanzaShape = SMALL, seed: int = 0) -> dict[str, Tensor]:
    """Tensors of every part, norms included, none of them trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        names = RibonanzaNet(shape).state_dict()
    found = {}
    for name, value in names.items():
        noise = torch.randn(value.shape, generator=generator)
        is_scale = ("norm" in name and name.endswith("weight")) or name.endswith("pair_transition.0.weight")
        found[name] = 1.0 + 0.1 * noise if is_scale else 0.3 * noise
    found["decoder.weight"], found["decoder.bias"] = torch.zeros(2, shape.width), torch.zeros(2)
    return found


def write_encoder(path: Path, shape: RibonanzaShape = SMALL, seed: int = 0) -> Path:
    """A weights file as the public one is: torch.save of a state dict, heads included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(random_tensors(shape, seed), path)
    return path


def embed_naively(t: dict[str, Tensor], tokens: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """single (L, D) and pair (L, L, C) of one chain (L,), straight from the published order of operations."""

    def norm(x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, t[f"{name}.weight"], t.get(f"{name}.bias"))

    def product(x: Tensor, name: str) -> Tensor:
        x = linear(x, f"{name}.proj_down1")
        return linear(torch.einsum("ic,jd->ijcd", x, x).flatten(2), f"{name}.proj_down2")

    def triangle(x: Tensor, name: str, equation: str) -> Tensor:
        x = norm(x, f"{name}.norm")
        left = linear(x, f"{name}.left_proj") * linear(x, f"{name}.left_gate").sigmoid()
        right = linear(x, f"{name}.right_proj") * linear(x, f"{name}.right_gate").sigmoid()
        mixed = norm(torch.einsum(equation, left, right), f"{name}.to_out_norm")
        return linear(mixed * linear(x, f"{name}.out_gate").sigmoid(), f"{name}.to_out")

    def look(x: Tensor, name: str, rows: bool) -> Tensor:
        z, size = norm(x, f"{name}.norm"), len(x)
        q, k, v = (part.view(size, size, 4, -1) for part in linear(z, f"{name}.to_qkv").chunk(3, -1))
        bias = linear(z, f"{name}.linear_for_pair")
        if rows:
            logits = torch.einsum("rihd,rjhd->rijh", q, k) / q.shape[-1] ** 0.5 + bias[None]
            out = torch.einsum("rijh,rjhd->rihd", logits.softmax(2), v)
        else:
            logits = torch.einsum("ilhd,jlhd->ijlh", q, k) / q.shape[-1] ** 0.5 + bias[:, :, None]
            out = torch.einsum("ijlh,jlhd->ilhd", logits.softmax(1), v)
        return linear(linear(z, f"{name}.to_gate.0").sigmoid() * out.flatten(2), f"{name}.to_out")

    single = t["encoder.weight"][tokens]
    place = torch.arange(len(tokens))
    code = F.one_hot((place[:, None] - place[None]).clamp(-8, 8) + 8, 17).float()
    pair = product(single, "outer_product_mean") + linear(code, "pos_encoder.linear")
    for k in range(1 + max(int(n.split(".")[1]) for n in t if n.startswith("transformer_encoder."))):
        own = f"transformer_encoder.{k}"
        weight = t[f"{own}.conv.weight"]
        moved = F.conv1d(single.T[None], weight, t[f"{own}.conv.bias"], padding=weight.shape[2] // 2)[0].T
        single = norm(single + moved, f"{own}.norm3")
        bias = linear(norm(pair, f"{own}.pairwise_norm"), f"{own}.pairwise2heads")
        q, key, v = (linear(single, f"{own}.self_attn.w_{x}s").view(len(tokens), heads, -1) for x in "qkv")
        shares = (torch.einsum("ihd,jhd->ijh", q, key) / q.shape[-1] ** 0.5 + bias).softmax(1)
        seen = linear(torch.einsum("ijh,jhd->ihd", shares, v).flatten(1), f"{own}.self_attn.fc")
        single = norm(single + norm(seen + single, f"{own}.self_attn.layer_norm", 1e-6), f"{own}.norm1")
        single = norm(single + linear(F.gelu(linear(single, f"{own}.linear1")), f"{own}.linear2"), f"{own}.norm2")
        pair = pair + product(single, f"{own}.outer_product_mean")
        pair = pair + triangle(pair, f"{own}.triangle_update_out", "ikd,jkd->ijd")
        pair = pair + triangle(pair, f"{own}.triangle_update_in", "kjd,kid->ijd")
        if f"{own}.triangle_attention_out.to_qkv.weight" in t:
            pair = pair + look(pair, f"{own}.triangle_attention_out", True)
            pair = pair + look(pair, f"{own}.triangle_attention_in", False)
        inner = linear(norm(pair, f"{own}.pair_transition.0"), f"{own}.pair_transition.1").relu()
        pair = pair + linear(inner, f"{own}.pair_transition.3")
    return single, pair
