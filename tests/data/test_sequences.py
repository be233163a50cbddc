"""RNAs as a user writes them: sequences, FASTA files, chains, copies; and what is refused in one line."""

from pathlib import Path

import pytest

from rnafold.data.sequences import read_sequences
from rnafold.errors import InputError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_sequence_is_taken_in_lower_case_with_t() -> None:
    (target,) = read_sequences("ggcatn-u")
    assert (target.target_id, target.sequence) == ("rna", "GGCAUNU")
    assert [(c.chain_id, c.copy, c.start, c.stop) for c in target.chains] == [("A", 1, 0, 7)]


def test_an_ampersand_joins_chains_and_equal_ones_are_copies() -> None:
    (target,) = read_sequences("GGC&AAAA&ggc")
    assert target.sequence == "GGCAAAAGGC"
    assert [(c.chain_id, c.copy, c.start, c.stop) for c in target.chains] == [
        ("A", 1, 0, 3),
        ("B", 1, 3, 7),
        ("A", 2, 7, 10),
    ]


def test_each_record_of_a_fasta_file_is_an_rna_and_a_count_repeats_its_chains(tmp_path: Path) -> None:
    path = write(tmp_path / "some.fasta", ">one first of all\nGG\nCC\n\n>two/2 x2\nAAA\n")
    one, two = read_sequences(path)
    assert (one.target_id, one.sequence) == ("one", "GGCC")
    assert (two.target_id, two.sequence, len(two.chains)) == ("two_2", "AAAAAA", 2)


def test_all_records_of_a_complex_are_chains_of_one_rna(tmp_path: Path) -> None:
    path = write(tmp_path / "ribozyme.fasta", ">enzyme\nGGCC\n>substrate copies=2\nAAA\n")
    (target,) = read_sequences(path, one_complex=True)
    assert (target.target_id, target.sequence) == ("ribozyme", "GGCCAAAAAA")
    assert [(c.chain_id, c.copy) for c in target.chains] == [("A", 1), ("B", 1), ("B", 2)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("none.fasta", "none.fasta: no such file, and no sequence"),
        ("", "no such file, and no sequence"),
        ("GG&&CC", "SEQUENCE: a chain without letters"),
    ],
    ids=["neither file nor sequence", "nothing", "an empty chain"],
)
def test_what_is_no_rna_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_sequences(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (">a\nGGLC\n", "line 1: 'L' at position 3"),
        (">a\n>b\nGG\n", "line 1: a chain without letters"),
        (">a x\nGG\n>a\nCC\n", "1 names stand twice, first 'a'"),
        (">a x0\nGG\n", "line 1: a count of 0"),
        ("", "empty, expected FASTA records"),
    ],
    ids=["a protein's letter", "an empty record", "a name twice", "a count of none", "an empty file"],
)
def test_a_fasta_file_that_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_sequences(write(tmp_path / "some.fasta", text))
