"""PDB and mmCIF files of predictions: read back by the project's own reader, refused where columns are too narrow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold.cli.main import main
from rnafold.data.mmcif import read_structure_file
from rnafold.errors import InputError
from rnafold.files.names import name_files
from rnafold.report.export import measure_model_agreement, write_mmcif, write_pdb
from rnafold.structure import Chain, Target, whole_chain

WRITERS = {"pdb": (write_pdb, "pdb"), "mmcif": (write_mmcif, "cif")}
both = pytest.mark.parametrize(("write", "suffix"), WRITERS.values(), ids=WRITERS)


def build_target(sequence: str, chains: tuple[Chain, ...] | None = None) -> Target:
    return Target(target_id="R1", sequence=sequence, chains=whole_chain(len(sequence)) if chains is None else chains)


def build_points(num_models: int, length: int, seed: int = 0) -> np.ndarray:
    """Random points with 3 decimals, so that the files hold them exactly."""
    return np.random.default_rng(seed).uniform(-50, 50, (num_models, length, 3)).round(3)


@both
@settings(max_examples=15, deadline=None)
@given(sequence=st.text("ACGU", min_size=3, max_size=40), num_models=st.integers(1, 5), seed=st.integers(0, 999))
def test_models_come_back_with_sequence_and_coordinates(
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[..., object],
    suffix: str,
    sequence: str,
    num_models: int,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("export") / f"R1.{suffix}"
    points = build_points(num_models, len(sequence), seed)
    write(path, build_target(sequence), points)
    (entry,) = read_structure_file(path, all_models=True)
    assert entry.target.sequence == sequence
    assert entry.target.target_id == "R1_A"
    np.testing.assert_allclose([r.coords[:, 0] for r in entry.references], points, atol=1e-4)


@both
def test_every_copy_of_a_complex_is_a_chain_of_its_own(
    tmp_path: Path, write: Callable[..., object], suffix: str
) -> None:
    chains = (
        Chain(chain_id="B", copy=1, start=0, stop=4),
        Chain(chain_id="B", copy=2, start=4, stop=8),
        Chain(chain_id="A", copy=1, start=8, stop=13),
    )
    points = build_points(2, 13)
    write(tmp_path / f"R1.{suffix}", build_target("GGCCGGCCAUAUA", chains), points)
    entries = read_structure_file(tmp_path / f"R1.{suffix}", all_models=True)
    # PDB has one letter: B stays, its copy takes the first letter that no chain asks for (C), A stays
    expected = {"pdb": ["R1_B", "R1_C", "R1_A"], "cif": ["R1_B", "R1_B-2", "R1_A"]}[suffix]
    assert [e.target.target_id for e in entries] == expected
    assert [e.target.sequence for e in entries] == ["GGCC", "GGCC", "AUAUA"]
    np.testing.assert_allclose(entries[1].references[1].coords[:, 0], points[1, 4:8], atol=1e-4)


@both
def test_a_residue_without_coordinates_is_left_out_and_still_in_the_sequence(
    tmp_path: Path, write: Callable[..., object], suffix: str
) -> None:
    points = build_points(1, 6)
    points[0, 2] = np.nan
    write(tmp_path / f"R1.{suffix}", build_target("GACUAC"), points)
    (entry,) = read_structure_file(tmp_path / f"R1.{suffix}")
    assert entry.target.sequence == "GACUAC"
    assert entry.references[0].residue_mask.tolist() == [True, True, False, True, True, True]
    text = (tmp_path / f"R1.{suffix}").read_text()
    # 5 bonds of 6 residues, less the two of the residue that is missing
    assert sum(line.startswith(("CONECT", "covale")) for line in text.splitlines() if line.strip() != "covale") == 3


def test_a_pdb_atom_row_has_every_value_in_its_columns(tmp_path: Path) -> None:
    write_pdb(tmp_path / "R1.pdb", build_target("GAC"), np.array([[1.5, -2.25, 3.125]] * 3), np.array([0, 12.25, 1e6]))
    rows = [line for line in (tmp_path / "R1.pdb").read_text().splitlines() if line.startswith("ATOM")]
    second = rows[1]
    assert (second[6:11], second[12:16], second[17:20], second[21], second[22:26]) == (
        "    2",
        " C1'",
        "  A",
        "A",
        "   2",
    )
    assert (second[30:38], second[38:46], second[46:54]) == ("   1.500", "  -2.250", "   3.125")
    assert (second[54:60], second[60:66], second[76:78]) == ("  1.00", " 12.25", " C")
    assert rows[2][60:66] == "999.99"  # 1e6 does not fit six places
    assert all(len(line) == 80 for line in rows)


def test_a_bfactor_for_each_model_is_written_to_it(tmp_path: Path) -> None:
    write_mmcif(tmp_path / "R1.cif", build_target("GAC"), build_points(2, 3), np.array([[1, 2, 3], [40, 50, 60.0]]))
    rows = [line.split() for line in (tmp_path / "R1.cif").read_text().splitlines() if line.startswith("ATOM")]
    assert [(row[-1], row[14]) for row in rows] == [
        ("1", "1.00"), ("1", "2.00"), ("1", "3.00"), ("2", "40.00"), ("2", "50.00"), ("2", "60.00"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sequence", "chains", "shift", "words"),
    [
        pytest.param("G" * 10000, None, 0.0, "has 10000 residues", id="residues"),
        pytest.param(
            "G" * 63,
            tuple(Chain(chain_id="A", copy=i + 1, start=i, stop=i + 1) for i in range(63)),
            0.0,
            "has 63 chains",
            id="chains",
        ),
        pytest.param("GAC", None, 12000.0, "Å", id="coordinates"),
    ],
)
def test_what_pdb_columns_cannot_hold_is_refused_and_mmcif_takes_it(
    tmp_path: Path, sequence: str, chains: tuple[Chain, ...] | None, shift: float, words: str
) -> None:
    target = build_target(sequence, chains)
    points = build_points(1, len(sequence)) + shift
    with pytest.raises(InputError, match="mmcif") as caught:
        write_pdb(tmp_path / "R1.pdb", target, points)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    write_mmcif(tmp_path / "R1.cif", target, points)
    rows = [line for line in (tmp_path / "R1.cif").read_text().splitlines() if line.startswith("ATOM")]
    assert len(rows) == len(sequence)


@both
def test_62_chains_fit_and_get_62_names(tmp_path: Path, write: Callable[..., object], suffix: str) -> None:
    chains = tuple(Chain(chain_id="A", copy=i + 1, start=3 * i, stop=3 * i + 3) for i in range(62))
    write(tmp_path / f"R1.{suffix}", build_target("GAC" * 62, chains), build_points(1, 186))
    entries = read_structure_file(tmp_path / f"R1.{suffix}")
    assert len({e.target.target_id for e in entries}) == 62


@both
def test_coordinates_of_another_length_are_refused(tmp_path: Path, write: Callable[..., object], suffix: str) -> None:
    with pytest.raises(InputError, match=r"expected \(models, 4, 3\)"):
        write(tmp_path / f"R1.{suffix}", build_target("GACU"), build_points(1, 3))
    with pytest.raises(InputError, match="B-factors"):
        write(tmp_path / f"R1.{suffix}", build_target("GACU"), build_points(2, 4), np.zeros((3, 4)))


def test_agreement_is_one_where_models_are_the_same_up_to_a_move() -> None:
    first = np.cumsum(np.full((1, 12, 3), 3.0), axis=1)
    moved = first @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).T + 7.0
    np.testing.assert_allclose(measure_model_agreement(np.concatenate([first, moved])), 1.0)


def test_agreement_counts_the_distances_kept() -> None:
    # residues on a line at 0, 10, 20 Å; in the second model the last stands at 23: the distance 1-2 changes by 3 Å
    line = np.array([[0.0, 0, 0], [10, 0, 0], [20, 0, 0]])
    other = line.copy()
    other[2, 0] = 23.0
    # first residue: one neighbour under 15 Å, kept exactly -> 1
    # middle, seen from the first model: neighbours 0 (kept in 4 of 4) and 2 (3 Å off: only within 4 Å, 1 of 4) -> 5/8;
    # as measured on the neighbours of the second model (10 and 13 Å: the same two) also 5/8
    # last: one neighbour, 1 of 4
    agreement = measure_model_agreement(np.stack([line, other]))
    np.testing.assert_allclose(agreement, [[1, 5 / 8, 1 / 4], [1, 5 / 8, 1 / 4]])


def test_a_single_model_agrees_with_itself() -> None:
    assert measure_model_agreement(build_points(1, 5)).tolist() == [[1.0] * 5]


ODD_IDS = (
    "R1",
    "r1",
    "../esc",
    "a/b",
    "a\\b",
    "/abs",
    "..",
    ".",
    "",
    "con",
    "x" * 300,
    "Å",
    "a\nb",
    "a b",
    "nul.x",
    "x.",
)


def test_every_target_gets_a_harmless_name_of_its_own() -> None:
    names = name_files(ODD_IDS)
    assert names["R1"] == "R1" and list(names) == list(ODD_IDS)
    assert len({name.lower() for name in names.values()}) == len(ODD_IDS)
    for name in names.values():
        assert Path(name).name == name and len(name) <= 100 and name.isascii() and not name.startswith(".")
        assert not set(name) & set('/\\:*?"<>| \n') and name.split(".")[0].lower() not in ("con", "nul")


@pytest.mark.parametrize("form", ["pdb", "mmcif"])
@pytest.mark.parametrize("labels", [False, True], ids=["alone", "with labels"])
def test_export_never_leaves_its_folder(tmp_path: Path, form: str, labels: bool) -> None:
    ids = ["../esc", "deep/er", "R1"]
    sequences = "".join(f"{target_id},GACUAC\n" for target_id in ids)
    (tmp_path / "test.csv").write_text("target_id,sequence\n" + sequences)
    cells = {k: ",".join(f"{5.5 * k + conformation},{k * k}.0,0.5" for conformation in range(5)) for k in range(1, 7)}
    rows = [f"{t},{'GACUAC'[k - 1]},{k},{cells[k]}\n" for t in ids for k in range(1, 7)]
    rows = [row.replace(",", f"_{row.split(',')[2]},", 1) for row in rows]
    columns = ",".join(f"{axis}_{k}" for k in range(1, 6) for axis in "xyz")
    (tmp_path / "sub.csv").write_text(f"ID,resname,resid,{columns}\n" + "".join(rows))
    lines = [",".join(row.split(",")[:6]) + "\n" for row in rows]
    (tmp_path / "labels.csv").write_text("ID,resname,resid,x_1,y_1,z_1\n" + "".join(lines))
    options = ["--labels", str(tmp_path / "labels.csv")] if labels else []
    command = ["export", str(tmp_path / "sub.csv"), "--test", str(tmp_path / "test.csv"), "--format", form, *options]
    assert main([*command, "--out", str(tmp_path / "out" / "models")]) == 0
    found = {path for path in tmp_path.rglob("*") if path.suffix in (".pdb", ".cif")}
    assert {path.parent for path in found} == {tmp_path / "out" / "models"}
    assert len(found) == (6 if labels else 3)
