"""Sequences and labels of both parts, on small files written here and on the real ones where they are."""

import datetime
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rnafold.data.competition import (
    find_competition_files,
    find_file,
    read_entries,
    read_labelled_rows,
    read_labels,
    read_targets,
)
from rnafold.data.stoichiometry import parse_all_sequences
from rnafold.errors import InputError
from rnafold.structure import Chain, Entry, Target

SEQUENCES = "target_id,sequence,temporal_cutoff,description,all_sequences\n"
PART2 = "target_id,sequence,temporal_cutoff,description,stoichiometry,all_sequences\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def spans(chains: Sequence[Chain]) -> list[tuple[str, int, int, int]]:
    return [(chain.chain_id, chain.copy, chain.start, chain.stop) for chain in chains]


def test_letters_outside_acgu_become_n_and_t_becomes_u(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", SEQUENCES + "1A_B,acGT-XNR,2001-02-03,words,\n")
    (target,) = read_targets(path)
    assert target.sequence == "ACGUNNNN"
    assert target.target_id == "1A_B"
    assert target.cutoff == datetime.date(2001, 2, 3)


def test_quoted_line_breaks_and_blank_cells_are_read(tmp_path: Path) -> None:
    text = SEQUENCES + 'R1,ACGU,,"two\nlines","\n>x|Chain A|y\nACGU\n"\nR2,AC,2020-01-01,,\n'
    one, two = read_targets(write(tmp_path / "s.csv", text))
    assert (one.description, one.cutoff) == ("two lines", None)
    assert (two.sequence, two.description) == ("AC", "")


@pytest.mark.parametrize(
    ("stoichiometry", "sequence", "fasta", "expected"),
    [
        ("A:1", "ACGU", "", [("A", 1, 0, 4)]),
        # 6 residues in two copies: 3 each
        ("A:2", "ACGACG", "", [("A", 1, 0, 3), ("A", 2, 3, 6)]),
        # B is named first, so its 2 residues come first; the FASTA lists it second
        (
            "B:1;A:1",
            "GGACU",
            ">1_1|Chain A[auth A]|x|\nACU\n>1_2|Chain B[auth B]|y|\nGG",
            [("B", 1, 0, 2), ("A", 1, 2, 5)],
        ),
        ("AAA:2", "GCGC", ">1_1|Chains A[auth AAA], B[auth BBB]|x|\nGC", [("AAA", 1, 0, 2), ("AAA", 2, 2, 4)]),
        # only A is named in the FASTA; of 7 residues 3 are A's, so two copies of B have 2 each
        ("A:1;B:2", "ACUGGGG", ">1_1|Chain A|x|\nACU", [("A", 1, 0, 3), ("B", 1, 3, 5), ("B", 2, 5, 7)]),
        # no id fits, the texts do
        ("X:1;Y:1", "GGACU", ">1_1|Chain A|x|\nACU\n>1_2|Chain B|y|\nGG", [("X", 1, 0, 2), ("Y", 1, 2, 5)]),
    ],
    ids=["one chain", "equal division", "stoichiometry order", "several letters", "the rest", "by text"],
)
def test_stoichiometry_gives_chains_and_copies(
    tmp_path: Path, stoichiometry: str, sequence: str, fasta: str, expected: list[tuple[str, int, int, int]]
) -> None:
    text = PART2 + f'T,{sequence},2025-01-01,d,{stoichiometry},"{fasta}"\n'
    (target,) = read_targets(write(tmp_path / "s.csv", text))
    assert spans(target.chains) == expected


def test_a_stoichiometry_that_fits_nothing_is_one_chain_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "s.csv", PART2 + "T,ACGUA,2025-01-01,d,A:2,\n")
    (target,) = read_targets(path)
    assert spans(target.chains) == [("A", 1, 0, 5)]
    assert "row 1" in caplog.text and "A:2" in caplog.text


@pytest.mark.parametrize("stoichiometry", ["nan", "A=2", "A:x", "A:0", "A:²", "A:٢", "A:", ":2", "A:99999", "A:2;;B:1"])
def test_an_odd_stoichiometry_costs_its_row_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stoichiometry: str
) -> None:
    rows = f'T,ACGUAC,2025-01-01,d,A:2,">1\nACG"\nU,ACGUAC,2025-01-01,d,{stoichiometry},\n'
    first, second = read_targets(write(tmp_path / "s.csv", PART2 + rows))
    assert len(second.chains) == 1 and second.cutoff == datetime.date(2025, 1, 1)
    assert first.target_id == "T"
    assert "s.csv: row 2, column stoichiometry: " in caplog.text


@pytest.mark.parametrize("date", ["05/27/2022", "soon", "nan", "NaT", "2022-13-01", "٢٠٢٢-٠١-٠١", "2022"])
def test_an_odd_cutoff_costs_its_row_the_templates_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, date: str
) -> None:
    rows = f"T,ACGUA,{date},d,,\nU,ACGUA,2025-01-01,d,,\nV,ACGUA,,d,,\nW,ACGUA,{date},d,,\n"
    targets = read_targets(write(tmp_path / "s.csv", PART2 + rows))
    # no structure was released before the first day of the calendar; a blank cell is another thing
    assert [target.cutoff for target in targets] == [
        datetime.date.min, datetime.date(2025, 1, 1), None, datetime.date.min,
    ]  # fmt: skip
    assert f"row 1, column temporal_cutoff: {date!r}" in caplog.text and "2 such rows in all" in caplog.text


def test_chains_are_told_apart_by_semicolons_or_commas(tmp_path: Path) -> None:
    (target,) = read_targets(write(tmp_path / "s.csv", PART2 + 'T,AACCG,,d,"A:2, B:1",">1|Chain A|\nAA"\n'))
    assert len(target.chains) in (1, 3)
    (target,) = read_targets(write(tmp_path / "s.csv", PART2 + 'T,AAAAG,,d,"A:2, B:1",">1|Chain A|\nAA"\n'))
    assert spans(target.chains) == [("A", 1, 0, 2), ("A", 2, 2, 4), ("B", 1, 4, 5)]


def test_fasta_headers_give_author_ids() -> None:
    records = parse_all_sequences(">9I9W_1|Chains A[auth AAA], B|RNA|\nGG\nCC\n>p|Chain C|x|\nMK")
    assert records == [(("AAA", "B"), "GGCC"), (("C",), "NN")]


LABELS = """ID,resname,resid,x_1,y_1,z_1,x_2,y_2,z_2
1A_B_1,A,1,1.0,2.0,3.0,-1e+18,-1e+18,-1e+18
1A_B_2,C,2,,,,-1e18,-1e18,-1e18
1A_B_3,G,3,4.0,5.0,6.0,1.0,1.0,1.0
1A_B_4,U,4,7.0,8.0,9.0,2.0,2.0,-1e18
R2_1,A,1,0,0,0,1,2,3
R2_2,C,2,1,0,0,1,2,4
R2_3,G,3,2,0,0,1,2,5
"""


@pytest.mark.parametrize("block_bytes", [1, 40, 97, 1 << 20])
def test_labels_mask_empty_and_minus_1e18_for_any_block_size(tmp_path: Path, block_bytes: int) -> None:
    rows = list(read_labelled_rows(write(tmp_path / "l.csv", LABELS), block_bytes=block_bytes))
    assert [row.target_id for row in rows] == ["1A_B", "R2"]
    # conformation 2 of 1A_B has one whole residue (4 lacks z): dropped
    (first,) = rows[0].references
    assert first.residue_mask.tolist() == [True, False, True, True]
    assert first.coords[1].tolist() == [[0.0, 0.0, 0.0]]
    assert np.isfinite(first.coords).all()
    assert len(rows[1].references) == 2
    assert rows[1].references[1].coords[2, 0].tolist() == [1.0, 2.0, 5.0]


def test_chain_and_copy_columns_override_the_stoichiometry(tmp_path: Path) -> None:
    sequences = write(tmp_path / "s.csv", PART2 + "T,ACGUA,2025-01-01,d,A:1,\n")
    body = "".join(
        f"T_{i},{'ACGUA'[i - 1]},{i},{i},0,0,{'B' if i < 3 else 'A'},{2 if i == 5 else 1}\n" for i in range(1, 6)
    )
    labels = write(tmp_path / "l.csv", "ID,resname,resid,x_1,y_1,z_1,chain,copy\n" + body)
    (entry,) = read_entries(sequences, labels)
    assert spans(entry.target.chains) == [("B", 1, 0, 2), ("A", 1, 2, 4), ("A", 2, 4, 5)]


def test_targets_without_a_resolved_reference_are_left_out(tmp_path: Path) -> None:
    sequences = write(tmp_path / "s.csv", SEQUENCES + "A,ACG,2020-01-01,,\nB,ACG,2020-01-01,,\nC,ACG,2020-01-01,,\n")
    rows = [f"{name}_{i},{'ACG'[i - 1]},{i},{x},{x},{x}\n" for name, x in (("A", 1), ("B", "")) for i in (1, 2, 3)]
    labels = write(tmp_path / "l.csv", "ID,resname,resid,x_1,y_1,z_1\n" + "".join(rows))
    assert [entry.target.target_id for entry in read_entries(sequences, labels)] == ["A"]


@pytest.mark.parametrize("target_id", ["R1107", "1SCL_A"])
def test_ids_are_split_at_the_last_underscore(tmp_path: Path, target_id: str) -> None:
    rows = "".join(f"{target_id}_{i},A,{i},{i},0,0\n" for i in (1, 2, 3))
    ((found, _),) = read_labels(write(tmp_path / "l.csv", "ID,resname,resid,x_1,y_1,z_1\n" + rows))
    assert found == target_id


def test_files_are_found_below_any_mount_and_higher_versions_first(tmp_path: Path) -> None:
    mount = tmp_path / "competitions" / "slug"
    (mount / "MSA").mkdir(parents=True)
    for name in ("train_sequences.csv", "train_labels.csv", "train_sequences.v2.csv", "train_labels.v2.csv"):
        (mount / name).write_text("")
    (mount / "test_sequences.csv").write_text("")
    (mount / "sample_submission.csv").write_text("")
    (tmp_path / "sample_submission.csv").write_text("")
    (mount / "MSA" / "R1.MSA.fasta").write_text(">q\nA\n")
    found = find_competition_files(tmp_path)
    assert found.train_sequences == mount / "train_sequences.v2.csv"
    assert found.train_labels == mount / "train_labels.v2.csv"
    # the sample beside the test sequences, not a shallower one
    assert found.sample_submission == mount / "sample_submission.csv"
    assert found.msa_folders == (mount / "MSA",)
    assert found.validation_labels is None
    with pytest.raises(InputError, match=r"validation_labels\*\.csv"):
        find_competition_files(tmp_path, required=["validation_labels"])
    assert find_file(tmp_path, "none.csv", "sample_submission.csv") == tmp_path / "sample_submission.csv"


def assert_split_into_chains(target: Target) -> None:
    """Chains cover the residues once each, and copies of one chain have one text."""
    assert target.chains[0].start == 0 and target.chains[-1].stop == target.length
    assert all(one.stop == two.start for one, two in zip(target.chains, target.chains[1:]))
    by_id: dict[str, set[str]] = {}
    for chain in target.chains:
        by_id.setdefault(chain.chain_id, set()).add(target.sequence[chain.start : chain.stop])
    assert all(len(texts) == 1 for texts in by_id.values())


def test_every_part2_target_of_a_file_is_split_into_its_chains(tmp_path: Path) -> None:
    # the stoichiometries of part 2: one chain, eight and two copies, two entities of which the file names one
    octamer, dimer = "GGACUUCGGUCC", "GCGAAAGC"
    rows = [
        "ONE,GGGAAACCC,2025-01-01,d,A:1,",
        f"EIGHT,{octamer * 8},2025-01-01,d,A:8,",
        f'TWO,{dimer * 2},2025-01-01,d,AAA:2,">2_1|Chains A[auth AAA], B[auth BBB]|x|\n{dimer}"',
        'MIXED,GGACUACU,2025-01-01,d,B:1;A:2,">1_1|Chain A|x|\nACU\n>1_2|Chain B|y|\nGG"',
    ]
    targets = {t.target_id: t for t in read_targets(write(tmp_path / "s.csv", PART2 + "\n".join(rows) + "\n"))}
    for target in targets.values():
        assert_split_into_chains(target)
    assert [len(target.chains) for target in targets.values()] == [1, 8, 2, 3]
    assert spans(targets["MIXED"].chains) == [("B", 1, 0, 2), ("A", 1, 2, 5), ("A", 2, 5, 8)]


@pytest.mark.real_data
def test_every_real_part2_target_is_split_into_its_chains(real_data: Path) -> None:
    targets = {t.target_id: t for t in read_targets(real_data / "part2" / "test_sequences.csv")}
    assert len(targets) == 28
    assert sum(target.length for target in targets.values()) == 9762
    for target in targets.values():
        assert_split_into_chains(target)
    assert spans(targets["9G4P"].chains) == [("B", 1, 0, 33), ("A", 1, 33, 68)]
    assert [len(targets[name].chains) for name in ("9MME", "9WHV", "9I9W", "9ZCC")] == [8, 8, 2, 2]


def test_entries_have_no_nan_and_no_minus_1e18(tmp_path: Path) -> None:
    sequences = write(tmp_path / "s.csv", SEQUENCES + "1A_B,ACGU,2001-01-01,d,\nR2,ACG,2002-01-01,d,\n")
    entries = read_entries(sequences, write(tmp_path / "l.csv", LABELS))
    # 1A_B resolves three residues in its first conformation and only one in its second, which is none
    assert [len(entry.references) for entry in entries] == [1, 2]
    assert_finite(entries)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "count", "most"), [("train", 1499, 1), ("validation", 12, 40), ("recent", 60, 2)])
def test_real_entries_have_no_nan_and_no_minus_1e18(real_data: Path, name: str, count: int, most: int) -> None:
    entries = read_entries(real_data / f"{name}_sequences.csv", real_data / f"{name}_labels.csv")
    assert len(entries) == count
    assert max(len(entry.references) for entry in entries) == most
    assert_finite(entries)


def assert_finite(entries: Sequence[Entry]) -> None:
    """Coordinates are finite and of this world, resolved or not, and as many as residues."""
    for entry in entries:
        for structure in entry.references:
            assert np.isfinite(structure.coords).all() and np.abs(structure.coords).max() < 1e5
            assert len(structure.coords) == entry.target.length


SCRIPT = """
import resource, sys
from rnafold.data.competition import read_labels
rows = sum(len(references[0].coords) for _, references in read_labels(sys.argv[1]))
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_the_labels(tmp_path: Path) -> None:
    body = "".join(f"{i % 1000},A,1,{i % 977}.123,{i % 787}.456,-{i % 577}.789,A,1\n" for i in range(1000))
    lines = [
        "".join(f"T@_{i + 1},A,{i + 1}," + line.split(",", 3)[3] + "\n" for i, line in enumerate(body.splitlines()))
    ]
    peaks = []
    for copies in (500, 1500):
        path = tmp_path / f"{copies}.csv"
        with path.open("w") as handle:
            handle.write("ID,resname,resid,x_1,y_1,z_1,chain,copy\n")
            for number in range(copies):
                handle.write(lines[0].replace("@", str(number)))
        output = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True)
        rows, peak = map(int, output.stdout.split())
        assert rows == copies * 1000
        peaks.append(peak)
    # 20 and 60 MB of text; one block is 4 MB, so peaks differ by noise alone (ru_maxrss in kB)
    assert peaks[1] - peaks[0] < 15_000
