"""Malformed inputs, each answered by one line that names the file and the place."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from rnafold.data.competition import find_competition_files, read_entries, read_labels, read_targets
from rnafold.errors import InputError
from rnafold.submission import COLUMNS, read_sample, read_submission

S = "target_id,sequence,temporal_cutoff\n"
L = "ID,resname,resid,x_1,y_1,z_1\n"
GOOD_LABELS = L + "T_1,A,1,1,0,0\nT_2,C,2,2,0,0\nT_3,G,3,3,0,0\n"
SEQUENCES = [
    ("empty file", "", ["the file is empty"]),
    ("blank lines only", "\n\n \n", ["the file is empty"]),
    ("header only", S, ["a header but no rows"]),
    ("missing column", "target_id,seq\nT,ACG\n", ["column sequence missing", "found target_id, seq"]),
    ("column twice", "target_id,sequence,sequence\nT,A,A\n", ["column sequence", "more than once"]),
    ("digits", S + "T,ACG,\nU,AC7GU,\n", ["row 2", "column sequence", "'7' at position 3"]),
    ("protein", S + "T,MKVLEFQPLE,\n", ["row 1", "looks like a protein"]),
    ("empty sequence", S + "T,,\n", ["row 1, column sequence: empty"]),
    ("empty id", S + ",ACG,\n", ["row 1, column target_id: empty"]),
    ("duplicate id", S + "T,ACG,\nU,ACG,\nT,ACG,\n", ["row 3", "'T' is already in row 1"]),
    ("cut-off row", S + "T,ACG,\nU,AC", ["row 2 has 2 fields, expected 3"]),
    ("open quote", S + 'T,ACG,\nU,"ACG,\nV,ACG,\n', ["row 2", "a quote never closed"]),
]
LABELS = [
    ("empty file", "", ["the file is empty"]),
    ("header only", L, ["a header but no rows"]),
    ("missing column", "ID,resname,resid,x_1,y_1\nT_1,A,1,0,0\n", ["column z_1 missing", "found ID"]),
    ("half a conformation", L.strip() + ",x_2\nT_1,A,1,0,0,0,0\n", ["column y_2, z_2 missing"]),
    ("text in a coordinate", GOOD_LABELS.replace("2,0,0", "2,abc,0"), ["row 2, column y_1", "'abc'"]),
    ("no underscore", L + "T1,A,1,0,0,0\n", ["row 1, column ID", "'T1'"]),
    ("id and resid differ", L + "T_1,A,2,0,0,0\n", ["row 1, column ID", "'T_1' with resid 2"]),
    ("gap in resid", GOOD_LABELS.replace("T_2,C,2", "T_9,C,9"), ["row 2, column resid", "found 9", "expected 2"]),
    ("duplicate row", L + "T_1,A,1,0,0,0\nT_1,A,1,0,0,0\n", ["row 2", "duplicate ID", "expected 2"]),
    ("scattered target", GOOD_LABELS + "U_1,A,1,0,0,0\nT_1,A,1,0,0,0\n", ["row 5, column ID", "two places"]),
    ("cut-off row", GOOD_LABELS + "U_1,A,1,0.5", ["row 4 has 4 fields, expected 6"]),
    ("field too many", GOOD_LABELS + "U_1,A,1,0,0,0,0\n", ["row 4 has 7 fields, expected 6"]),
    ("cut-off target", L + "T_1,A,1,0,0,0\nT_2,C,2,0,0,0\n", ["rows 1 to 2", "has 2 rows, expected 3"]),
    ("not among the sequences", L + "X_1,A,1,0,0,0\n", ["row 1", "'X' is not among the sequences"]),
    ("another letter", GOOD_LABELS.replace("T_2,C", "T_2,G"), ["row 2, column resname", "'G', expected 'C'"]),
    ("nothing resolved", L + "T_1,A,1,,,\nT_2,C,2,,,\nT_3,G,3,,,\n", ["no target has a reference"]),
    ("copy zero", L.strip() + ",chain,copy\nT_1,A,1,0,0,0,A,0\nT_2,C,2,0,0,0,A,1\nT_3,G,3,0,0,0,A,1\n", ["copy: 0"]),
]
ROW = "T_1,A,1" + ",0.5" * 15 + "\n"
HEADER = ",".join(COLUMNS) + "\n"
SUBMISSIONS = [
    ("empty file", "", ["the file is empty"]),
    ("header only", HEADER, ["a header but no rows"]),
    ("missing column", HEADER.replace(",y_4", "") + ROW[4:], ["column y_4 missing"]),
    ("duplicate id", HEADER + ROW + ROW, ["row 2, column ID", "'T_1' is already in row 1"]),
    ("cut off", HEADER + ROW + ROW[:20], ["row 2 has 7 fields, expected 18"]),
    ("resid", HEADER + ROW.replace(",1,", ",one,"), ["row 1, column resid", "'one'"]),
    ("NaN", HEADER + ROW.replace("0.5", "NaN", 1), ["row 1, column x_1", "'NaN'", "1 such cells"]),
    ("text", HEADER + ROW[:-4] + "far\n", ["row 1, column z_5", "'far'"]),
]


def one_line(caught: pytest.ExceptionInfo[InputError], path: Path, words: list[str]) -> None:
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    assert str(path) in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(("text", "words"), [case[1:] for case in SEQUENCES], ids=[case[0] for case in SEQUENCES])
def test_malformed_sequences_give_one_clear_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "sequences.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_targets(path)
    one_line(caught, path, words)


@pytest.mark.parametrize(("text", "words"), [case[1:] for case in LABELS], ids=[case[0] for case in LABELS])
def test_malformed_labels_give_one_clear_line(tmp_path: Path, text: str, words: list[str]) -> None:
    sequences, labels = tmp_path / "sequences.csv", tmp_path / "labels.csv"
    sequences.write_text(S + "T,ACG,\nU,A,\n")
    labels.write_text(text)
    with pytest.raises(InputError) as caught:
        read_entries(sequences, labels)
    one_line(caught, labels, words)


@pytest.mark.parametrize(("text", "words"), [case[1:] for case in SUBMISSIONS], ids=[case[0] for case in SUBMISSIONS])
def test_malformed_submissions_give_one_clear_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_submission(path)
    one_line(caught, path, words)


@pytest.mark.parametrize("read", [read_targets, lambda path: list(read_labels(path)), read_sample, read_submission])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "none.csv"
    with pytest.raises(InputError) as caught:
        read(path)
    one_line(caught, path, ["no such file"])
    with pytest.raises(InputError, match="this is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("read", [read_targets, lambda path: list(read_labels(path))], ids=["sequences", "labels"])
def test_damaged_archives_and_other_encodings_are_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "file.csv.gz"
    body = gzip.compress((GOOD_LABELS + "target_id,sequence" * 3000).encode())
    path.write_bytes(body[: len(body) // 2])
    with pytest.raises(InputError) as caught:
        read(path)
    one_line(caught, path, ["cannot be unpacked"])


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sequences.csv"
    path.write_bytes(S.encode() + b"T,ACG,\xff\n")
    with pytest.raises(InputError) as caught:
        read_targets(path)
    one_line(caught, path, ["is not UTF-8"])


def test_a_folder_without_the_files_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_competition_files(tmp_path, required=["test_sequences", "sample_submission"])
    one_line(caught, tmp_path, ["test_sequences*.csv, sample_submission*.csv"])
    with pytest.raises(InputError, match="no such folder"):
        find_competition_files(tmp_path / "none")
