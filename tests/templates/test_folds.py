"""Fold models: each chain is rated by models that did not see its sequence group."""

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold.assembly.loop_features import LOOP_FEATURES
from rnafold.assembly.loop_judge import LOOP_KINDS, LoopJudge, LoopModel
from rnafold.errors import InputError
from rnafold.forest import Forest
from rnafold.structure import Entry, Target, whole_chain
from rnafold.templates.folds import load_folds, save_folds
from rnafold.templates.jury import JURY_NAMES
from rnafold.templates.ranker import FEATURE_NAMES, Ranker, train_ranker

BEGINS = (datetime.date(2010, 1, 1), datetime.date(2015, 6, 1))


def make_model(names: tuple[str, ...], level: float) -> Ranker:
    features = np.random.default_rng(0).normal(size=(200, len(names)))
    tm = np.full(200, level)
    return train_ranker(features, tm, np.arange(200) // 4, names, datetime.date(2022, 4, 14), num_trees=2)


def make_judge(level: float) -> LoopJudge:
    """A judge that expects the same of every loop: exp(level) - SHIFT."""
    leaf = np.zeros(1, dtype=np.int64)
    forest = Forest(
        feature=leaf - 1, threshold=np.zeros(1), left=leaf, right=leaf, value=np.zeros(1), roots=leaf, baseline=level
    )
    model = LoopModel(forest=forest, at=np.zeros(1), spread=np.zeros(1), certainty=0.3)
    return LoopJudge(models=dict.fromkeys(LOOP_KINDS, model), trained_before=datetime.date(2022, 4, 14))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folds")
    rankers = [make_model(FEATURE_NAMES, level) for level in (0.2, 0.6)]
    juries = [make_model(JURY_NAMES, level) for level in (0.3, 0.7)]
    save_folds(place, BEGINS, {"hairpins": 1}, rankers, juries, [make_judge(level) for level in (1.0, 2.0)])
    return place


def entry(date: str, group: str) -> Entry:
    cutoff = datetime.date.fromisoformat(date)
    target = Target(target_id="1ABC_A", sequence="GGGAAACCC", chains=whole_chain(9), cutoff=cutoff)
    return Entry(target=target, references=(), group=group)


@pytest.mark.parametrize(
    ("date", "group", "fold"),
    [("2012-01-01", "", 0), ("2015-06-01", "other", 1), ("2001-01-01", "", 0), ("2012-01-01", "hairpins", 1)],
    ids=["by date", "the first day of a fold", "before all folds", "its group comes before its date"],
)
def test_the_fold_is_that_of_the_group_or_else_of_the_date(folder: Path, date: str, group: str, fold: int) -> None:
    folds = load_folds(folder)
    chain = entry(date, group)
    assert folds.fold_of(chain) == fold
    alignment, consensus = np.zeros((1, len(FEATURE_NAMES))), np.zeros((1, len(JURY_NAMES)))
    assert folds.ranker_of(chain).predict(alignment)[0] == pytest.approx((0.2, 0.6)[fold], abs=0.01)
    assert folds.jury_of(chain).predict(consensus)[0] == pytest.approx((0.3, 0.7)[fold], abs=0.01)
    loops = folds.loop_judge_of(chain).rate("hairpin", np.zeros((1, len(LOOP_FEATURES))))
    assert loops.expected[0] == pytest.approx((1.0, 2.0)[fold])


def test_out_of_fold_models_pass_every_gate(folder: Path) -> None:
    folds = load_folds(folder)
    chain = entry("1995-01-01", "")
    pairs: list[tuple[Ranker | LoopJudge, Ranker | LoopJudge]] = [
        (folds.ranker_of(chain), folds.rankers[0]),
        (folds.jury_of(chain), folds.juries[0]),
        (folds.loop_judge_of(chain), folds.loop_judges[0]),
    ]
    for model, plain in pairs:
        assert model.may_rate(chain.target.cutoff) and not plain.may_rate(chain.target.cutoff)
        assert model.trained_before == plain.trained_before, "the date stays what it is"


def test_a_folder_without_folds_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no fold models there"):
        load_folds(tmp_path)
    (tmp_path / "folds.json").write_text('{"begins": ["soon"], "groups": {}}')
    with pytest.raises(InputError, match="no fold models there"):
        load_folds(tmp_path)


def test_starts_are_rated_by_the_chains_own_fold(folder: Path, tmp_path: Path) -> None:
    from rnafold.data.demo import write_demo_data
    from rnafold.features.pairing_cache import PairingCache
    from rnafold.training.start_library import StartLibrary

    from rnafold.data.competition import read_entries  # isort: skip

    write_demo_data(tmp_path, num_train=4, num_test=1)
    entries = read_entries(tmp_path / "train_sequences.csv", tmp_path / "train_labels.csv")
    # the demo's chains are of 2020, the second fold; the first entry's group is made that of the first fold
    folds = replace(load_folds(folder), groups={"early": 0})
    named = [replace(e, group="early" if k == 0 else f"g{k}") for k, e in enumerate(entries)]
    library = StartLibrary(named, tmp_path, num_templates=2, num_assemblies=2, seed=0, folds=folds)
    made = library.build(named, PairingCache(tmp_path / "pairs"))
    first, last = (made.window(e.target, 0, e.target.length) for e in (named[0], named[-1]))
    assert first is not None and last is not None
    assert np.allclose(first.confidence, 0.3, atol=0.01) and np.allclose(last.confidence, 0.7, atol=0.01)


def test_a_drawn_start_is_never_among_what_is_seen_beside_it() -> None:
    from rnafold.training.starts import Starts

    coords = np.arange(6, dtype=np.float32)[:, None, None] * np.ones((6, 4, 3), np.float32)
    starts = Starts(
        coords=coords,
        confidence=np.linspace(0.9, 0.4, 6, dtype=np.float32),
        is_template=np.array([True, False] * 3),
    )
    rng = np.random.default_rng(0)
    seen_without, starts_seen = 0, set()
    for _ in range(200):
        k, templates = starts.draw(rng)
        others = starts.others(k, templates=templates)
        starts_seen.add(k)
        assert float(k) not in others.coords[:, 0, 0]
        if not templates:
            seen_without += 1
            assert not others.is_template.any() and not starts.is_template[k]
    assert starts_seen == set(range(6)) and 10 < seen_without < 60
