"""The loop judge's training: no loop is told by its own sequence group, and the same seed gives the same bytes."""

import datetime
from dataclasses import replace

import numpy as np
import pytest

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.loop_judge import LOOP_KINDS
from rnafold.assembly.rings import RingTable
from rnafold.assembly.shortlist import LoopIndex
from rnafold.errors import InputError
from rnafold.structure import IntArray
from rnafold.templates import loop_training
from rnafold.templates.library import TemplateLibrary
from rnafold.templates.loop_training import (
    cluster_chains,
    expect_out_of_fold,
    gather_rows,
    leave_out,
    measure_best,
    train_judge,
)
from rnafold.templates.loops import build_fragments
from tests.pieces.folds import FOLDS, make_entry

BEFORE = datetime.date(2022, 1, 1)


@pytest.fixture(scope="module")
def fragments() -> FragmentLibrary:
    """Loops of the folds and of mutants of them, each mutant in the group of its fold."""
    rng = np.random.default_rng(0)
    entries = []
    for name, (sequence, text, date) in FOLDS.items():
        for copy in range(4):
            letters = np.array(list(sequence))
            for place in rng.permutation(len(letters))[: 3 * copy]:
                if text[place] == ".":
                    letters[place] = rng.choice(list("ACGU"))
            entries.append(make_entry(f"{copy}{name[1:]}", "".join(letters), text, date, seed=copy))
    return build_fragments(TemplateLibrary.from_entries(entries, show_progress=False))


@pytest.fixture(scope="module")
def clusters(fragments: FragmentLibrary) -> IntArray:
    return cluster_chains(fragments)


def test_chains_of_one_group_are_one_cluster(fragments: FragmentLibrary, clusters: IntArray) -> None:
    of: dict[str, set[int]] = {}
    for chain, cluster in zip(fragments.chains, clusters, strict=True):
        of.setdefault(chain.group, set()).add(int(cluster))
    assert all(len(found) == 1 for found in of.values())
    assert 1 < len(set(clusters.tolist())) < len(clusters)


def test_no_query_sees_a_loop_of_its_own_cluster(
    fragments: FragmentLibrary, clusters: IntArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[int], int]] = []
    original = loop_training._gather

    def watch(index: LoopIndex, query: RingTable, number: int, cluster: int) -> object:
        seen.append((set(clusters[index.table.chain].tolist()), int(clusters[query.chain[0]])))
        return original(index, query, number, cluster)

    monkeypatch.setattr(loop_training, "_gather", watch)
    for kind in ("hairpin", "linker"):
        gather_rows(fragments, kind, clusters)
    assert len(seen) > 20 and all(own not in others for others, own in seen)


def test_a_loop_is_no_distance_from_itself(fragments: FragmentLibrary) -> None:
    # every chain a cluster of its own, whatever its group: mutants have the fold's very loops
    rows = gather_rows(fragments, "hairpin", np.arange(len(fragments.chains)), with_coords=True)
    assert len(rows.ranges) == len(rows.coords) == rows.query.max() + 1
    assert (rows.deviation >= 0).all() and np.isfinite(rows.features).all()
    best = measure_best(rows, np.log(rows.deviation + 0.3), certainty=0.05)
    np.testing.assert_allclose(best.min(), min(rows.deviation[part].min() for part in rows.ranges), atol=1e-6)


def test_trees_out_of_fold_saw_no_query_of_the_cluster(fragments: FragmentLibrary, clusters: IntArray) -> None:
    rows = gather_rows(fragments, "hairpin", clusters)
    spoiled = rows.deviation.copy()
    own = rows.cluster == rows.cluster[0]
    spoiled[own] += 50.0
    other = replace(rows, deviation=spoiled)
    expected, again = (expect_out_of_fold(one, "hairpin") for one in (rows, other))
    np.testing.assert_array_equal(expected[own], again[own])


def test_the_same_seed_trains_the_same_judge(fragments: FragmentLibrary, clusters: IntArray) -> None:
    judges = []
    for _ in range(2):
        rows = dict.fromkeys(LOOP_KINDS, gather_rows(fragments, "hairpin", clusters, with_coords=True))
        judges.append(train_judge(rows, BEFORE))
    assert judges[0].to_json() == judges[1].to_json()
    without = leave_out(judges[0], rows, {0})
    assert without.trained_before == BEFORE and set(without.models) == set(LOOP_KINDS)


def test_a_library_without_a_kind_of_loop_is_refused(fragments: FragmentLibrary, clusters: IntArray) -> None:
    # the junction of 1AAA_A and its mutants has no like in another group
    with pytest.raises(InputError, match="multiloop: found none"):
        gather_rows(fragments, "multiloop", clusters)
