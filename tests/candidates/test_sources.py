"""What is matched to which target, what is refused and why, and what a user may type."""

import datetime
import logging
from pathlib import Path

import numpy as np
import pytest

from rnafold.candidates import refusals as module
from rnafold.candidates.calibration import Calibration
from rnafold.candidates.completion import MOST_OF_A_SOURCE, build_outside
from rnafold.candidates.reading import read_sources
from rnafold.candidates.source import Source, SourceSpec, parse_source
from rnafold.errors import InputError
from rnafold.structure import CARRIED, Chain, Target, whole_chain
from tests.pieces.folds import FOLDS, make_pairing
from tests.pieces.models import (
    LENGTH,
    SEQUENCE,
    TEXT,
    make_outside_target,
    make_points,
    write,
    write_atoms,
    write_cif,
)

TARGET = make_outside_target()


def read_files(folder: Path, *targets: Target, name: str = "") -> Source:
    """The one source of a folder."""
    found = read_sources([SourceSpec(path=folder, name=name)], targets or [TARGET])
    assert len(found) == 1
    return found[0]


def refuse(folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The line that says what was refused where nothing is left."""
    with caplog.at_level(logging.INFO):
        assert read_sources([SourceSpec(path=folder)], [TARGET]) == []
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("chain", "atom", "width", "number"),
    [(" ", "C1'", 80, 1), ("0", "C1*", 80, 1), ("A", "C1'", 54, 1), ("A", "C1'", 66, 101)],
    ids=["blank chain", "C1*", "ends after z", "numbers from 101"],
)
def test_habits_of_programs_are_read(chain: str, atom: str, width: int, number: int, tmp_path: Path) -> None:
    write(tmp_path / "m.pdb", write_atoms(make_points(), chain=chain, atom=atom, width=width, first=number))
    model = read_files(tmp_path).models["T1"][0]
    np.testing.assert_allclose(model.points, make_points(), atol=1e-3)


@pytest.mark.parametrize(
    "spelling",
    [
        {"A": "RA", "C": "RC", "G": "RG", "U": "RU"},
        {"A": "ADE", "C": "CYT", "G": "GUA", "U": "URI"},
        {"A": "A3", "C": "C5", "G": "G5", "U": "U3"},
        {"A": "RA3", "C": "RC5", "G": "RG5", "U": "RU3"},
    ],
    ids=["RA", "ADE", "A3", "RA3"],
)
def test_residue_names_of_programs_are_read(spelling: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "m.pdb", write_atoms(make_points(), name=lambda _, letter: spelling[letter]))
    assert read_files(tmp_path).num_models == 1


def test_text_around_the_atoms_and_models_without_their_ends_are_read(tmp_path: Path) -> None:
    casp = "PFRMAT TS\nTARGET R1107\nMODEL 1\nPARENT N/A\n" + write_atoms(make_points(0)) + "TER\n"
    casp += "MODEL 2\n" + write_atoms(make_points(1)) + "TER\nEND"
    write(tmp_path / "m.pdb", "some program's words: MODEL 1\n" + casp + "\nscore 1.0\n")
    models = read_files(tmp_path).models["T1"]
    assert [model.note for model in models] == ["m.pdb model 1", "m.pdb model 2"]


def test_alternate_locations_and_ligands_are_no_residues(tmp_path: Path) -> None:
    lines = write_atoms(make_points()).splitlines()
    at = next(number for number, line in enumerate(lines) if "C1'" in line)
    lines[at] = lines[at][:16] + "A" + lines[at][17:]
    lines.insert(at + 1, lines[at][:16] + "B" + lines[at][17:])
    ligand = "HETATM  999  C1' LIG B   1       0.000   0.000   0.000  1.00  0.00           C"
    write(tmp_path / "m.pdb", "\n".join([*lines, ligand]) + "\n")
    np.testing.assert_allclose(read_files(tmp_path).models["T1"][0].points, make_points(), atol=1e-3)


def test_models_go_by_sequence_and_not_by_name(tmp_path: Path) -> None:
    other = Target(target_id="T2", sequence=FOLDS["1DDD_A"][0], chains=whole_chain(25))
    write(tmp_path / "T2.pdb", write_atoms(make_points()))
    assert list(read_files(tmp_path, TARGET, other).models) == ["T1"]


def test_names_break_ties_between_targets_of_one_sequence(tmp_path: Path) -> None:
    twin = make_outside_target("T2")
    write(tmp_path / "T2_rank_1.pdb", write_atoms(make_points()))
    write(tmp_path / "any.pdb", write_atoms(make_points(3)))
    found = read_files(tmp_path, TARGET, twin, name="x")
    assert {name: len(models) for name, models in found.models.items()} == {"T1": 1, "T2": 2}


def test_chains_come_in_the_order_of_the_target_with_copies_as_in_the_file(tmp_path: Path) -> None:
    hairpin = FOLDS["1DDD_A"][0]
    target = Target(
        target_id="C",
        sequence=SEQUENCE * 2 + hairpin,
        chains=(
            Chain(chain_id="A", copy=1, start=0, stop=30),
            Chain(chain_id="A", copy=2, start=30, stop=60),
            Chain(chain_id="B", copy=1, start=60, stop=85),
        ),
    )
    small = np.cumsum(np.full((25, 3), 3.4), axis=0) + [200.0, 0.0, 0.0]
    first, second = make_points(0), make_points(1) + 80.0
    text = write_cif([("X", hairpin, small), ("Y", SEQUENCE, first), ("Z", SEQUENCE, second)])
    write(tmp_path / "m.cif", text)
    points = read_files(tmp_path, target).models["C"][0].points
    np.testing.assert_allclose(points, np.concatenate([first, second, small]), atol=1e-3)


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (9, 30)], ids=["without the end", "without the start"])
def test_part_of_a_chain_is_placed_and_the_rest_built(start: int, stop: int, tmp_path: Path) -> None:
    whole = make_points()
    text = write_atoms(whole[start:stop], letters=SEQUENCE[start:stop], first=start + 1)
    write(tmp_path / "m.pdb", text)
    source = read_files(tmp_path)
    points = source.models["T1"][0].points
    np.testing.assert_allclose(points[start:stop], whole[start:stop], atol=1e-3)
    assert np.isnan(np.delete(points, np.arange(start, stop), axis=0)).all()
    made = build_outside(TARGET, [source], make_pairing(TEXT), Calibration())[0]
    assert np.isfinite(made.coords).all()
    np.testing.assert_allclose(made.coords[start:stop], whole[start:stop], atol=1e-3)
    assert made.grounds is not None and (made.grounds.kinds == CARRIED).sum() == stop - start
    assert made.evidence is not None and made.evidence.num_added == LENGTH - (stop - start)
    assert f"{LENGTH - (stop - start)} residues added" in made.note


def test_less_than_three_fifths_of_a_target_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "m.pdb", write_atoms(make_points()[:17], letters=SEQUENCE[:17]))  # 57 %
    assert "1 less than 60% of the target" in refuse(tmp_path, caplog)


def test_another_sequence_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    letters = SEQUENCE.translate(str.maketrans("ACGU", "CAUG"))
    write(tmp_path / "m.pdb", write_atoms(make_points(), letters=letters))
    told = refuse(tmp_path, caplog)
    assert "1 of no target's sequence (m.pdb)" in told
    assert "no model of any of the 1 targets" in told


def test_zeros_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    header = "ID,resname,resid,x_1,y_1,z_1"
    rows = [f"T1_{k + 1},{letter},{k + 1},0.0,0.0,0.0" for k, letter in enumerate(SEQUENCE)]
    write(tmp_path / "submission.csv", "\n".join([header, *rows]) + "\n")
    assert "1 zeros or empty" in refuse(tmp_path, caplog)


def test_a_collapsed_and_a_broken_trace_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.pdb", write_atoms(0.1 * make_points()))
    write(tmp_path / "b.pdb", write_atoms(4.0 * make_points()))
    told = refuse(tmp_path, caplog)
    assert "1 collapsed (a.pdb)" in told and "1 a broken trace (b.pdb)" in told


def test_residues_of_two_chains_under_one_number_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = write_atoms(make_points(0)).splitlines()
    two = write_atoms(make_points(1) + 60.0).splitlines()
    mixed = [line for k in range(LENGTH) for line in (*one[3 * k : 3 * k + 3], *two[3 * k : 3 * k + 3])]
    write(tmp_path / "m.pdb", "\n".join(mixed) + "\n")
    assert "1 residues of two chains interleaved" in refuse(tmp_path, caplog)


def test_two_chains_one_after_the_other_under_one_id_are_two_copies(tmp_path: Path) -> None:
    target = make_outside_target(copies=2)
    first, second = make_points(0), make_points(1) + 60.0
    write(tmp_path / "m.pdb", write_atoms(first, chain=" ") + "TER\n" + write_atoms(second, chain=" "))
    points = read_files(tmp_path, target).models["T1"][0].points
    np.testing.assert_allclose(points, np.concatenate([first, second]), atol=1e-3)


def test_of_copies_of_one_job_in_one_frame_the_surest_stays(tmp_path: Path) -> None:
    far = np.array([60.0, 0.0, 0.0])
    for number, chain in enumerate("ABC"):
        plddt = [50.0 + 10.0 * (chain == "B") + 0.1 * k for k in range(LENGTH)]
        write(
            tmp_path / f"m_{number}.pdb", write_atoms(make_points(number) + number * far, chain=chain, bfactors=plddt)
        )
    source = read_files(tmp_path, name="AlphaFold3 run")
    assert [model.note for model in source.models["T1"]] == ["m_1.pdb"]
    assert sorted(source.refused[module.COPY]) == ["m_0.pdb", "m_2.pdb"]


def test_of_copies_in_one_file_the_surest_stays(tmp_path: Path) -> None:
    far = np.array([60.0, 0.0, 0.0])
    text = ""
    for number, chain in enumerate("ABC"):
        plddt = [50.0 + 10.0 * (chain == "C") + 0.1 * k for k in range(LENGTH)]
        text += write_atoms(make_points(number) + number * far, chain=chain, bfactors=plddt)
    write(tmp_path / "m.pdb", text)
    source = read_files(tmp_path, name="AlphaFold3 run")
    np.testing.assert_allclose(source.models["T1"][0].points, make_points(2) + 2 * far, atol=1e-3)
    assert len(source.refused[module.COPY]) == 2


def test_separate_models_overlap_and_are_no_copies(tmp_path: Path) -> None:
    for number, chain in enumerate("AB"):
        write(tmp_path / f"m_{number}.pdb", write_atoms(make_points(number), chain=chain))
    assert read_files(tmp_path).num_models == 2


def test_exact_duplicates_count_once_over_all_sources(tmp_path: Path) -> None:
    write(tmp_path / "a" / "m.pdb", write_atoms(make_points()))
    write(tmp_path / "a" / "n.pdb", write_atoms(make_points()))
    write(tmp_path / "b" / "m.pdb", write_atoms(make_points()))
    write(tmp_path / "b" / "n.pdb", write_atoms(make_points(1)))
    specs = [SourceSpec(path=tmp_path / name, name=name.upper()) for name in "ab"]
    found = {source.name: source for source in read_sources(specs, [TARGET])}
    assert {name: source.num_models for name, source in found.items()} == {"A": 1, "B": 1}
    assert found["A"].refused[module.DUPLICATE] == ["n.pdb"]


def test_a_source_given_in_two_places_under_one_name_is_one(tmp_path: Path) -> None:
    write(tmp_path / "a" / "m.pdb", write_atoms(make_points()))
    write(tmp_path / "b" / "m.pdb", write_atoms(make_points(1)))
    specs = [SourceSpec(path=tmp_path / name, name="X") for name in "ab"]
    assert [source.num_models for source in read_sources(specs, [TARGET])] == [2]


@pytest.mark.parametrize(
    ("program", "bfactors"),
    [
        ("RhoFold", [99.99] * LENGTH),
        ("RhoFold", [260.0 - k for k in range(LENGTH)]),
        ("unknown", [60.0 + k for k in range(LENGTH)]),
    ],
    ids=["constant", "beyond 100", "program not known"],
)
def test_b_factors_that_say_nothing_are_left_out(program: str, bfactors: list[float], tmp_path: Path) -> None:
    write(tmp_path / "m.pdb", write_atoms(make_points(), bfactors=bfactors))
    assert read_files(tmp_path, name=program).models["T1"][0].own is None


def test_damaged_files_cost_themselves_alone(tmp_path: Path) -> None:
    (tmp_path / "a.pdb.gz").write_bytes(b"no gzip")
    (tmp_path / "b.cif").write_text("data_x\nloop_\n_atom_site.id\n_atom_site.label_atom_id\n1 'C1\n", encoding="utf-8")
    (tmp_path / "c.pdb").write_bytes(bytes(range(256)))
    (tmp_path / "empty.pdb").write_text("", encoding="utf-8")
    write(tmp_path / "good.pdb", write_atoms(make_points()))
    source = read_files(tmp_path)
    assert source.num_models == 1
    assert sum(len(names) for names in source.refused.values()) == 4
    assert sum(reason.startswith("unreadable") for reason in source.refused) == 2


def test_zstandard_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.pdb.zst").write_bytes(b"x")
    write(tmp_path / "good.pdb", write_atoms(make_points()))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    assert any("pip install zstandard" in reason for reason in read_files(tmp_path).refused)


def test_a_thousand_samples_leave_the_surest_few(tmp_path: Path) -> None:
    for number in range(MOST_OF_A_SOURCE + 4):
        plddt = [40.0 + number + 0.1 * k for k in range(LENGTH)]
        write(tmp_path / f"T1_rank_{number}.pdb", write_atoms(make_points(number), bfactors=plddt))
    source = read_files(tmp_path)
    made = build_outside(TARGET, [source], make_pairing(TEXT), Calibration())
    assert len(made) == MOST_OF_A_SOURCE
    assert made[0].note == "T1_rank_4.pdb"


def test_a_source_is_named_dated_and_placed(tmp_path: Path) -> None:
    folder = tmp_path / "run=2"
    folder.mkdir()
    plain = parse_source(str(folder))
    assert (plain.name, plain.path, plain.trained_until) == ("", folder, None)
    full = parse_source(f"Boltz@2021-09-30={folder}")
    assert (full.name, full.path, full.trained_until) == ("Boltz", folder, datetime.date(2021, 9, 30))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Boltz=nowhere", "no such file or folder"),
        ("Boltz@2021-13-01={}", "2021-13-01 is no date"),
        ("Boltz@soon={}", "expected NAME@YYYY-MM-DD=PATH"),
        ("template={}", "is taken"),
        ("={}", "is taken"),
    ],
    ids=["no path", "no date", "not a date", "our own name", "no name"],
)
def test_what_a_user_mistypes_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        parse_source(text.format(tmp_path))


def test_targets_released_before_a_stated_cutoff_may_have_been_seen(tmp_path: Path) -> None:
    write(tmp_path / "m.pdb", write_atoms(make_points()))
    until = datetime.date(2022, 6, 1)
    source = read_sources([SourceSpec(path=tmp_path, trained_until=until)], [TARGET])[0]
    assert source.may_have_seen(make_outside_target(cutoff="2022-06-01"))
    assert not source.may_have_seen(make_outside_target(cutoff="2022-06-02"))
    assert not source.may_have_seen(make_outside_target(cutoff=None))
    made = build_outside(TARGET, [source], make_pairing(TEXT), Calibration())
    assert made[0].evidence is not None and made[0].evidence.may_have_seen
