"""Wishes about pairs: read from dot-bracket files, obeyed by structures, probabilities and template coordinates."""

from pathlib import Path

import numpy as np
import pytest

from rnafold.errors import InputError
from rnafold.features.secondary import predict_pairing
from rnafold.features.wishes import PairWishes, read_wishes
from rnafold.rna import format_dot_bracket, parse_dot_bracket

SEQUENCE = "GGGGAAACUUCGGUUUCCCC"


def read(tmp_path: Path, text: str) -> dict[str, PairWishes]:
    path = tmp_path / "wishes.dbn"
    path.write_text(text, encoding="utf-8")
    return read_wishes(path, {"one": SEQUENCE})


def test_brackets_must_form_crosses_stay_free_and_a_bang_forbids(tmp_path: Path) -> None:
    wishes = read(tmp_path, f">one\n{SEQUENCE.lower()}\n((..............))xx\n!..((..........))....\n")["one"]
    assert wishes.formed == ((0, 17), (1, 16))
    assert wishes.forbidden == ((2, 15), (3, 14))
    assert wishes.unpaired == (18, 19)


def test_a_file_without_names_is_of_the_only_rna(tmp_path: Path) -> None:
    assert read(tmp_path, "(..................)\n")["one"].formed == ((0, 19),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (">two\n" + "." * 20, "line 1: 'two' expected one of one"),
        (">one\n(..)", "line 2: 4 places, expected 20"),
        (">one\n(" + "." * 19, "line 2: dot-bracket: .* never closed"),
        (">one\nGGGGAAACUUCGGUUUCCCA", "line 2: another sequence"),
        (">one\n(..................)\n!(..................)", "line 3: positions 1 and 20 are asked to pair and not"),
        (">one\n(..................)\nx" + "." * 19, "line 3: position 1 is asked to pair with two others, or"),
    ],
    ids=["unknown name", "length", "unbalanced", "sequence", "both ways", "pair and none"],
)
def test_wishes_that_cannot_be_meant_are_refused_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


def test_a_structure_obeys_and_keeps_what_no_wish_touches() -> None:
    partner = parse_dot_bracket("((((....))))..((...))")
    wishes = PairWishes(formed=((3, 13),), forbidden=((1, 10),), unpaired=(14,))
    # (2, 9) crosses the wished (3, 13); (3, 8) loses an end; (1, 10) is forbidden; (14, 20) must stay unpaired
    # (0, 11) crosses it as well
    assert format_dot_bracket(wishes.obey(partner)) == "...(.........).(...)."


def test_predicted_pairs_samples_and_probabilities_obey() -> None:
    wishes = PairWishes(formed=((0, 18),), forbidden=((5, 14), (4, 15)), unpaired=(19,))
    pairing = predict_pairing(SEQUENCE, num_samples=3, wishes=wishes)
    for partner in (pairing.partner, *pairing.samples):
        assert partner[0] == 18 and partner[5] != 14 and partner[4] != 15 and partner[19] == -1
    assert pairing.probabilities[0, 18] == pairing.probabilities[18, 0] == 1.0
    assert pairing.probabilities[5, 14] == pairing.probabilities[15, 4] == 0.0
    assert pairing.probabilities[19].max() == 0.0
    assert "wishes" in pairing.source


def test_template_places_that_keep_a_wished_pair_apart_are_released() -> None:
    carried = np.zeros((6, 3))
    carried[:, 0] = np.arange(6) * 5.5
    kept = PairWishes(formed=((0, 5),)).release(carried)  # 27.5 Å apart
    assert np.isnan(kept[[0, 1, 4, 5]]).all() and np.isfinite(kept[2:4]).all()
    kept = PairWishes(forbidden=((1, 3),)).release(carried)  # 11 Å: as near as a pair
    assert np.isnan(kept[:5]).all() and np.isfinite(kept[5]).all()


def test_wishes_of_one_chain_count_from_its_start() -> None:
    wishes = PairWishes(formed=((2, 9), (11, 15)), forbidden=((12, 14),), unpaired=(1, 16))
    assert wishes.cut(10, 20) == PairWishes(formed=((1, 5),), forbidden=((2, 4),), unpaired=(6,))
