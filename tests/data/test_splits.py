"""Splits by date and cluster, identity of sequences, and the leak report."""

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import edlib
import numpy as np
import pytest

from rnafold.data.competition import read_entries
from rnafold.data.splits import (
    development_split,
    format_leaks,
    report_leaks,
)
from rnafold.errors import InputError
from rnafold.structure import Entry, Target, whole_chain

BASE = "GGCAUCGUAAGCUUCGAUGCC"


def entry(name: str, sequence: str, year: int | None = 2000) -> Entry:
    cutoff = None if year is None else datetime.date(year, 1, 1)
    target = Target(target_id=name, sequence=sequence, chains=whole_chain(len(sequence)), cutoff=cutoff)
    return Entry(target=target, references=())


def names(entries: Iterable[Entry]) -> list[str]:
    return [one.target.target_id for one in entries]


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
    aligned: list[int] = []
    align = edlib.align

    def compare(query: str, target: str, **options: Any) -> dict[str, Any]:
        aligned.append(len(target))
        result: dict[str, Any] = align(query, target, **options)
        return result

    monkeypatch.setattr("rnafold.data.identity.edlib.align", compare)
    leaks = report_leaks(train, alike)
    assert sorted((leak.validation_id[1:], leak.train_id[1:]) for leak in leaks) == sorted(
        (str(k), str(k)) for k in range(0, 400, 20)
    )
    assert all(leak.allowed for leak in leaks)
    # the other way round every pair is one
    assert not any(leak.allowed for leak in report_leaks(alike, train))
    # of 2 x 400 x 20 pairs lengths, letters and common k-mers leave less than a tenth to be compared
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
