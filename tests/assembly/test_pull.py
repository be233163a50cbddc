"""Pairs pulled together: pseudoknots and lone pairs form, bonds hold, helices keep their hand."""

import numpy as np
import pytest

from rnafold.assembly.build import assemble
from rnafold.assembly.pull import pull_together
from rnafold.features.wishes import is_formed
from rnafold.geometry import measure_bonds, measure_rmsd
from rnafold.rna import BOND_RANGE, BOND_SOFT_MAXIMUM, encode_sequence, parse_dot_bracket
from rnafold.structure import crossing_chains, whole_chain

# An H-type pseudoknot, and a lone pair between the loops of two hairpins.
KNOTS = {
    "pseudoknot": ("GGCGCGGCACCGUCCGCGGAACAAACGG", "..(((((..[[[.)))))......]]]."),
    "loop to loop": ("GGGGCAAGCCCCAAAAAGGGGCAACCCCC", "((((..[.))))AAA..((((.]..))))".replace("A", ".")),
}


@pytest.mark.parametrize("name", KNOTS)
def test_crossing_and_lone_pairs_form_and_the_rest_stays_whole(name: str) -> None:
    sequence, text = KNOTS[name]
    partner = parse_dot_bracket(text)
    pairs = [(i, int(j)) for i, j in enumerate(partner) if j > i]
    coords = assemble(sequence, partner, seed=1)
    assert not all(is_formed(coords, pair) for pair in pairs)
    breaks = crossing_chains(whole_chain(len(sequence)), len(sequence))
    pulled = pull_together(encode_sequence(sequence), coords, pairs, breaks)
    assert all(is_formed(pulled, pair) for pair in pairs)
    assert BOND_RANGE[0] <= measure_bonds(pulled).min() and measure_bonds(pulled).max() <= BOND_RANGE[1]
    again = pull_together(encode_sequence(sequence), coords, pairs, breaks)
    np.testing.assert_array_equal(pulled, again)
    # the first stem is the helix it was, not its mirror image
    stem = [k for pair in pairs[:4] for k in pair if partner[k] >= 0]
    assert measure_rmsd(pulled[stem], coords[stem]) < 1.0 < measure_rmsd(pulled[stem] * [1, 1, -1], coords[stem])


def test_a_wish_that_the_chain_cannot_meet_breaks_nothing() -> None:
    sequence = "GGGGAAACUUCGGUUUCCCC"
    coords = assemble(sequence, parse_dot_bracket("((((((((....))))))))"), seed=1)
    breaks = crossing_chains(whole_chain(20), 20)
    pulled = pull_together(encode_sequence(sequence), coords, [(9, 10)], breaks)
    assert np.isfinite(pulled).all() and not is_formed(pulled, (9, 10))
    assert measure_bonds(pulled).max() <= BOND_SOFT_MAXIMUM
