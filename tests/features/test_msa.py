"""Alignments: reading, weights, profile, covariation, cache."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from rnafold.config.settings import DataConfig
from rnafold.errors import InputError
from rnafold.features.alignment_files import find_msa
from rnafold.features.msa import ProfileCache, build_profile, covariation, read_msa, weigh_rows
from rnafold.features.source import FeatureSource
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


@pytest.mark.parametrize(
    "text",
    [
        "#A3M#\n# made today\n>q\nACGU\n>r\nAC-A\n",
        ">q\nACGU\n>r\nac-a\n",
        ">q\nACGU\n>r\nAC.A\n",
        ">q\nACGU\n>r\nac.a\n",
        ">q\r\nACGU\r\n>r\r\nAC-A\r\n",
        ">q\rACGU\r>r\rAC-A\r",
        "\n>q\nAC\nGU\n\n>r\nAC\n-A\n",
        ">q\nacgt\n>r\nACgg-A\n",
    ],
    ids=["comments", "lower case", "dots", "both", "CR LF", "CR", "blank lines", "insertions"],
)
def test_alignments_read_alike_whatever_program_wrote_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "T.MSA.fasta"
    path.write_bytes(text.encode())
    assert read_msa(path, target("ACGU")).tokens.tolist() == [[0, 1, 2, 3], [0, 1, 5, 0]]


STOCKHOLM = """# STOCKHOLM 1.0
#=GF ID  Hairpin
#=GC SS_cons  <...>.
{rows}
//
"""


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (".afa", ">q\nAC.G-U\n>r\nAC-.uA\n"),
        (".sto", STOCKHOLM.format(rows="q  ACG.-U\nr  AC-u.A")),
        (".sto", STOCKHOLM.format(rows="r  AC-u.A\nq  ACG.-U")),
        (".stk", STOCKHOLM.format(rows="q  AC\nr  AC\n\nq  G..U\nr  -u.A")),
        (".aln", "CLUSTAL O(1.2.4) multiple sequence alignment\n\nq      AC-G-U 4\nr      AC--UA 4\n       **   *\n"),
        (".aln", "CLUSTAL W (1.83)\r\n\r\nr      AC--UA\r\nq      AC-G-U\r\n"),
    ],
    ids=["aligned FASTA", "Stockholm", "query last", "interleaved", "Clustal", "Clustal, CR LF"],
)
def test_columns_are_the_querys_where_it_has_gaps(tmp_path: Path, ending: str, text: str) -> None:
    for packed, write_whole in ((ending, Path.write_bytes), (f"{ending}.gz", write_gz)):
        path = tmp_path / f"T{packed}"
        write_whole(path, text.encode())
        assert find_msa([tmp_path], "T") == path
        tokens = read_msa(path, target("ACGU")).tokens
        assert tokens[0].tolist() == [0, 1, 2, 3] and [0, 1, 5, 0] in tokens.tolist() and len(tokens) == 2
        path.unlink()


def write_gz(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# STOCKHOLM 1.0\nq ACGU\n//\n",
        "# STOCKHOLM 1.0\nq ACGUACGUACGU\nr AC\n//\n",
        "# STOCKHOLM 1.0\n//\n",
        "CLUSTAL W\n\nq GGGG\n",
        ">q\nACGU\n>r\nAC",
        ">q\nGGGG\n",
        "\x00\x01",
    ],
)
def test_features_leave_an_unreadable_alignment_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    whole = target("ACGUACGUACGU")
    (tmp_path / "T.MSA.fasta").write_text(text)
    features = FeatureSource(DataConfig(cache=str(tmp_path / "cache"), jobs=1), [tmp_path])
    plain = FeatureSource(DataConfig(cache=str(tmp_path / "other"), jobs=1))
    for source in (features, plain):
        source.prepare([whole])
    assert caplog.text.count("an alignment is left out") == 1 and "T.MSA.fasta" in caplog.text
    assert features.alignment(whole) == (None, None)
    np.testing.assert_array_equal(features.pairings["T"].probabilities, plain.pairings["T"].probabilities)
    # as training reads a crop, and once more from the cache
    for _ in range(2):
        window = features.window(whole, 2, 9)
        assert window.profile is None and window.covariation is None
        assert window.pairs.pairing.probabilities.shape == (7, 7)


@pytest.mark.parametrize("name", ["../T", "a/T", "..", "/T", "a\\T"])
def test_an_id_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "msa" / "a").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "msa", tmp_path / "msa" / "a"):
        (place / "T.MSA.fasta").write_text(">q\nA\n")
    assert find_msa([tmp_path / "msa"], name) is None
    assert find_msa([tmp_path / "msa"], "T") is not None
