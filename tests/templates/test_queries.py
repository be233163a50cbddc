"""Training queries of ranker and jury: the right chains, cut where a stem closes, behind the right gate."""

import datetime
import itertools
from dataclasses import replace

import numpy as np
import pytest

from rnafold.errors import InputError
from rnafold.structure import Entry
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.queries import DOMAIN_WEIGHT, Query, cut_domains, select_queries
from tests.pieces.folds import FOLDS, make_entry

TRNA, TEXT, _ = FOLDS["1AAA_A"]
HAIRPIN, HAIRPIN_TEXT, _ = FOLDS["1DDD_A"]
# A stem around two hairpins, and a tail: either the whole of it is cut out or the hairpins are.
LONG_TEXT = "((((" + "(((((((((((....)))))))))))" + ".." + "(((((((((((....)))))))))))" + "))))" + "." * 30
LONG = "GGGG" + "GGCACGCUGCCGAAAGGCAGCGUGCC" + "AA" + "GCCGGUAGACCUUCGGGUCUACCGGC" + "CCCC" + "A" * 30


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    """Ten later chains, a short chain of one of their entries, early ones, a later one of a group that is there."""
    rows = [make_entry(f"{k}LAT_A", LONG, LONG_TEXT, f"201{k}-01-01", group=f"late {k}", seed=k) for k in range(10)]
    rows.append(make_entry("9DUP_A", LONG, LONG_TEXT, "2019-06-01", group="late 9"))
    # Of the entry of a later chain, but another group: the entry's code alone hides it.
    rows.append(make_entry("5LAT_B", HAIRPIN, HAIRPIN_TEXT, "2008-01-01", group="other"))
    rows.append(make_entry("1OLD_A", TRNA, TEXT, "2004-01-01", group="old"))
    rows.append(make_entry("1SML_A", HAIRPIN, HAIRPIN_TEXT, "2004-01-01", group="small"))
    rows.append(make_entry("1ANC_A", TRNA, TEXT, "1999-01-01", group="ancient"))
    return rows


@pytest.fixture(scope="module")
def queries(entries: list[Entry]) -> list[Query]:
    return select_queries(TemplateLibrary.from_entries(entries), entries, seed=0)


def test_the_ranker_takes_the_first_late_chain_of_each_group(queries: list[Query]) -> None:
    common = [query for query in queries if query.common]
    assert [query.entry.target.target_id for query in common] == [f"{k}LAT_A" for k in range(10)]
    assert [query.fold for query in common] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert all(query.whole and query.weight == 1.0 for query in common)


def test_the_jury_takes_early_long_chains_and_domains_too(queries: list[Query]) -> None:
    own = [query for query in queries if not query.common]
    assert [query.entry.target.target_id for query in own if query.whole] == ["1OLD_A"]
    domains = [query for query in own if not query.whole]
    assert {query.entry.group for query in domains} <= {"old", *(f"late {k}" for k in range(10))}
    assert domains and all(query.weight == DOMAIN_WEIGHT for query in domains)


def test_no_fold_holds_part_of_another_folds_chain(queries: list[Query]) -> None:
    fold_of = {query.entry.group: query.fold for query in queries if query.common}
    for query in queries:
        # An early chain that no common one shares its group with: the first fold, by its date.
        assert query.fold == fold_of.get(query.entry.group, 0)


def test_a_query_sees_nothing_of_its_own_entry_group_or_later(queries: list[Query], entries: list[Entry]) -> None:
    library = TemplateLibrary.from_entries(entries)
    for query in queries:
        seen = {library.ids[int(library.chain_entry[c])] for c in np.flatnonzero(library.allowed(query.gate))}
        date = query.entry.target.cutoff
        assert date is not None
        expected = {
            e.target.target_id
            for e in entries
            if (e.target.cutoff or datetime.date.max) < date
            and e.group != query.entry.group
            and e.target.target_id[:4] != query.entry.target.target_id[:4]
        }
        assert seen == expected


def test_domains_are_closed_by_a_stem_and_do_not_overlap() -> None:
    entry = make_entry("1LON_A", LONG, LONG_TEXT, "2015-01-01", seed=5)
    library = TemplateLibrary.from_entries([entry])
    # Closing pairs of the outer stem and of the two hairpins, counted from 1.
    closing = {(1, 62): 0, (5, 30): 0, (33, 58): 0}
    found = set()
    for seed in range(20):
        domains = {}
        for domain in cut_domains(library, [entry], np.random.default_rng(seed)):
            start, stop = (int(x) for x in domain.target.target_id.removeprefix("1LON_A_").split("-"))
            domains[start, stop] = domain
            assert domain.target.sequence == LONG[start - 1 : stop]
            np.testing.assert_array_equal(domain.references[0].c1, entry.references[0].c1[start - 1 : stop])
            # Up to two residues at each end lie outside the closing pair.
            (pair,) = [(i, j) for i, j in closing if 0 <= i - start <= 2 and 0 <= stop - j <= 2]
            closing[pair] += 1
        ranges = sorted(domains)
        assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(ranges))
        found |= set(ranges)
    assert min(closing.values()) > 1, "each is cut out now and then"
    assert len(found) > 3, "the ends differ"


def test_short_chains_and_parts_that_are_unresolved_give_no_domain() -> None:
    short = make_entry("1DDD_A", HAIRPIN, HAIRPIN_TEXT, "2015-01-01")
    entry = make_entry("1LON_A", LONG, LONG_TEXT, "2015-01-01")
    library = TemplateLibrary.from_entries([short, entry])
    rng = np.random.default_rng(0)
    assert cut_domains(library, [short], rng) == []
    hidden = replace(entry.references[0], mask=np.zeros_like(entry.references[0].mask))
    assert cut_domains(library, [replace(entry, references=(hidden,))], rng) == []


def test_every_other_query_of_each_kind_is_taken(entries: list[Entry], queries: list[Query]) -> None:
    half = select_queries(TemplateLibrary.from_entries(entries), entries, seed=0, step=2)
    for common, whole in ((True, True), (False, True), (False, False)):
        everything, some = (
            [q.entry.target.target_id for q in found if (q.common, q.whole) == (common, whole)]
            for found in (queries, half)
        )
        assert some == everything[::2]


def test_short_late_chains_are_mostly_the_jurys() -> None:
    texts = [HAIRPIN_TEXT] * 60 + [LONG_TEXT] * 5
    rows = [
        make_entry(f"{k:04d}_A", LONG if text == LONG_TEXT else HAIRPIN, text, f"20{10 + k // 6}-01-01", group=f"g {k}")
        for k, text in enumerate(texts)
    ]
    queries = select_queries(TemplateLibrary.from_entries(rows), rows, seed=0)
    short = [q for q in queries if q.entry.target.sequence == HAIRPIN]
    assert len(short) == 60 and 5 <= sum(q.common for q in short) <= 25
    begins = [min(str(q.entry.target.cutoff) for q in queries if q.common and q.fold == fold) for fold in range(5)]
    for query in short:
        if not query.common:
            assert query.fold == max((f for f in range(5) if begins[f] <= str(query.entry.target.cutoff)), default=0)


def test_a_domain_without_a_group_is_in_its_chains_fold() -> None:
    # Two chains of one date, on both sides of the border between the first two folds.
    dates = ["2010-01-01", "2011-01-01", "2011-01-01", *(f"201{k}-01-01" for k in range(2, 9))]
    turned = [LONG[k + 1 :] + LONG[: k + 1] for k in range(10)]
    rows = [replace(make_entry(f"{k}LAT_A", turned[k], "." * 92, d), group="") for k, d in enumerate(dates)]
    folded = make_entry("1LAT_A", LONG, LONG_TEXT, "2011-01-01")
    rows[1] = replace(folded, group="")
    queries = select_queries(TemplateLibrary.from_entries(rows), rows, seed=0)
    (chain,) = [q for q in queries if q.entry.target.target_id == "1LAT_A"]
    domains = [q for q in queries if not q.whole]
    assert chain.fold == 0 and domains
    assert {q.fold for q in domains} == {0}


def test_too_few_late_chains_are_refused(entries: list[Entry]) -> None:
    few = [entry for entry in entries if entry.target.target_id[0] in "012"]
    with pytest.raises(InputError, match="found 3, expected at least 5"):
        select_queries(TemplateLibrary.from_entries(few), few, seed=0)
