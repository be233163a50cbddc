"""Users' structure files, written by hand here: names, chains, altlocs, gaps, models, dates."""

import datetime
import gzip
from pathlib import Path

import numpy as np
import pytest

from rnafold.data.mmcif import read_structure_file
from rnafold.data.structures.chains import place_residues
from rnafold.data.structures.residues import PARENT_OF, read_letter
from rnafold.errors import InputError

ATOM_COLUMNS = """
group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id
auth_asym_id auth_seq_id Cartn_x Cartn_y Cartn_z occupancy pdbx_PDB_model_num
"""
# label asym A = author R: RNA of 5 residues, 3 unresolved; B = author P: protein; C = author D: DNA; D: a GTP ligand
ATOMS = """
ATOM 1 C "C1'" . G A 1 1 R 10 1.0 0.0 0.0 1.0 1
ATOM 2 P P . PSU A 1 2 R 11 9.0 9.0 9.0 1.0 1
HETATM 3 C "C1'" A PSU A 1 2 R 11 2.0 0.0 0.0 0.4 1
HETATM 4 C "C1'" B PSU A 1 2 R 11 2.5 0.0 0.0 0.6 1
ATOM 5 C "C1'" . XYZ A 1 4 R 13 4.0 0.0 0.0 1.0 1
ATOM 6 C "C1'" . Q1Q A 1 5 R 14 5.0 0.0 0.0 1.0 1
ATOM 7 C CA . ALA B 2 1 P 1 0.0 0.0 0.0 1.0 1
ATOM 8 C "C1'" . DA C 3 1 D 1 0.0 0.0 0.0 1.0 1
HETATM 9 C "C1'" . GTP D 4 . R 101 50.0 0.0 0.0 1.0 1
ATOM 10 C "C1'" . G A 1 1 R 10 1.5 0.0 0.0 1.0 2
ATOM 11 C "C1'" . PSU A 1 2 R 11 2.7 0.0 0.0 1.0 2
ATOM 12 C "C1'" . U A 1 3 R 12 3.5 0.0 0.0 1.0 2
"""
SEQUENCE = """loop_
_pdbx_poly_seq_scheme.asym_id
_pdbx_poly_seq_scheme.entity_id
_pdbx_poly_seq_scheme.seq_id
_pdbx_poly_seq_scheme.mon_id
A 1 1 G
A 1 2 PSU
A 1 3 U
A 1 4 XYZ
A 1 5 Q1Q
B 2 1 ALA
C 3 1 DA
"""
TYPES = """loop_
_entity_poly.entity_id
_entity_poly.type
1 polyribonucleotide
2 'polypeptide(L)'
3 polydeoxyribonucleotide
"""
POLY_SEQ = """loop_
_entity_poly_seq.entity_id
_entity_poly_seq.num
_entity_poly_seq.mon_id
1 1 G
1 2 PSU
1 3 U
1 4 A
1 5 A
"""
EXTRA = """loop_
_chem_comp.id
_chem_comp.mon_nstd_parent_comp_id
XYZ C
Q1Q ?
G .
loop_
_pdbx_audit_revision_history.ordinal
_pdbx_audit_revision_history.revision_date
1 2019-05-01
2 2023-01-01
"""


def make_cif(*parts: str) -> str:
    header = "loop_\n" + "\n".join(f"_atom_site.{name}" for name in ATOM_COLUMNS.split())
    return "data_TEST\n" + "#\n".join([*parts, header + ATOMS])


def test_mmcif_keeps_the_whole_sequence_with_author_chain_ids(tmp_path: Path) -> None:
    path = tmp_path / "1abc.cif"
    path.write_text(make_cif(SEQUENCE, TYPES, EXTRA))
    (entry,) = read_structure_file(path)
    # G; PSU -> U; U unresolved; XYZ -> C as the file states; Q1Q unknown -> N
    assert entry.target.sequence == "GUUCN"
    assert entry.target.target_id == "1abc_R"
    assert entry.target.chains[0].chain_id == "R"
    assert entry.target.cutoff == datetime.date(2019, 5, 1)
    (structure,) = entry.references
    assert structure.residue_mask.tolist() == [True, True, False, True, True]
    # the alternate location of occupancy 0.6, not the first
    assert structure.coords[:, 0, 0].tolist() == [1.0, 2.5, 0.0, 4.0, 5.0]


def test_all_models_give_several_references(tmp_path: Path) -> None:
    path = tmp_path / "nmr.cif"
    path.write_text(make_cif(SEQUENCE, TYPES))
    (entry,) = read_structure_file(path, all_models=True)
    assert [reference.coords[0, 0, 0] for reference in entry.references] == [1.0, 1.5]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((SEQUENCE,), "GUUNN"),
        (
            (POLY_SEQ,),
            "GUUAA",
        ),
        # only atoms: residue 3 is seen in the second model alone
        ((), "GUUNN"),
    ],
    ids=["no types", "entity_poly_seq", "atoms alone"],
)
def test_mmcif_without_some_categories_still_reads(tmp_path: Path, parts: tuple[str, ...], expected: str) -> None:
    path = tmp_path / "x.cif.gz"
    path.write_bytes(gzip.compress(make_cif(*parts).encode()))
    (entry,) = read_structure_file(path)
    assert entry.target.sequence == expected
    assert entry.target.cutoff is None


def test_a_chain_that_is_not_there_is_named_with_those_found(tmp_path: Path) -> None:
    path = tmp_path / "1abc.cif"
    path.write_text(make_cif(SEQUENCE, TYPES))
    assert len(read_structure_file(path, ["R"])) == 1
    with pytest.raises(InputError, match="no RNA chain P; found R"):
        read_structure_file(path, ["P"])


def pdb_atom(
    serial: int,
    name: str,
    alt: str,
    residue: str,
    chain: str,
    number: int,
    x: float,
    occupancy: float = 1.0,
    record: str = "ATOM",
) -> str:
    return (
        f"{record:<6}{serial:>5} {name:^4}{alt}{residue:>3} {chain}{number:>4}    "
        f"{x:8.3f}{0.0:8.3f}{0.0:8.3f}{occupancy:6.2f}{10.0:6.2f}          {'C':>2}"
    )


PDB = "\n".join(
    [
        "HEADER    RNA                                     01-JAN-98   1XYZ",
        "REVDAT   2   24-FEB-09 1XYZ    1       VERSN",
        "REVDAT   1   13-JUL-99 1XYZ    0",
        "SEQRES   1 A    6    G    C  1MA    U    A    G",
        "SEQRES   1 B    3  DA  DC  DG",
        "MODRES 1XYZ 1MA A    7    A",
        pdb_atom(1, "C1'", " ", "G", "A", 5, 1.0),
        pdb_atom(2, "C1'", "A", "C", "A", 6, 2.0, 0.3),
        pdb_atom(3, "C1'", "B", "C", "A", 6, 2.5, 0.7),
        pdb_atom(4, "C1'", " ", "1MA", "A", 7, 3.0, record="HETATM"),
        pdb_atom(5, "C1*", " ", "A", "A", 9, 5.0),
        pdb_atom(6, "C1'", " ", "DA", "B", 1, 0.0),
        pdb_atom(7, "C1'", " ", "SAM", "A", 90, 70.0, record="HETATM"),
        "END",
    ]
)


def test_pdb_is_placed_on_seqres_with_gaps_masked(tmp_path: Path) -> None:
    path = tmp_path / "1xyz.pdb"
    path.write_text(PDB)
    (entry,) = read_structure_file(path)
    # 1MA reads as A; numbers 5-7 are residues 1-3, 8 is missing, 9 is residue 5; residue 6 is missing at the end
    assert entry.target.sequence == "GCAUAG"
    assert entry.target.target_id == "1xyz_A"
    assert entry.references[0].residue_mask.tolist() == [True, True, True, False, True, False]
    assert entry.references[0].coords[:, 0, 0].tolist() == [1.0, 2.5, 3.0, 0.0, 5.0, 0.0]
    assert entry.target.cutoff == datetime.date(1999, 7, 13)


def test_runs_of_residues_go_where_their_numbers_say() -> None:
    # the second run "A" fits at index 1, 2 and 3; numbers 1 and 4 put it at 3
    assert place_residues(list("GAAA"), ["G", "A"], [1, 4]) == [0, 3]
    assert place_residues(list("GAAA"), ["G", "C"], [1, 4]) is None


@pytest.mark.parametrize(
    ("name", "letter"),
    [("PSU", "U"), ("1MA", "A"), ("5MC", "C"), ("OMG", "G"), ("H2U", "U"), ("U", "U"), ("DT", "U"), ("ZZZ", "N")],
)
def test_residue_names_read_as_their_parents(name: str, letter: str) -> None:
    assert read_letter(name) == letter


def test_what_the_file_states_comes_before_the_table() -> None:
    assert read_letter("ZZZ", {"ZZZ": "PSU"}) == "U"
    assert len(PARENT_OF) >= 60 and set(PARENT_OF.values()) == set("ACGU")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "x", "expected .cif"),
        ("a.cif", "", "the file is empty"),
        ("a.cif", "data_X\n_entry.id X\n", "no _atom_site rows"),
        ("a.cif", "data_X\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1 2.0\n", "no Cartn_y"),
        ("a.cif", "data_X\n_entry.id 'X\n", "not a complete mmCIF file"),
        ("a.pdb", pdb_atom(1, "C1'", " ", "G", "A", 1, 1.0) + "\nATO", "the last line is 'ATO', cut off"),
        ("a.pdb", "HEADER\nEND\n", "no ATOM rows"),
        ("a.pdb", "\n".join(pdb_atom(i, "C1'", " ", "DA", "B", i, float(i)) for i in range(1, 6)), "no RNA chain"),
    ],
    ids=[
        "suffix",
        "empty",
        "no atoms in cif",
        "no y in cif",
        "open quote in cif",
        "cut off",
        "no atoms in pdb",
        "only DNA",
    ],
)
def test_files_without_rna_are_refused_in_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_structure_file(path)
    assert "\n" not in str(caught.value)


def test_coordinates_are_finite_where_masked_in(tmp_path: Path) -> None:
    path = tmp_path / "1abc.cif"
    path.write_text(make_cif(SEQUENCE, TYPES))
    (entry,) = read_structure_file(path)
    assert np.isfinite(entry.references[0].coords).all()
