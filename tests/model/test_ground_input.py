"""What the start's residues rest on: channels, ways between residues by hand, and a network that is as before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rnafold.config.settings import ModelConfig
from rnafold.config.strict_yaml import build, load_named
from rnafold.features.batch import Batch, collate
from rnafold.features.build import UNRATED_FILLING, StartPoint, build_example
from rnafold.model.ground_input import FAR, find_contacts, measure_ways
from rnafold.model.network import build_network
from rnafold.structure import FILLED, LOOP, STEM, Grounds, Pairing, Target, whole_chain
from tests.pieces.duplexes import make_duplex

LENGTH = 8
GROUNDS = Grounds(
    kinds=np.array([STEM, STEM, LOOP, LOOP, LOOP, STEM, FILLED, FILLED]),
    deviation=np.array([np.nan, np.nan, 3.0, 3.0, 3.0, np.nan, np.nan, np.nan]),
)


def make_batch() -> Batch:
    """Eight residues on a line, 6 Å apart."""
    example = build_example(
        Target(target_id="line", sequence="A" * LENGTH, chains=whole_chain(LENGTH)),
        Pairing(
            probabilities=np.zeros((LENGTH, LENGTH), np.float32),
            partner=np.full(LENGTH, -1),
            samples=np.zeros((0, LENGTH), np.int64),
            source="none",
        ),
        StartPoint(coords=np.arange(LENGTH)[:, None] * [6.0, 0.0, 0.0], grounds=GROUNDS),
    )
    return collate([example])


def test_grounds_are_one_of_five_kinds_and_a_deviation_that_has_a_usual_value() -> None:
    grounds = make_batch().grounds[0]
    assert grounds[:, :5].argmax(1).tolist() == GROUNDS.kinds.tolist() and (grounds[:, :5].sum(1) == 1).all()
    assert grounds[:, 5].tolist() == [0, 0, 3, 3, 3, 0, UNRATED_FILLING, UNRATED_FILLING]


def test_a_way_costs_what_the_loops_on_it_are_expected_to_be_off() -> None:
    ways = measure_ways(make_batch())[0]
    # each loop residue carries 3 Å / 3 = 1: half at its two ends, so 0.5 + 1 + 1 + 0.5 from stem to stem
    assert ways[0, 1] == 0.0 and ways[1, 5] == pytest.approx(3.0)
    # the filled end, 10 Å over two residues: half of 5 to its first, 5 more to its second
    assert ways[5, 7] == pytest.approx(7.5) and ways[0, 7] == pytest.approx(10.5)
    assert torch.equal(ways, ways.T)


def test_pairs_of_the_start_are_a_way_and_chains_apart_have_none() -> None:
    batch = collate([make_duplex(6)])
    contacts = find_contacts(batch)[0]
    # of the pairs (0, 11) to (5, 6) those whose residues are at least four apart in the numbering
    assert contacts[torch.arange(4), torch.arange(11, 7, -1)].all() and not contacts[5, 6]
    ways = measure_ways(batch)[0, :12, :12]
    assert (ways == 0).all(), "two strands, joined by their pairs"
    stretched = replace(batch, start=batch.start * 3.0)
    assert (measure_ways(stretched)[0, :6, 6:12] == FAR).all()


def test_a_fresh_network_with_grounds_gives_what_it_gave_without_and_learns_from_them() -> None:
    config = build(ModelConfig, load_named("model", "minimal"), "minimal")
    batch = make_batch()
    torch.manual_seed(0)
    plain = build_network(config).eval()
    torch.manual_seed(0)
    told = build_network(replace(config, grounds=True)).eval()
    assert torch.equal(plain(batch).coords, told(batch).coords)
    told(batch).coords.square().sum().backward()
    for name in ("grounds.single.weight", "grounds.pair.weight"):
        gradient = told.get_parameter(name).grad
        assert gradient is not None and gradient.abs().max() > 0, name
    with pytest.raises(ValueError, match="plain"):
        replace(build(ModelConfig, load_named("model", "plain"), "plain"), grounds=True)
