"""Structures beside the usual ones: chains together or apart, in turn, obeying wishes, heard by the jury."""

from dataclasses import replace

import numpy as np
import pytest

from rnafold.features import alternatives, secondary
from rnafold.features.alternatives import add_alternatives
from rnafold.features.pair_choice import heed_alternatives
from rnafold.features.secondary import ENERGIES, fold_by_energies, predict_pairing
from rnafold.features.wishes import PairWishes
from rnafold.rna import parse_dot_bracket
from rnafold.structure import Alternative, Chain, IntArray, Pairing

HAIRPIN = "GGGGAACUUCGGUUCCCC"
# Its structures by the three sets of energies differ.
DIVIDED = "CCGUAAUGCCUUUCCCUAACAGAGUUUUUCGAACUCGUGUUGUCGAGCGACGGAAUUAGAUCAGUUAAAU"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for both programs; SQUARNA knows two structures of any length but 18; keeps what it was asked."""
    found: list[str] = []

    def fold(strands: str, seconds: float) -> tuple[IntArray, ...]:
        found.append(strands)
        letters = strands.replace("&", "")
        texts = ("(" * k + "." * (len(letters) - 2 * k) + ")" * k for k in (3, 2))
        return () if len(letters) == 18 else tuple(parse_dot_bracket(text) for text in texts)

    monkeypatch.setattr(alternatives, "fold_with_squarna", fold)
    monkeypatch.setattr(
        alternatives, "fold_by_energies", lambda name, strands: np.full(len(strands.replace("&", "")), -1)
    )
    return found


def pairing_of(text: str) -> Pairing:
    partner = parse_dot_bracket(text)
    probabilities = np.zeros((len(partner), len(partner)), np.float32)
    paired = np.flatnonzero(partner >= 0)
    probabilities[paired, partner[paired]] = 1
    return Pairing(probabilities=probabilities, partner=partner, samples=partner[None], source="test")


def chains_of(*lengths: int) -> tuple[Chain, ...]:
    ends = np.cumsum(lengths).tolist()
    return tuple(
        Chain(chain_id=chr(65 + k), copy=1, start=stop - length, stop=stop)
        for k, (stop, length) in enumerate(zip(ends, lengths))
    )


def test_the_programs_take_turns_and_are_named(asked: list[str]) -> None:
    found = add_alternatives(pairing_of("((....))"), "GGGACGCC").alternatives
    assert [one.source for one in found] == ["SQUARNA 1", "Langdon 2018", "SQUARNA 2", "Andronescu 2007"]
    assert found[0].partner.tolist() == parse_dot_bracket("(((..)))").tolist()


def test_strands_that_pair_are_folded_together_and_others_alone(asked: list[str]) -> None:
    add_alternatives(pairing_of("(((((((())))))))"), "GGGACGCCGGCGUCCC", chains_of(8, 8))
    apart = add_alternatives(pairing_of("((....))" * 2), "GGGACGCC" * 2, chains_of(8, 8))
    assert asked == ["GGGACGCC&GGCGUCCC", "GGGACGCC"]  # alike chains once
    assert apart.alternatives[0].partner.tolist() == parse_dot_bracket("(((..)))" * 2).tolist()


def test_a_chain_without_structures_keeps_that_of_the_pairing(asked: list[str]) -> None:
    own = "((((((......))))))"
    found = add_alternatives(pairing_of("((....))" + own), "GGGACGCC" + HAIRPIN, chains_of(8, 18)).alternatives
    assert found[2].partner.tolist() == parse_dot_bracket("((....))" + own).tolist()


def test_alternatives_obey_wishes(asked: list[str]) -> None:
    wishes = PairWishes(formed=((1, 12),), unpaired=(0,))
    found = add_alternatives(pairing_of("." * 19), HAIRPIN + "A", wishes=wishes)
    assert len(found.alternatives) == 4
    for one in found.alternatives:
        assert one.partner[1] == 12 and one.partner[0] == -1 and one.partner[18] == -1
    imposed = PairWishes(unpaired=(2,)).impose(found)
    assert all(one.partner[2] == -1 for one in imposed.alternatives)


def test_half_of_a_probability_is_what_the_alternatives_form() -> None:
    pairing = pairing_of("((...))")
    assert heed_alternatives(pairing) is pairing.probabilities
    others = (parse_dot_bracket("((...))"), parse_dot_bracket("(.....)"))
    both = replace(pairing, alternatives=tuple(Alternative(partner=one, source="test") for one in others))
    heeded = heed_alternatives(both)
    assert heeded[0, 6] == heeded[6, 0] == 1.0 and heeded[1, 5] == 0.75 and heeded.sum() == 3.5


def test_other_energies_give_other_structures_and_leave_the_usual_ones_as_they_were() -> None:
    pytest.importorskip("RNA")
    before = predict_pairing(DIVIDED)
    found = {name: fold_by_energies(name, DIVIDED) for name in ENERGIES}
    after = predict_pairing(DIVIDED)
    assert np.array_equal(before.probabilities, after.probabilities) and np.array_equal(before.partner, after.partner)
    kinds = {before.partner.tobytes(), *(one.tobytes() for one in found.values() if one is not None)}
    assert len(kinds) == 1 + len(ENERGIES)


def test_other_energies_fold_strands_together_and_nothing_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("RNA")
    partner = fold_by_energies("Langdon 2018", "GGGACGCC&GGCGUCCC")
    assert partner is not None and partner.tolist() == parse_dot_bracket("(((((((())))))))").tolist()
    assert fold_by_energies("Langdon 2018", "G" * 1501) is None
    monkeypatch.setattr(secondary, "load_vienna", lambda: None)
    assert fold_by_energies("Langdon 2018", HAIRPIN) is None
