"""The pretrained encoder: layout of the public weights, strict reading, masking, freezing, and a silent start."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rnafold.config.settings import LossConfig, ModelConfig, load_config, resolve_config
from rnafold.config.strict_yaml import ConfigError, dump
from rnafold.errors import InputError
from rnafold.features.batch import Batch, collate
from rnafold.features.build import crop_example
from rnafold.model.encoder import encoder_of, load_trunk, rate_groups, see, thaw
from rnafold.model.losses import compute_losses
from rnafold.model.network import build_network, count_parameters
from rnafold.model.ribonanza import RibonanzaNet, RibonanzaShape, read_shape
from tests.pieces.duplexes import make_duplex
from tests.pieces.encoders import SMALL, embed_naively, random_tensors, write_encoder

PUBLIC = RibonanzaShape(
    num_tokens=5,
    width=256,
    attention_heads=8,
    feed_forward=1024,
    pair_channels=64,
    product_channels=32,
    relative_bins=17,
    kernels=(5,) * 8 + (1,),
    triangle_attention=False,
)
# The last layer of the public RibonanzaNet.pt, by hand: its convolution has a kernel of 1, all others one of 5.
LAST_LAYER = {
    "self_attn.w_qs.weight": (256, 256),
    "self_attn.w_ks.weight": (256, 256),
    "self_attn.w_vs.weight": (256, 256),
    "self_attn.fc.weight": (256, 256),
    "self_attn.layer_norm.weight": (256,),
    "self_attn.layer_norm.bias": (256,),
    "linear1.weight": (1024, 256),
    "linear1.bias": (1024,),
    "linear2.weight": (256, 1024),
    "linear2.bias": (256,),
    "norm1.weight": (256,),
    "norm1.bias": (256,),
    "norm2.weight": (256,),
    "norm2.bias": (256,),
    "norm3.weight": (256,),
    "norm3.bias": (256,),
    "pairwise2heads.weight": (8, 64),
    "pairwise_norm.weight": (64,),
    "pairwise_norm.bias": (64,),
    "conv.weight": (256, 256, 1),
    "conv.bias": (256,),
    **{
        f"triangle_update_{way}.{part}.{kind}": (64, 64) if kind == "weight" and "norm" not in part else (64,)
        for way in ("out", "in")
        for part in (
            "norm",
            "left_proj",
            "right_proj",
            "left_gate",
            "right_gate",
            "out_gate",
            "to_out_norm",
            "to_out",
        )
        for kind in ("weight", "bias")
    },
    "outer_product_mean.proj_down1.weight": (32, 256),
    "outer_product_mean.proj_down1.bias": (32,),
    "outer_product_mean.proj_down2.weight": (64, 1024),
    "outer_product_mean.proj_down2.bias": (64,),
    "pair_transition.0.weight": (64,),
    "pair_transition.0.bias": (64,),
    "pair_transition.1.weight": (256, 64),
    "pair_transition.1.bias": (256,),
    "pair_transition.3.weight": (64, 256),
    "pair_transition.3.bias": (64,),
}
TRIANGLE_ATTENTION = {
    "norm.weight": (64,),
    "norm.bias": (64,),
    "to_qkv.weight": (192, 64),
    "linear_for_pair.weight": (4, 64),
    "to_gate.0.weight": (64, 64),
    "to_gate.0.bias": (64,),
    "to_out.weight": (64, 64),
    "to_out.bias": (64,),
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "RibonanzaNet.pt")


def configure(path: Path | str, *more: str) -> ModelConfig:
    small = ["model.width=16", "model.attention_heads=2", "model.feed_forward=32", "model.layers=2"]
    small += ["model.pair_channels=8", "model.pair_updates=1", "model.max_recycles=1"]
    return resolve_config("cpu", "minimal", [*small, f"model.encoder.path={path}", *more]).model


def shapes_of(shape: RibonanzaShape) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in RibonanzaNet(shape).state_dict().items()}


def test_names_and_shapes_are_those_of_the_public_weights() -> None:
    found = shapes_of(PUBLIC)
    own = "transformer_encoder.8."
    assert {n.removeprefix(own): s for n, s in found.items() if n.startswith(own)} == LAST_LAYER
    assert found["transformer_encoder.7.conv.weight"] == (256, 256, 5)
    assert {n: s for n, s in found.items() if not n.startswith("transformer_encoder.")} == {
        "encoder.weight": (5, 256),
        "outer_product_mean.proj_down1.weight": (32, 256),
        "outer_product_mean.proj_down1.bias": (32,),
        "outer_product_mean.proj_down2.weight": (64, 1024),
        "outer_product_mean.proj_down2.bias": (64,),
        "pos_encoder.linear.weight": (64, 17),
        "pos_encoder.linear.bias": (64,),
    }
    # the public file has 43.3 MiB: 11.3 million values and the 514 of a head that is left out
    assert sum(math.prod(s) for s in found.values()) + 514 == 11_296_898
    with_attention = shapes_of(replace(PUBLIC, triangle_attention=True))
    for way in ("out", "in"):
        own = f"transformer_encoder.0.triangle_attention_{way}."
        assert {n.removeprefix(own): s for n, s in with_attention.items() if n.startswith(own)} == TRIANGLE_ATTENTION


@pytest.mark.parametrize("triangle_attention", [False, True])
def test_every_size_is_read_from_the_tensors(triangle_attention: bool) -> None:
    for shape in (PUBLIC, SMALL):
        wanted = replace(shape, triangle_attention=triangle_attention)
        assert read_shape(shapes_of(wanted)) == wanted


@pytest.mark.parametrize("triangle_attention", [False, True])
def test_embeddings_are_those_of_the_published_order_of_operations(tmp_path: Path, triangle_attention: bool) -> None:
    shape = replace(SMALL, triangle_attention=triangle_attention)
    trunk = load_trunk(write_encoder(tmp_path / "e.pt", shape))
    tokens = torch.tensor([0, 1, 2, 3, 4, 3, 2, 1, 0, 0, 2, 3, 1])
    expected = embed_naively(random_tensors(shape), tokens, 2)
    chain, place = torch.zeros(1, 13, dtype=torch.long), torch.arange(13)[None]
    for num_trained in (0, 2):
        single, pair = trunk(tokens[None], chain, place, see(chain, place, 512), num_trained, False)
        assert torch.allclose(single[0], expected[0], atol=1e-4)
        assert torch.allclose(pair[0], expected[1], atol=1e-3)


@pytest.mark.parametrize("kind", ["plain", "module.", "wrapped", "safetensors", "half"])
def test_weights_load_with_a_prefix_a_wrapper_and_in_both_formats(tmp_path: Path, kind: str) -> None:
    tensors = random_tensors()
    path = tmp_path / ("e.safetensors" if kind == "safetensors" else "e.pt")
    if kind == "safetensors":
        save_file(tensors, path)
    elif kind == "wrapped":
        torch.save({"model": tensors, "epoch": 3}, path)
    elif kind == "half":
        torch.save({n: v.half() for n, v in tensors.items()}, path)
    else:
        torch.save({kind.replace("plain", "") + n: v for n, v in tensors.items()}, path)
    trunk = load_trunk(path)
    for name, value in trunk.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, tensors[name], atol=2e-3 if kind == "half" else 0.0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("encoder.weight"), "encoder.weight is missing"),
        (lambda t: t.pop("transformer_encoder.1.norm2.bias"), r"transformer_encoder\.1\.norm2\.bias is missing"),
        (lambda t: t.update({"transformer_encoder.0.w.weight": torch.zeros(1)}), r"0\.w\.weight is unknown"),
        (
            lambda t: t.update({"transformer_encoder.2.linear1.weight": torch.zeros(63, 16)}),
            r"2\.linear1\.weight is of shape \(63, 16\), expected \(64, 16\)",
        ),
        (lambda t: t.update({"transformer_encoder.0.conv.weight": torch.zeros(16, 16, 4)}), "odd kernels"),
        (lambda t: [t.pop(n) for n in list(t) if n.startswith("transformer_encoder.1.")], r"layers \[0, 2\]"),
    ],
    ids=["no embedding", "a tensor missing", "a tensor unknown", "another shape", "even kernel", "a layer missing"],
)
def test_another_layout_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    tensors = random_tensors()
    spoil(tensors)
    torch.save(tensors, tmp_path / "e.pt")
    with pytest.raises(InputError, match=message) as caught:
        build_network(configure(tmp_path / "e.pt"))
    assert "\n" not in str(caught.value) and "e.pt" in str(caught.value)


class Unsafe:
    """Nothing that weights hold."""


def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save(Unsafe(), tmp_path / "unsafe.pt")
    torch.save({"encoder.weight": 3}, tmp_path / "numbers.pt")
    for name in ("text.pt", "text.safetensors", "unsafe.pt", "numbers.pt"):
        with pytest.raises(InputError, match=name) as caught:
            load_trunk(tmp_path / name)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("RNAFOLD_INPUTS", str(tmp_path / "mounts"))
    with pytest.raises(InputError, match=r"model\.encoder\.path R\.pt: no such file here or below .*mounts; add the"):
        build_network(configure("R.pt"))


def test_a_mounted_file_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_encoder(tmp_path / "inputs" / "datasets" / "someone" / "R.pt")
    monkeypatch.setenv("RNAFOLD_INPUTS", str(tmp_path / "inputs"))
    assert encoder_of(build_network(configure("/kaggle/input/elsewhere/R.pt"))) is not None


def test_the_section_is_optional_strict_and_survives_its_file(weights: Path, tmp_path: Path) -> None:
    config = resolve_config("cpu", "minimal", [f"model.encoder.path={weights}", "model.encoder.unfreeze_last=2"])
    assert config.model.encoder is not None and config.model.encoder.learning_rate_share == 0.1
    for one in (config, resolve_config("cpu", "minimal")):
        (tmp_path / "config.yaml").write_text(dump(one))
        assert load_config(tmp_path / "config.yaml") == one
    for override, message in (
        ("model.encoder.paht=x", "did you mean model.encoder.path"),
        ("model.encoder.unfreeze_last=-1", "0 or more"),
        ("model.encoder.learning_rate_share=0", "above 0"),
        ("model.encoder.context=3", "16 or more"),
        ("model.encoder.layout=esm", "ribonanzanet"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve_config("cpu", "minimal", [f"model.encoder.path={weights}", override])
    with pytest.raises(ConfigError, match=r"missing key model\.encoder\.path"):
        resolve_config("cpu", "minimal", ["model.encoder.unfreeze_last=1"])
    with pytest.raises(ConfigError, match="kind plain takes none"):
        resolve_config("cpu", "plain", ["model.encoder.path=x"])
    with pytest.raises(InputError, match=r"unfreeze_last: found 4, .* has 3 layers"):
        build_network(configure(weights, "model.encoder.unfreeze_last=4"))


def two_chains(length: int | None = None) -> Batch:
    return collate([make_duplex(10, seed=1, noise=1.0)], length)


def embed(path: Path, batch: Batch, *more: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The encoder's embeddings in the network's channels, through projections that are not zero."""
    encoder = encoder_of(build_network(configure(path, *more)))
    assert encoder is not None
    torch.manual_seed(3)
    for layer in (encoder.single, encoder.pair):
        torch.nn.init.normal_(layer.weight)
    with torch.no_grad():
        found = encoder(batch)
    return found.single, found.pair


@pytest.mark.parametrize("triangle_attention", [False, True])
def test_padding_and_other_chains_change_no_embedding(tmp_path: Path, triangle_attention: bool) -> None:
    path = write_encoder(tmp_path / "e.pt", replace(SMALL, triangle_attention=triangle_attention))
    single, pair = embed(path, two_chains())
    padded_single, padded_pair = embed(path, two_chains(48))
    assert torch.allclose(single[:, :20], padded_single[:, :20], atol=1e-5)
    assert torch.allclose(pair[:, :20, :20], padded_pair[:, :20, :20], atol=1e-5)
    assert not padded_single[:, 20:].any() and not padded_pair[:, 20:].any() and not padded_pair[:, :, 20:].any()
    # each of the two chains of ten residues as it is alone, and nothing between them
    for first in (0, 10):
        part = slice(first, first + 10)
        alone = collate([crop_example(make_duplex(10, seed=1, noise=1.0), first, 10)])
        own_single, own_pair = embed(path, alone)
        assert torch.allclose(single[:, part], own_single[:, :10], atol=1e-5)
        assert torch.allclose(pair[:, part, part], own_pair[:, :10, :10], atol=1e-5)
    assert not pair[:, :10, 10:20].any() and not pair[:, 10:20, :10].any()


def test_beyond_the_context_residues_do_not_see_each_other(weights: Path) -> None:
    batch = two_chains()
    whole = Batch(**{**{n: getattr(batch, n) for n in Batch.__dataclass_fields__},
                     "chain_index": torch.zeros(1, 24, dtype=torch.long),
                     "residue_index": torch.arange(24)[None]})  # fmt: skip
    full = embed(weights, whole)[1]
    assert torch.equal(full, embed(weights, whole, "model.encoder.context=20")[1]), "20 residues lie within 20"
    near = embed(weights, whole, "model.encoder.context=16")[1]
    steps = (torch.arange(20)[:, None] - torch.arange(20)[None]).abs()
    assert not near[0, :20, :20][steps >= 16].any() and near[0, :20, :20][steps < 16].all(-1).any(-1).all()
    assert not torch.allclose(near[0, :20, :20][steps < 16], full[0, :20, :20][steps < 16], atol=1e-3)


def test_a_fresh_network_with_an_encoder_equals_the_one_without(weights: Path) -> None:
    networks, outputs = [], []
    batch = two_chains()
    config = configure(weights)
    for one in (config, replace(config, encoder=None)):
        torch.manual_seed(0)
        networks.append(build_network(one).eval())
        outputs.append(networks[-1](batch, 1))
    plain = networks[1].state_dict()
    assert all(torch.equal(networks[0].state_dict()[n], v) for n, v in plain.items())
    assert torch.equal(outputs[0].coords, outputs[1].coords)
    # what is added to its files are the projections alone: 16 x 16 and 8 x 8, without bias
    assert set(networks[0].state_dict()) - set(plain) == {"encoder.single.weight", "encoder.pair.weight"}
    assert count_parameters(networks[0]) - count_parameters(networks[1]) == 16 * 16 + 8 * 8


def test_only_the_last_layers_and_the_projections_get_gradients(weights: Path) -> None:
    network = build_network(configure(weights, "model.encoder.unfreeze_last=1")).train()
    encoder, batch = encoder_of(network), two_chains()
    assert encoder is not None
    for layer in (encoder.single, encoder.pair):
        torch.nn.init.normal_(layer.weight, std=0.1)
    first = network(batch).coords
    assert torch.equal(first, network(batch).coords), "in training too nothing in the encoder is dropped"
    compute_losses(network(batch, 1), batch, LossConfig(), 10.0).total.sum().backward()
    got = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    inside = {n for n, _ in network.named_parameters() if n.startswith("encoder.trunk.")}
    last = {n for n in inside if ".transformer_encoder.2." in n}
    assert got & inside == last and {"encoder.single.weight", "encoder.pair.weight"} <= got


def test_recomputing_trained_layers_gives_the_same_gradient(weights: Path) -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = build_network(configure(weights, "model.encoder.unfreeze_last=2")).train()
        network.recomputed = recompute
        encoder = encoder_of(network)
        assert encoder is not None
        torch.nn.init.normal_(encoder.single.weight, std=0.1)
        compute_losses(network(two_chains()), two_chains(), LossConfig(), 10.0).total.sum().backward()
        gradients.append(encoder.get_parameter("trunk.transformer_encoder.1.conv.weight").grad)
    kept, recomputed = gradients
    assert kept is not None and recomputed is not None and kept.abs().max() > 0
    assert torch.allclose(kept, recomputed, atol=1e-7)


def test_the_encoder_runs_once_however_often_the_network_recycles(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = RibonanzaNet.forward

    def forward(*arguments: Any) -> Any:
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(RibonanzaNet, "forward", forward)
    build_network(configure(weights)).eval()(two_chains(), 1)
    assert len(calls) == 1


def test_layers_thaw_from_the_last_by_the_epoch_alone(weights: Path) -> None:
    gradual = ("model.encoder.unfreeze_last=3", "model.encoder.unfreeze_every_epochs=2")
    network = build_network(configure(weights, *gradual))
    encoder = encoder_of(network)
    assert encoder is not None

    layers = encoder.trunk.transformer_encoder

    def trained() -> list[int]:
        return [k for k, layer in enumerate(layers) if all(p.requires_grad for p in layer.parameters())]

    # epoch 0: nothing; 1 and 2: the last; 3 and 4: two; from 5 on all three
    wanted = [[], [2], [2], [1, 2], [1, 2], [0, 1, 2], [0, 1, 2]]
    assert trained() == []
    for epoch, expected in (*enumerate(wanted), (2, wanted[2]), (math.inf, [0, 1, 2])):
        thaw(network, epoch)
        assert trained() == expected
        assert not any(p.requires_grad for p in encoder.trunk.outer_product_mean.parameters())
    whole = encoder_of(build_network(configure(weights, gradual[0])))
    assert whole is not None and whole.num_trained == 3


def test_rates_are_shared_out_over_own_and_encoder_parameters(weights: Path) -> None:
    network = build_network(
        configure(weights, "model.encoder.unfreeze_last=2", "model.encoder.unfreeze_every_epochs=1")
    )
    (own, full), (slow, share) = rate_groups(network)
    names = {p: n for n, p in network.named_parameters()}
    assert (full, share) == (1.0, 0.1)
    assert {names[p].split(".")[3] for p in slow} == {"1", "2"}
    assert all(names[p].startswith("encoder.trunk.transformer_encoder.") for p in slow)
    assert not any(names[p].startswith("encoder.trunk.") for p in own)
    assert {"encoder.single.weight", "encoder.pair.weight", "tokens.weight"} <= {names[p] for p in own}
    assert len(rate_groups(build_network(configure(weights)))) == 1, "nothing of a frozen encoder reaches the optimizer"
