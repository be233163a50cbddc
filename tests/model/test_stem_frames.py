"""How neighbouring stems lie to each other: stems and joints found, and costs by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rnafold import geometry
from rnafold.config.settings import LossConfig, TermConfig
from rnafold.features.batch import Batch, collate
from rnafold.features.build import StartPoint, build_example
from rnafold.model.losses import compute_losses, list_terms
from rnafold.model.network import Output
from rnafold.model.stem_frames import find_joints, find_stems, measure_arrangement
from rnafold.rna import parse_dot_bracket
from rnafold.structure import Pairing, Target, structure_from_points, whole_chain

#            0   4 5   9  12  16 17  21
BRACKETS = "((((.((((...))))..))))"
# the stem of the second four pairs
INNER = slice(5, 16)


def make_batch() -> Batch:
    """Two ideal stems of four pairs with an internal loop (1 and 2 residues) between them; the start is the truth."""
    partner = parse_dot_bracket(BRACKETS)
    length = len(BRACKETS)
    points = np.random.default_rng(0).normal(scale=3.0, size=(length, 3))
    strand, other = geometry.build_helix(4)
    for first, shift in ((0, 0.0), (5, 25.0)):
        for k in range(4):
            points[first + k] = strand[k] + [0.0, 0.0, shift]
            points[partner[first + k]] = other[k] + [0.0, 0.0, shift]
    example = build_example(
        Target(target_id="two", sequence="G" * length, chains=whole_chain(length)),
        Pairing(
            probabilities=np.zeros((length, length), np.float32),
            partner=partner,
            samples=np.zeros((0, length), np.int64),
            source="known",
        ),
        StartPoint(coords=points),
        reference=structure_from_points(points),
    )
    return collate([example])


def test_each_residue_knows_its_stem_and_strands_between_stems_are_joints() -> None:
    batch = make_batch()
    stems = find_stems(batch.partner)
    paired = batch.partner[0] >= 0
    assert stems.outer[0][paired].tolist() == [0] * 4 + [5] * 8 + [0] * 4
    assert stems.inner[0][paired].tolist() == [3] * 4 + [8] * 8 + [3] * 4
    following, joint = find_joints(batch, stems)
    # from 3 over residue 4 to 5, and from 15 over 16 and 17 to 18; not the hairpin from 8 to 12
    assert joint[0].nonzero()[:, 0].tolist() == [3, 15]
    assert following[0, [3, 15]].tolist() == [5, 18]


def test_unresolved_ends_and_other_chains_make_no_joint() -> None:
    batch = make_batch()
    blind = replace(batch, coord_mask=batch.coord_mask.clone())
    blind.coord_mask[0, 0] = False
    apart = replace(batch, chain_index=(torch.arange(batch.mask.shape[1]) >= 17).long()[None])
    for changed, expected in ((blind, []), (apart, [3])):
        assert find_joints(changed, find_stems(batch.partner))[1][0].nonzero()[:, 0].tolist() == expected


def cost(batch: Batch, coords: torch.Tensor) -> float:
    values, joint = measure_arrangement(coords, batch)
    found: list[float] = values[joint].tolist()
    assert len(found) == 2 and found[0] == pytest.approx(found[1], abs=1e-4), "both strands join the same two stems"
    return found[0]


def test_the_whole_may_move_and_a_shift_or_turn_of_one_stem_costs_what_it_should() -> None:
    batch = make_batch()
    true = batch.coords[:, :, 0]
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -1.0, 0.5], [1.0, 0.0, -0.3], [-0.5, 0.3, 0.0]]))
    assert cost(batch, true @ turn.T + 7.0) == pytest.approx(0.0, abs=1e-4)
    # 4 Å away, no turn: 16 / (16 + 16), seen from either side
    shifted = true.clone()
    shifted[0, INNER] += torch.tensor([0.0, 4.0, 0.0])
    assert cost(batch, shifted) == pytest.approx(0.5, abs=1e-3)
    # 60 degrees about the line between the stems' centres, which both lie on the z axis of the helix: places stay, the
    # chord is 2 sin 30 degrees = 1: 1 / (1 + 0.25)
    angle = math.radians(60.0)
    about_z = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0], [0.0, 0.0, 1.0]]
    )
    outer, inner = (
        torch.stack([(true[0, a] + true[0, b]) / 2 for a, b in pairs]).mean(0)
        for pairs in (((0, 21), (3, 18)), ((5, 15), (8, 12)))
    )
    np.testing.assert_allclose((inner - outer)[:2], 0.0, atol=1e-4)
    turned = true.clone()
    turned[0, INNER] = (true[0, INNER] - inner) @ about_z.T + inner
    assert cost(batch, turned) == pytest.approx(0.8, abs=1e-3)


def test_the_term_is_off_unless_asked_for_and_pulls_at_both_stems() -> None:
    batch = make_batch()
    coords = batch.coords.clone()
    coords[0, INNER] += 3.0
    coords.requires_grad_(True)
    assert "arrangement" not in compute_losses(Output(coords=coords), batch, LossConfig(), 1.0).terms
    config = LossConfig(arrangement=TermConfig(weight=1.0))
    value = compute_losses(Output(coords=coords), batch, config, 1.0).terms["arrangement"].sum()
    assert list_terms(config) == (*list_terms(LossConfig()), "arrangement"), "and is measured only then"
    (gradient,) = torch.autograd.grad(value, coords)
    pulled = gradient[0, :, 0].norm(dim=-1) > 1e-4
    assert pulled[[0, 3, 18, 21]].all() and pulled[[5, 8, 12, 15]].all() and not pulled[[4, 10, 16, 17]].any()
