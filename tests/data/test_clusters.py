"""Identity of sequences by alignment and by edit distance, and clusters of them."""

from pathlib import Path

import edlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold.data import clusters
from rnafold.data.clusters import cluster_sequences, find_relatives
from rnafold.data.identity import SKETCH, IdentityIndex, count_identical, count_needed, find_identity, sketch
from rnafold.rna import encode_sequence

BASE = "GGCAUCGUAAGCUUCGAUGCC"


def identical(one: str, two: str) -> int:
    return int(count_identical(encode_sequence(one), [encode_sequence(two)])[0])


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("ACGU", "ACGU", 4),
        ("ACGU", "ACG", 3),
        # one deletion: all five of the shorter
        ("ACGAUC", "ACAUC", 5),
        ("AAAA", "CCCC", 0),
        # N matches nothing, not even N
        ("ANGU", "ANGU", 3),
        ("", "ACG", 0),
    ],
)
def test_identical_letters_of_the_best_alignment(one: str, two: str, expected: int) -> None:
    assert identical(one, two) == expected


def align_slowly(one: str, two: str) -> tuple[int, int]:
    """(score, identities) by the textbook recursion."""
    best = {(0, 0): (0, 0)}
    for i in range(len(one) + 1):
        for j in range(len(two) + 1):
            options = [best[0, 0]] if i == j == 0 else []
            if i:
                options.append((best[i - 1, j][0] - 2, best[i - 1, j][1]))
            if j:
                options.append((best[i, j - 1][0] - 2, best[i, j - 1][1]))
            if i and j:
                same = one[i - 1] == two[j - 1]
                score, count = best[i - 1, j - 1]
                options.append((score + (2 if same else -1), count + same))
            best[i, j] = max(options)
    return best[len(one), len(two)]


@settings(max_examples=80, deadline=None)
@given(
    one=st.text("ACGU", max_size=14), others=st.lists(st.text("ACGU", min_size=1, max_size=14), min_size=1, max_size=4)
)
def test_batched_alignment_equals_the_textbook_recursion(one: str, others: list[str]) -> None:
    found = count_identical(encode_sequence(one), [encode_sequence(other) for other in others])
    assert found.tolist() == [align_slowly(one, other)[1] for other in others]


@settings(max_examples=200, deadline=None)
@given(one=st.text("ACGUN", min_size=1, max_size=30), other=st.text("ACGUN", min_size=1, max_size=30))
def test_the_best_alignments_are_those_of_the_least_edit_distance(one: str, other: str) -> None:
    distance = edlib.align(one.replace("N", "X"), other.replace("N", "Y"))["editDistance"]
    same, total, longer = identical(one, other), len(one) + len(other), max(len(one), len(other))
    assert longer - distance <= same <= (total - distance) / 2


@settings(max_examples=200, deadline=None)
@given(
    one=st.text("ACN", min_size=1, max_size=16),
    other=st.text("ACN", min_size=1, max_size=16),
    identity=st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_a_pair_is_found_exactly_where_the_alignment_says_so(one: str, other: str, identity: float) -> None:
    share = identical(one, other) / max(len(one), len(other))
    found = find_identity(one, other, identity)
    assert (found is not None) == (share >= identity)
    assert found is None or identity <= found <= share


def test_the_letters_needed_follow_the_quotient_not_the_product() -> None:
    # 0.8 x 15 is 12.000000000000002 in floating point, but 12 / 15 >= 0.8
    assert [count_needed(15, 3, 0.8), count_needed(10, 10, 0.8), count_needed(11, 2, 0.8)] == [12, 8, 9]


def test_clusters_link_sequences_of_enough_identity() -> None:
    # 21 letters: one substitution is 20/21 = 0.95, five are 16/21 = 0.76
    near = "A" + BASE[1:]
    far = BASE[:8] + "CCGAU" + BASE[13:]
    assert identical(BASE, near) == 20
    assert cluster_sequences([BASE, "A" * 21, near, BASE], 0.9).tolist() == [0, 1, 0, 0]
    assert cluster_sequences([BASE, far], 0.9).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"identity 1\.5"):
        cluster_sequences([BASE], 1.5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), identity=st.sampled_from([0.7, 0.8, 0.9]))
def test_no_two_clusters_hold_a_similar_pair(seed: int, identity: float) -> None:
    rng = np.random.default_rng(seed)
    roots = ["".join(rng.choice(list("ACGU"), 24)) for _ in range(3)]
    texts = []
    for root in roots * 3:
        letters = list(root)
        for place in rng.integers(0, 24, 3):
            letters[place] = rng.choice(list("ACGU"))
        texts.append("".join(letters))
    labels = cluster_sequences(texts, identity)
    for i, one in enumerate(texts):
        for j in range(i):
            if labels[i] != labels[j]:
                assert identical(one, texts[j]) < identity * 24


def test_long_sequences_are_compared_by_kmers_and_still_found() -> None:
    rng = np.random.default_rng(1)
    long = rng.choice(list("ACGU"), 3500)
    changed = long.copy()
    changed[rng.choice(3500, 175, replace=False)] = "A"  # at most 5 % differ
    other = rng.choice(list("ACGU"), 3500)
    labels = cluster_sequences(["".join(long), "".join(changed), "".join(other)], 0.9)
    assert labels.tolist() == [0, 0, 1]


def mutate(text: str, share: float, seed: int) -> str:
    """A copy in which `share` of the letters are drawn anew and one in fifty is left out."""
    rng = np.random.default_rng(seed)
    letters = np.array(list(text))
    letters[rng.random(len(letters)) < share] = rng.choice(list("ACGU"))
    return "".join(letters[rng.random(len(letters)) > 0.02])


@pytest.mark.parametrize("length", [210, 700, 2900, 6000])
def test_relatives_of_any_length_are_found_and_strangers_are_not(length: int) -> None:
    rng = np.random.default_rng(length)
    one, other = ("".join(rng.choice(list("ACGU"), length)) for _ in range(2))
    texts = [one, other, mutate(one, 0.12, 1), mutate(one, 0.12, 2), mutate(other, 0.05, 3), one[: length // 2]]
    assert cluster_sequences(texts).tolist() == [0, 1, 0, 0, 1, 2]


def test_a_chain_in_a_longer_one_is_as_identical_as_its_share_of_the_length() -> None:
    whole = "".join(np.random.default_rng(3).choice(list("ACGU"), 4000))
    assert find_identity(whole, whole[:3200], 0.8) == 0.8
    assert find_identity(whole, whole[:3199], 0.8) is None
    assert find_relatives([whole[400:3700]], [whole[::-1], whole]) == [[(1, 0.825)]]


def test_a_sketch_is_a_sample_that_two_relatives_share() -> None:
    long = "".join(np.random.default_rng(4).choice(list("ACGU"), 20_000))
    codes = [set(sketch(encode_sequence(text)).tolist()) for text in (long, long[2000:], long[:300])]
    assert 0.8 * SKETCH < len(codes[0]) < 1.2 * SKETCH
    # nine tenths of the sample lie in the part that both have; the shorter one samples a little more densely
    assert 0.8 * SKETCH < len(codes[0] & codes[1]) < SKETCH
    assert len(codes[2]) == 289, "every k-mer of a short chain"


def test_repeats_have_few_kmers_and_are_found_all_the_same() -> None:
    assert cluster_sequences(["CAG" * 100, "CAG" * 95, "CUU" * 100]).tolist() == [0, 0, 1]


def test_a_result_is_kept_under_its_content_and_serves_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [BASE, "A" * 21, "A" + BASE[1:], BASE]
    assert cluster_sequences(texts, 0.9, tmp_path).tolist() == [0, 1, 0, 0]
    assert find_relatives([BASE], texts[1:3], 0.9, tmp_path) == [[(1, 20 / 21)]]
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(clusters, "IdentityIndex", None)
    assert cluster_sequences(texts[::-1], 0.9, tmp_path).tolist() == [0, 0, 1, 0]
    assert find_relatives([BASE], texts[1:3], 0.9, tmp_path) == [[(1, 20 / 21)]]
    monkeypatch.setattr(clusters, "IdentityIndex", IdentityIndex)
    next(tmp_path.glob("clusters-*")).write_text("[0, ")
    assert cluster_sequences(texts, 0.9, tmp_path).tolist() == [0, 1, 0, 0]
    (tmp_path / "file").write_text("")
    assert cluster_sequences(texts, 0.9, tmp_path / "file").tolist() == [0, 1, 0, 0]
    assert "are not kept" in caplog.text
