"""The template library: dates and gates, pairs, files on disk."""

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold.errors import InputError
from rnafold.templates.library import Gate, TemplateLibrary, entry_code, fingerprint, gate_for
from rnafold.templates.loops import build_fragments
from tests.pieces.folds import FOLDS, make_entries, make_target


@pytest.fixture(scope="module")
def library() -> TemplateLibrary:
    return TemplateLibrary.from_entries(make_entries())


def _names(library: TemplateLibrary, gate: Gate | None) -> set[str]:
    return {library.ids[library.chain_entry[chain]] for chain in np.flatnonzero(library.allowed(gate))}


def test_the_gate_shows_only_what_was_released_before_the_cutoff(library: TemplateLibrary) -> None:
    # 1CCC was released on 2010-05-01 itself: not before it.
    gate = gate_for(replace(make_target("1AAA_A"), cutoff=datetime.date(2010, 5, 1)))
    assert _names(library, gate) == {"1AAA_A", "1BBB_A", "1BBB_B"}
    gate = gate_for(replace(make_target("1AAA_A"), cutoff=datetime.date(2010, 5, 2)))
    assert _names(library, gate) == {"1AAA_A", "1BBB_A", "1BBB_B", "1CCC_A"}


def test_a_target_never_sees_its_own_structure_nor_another_chain_of_it(library: TemplateLibrary) -> None:
    target = replace(make_target("1BBB_A", cutoff="2030-01-01"), target_id="1bbb_A")
    assert _names(library, gate_for(target)) == set(FOLDS) - {"1BBB_A", "1BBB_B"}


def test_groups_can_be_left_out(library: TemplateLibrary) -> None:
    gate = gate_for(make_target("1AAA_A", cutoff="2030-01-01"), groups=[FOLDS["1AAA_A"][0][:8]])
    assert _names(library, gate) == set(FOLDS) - {"1AAA_A", "1EEE_A"}


def test_a_target_without_a_cutoff_needs_a_stated_date() -> None:
    target = make_target("1AAA_A", cutoff=None)
    with pytest.raises(InputError, match="9ZZZ has no temporal_cutoff"):
        gate_for(target)
    assert gate_for(target, before=datetime.date(2020, 1, 1)).before == datetime.date(2020, 1, 1)


def test_no_gate_shows_everything(library: TemplateLibrary) -> None:
    assert _names(library, None) == set(FOLDS)


def test_codes_hold_letter_and_pairing_state(library: TemplateLibrary) -> None:
    chain = library.ids.index("1DDD_A")
    codes = library.chain_codes(chain)
    # G is token 2 and opens a stem: 2 * 3 + 1; the last residue C, token 1, closes it: 1 * 3 + 2.
    assert codes[1] == 7
    assert codes[-2] == 5
    assert set(codes[10:15] % 3) == {0}


def test_a_saved_library_comes_back_memory_mapped(library: TemplateLibrary, tmp_path: Path) -> None:
    library.save(tmp_path / "lib")
    library.save(tmp_path / "lib")  # replaces
    again = TemplateLibrary.load(tmp_path / "lib")
    assert again.ids == library.ids and again.groups == library.groups
    assert isinstance(again.coords, np.memmap)
    np.testing.assert_array_equal(again.coords, library.coords)
    np.testing.assert_array_equal(again.partner, library.partner)
    np.testing.assert_array_equal(again.chain_codes(2), library.chain_codes(2))
    assert list(tmp_path.iterdir()) == [tmp_path / "lib"]


@pytest.mark.parametrize("damage", ["missing", "version", "text"])
def test_a_damaged_library_is_refused_with_its_path(library: TemplateLibrary, tmp_path: Path, damage: str) -> None:
    library.save(tmp_path / "lib")
    if damage == "missing":
        (tmp_path / "lib" / "coords.npy").unlink()
    elif damage == "version":
        (tmp_path / "lib" / "names.json").write_text('{"version": 99}')
    else:
        (tmp_path / "lib" / "names.json").write_text("no json")
    with pytest.raises(InputError, match="lib: "):
        TemplateLibrary.load(tmp_path / "lib")


def test_entries_without_a_date_are_kept_only_where_told_so() -> None:
    entries = make_entries()
    entries[0] = replace(entries[0], target=replace(entries[0].target, cutoff=None))
    assert "1AAA_A" not in TemplateLibrary.from_entries(entries).ids
    library = TemplateLibrary.from_entries(entries, with_undated=True)
    assert library.num_undated == 1
    target = make_target("1CCC_A", cutoff="2090-01-01")
    # no gate of a date lets it through, one that vouches for it does, and its loops come and go with it
    for undated in (False, True):
        gate = gate_for(target, undated=undated)
        assert ("1AAA_A" in _names(library, gate)) == undated
        loops = build_fragments(library).restrict(gate.before, gate.codes, gate.groups, gate.undated)
        assert ("1AAA_A" in {loops.chains[row].chain_id for row in loops.linkers.chain}) == undated
    assert "1AAA_A" in _names(library, None) & _names(library, Gate(before=None))


def test_entry_codes_join_the_chains_of_one_pdb_entry_and_nothing_else() -> None:
    assert entry_code("1SCL_A") == entry_code("1scl_B") == "1SCL"
    assert entry_code("model_0_A") != entry_code("model_1_A")
    assert entry_code("rna_1") == "RNA_1"


def test_a_structure_file_is_known_by_its_name_and_its_pdb_code_not_by_a_common_beginning() -> None:
    entry = make_entries()[0]
    target = replace(entry.target, target_id="rna_model_A")
    library = TemplateLibrary.from_entries([replace(entry, target=target, source="lab/rna_model", code="1AAA")])
    date = datetime.date(2090, 1, 1)
    hidden = {
        target_id: not library.allowed(gate_for(replace(target, target_id=target_id, cutoff=date))).all()
        for target_id in ("1AAA", "1aaa_B", "RNA_MODEL", "rna_model_A", "rna", "rna_other", "lab", "1AAB")
    }
    assert [name for name, is_hidden in hidden.items() if is_hidden] == ["1AAA", "1aaa_B", "RNA_MODEL", "rna_model_A"]
    assert library.frames == ["lab/rna_model"]


def test_a_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("one")
    before = fingerprint([path])
    assert fingerprint([path]) == before
    path.write_text("another")
    assert fingerprint([path]) != before
