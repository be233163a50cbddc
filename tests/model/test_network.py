"""The networks: size, live parameters, and what must not change their output."""

import pytest
import torch

from rnafold.config.machine_use import Checkpointing
from rnafold.config.settings import LossConfig, ModelConfig
from rnafold.config.strict_yaml import build, load_named
from rnafold.features.batch import Batch, collate
from rnafold.features.build import crop_example
from rnafold.model import coordinates
from rnafold.model.coordinates import repair_geometry
from rnafold.model.losses import compute_losses
from rnafold.model.network import build_network, count_parameters
from tests.pieces.duplexes import make_duplex


def load(name: str) -> ModelConfig:
    return build(ModelConfig, load_named("model", name), name)


def duplexes(*sizes: int, length: int | None = None) -> Batch:
    return collate([make_duplex(n, seed=n, noise=1.0) for n in sizes], length)


def many_chains() -> Batch:
    """40 residues in 20 chains with every token, so that every embedding row is used."""
    batch = duplexes(20)
    return Batch(
        **{
            **{name: getattr(batch, name) for name in Batch.__dataclass_fields__},
            "tokens": (torch.arange(40) % 5)[None],
            "chain_index": (torch.arange(40) // 2)[None],
            "residue_index": (torch.arange(40) % 2)[None],
        }
    )


def test_the_plain_model_has_exactly_the_briefs_parameters() -> None:
    assert count_parameters(build_network(load("plain"))) == 3_956_227


def test_the_base_model_stays_within_its_budget() -> None:
    assert count_parameters(build_network(load("base"))) <= 4_200_000


@pytest.mark.parametrize("name", ["plain", "minimal", "base"])
def test_every_parameter_receives_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(load(name)).eval()
    batch = many_chains()
    total = compute_losses(network(batch), batch, LossConfig(), 10.0).total.sum()
    for extra in (duplexes(4, 20), duplexes(24)):  # distances of every range use every relative position
        total = total + compute_losses(network(extra), extra, LossConfig(), 10.0).total.sum()
    total.backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not (p.grad.abs() > 1e-12).any()]
    assert dead == []
    key_bias = network.get_parameter("blocks.0.attention.project_in.bias").grad
    assert key_bias is not None
    assert key_bias.chunk(3)[1].abs().max() > 1e-9, "without rotary positions the key bias would be dead"


@pytest.mark.parametrize("name", ["plain", "minimal"])
def test_padding_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(load(name)).eval()
    alone = network(duplexes(10)).coords[0, :20]
    padded = network(duplexes(10, length=64)).coords[0, :20]
    assert torch.allclose(alone, padded, atol=2e-3)


@pytest.mark.parametrize("name", ["plain", "minimal"])
def test_the_order_and_the_company_in_a_batch_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(load(name)).eval()
    first, second = network(duplexes(10, 16)).coords, network(duplexes(16, 10)).coords
    assert torch.allclose(first[0, :20], second[1, :20], atol=2e-3)
    assert torch.allclose(first[1], second[0], atol=2e-3)


def moved(batch: Batch, matrix: torch.Tensor, shift: float) -> Batch:
    values = {name: getattr(batch, name) for name in Batch.__dataclass_fields__}
    return Batch(**{**values, "start": batch.start @ matrix.T + shift})


def trained(name: str = "minimal") -> torch.nn.Module:
    """A network away from its nearly-identity start."""
    torch.manual_seed(0)
    network = build_network(load(name)).eval()
    with torch.no_grad():
        for parameter in network.get_submodule("relaxation").parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_a_rigid_motion_of_the_start_moves_the_prediction_along() -> None:
    network, batch = trained(), duplexes(12)
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -1.0, 0.5], [1.0, 0.0, -0.3], [-0.5, 0.3, 0.0]]))
    plain, turned = network(batch).coords, network(moved(batch, turn, 30.0)).coords
    assert torch.allclose(plain @ turn.T, turned, atol=5e-2)


def test_a_mirrored_start_does_not_give_the_mirrored_prediction() -> None:
    network, batch = trained(), duplexes(12)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    plain, mirrored = network(batch).coords, network(moved(batch, mirror, 0.0)).coords
    assert (plain @ mirror - mirrored).abs().max() > 0.5


def test_a_fresh_pair_network_hands_its_start_through() -> None:
    torch.manual_seed(0)
    batch = duplexes(12)
    out = build_network(load("minimal")).eval()(batch).coords
    assert (out - batch.start).norm(dim=-1).mean() < 1.0


def test_recycling_changes_the_result_and_plain_refuses_it() -> None:
    network, batch = trained(), duplexes(12)
    assert not torch.allclose(network(batch, 0).coords, network(batch, 1).coords, atol=1e-3)
    with pytest.raises(ValueError, match="recycle"):
        build_network(load("plain"))(batch, 1)


def test_gradient_checkpointing_gives_the_same_gradient() -> None:
    gradients: list[torch.Tensor] = []
    modes: list[Checkpointing] = [False, "pairs", True]
    for recompute in modes:
        torch.manual_seed(0)
        network = build_network(load("minimal")).train()
        network.recomputed = recompute
        batch = duplexes(12)
        torch.manual_seed(1)
        compute_losses(network(batch), batch, LossConfig(), 10.0).total.sum().backward()
        gradient = network.get_parameter("tokens.weight").grad
        assert gradient is not None
        gradients.append(gradient.clone())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert torch.allclose(gradients[0], gradients[2], atol=1e-6)


def test_a_crop_keeps_only_pairs_inside_it() -> None:
    crop = crop_example(make_duplex(12), 4, 16)
    assert crop.length == 16
    # residue 4 pairs with 19 = crop 15; residues 20..23 are outside, and so are their partners 0..3
    assert crop.partner.tolist() == list(range(15, -1, -1))
    crop = crop_example(make_duplex(12), 0, 16)
    assert crop.partner[:8].tolist() == [-1] * 8 and crop.partner[8:].tolist() == [15, 14, 13, 12, 11, 10, 9, 8]


def test_settling_mends_bonds_and_clashes_and_leaves_the_rest_alone() -> None:
    # a straight strand 5.5 Å a step, one bond of 3 Å, one of 11 Å; a residue of another chain 2 Å from the fourth
    steps = torch.tensor([0.0, 5.5, 3.0, 5.5, 11.0, 5.5, 5.5])
    coords = torch.zeros(1, 8, 3)
    coords[0, :7, 0] = steps.cumsum(0)
    coords[0, 7] = coords[0, 3] + torch.tensor([0.0, 2.0, 0.0])
    same = torch.tensor([[True] * 6 + [False]])
    settled = repair_geometry(coords, same, torch.ones(1, 8, dtype=torch.bool))
    bonds = (settled[0, 1:7] - settled[0, :6]).norm(dim=-1)
    assert ((bonds > 4.7) & (bonds < 9.5)).all()
    assert (settled[0, 7] - settled[0, 3]).norm() > 3.5
    sound = repair_geometry(settled, same, torch.ones(1, 8, dtype=torch.bool))
    assert torch.allclose(sound, settled, atol=0.1), "what is in range stays"


def test_settling_ignores_padding() -> None:
    torch.manual_seed(0)
    coords = 3.0 * torch.randn(1, 12, 3)
    padded = torch.cat([coords, torch.zeros(1, 4, 3)], 1)
    mask = torch.arange(16)[None] < 12
    same = mask[:, 1:] & mask[:, :-1]
    alone = repair_geometry(coords, same[:, :11], mask[:, :12])
    assert torch.allclose(repair_geometry(padded, same, mask)[:, :12], alone, atol=1e-4)


def test_a_repair_that_stops_early_is_that_of_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    coords = torch.arange(12.0)[None, :, None] * torch.tensor([5.5, 0.0, 0.0]) + 0.1 * torch.randn(2, 12, 3)
    coords[1, 5:] += torch.tensor([4.5, 0.0, 0.0])  # one bond too long, which takes a few rounds
    found = []
    for stops in (True, False):
        # a traced repair takes all rounds
        monkeypatch.setattr(coordinates, "is_traced", (bool, lambda: True)[not stops])
        start = coords.clone().requires_grad_()
        repaired = repair_geometry(start, torch.ones(2, 11, dtype=torch.bool), torch.ones(2, 12).bool())
        (repaired**2).sum().backward()
        assert start.grad is not None
        found.append((repaired.detach(), start.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], coords)
