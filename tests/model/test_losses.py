"""Loss terms: zero where they should be, alive everywhere else, blind to what is not there."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rnafold.config.settings import LossConfig, TermConfig
from rnafold.features.batch import Batch, collate
from rnafold.model.heads import DISTOGRAM_BINS, distogram_bins, distogram_centres, tm_scale
from rnafold.model.losses import (
    PHYSICS_TERMS,
    TERMS,
    compute_losses,
    distogram_loss,
    measure_angle,
    measure_bond,
    measure_clash,
    measure_physics,
    measure_residue_lddt,
    nearest_neighbours,
    penalty,
    term_weight,
)
from rnafold.model.network import Output
from rnafold.scoring.tm import measure_d0
from tests.pieces.duplexes import make_duplex

CONFIG = LossConfig()


def output_of(coords: torch.Tensor) -> Output:
    size = coords.shape[:2]
    return Output(
        coords=coords,
        lddt=torch.full(size, 0.5, requires_grad=True),
        expected_tm=torch.full(size[:1], 0.5, requires_grad=True),
        distogram=torch.zeros((*size, size[1], DISTOGRAM_BINS), requires_grad=True),
        pairs=torch.zeros((*size, size[1]), requires_grad=True),
    )


def trace(points: list[list[float]]) -> tuple[torch.Tensor, Batch, torch.Tensor]:
    """Points as a one-chain batch without pairs."""
    n = len(points)
    empty = collate([make_duplex(8)], length=n if n % 8 == 0 else 16)
    size = empty.mask.shape[1]
    mask = torch.zeros(1, size, dtype=torch.bool)
    mask[:, :n] = True
    coords = torch.zeros(1, size, 3)
    coords[0, :n] = torch.tensor(points)
    batch = replace(
        empty,
        mask=mask,
        chain_index=torch.zeros(1, size, dtype=torch.long),
        residue_index=torch.arange(size)[None],
        partner=torch.full((1, size), -1),
    )
    return coords, batch, mask


def test_the_penalty_is_flat_inside_and_quadratic_then_logarithmic_outside() -> None:
    values = torch.tensor([5.0, 5.9, 6.01, 7.0, 105.0])
    # tolerance 1 around 5: excess 0, 0, 0.01, 1, 99 -> ln(1 + x^2): 0, 0, 0.0001, ln 2, ln 9802
    assert penalty(values, 5.0, 1.0).tolist() == pytest.approx([0.0, 0.0, 1e-4, 0.69315, 9.19034], rel=1e-2)


def test_ideal_a_form_has_no_physics_loss() -> None:
    batch = collate([make_duplex(12), make_duplex(20)])
    for name, value in measure_physics(batch.coords[:, :, 0], batch, batch.mask).items():
        assert value.max() < 1e-4, name


def test_the_mirror_image_costs_in_total_although_all_its_distances_are_right() -> None:
    batch = collate([make_duplex(12)])
    mirrored = batch.coords * torch.tensor([1.0, 1.0, -1.0])
    terms = compute_losses(Output(coords=mirrored), batch, CONFIG, 10.0)
    assert terms.terms["distance"].item() < 1e-4
    assert terms.terms["superposed"].item() > 0.5
    assert terms.total.item() > 0.5


def test_the_reference_itself_in_any_pose_has_no_coordinate_loss() -> None:
    batch = collate([make_duplex(12)])
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -1.0, 0.5], [1.0, 0.0, -0.3], [-0.5, 0.3, 0.0]]))
    moved = batch.coords @ turn.T + 50.0
    terms = compute_losses(Output(coords=moved), batch, CONFIG, 10.0).terms
    assert terms["superposed"].item() < 1e-4
    assert terms["distance"].item() < 1e-3


def test_a_stretched_bond_costs_what_hand_arithmetic_says() -> None:
    coords, batch, mask = trace([[0, 0, 0], [5.5, 0, 0], [16.0, 0, 0]])
    # bonds 5.5 and 10.5: over 6.5 by 4 -> ln 17 = 2.8332, a tenth of it; over 9.5 by 1 -> ln 2 = 0.6931; mean of two
    assert measure_bond(coords, batch, mask).item() == pytest.approx((0.28332 + 0.69315) / 2, abs=1e-4)


def test_a_straight_and_a_sharp_angle_cost_what_hand_arithmetic_says() -> None:
    coords, batch, mask = trace([[0, 0, 0], [5, 0, 0], [10, 0, 0]])
    # 180 degrees is 10 over 170, one unit: ln 2
    assert measure_angle(coords, batch, mask).item() == pytest.approx(0.6931, abs=1e-3)
    coords, batch, mask = trace([[5, 0, 0], [0, 0, 0], [5 * math.cos(0.5), 5 * math.sin(0.5), 0]])
    # 0.5 rad = 28.65 degrees is 4.135 units below 70: ln(1 + 17.10) = 2.896
    assert measure_angle(coords, batch, mask).item() == pytest.approx(2.896, abs=1e-2)


def test_a_clash_costs_both_partners_and_a_bond_is_no_clash() -> None:
    coords, batch, mask = trace([[0, 0, 0], [3, 0, 0], [0, 3, 0]])
    # 0-2 at 3.0 Å: soft ln 2 = 0.6931, hard five times ln 1.25 = 1.1157: 1.8088 for each of two of three residues
    assert measure_clash(coords, batch, mask).item() == pytest.approx(2 * 1.8088 / 3, abs=1e-3)


def test_neighbours_across_a_chain_break_do_clash() -> None:
    coords, batch, mask = trace([[0, 0, 0], [3, 0, 0]])
    assert measure_clash(coords, batch, mask).item() == 0.0
    broken = replace(batch, chain_index=torch.arange(16)[None])
    assert measure_clash(coords, broken, mask).item() == pytest.approx(1.8088, abs=1e-3)


def test_the_neighbour_search_equals_brute_force_across_row_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    size = 304
    batch = collate([make_duplex(152)])
    coords = torch.rand(1, size, 3, generator=generator) * 60
    found = nearest_neighbours(coords, batch, batch.mask)[0]
    distance = torch.cdist(coords[0], coords[0])
    index = torch.arange(size)
    same = (index[:, None] < 152) == (index[None] < 152)
    distance[((index[:, None] - index[None]).abs() <= 1) & same | (index[:, None] == index[None])] = 1e6
    expected = distance.topk(8, largest=False).values
    assert torch.allclose(distance.gather(1, found).sort(1).values, expected.sort(1).values)


@pytest.mark.parametrize("name", TERMS)
def test_every_term_has_a_gradient_at_one_atom_a_residue(name: str) -> None:
    batch = collate([make_duplex(12, noise=2.5)])
    coords = batch.start.clone().requires_grad_(True)
    output = output_of(coords)
    torch.manual_seed(0)
    value = compute_losses(output, batch, CONFIG, 10.0).terms[name].sum()
    inputs = [coords, output.lddt, output.expected_tm, output.distogram, output.pairs]
    gradients = torch.autograd.grad(value, [x for x in inputs if x is not None], allow_unused=True)
    assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0


@pytest.mark.parametrize("name", PHYSICS_TERMS)
def test_every_physics_term_falls_when_followed_downhill(name: str) -> None:
    batch = collate([make_duplex(12, noise=2.5)])
    coords = batch.start[:, :, 0].clone().requires_grad_(True)
    before = measure_physics(coords, batch, batch.mask)[name].sum()
    (gradient,) = torch.autograd.grad(before, coords)
    step = coords - 0.05 * gradient / gradient.norm()
    assert measure_physics(step, batch, batch.mask)[name].sum() < before


def test_unresolved_residues_enter_no_term() -> None:
    example = make_duplex(12, noise=1.0, unresolved=4)
    batch = collate([example])
    spoiled = batch.start.clone()
    spoiled[0, :4] += 500.0
    for coords in (batch.start, spoiled):
        torch.manual_seed(0)
        terms = compute_losses(Output(coords=coords), batch, CONFIG, 10.0)
        values = {k: round(float(v), 4) for k, v in terms.terms.items()}
        if coords is batch.start:
            clean = values
    assert values == clean
    assert terms.residues.item() == 20


def test_a_target_without_any_resolved_residue_gives_finite_zeros() -> None:
    batch = collate([make_duplex(12, unresolved=24)])
    coords = batch.start.clone().requires_grad_(True)
    terms = compute_losses(output_of(coords), batch, CONFIG, 10.0)
    terms.total.sum().backward()
    assert terms.residues.item() == 0
    assert coords.grad is not None
    assert torch.isfinite(terms.total).all() and torch.isfinite(coords.grad).all()


def test_all_residues_at_one_point_give_a_finite_gradient() -> None:
    batch = collate([make_duplex(12)])
    coords = torch.zeros_like(batch.coords, requires_grad=True)
    compute_losses(Output(coords=coords), batch, CONFIG, 10.0).total.sum().backward()
    assert coords.grad is not None and torch.isfinite(coords.grad).all()


@pytest.mark.parametrize("size", [5, 11, 12, 15, 16, 20, 24, 29, 30, 69, 720])
def test_the_tm_scale_is_the_scorers(size: int) -> None:
    assert tm_scale(torch.tensor([size])).item() == pytest.approx(measure_d0(size), abs=1e-5)


def test_weights_ramp_linearly_and_then_stay() -> None:
    config = LossConfig(bond=TermConfig(weight=0.4, ramp_epochs=2.0))
    assert [term_weight(config, "bond", e) for e in (0.0, 1.0, 2.0, 9.0)] == pytest.approx([0.0, 0.2, 0.4, 0.4])


def test_lddt_is_one_for_the_reference_and_less_for_noise() -> None:
    batch = collate([make_duplex(80, noise=1.0)])
    assert measure_residue_lddt(batch.coords[:, :, 0], batch)[0, :160].min() == 1.0
    assert measure_residue_lddt(batch.start[:, :, 0], batch)[0, :160].mean() < 0.9


def test_padding_does_not_change_a_deterministic_term() -> None:
    example = make_duplex(12, noise=2.0)
    small, large = collate([example]), collate([example], length=64)
    for name, value in measure_physics(small.start[:, :, 0], small, small.mask).items():
        other = measure_physics(large.start[:, :, 0], large, large.mask)[name]
        assert float(value) == pytest.approx(float(other), rel=1e-5), name


def test_the_cost_of_1200_residues_stays_far_below_a_full_matrix() -> None:
    batch = collate([make_duplex(600, noise=1.0)])
    coords = batch.start[:, :, 0].clone().requires_grad_(True)
    value = sum(v.sum() for v in measure_physics(coords, batch, batch.mask).values())
    saved: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        value = sum(v.sum() for v in measure_physics(coords, batch, batch.mask).values())
    assert isinstance(value, torch.Tensor)
    # one (L, L) float array has 1,440,000 values; no saved tensor may come near it
    assert max(saved) < 1200 * 1200 / 10
    assert np.isfinite(float(value.detach()))


def test_the_distogram_loss_is_the_cross_entropy_of_the_true_bin() -> None:
    # bins are 1 Å wide from 3 Å on: 10.4 Å is nearest to the centre 10 Å, the eighth bin; log 40 for equal logits
    true = torch.tensor([[[10.4]]])
    assert int(distogram_bins(true)) == 7
    assert float(distogram_centres(true.device)[7]) == 10.0
    logits = torch.zeros(1, 1, 1, DISTOGRAM_BINS)
    real = torch.ones(1, 1, 1, dtype=torch.bool)
    assert float(distogram_loss(logits, true, real)) == pytest.approx(math.log(40))
    sure = logits.clone()
    sure[..., 7] = 20.0
    assert float(distogram_loss(sure, true, real)) < 1e-4
    assert float(distogram_loss(sure, true + 2.0, real)) > 10.0


def test_distances_beyond_the_distogram_fall_into_its_ends() -> None:
    assert distogram_bins(torch.tensor([0.0, 500.0])).tolist() == [0, DISTOGRAM_BINS - 1]
