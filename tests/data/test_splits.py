"""Splits by date and cluster, identity of sequences, and the leak report."""

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafold.data.competition import read_entries
from rnafold.data.splits import (
    cluster_sequences,
    count_identical,
    development_split,
    format_leaks,
    report_leaks,
)
from rnafold.errors import InputError
from rnafold.rna import encode_sequence
from rnafold.structure import Entry, Target, whole_chain

BASE = "GGCAUCGUAAGCUUCGAUGCC"


def entry(name: str, sequence: str, year: int | None = 2000) -> Entry:
    cutoff = None if year is None else datetime.date(year, 1, 1)
    target = Target(target_id=name, sequence=sequence, chains=whole_chain(len(sequence)), cutoff=cutoff)
    return Entry(target=target, references=())


def names(entries: Iterable[Entry]) -> list[str]:
    return [one.target.target_id for one in entries]


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


def test_the_development_set_is_younger_and_unlike_all_training_entries() -> None:
    others = ["ACACACACUGUGUGUGACAC", "GGGGCCCCAAAAUUUUGGCC", "UAUAUGCGCGCUAUAUAGCG"]
    entries = [
        entry("a", others[0], 1990),
        entry("b", others[1], 1991),
        entry("young relative", others[0], 2010),
        entry("new", others[2], 2011),
        entry("undated", others[2], None),
    ]
    split = development_split(entries, cutoff=datetime.date(2005, 1, 1))
    assert names(split.train) == ["a", "b"]
    assert names(split.dev) == ["new"]
    assert split.num_dropped == 2
    with pytest.raises(InputError, match="1980"):
        development_split(entries, cutoff=datetime.date(1980, 1, 1))


def test_the_seed_alone_decides_which_development_entries_stay() -> None:
    rng = np.random.default_rng(5)
    entries = [entry(f"e{i}", "".join(rng.choice(list("ACGU"), 20)), 1990 + i) for i in range(20)]
    kept = [names(development_split(entries, fraction=0.5, max_dev=4, seed=seed).dev) for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]
    assert len(kept[0]) == 4


@pytest.mark.parametrize(
    ("sequence", "year", "kind"),
    [
        (BASE, 2005, "identical"),
        (BASE, 2004, "identical"),
        (BASE, 2003, "similar but older"),
        (BASE, None, "identical"),
        ("A" + BASE[1:], 2010, "similar"),
        ("A" * 21, 2010, None),
    ],
    ids=["younger", "same day", "older", "undated", "similar", "unlike"],
)
def test_leaks_are_judged_by_date_and_identity(sequence: str, year: int | None, kind: str | None) -> None:
    leaks = report_leaks([entry("t", sequence, year)], [entry("v", BASE, 2004)])
    assert [leak.kind for leak in leaks] == ([] if kind is None else [kind])
    assert [leak.allowed for leak in leaks] == ([] if kind is None else [kind == "similar but older"])


def test_the_leak_line_counts_targets_and_names_the_first() -> None:
    train = [entry("t1", BASE, 2010), entry("t2", BASE, 1990)]
    line = format_leaks(report_leaks(train, [entry("v", BASE, 2004)]))
    assert "\n" not in line
    assert "LEAK: 1 validation targets" in line and "v = t1 (100%)" in line
    assert format_leaks(report_leaks(train[1:], [entry("v", BASE, 2004)])).startswith("no leak: 1 validation")


def test_of_a_large_set_only_what_may_be_alike_is_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACGU"), length)) for length in rng.integers(30, 400, 400)]
    train = [entry(f"t{k}", text, 2000) for k, text in enumerate(texts)]
    # each 20th of them comes again with its first letter changed, and younger
    alike = [entry(f"v{k}", "CGUA"["ACGU".index(texts[k][0])] + texts[k][1:], 2010) for k in range(0, 400, 20)]
    aligned: list[np.ndarray] = []

    def count(query: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
        aligned.extend(others)
        return count_identical(query, others)

    monkeypatch.setattr("rnafold.data.splits.count_identical", count)
    leaks = report_leaks(train, alike)
    assert sorted((leak.validation_id[1:], leak.train_id[1:]) for leak in leaks) == sorted(
        (str(k), str(k)) for k in range(0, 400, 20)
    )
    assert all(leak.allowed for leak in leaks)
    # the other way round every pair is one
    assert not any(leak.allowed for leak in report_leaks(alike, train))
    # of 2 x 400 x 20 pairs lengths, letters and common 8-mers leave less than a tenth to be aligned
    assert 2 * 20 <= len(aligned) < 1600


@pytest.mark.real_data
def test_the_real_training_set_does_not_leak(real_data: Path) -> None:
    train, *others = (
        read_entries(real_data / f"{name}_sequences.csv", real_data / f"{name}_labels.csv")
        for name in ("train", "validation", "recent")
    )
    leaks = report_leaks(train, others[0] + others[1])
    assert leaks and all(leak.allowed for leak in leaks)
    # the other way round every pair would be one
    assert all(not leak.allowed for leak in report_leaks(others[1], train))
