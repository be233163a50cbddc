"""Heads on the pair track: what the confidence head measures, and what the other candidates say of a pair."""

import pytest
import torch
from torch import Tensor, nn

from rnafold.features.batch import collate
from rnafold.features.build import choose_others
from rnafold.model import layers, pair_track
from rnafold.model.chunks import chunk_as_on
from rnafold.model.heads import DISTOGRAM_BINS, ConfidenceHead, distogram_bins, measure_agreement, tm_scale
from tests.pieces.duplexes import make_duplex


class SureHeads(nn.Module):
    """Heads that are sure of the distances of known points; they pair residues that are 10-11 Å apart."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.distance = torch.cdist(points, points)
        self.first = 0

    def forward(self, symmetric: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.distance[:, self.first : self.first + symmetric.shape[1]]
        self.first = (self.first + symmetric.shape[1]) % self.distance.shape[1]
        logits = 50.0 * nn.functional.one_hot(distogram_bins(rows), DISTOGRAM_BINS).float()
        return logits, torch.where((rows - 10.5).abs() < 0.6, 20.0, -20.0)


def test_a_structure_that_the_distogram_is_sure_of_agrees_fully_and_another_does_not() -> None:
    # 80 residues are two chunks of rows; all distances lie below the last bin's centre of 42 Å in a box of 20 Å
    torch.manual_seed(0)
    points = 20.0 * torch.rand(1, 80, 3)
    other = 20.0 * torch.rand(1, 80, 3)
    mask = torch.ones(1, 80, dtype=torch.bool)
    pair = torch.zeros(1, 80, 80, 4)
    measured = measure_agreement(SureHeads(points), pair, (points, other), mask)  # type: ignore[arg-type]
    assert measured.shape == (1, 2, 4)
    # a bin is 1 Å wide: errors of at most 0.5 Å (and more below 3 Å) against a d0 of 2.85 Å
    assert measured[0, 0, 0] > 0.97 and measured[0, 0, 1] > 0.97 and measured[0, 0, 2] > 0.97
    assert measured[0, 0, 3] > 0.9
    assert (measured[0, 1] < measured[0, 0] - 0.15).all()


def test_padding_does_not_enter_the_agreement() -> None:
    torch.manual_seed(0)
    points = 20.0 * torch.rand(1, 40, 3)
    padded = torch.cat([points, torch.full((1, 24, 3), 70.0)], 1)
    mask = torch.arange(64)[None] < 40
    alone = measure_agreement(SureHeads(points), torch.zeros(1, 40, 40, 4), (points,), mask[:, :40])  # type: ignore[arg-type]
    company = measure_agreement(SureHeads(padded), torch.zeros(1, 64, 64, 4), (padded,), mask)  # type: ignore[arg-type]
    assert torch.allclose(alone, company, atol=1e-5)


def test_a_fresh_confidence_head_repeats_the_confidence_that_the_start_came_with() -> None:
    torch.manual_seed(0)
    head = ConfidenceHead(8)
    mask = torch.ones(3, 10, dtype=torch.bool)
    confidence = torch.tensor([0.2, 0.7, 0.0])
    expected = head(torch.randn(3, 10, 8), torch.full((3, 10), 0.5), torch.rand(3, 2, 4), confidence, mask)
    assert torch.allclose(expected[:2], confidence[:2, None].expand(2, 2), atol=0.05)
    assert torch.allclose(expected[2], torch.tensor(0.5), atol=0.1), "0 means unknown, not hopeless"


def test_d0_is_that_of_the_metric() -> None:
    # 0.6 sqrt(99.5) - 2.5 = 3.485
    found = tm_scale(torch.tensor([10, 12, 19, 23, 29, 100]))
    assert found.tolist() == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7, 3.4850], abs=1e-3)


def test_the_consensus_is_the_mean_weighted_by_confidence_of_each_kind() -> None:
    # two points: candidates say 10 (template, 0.6), 13 (template, 0.3) and 30 (assembly, 0.2)
    others = torch.zeros(1, 3, 2, 3)
    others[0, :, 1, 0] = torch.tensor([10.0, 13.0, 30.0])
    confidence = torch.tensor([[[0.6, 0.0], [0.3, 0.0], [0.0, 0.2]]])
    found = pair_track.measure_consensus(others, confidence)
    assert found.mean is not None and found.basis is not None
    assert found.mean[0, 0, 1].tolist() == pytest.approx([11.0, 30.0], abs=1e-2)
    assert found.sure[0].tolist() == pytest.approx([0.6, 0.2])
    basis = found.basis
    assert basis.shape == (1, 2, 2, 2 * layers.RBF_CENTRES)
    width = (layers.RBF_MAXIMUM - 2.0) / (layers.RBF_CENTRES - 1)
    peak = int(basis[0, 0, 1, layers.RBF_CENTRES :].argmax())
    assert abs(2.0 + peak * width - 30.0) <= width / 2


def test_absent_candidates_say_nothing() -> None:
    blank = pair_track.measure_consensus(torch.randn(1, 4, 5, 3), torch.zeros(1, 4, 2))
    assert blank.basis is not None and blank.mean is not None
    assert not blank.basis.any() and not blank.mean.any() and not blank.sure.any()


@pytest.mark.parametrize("grad", [True, False], ids=["training", "prediction"])
def test_no_candidate_at_all_is_the_same_as_blank_ones(grad: bool) -> None:
    torch.manual_seed(0)
    entry, length = pair_track.PairInput(4), 9
    coords, frames = 10.0 * torch.randn(2, length, 3), torch.randn(2, length, 3, 3)
    known = [torch.rand(2, length, length) for _ in range(3)]
    relative = torch.randint(pair_track.NUM_RELATIVE, (2, length, length))
    found: list[Tensor] = []
    for count in (0, 3):
        consensus = pair_track.measure_consensus(torch.randn(2, count, length, 3), torch.zeros(2, count, 2))
        assert (consensus.basis is None) == (count == 0)
        with torch.set_grad_enabled(grad):
            projected = entry.project_known(known, relative, consensus)
            found.append(entry(projected, coords, frames, consensus))
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_the_pair_input_is_the_linear_map_of_all_features() -> None:
    # written out in one product, in the order of the weights' columns
    torch.manual_seed(0)
    entry, length = pair_track.PairInput(4), 9
    coords, frames = 10.0 * torch.randn(2, length, 3), torch.randn(2, length, 3, 3)
    pairing, covariation, sampled = known = [torch.rand(2, length, length) for _ in range(3)]
    relative = torch.randint(pair_track.NUM_RELATIVE, (2, length, length))
    confidence = torch.tensor([[[0.6, 0.0], [0.0, 0.2]], [[0.0, 0.0], [0.0, 0.3]]])
    consensus = pair_track.measure_consensus(10.0 * torch.randn(2, 2, length, 3), confidence)
    assert consensus.mean is not None and consensus.basis is not None
    distance = layers.measure_distances(coords, coords)
    off = ((distance[..., None] - consensus.mean) / 10.0).tanh() * (consensus.sure > 0)[:, None, None]
    sure = consensus.sure[:, None, None].expand(2, length, length, 2)
    plain = torch.stack([pairing, pairing.clamp_min(1e-4).log() / 10.0, covariation, sampled], -1)
    geometry = layers.pair_geometry(coords, coords, frames, distance)
    whole = torch.cat([plain, off, sure, geometry, consensus.basis], -1)
    expected = entry.features(whole) + entry.relative(relative)
    found = entry(entry.project_known(known, relative, consensus), coords, frames, consensus)
    assert torch.allclose(found, expected, atol=1e-5)


def test_sampled_pairs_are_counted_over_the_samples() -> None:
    samples = torch.tensor([[[2, -1, 0], [-1, 2, 1], [2, -1, 0], [-1, -1, -1]]])
    found = pair_track.sampled_pairs(samples)
    # residues 0 and 2 pair in two of four samples, 1 and 2 in one
    assert found[0].tolist() == [[0.0, 0.0, 0.5], [0.0, 0.0, 0.25], [0.5, 0.25, 0.0]]


def test_the_most_confident_of_each_kind_are_seen_beside_a_start() -> None:
    import numpy as np

    confidence = np.linspace(0.1, 0.9, 12).astype(np.float32)
    is_template = np.arange(12) < 10
    chosen = choose_others(np.zeros((12, 4, 3), np.float32), confidence, is_template)
    # four of the ten templates, and both assemblies, which are the last two
    assert chosen.is_template.sum() == 4 and len(chosen.coords) == 6
    assert sorted(chosen.confidence.tolist()) == pytest.approx(sorted([*confidence[6:10], *confidence[10:]]))


def test_rows_worked_on_in_chunks_give_what_all_at_once_gives() -> None:
    torch.manual_seed(0)
    update = pair_track.PairUpdate(8, 4, 2)
    bias = pair_track.BiasProjection(
        torch.nn.LayerNorm(4), torch.nn.ModuleList(torch.nn.Linear(4, 2, bias=False) for _ in range(3))
    )
    size = 101
    single, pair = torch.randn(1, size, 8), torch.randn(1, size, size, 4)
    key_mask = layers.key_mask(torch.arange(size)[None] < 95)
    whole, read = update(single, pair, key_mask, bias), bias.read(pair, key_mask)
    with torch.no_grad():
        assert len(pair_track.row_chunks(pair)) > 1
        with chunk_as_on("cuda"):
            assert len(pair_track.row_chunks(pair)) == 1
        chunked, chunked_read = update(single, pair, key_mask, bias), bias.read(pair, key_mask)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip((*whole, read), (*chunked, chunked_read)))


def test_an_update_and_its_biases_are_what_the_layers_say_one_by_one() -> None:
    # norms with scales and offsets of their own, written out as they were trained
    torch.manual_seed(0)
    update, norm = pair_track.PairUpdate(8, 4, 2), torch.nn.LayerNorm(4)
    heads = torch.nn.ModuleList(torch.nn.Linear(4, 2, bias=False) for _ in range(3))
    with torch.no_grad():
        for parameter in (*update.parameters(), *norm.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    single, start = torch.randn(2, 7, 8), torch.randn(2, 7, 7, 4)
    mask = torch.arange(7)[None] < torch.tensor([[7], [5]])
    key_mask = layers.key_mask(mask)
    x = update.norm_single(single)
    pair = start + update.combine(update.left(x)[:, :, None] * update.right(x)[:, None])
    pair = pair + update.contract(torch.nn.functional.gelu(update.expand(update.norm_pair(pair))))
    normed = update.norm_read(pair)
    weights = update.attend(normed).masked_fill(~mask[:, None, :, None], float("-inf")).softmax(2)
    read = single + update.read((weights.transpose(2, 3) @ normed).flatten(2))
    found = update(single, start, key_mask, pair_track.BiasProjection(norm, heads))
    assert torch.allclose(found[0], read, atol=1e-5) and torch.allclose(found[1], pair, atol=1e-5)
    # an offset that is the same for all keys changes no attention: compared after the softmax
    for head, bias in zip(heads, found[2]):
        expected = head(norm(pair)).permute(0, 3, 1, 2) + key_mask[:, None, None]
        assert torch.allclose(bias.softmax(-1), expected.softmax(-1), atol=1e-5)


def test_a_batch_carries_samples_and_others_through_a_crop() -> None:
    from rnafold.features.build import crop_example

    example = make_duplex(12)
    batch = collate([crop_example(example, 4, 12)])
    assert batch.samples.shape == (1, 4, 16) and batch.others.shape == (1, 0, 16, 3)
