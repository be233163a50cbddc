"""Alignments: reading, weights, profile, covariation, cache."""

from pathlib import Path

import numpy as np
import pytest

from rnafold.errors import InputError
from rnafold.features.msa import ProfileCache, build_profile, covariation, find_msa, read_msa, weigh_rows
from rnafold.structure import Msa, Target, whole_chain


def target(sequence: str, name: str = "T") -> Target:
    return Target(target_id=name, sequence=sequence, chains=whole_chain(len(sequence)))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "T.MSA.fasta"
    path.write_text(text)
    return path


def msa(*rows: str) -> Msa:
    return Msa(tokens=np.array([["ACGUN-".index(letter) for letter in row] for row in rows], dtype=np.int8))


def test_insertions_are_dropped_and_t_reads_as_u(tmp_path: Path) -> None:
    path = write(tmp_path, ">query\nACGT\n>two\nAcc-G\nTn.\n>three\nNRGU\n")
    found = read_msa(path, target("ACGU"))
    # row 2: A (cc dropped) - G T (n and . dropped); R is no letter of four
    assert found.tokens.tolist() == [[0, 1, 2, 3], [0, 5, 2, 3], [4, 4, 2, 3]]
    assert read_msa(path, target("ACGU"), max_rows=2).tokens.shape == (2, 4)


def test_an_unknown_letter_of_the_target_may_be_anything_in_the_query(tmp_path: Path) -> None:
    assert read_msa(write(tmp_path, ">q\nACGU\n"), target("ANGU")).tokens.shape == (1, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("ACGU\n", "expected '>'"),
        (">q\nACG\n", "record 1 .* has 3 letters, expected 4"),
        (">q\nACGG\n", "column 4: 'G', expected 'U'"),
        (">q\nACGU\n>cut\nAC\n", r"record 2 \('cut'\) has 2 columns, expected 4"),
    ],
)
def test_alignments_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_msa(write(tmp_path, text), target("ACGU"))
    assert "\n" not in str(caught.value)


def test_rare_rows_weigh_more() -> None:
    # column 1: A thrice (1/3 each over 2 letters = 1/6), C once (1/2); column 2 the same with G and U
    weights = weigh_rows(msa("AG", "AG", "AG", "CU"))
    assert np.allclose(weights, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_profile_rows_are_weighted_frequencies() -> None:
    profile = build_profile(msa("AG", "AG", "AG", "CU"))
    assert np.allclose(profile, [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0]])
    assert np.allclose(build_profile(msa("AG", "A-", "NG")).sum(axis=1), 1)


def test_covariation_finds_the_columns_that_change_together() -> None:
    rng = np.random.default_rng(0)
    partner = {"A": "U", "U": "A", "G": "C", "C": "G"}
    rows = []
    for _ in range(200):
        row = list(rng.choice(list("ACGU"), 12))
        row[10], row[9] = partner[row[1]], partner[row[2]]
        rows.append("".join(row))
    found = covariation(msa(*rows))
    assert found.dtype == np.float32 and (found == found.T).all() and (np.diag(found) == 0).all()
    best = np.argsort(-np.triu(found), axis=None)[:2]
    assert {divmod(int(index), 12) for index in best} == {(1, 10), (2, 9)}


def test_one_row_has_no_covariation() -> None:
    assert covariation(msa("ACGU")).tolist() == np.zeros((4, 4)).tolist()


def test_both_folder_layouts_are_found(tmp_path: Path) -> None:
    (tmp_path / "MSA").mkdir()
    (tmp_path / "MSA" / "A.MSA.fasta").write_text(">q\nA\n")
    (tmp_path / "B.MSA.fasta").write_text(">q\nA\n")
    assert find_msa([tmp_path], "A") == tmp_path / "MSA" / "A.MSA.fasta"
    assert find_msa([tmp_path / "none", tmp_path], "B") == tmp_path / "B.MSA.fasta"
    assert find_msa([tmp_path], "C") is None


def test_profiles_are_kept_on_disk_and_made_again_when_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "MSA"
    folder.mkdir()
    (folder / "T.MSA.fasta").write_text(">q\nACGU\n>r\nACGA\n")
    cache = ProfileCache(tmp_path / "cache", [folder])
    first = cache.compute([target("ACGU"), target("AC", "without")])
    assert list(first) == ["T"] and first["T"].shape == (4, 6)
    (stored,) = (tmp_path / "cache").iterdir()
    before = stored.stat().st_mtime_ns
    assert np.array_equal(cache.compute([target("ACGU")])["T"], first["T"])
    assert stored.stat().st_mtime_ns == before
    stored.write_bytes(b"damaged")
    assert np.array_equal(cache.compute([target("ACGU")])["T"], first["T"])
