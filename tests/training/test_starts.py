"""Which starts training draws and which candidates it hides."""

from pathlib import Path

import numpy as np
import pytest

from rnafold.config.settings import resolve_config
from rnafold.data.selection import Entries
from rnafold.structure import Entry, Structure, Target, whole_chain
from rnafold.training import prepare
from rnafold.training.starts import Starts

SEQUENCE = "GGGGCACGAAAGUGCCCC" * 3


def _starts(count: int) -> Starts:
    coords = np.random.default_rng(0).normal(size=(count, len(SEQUENCE), 3)).astype(np.float32)
    confidence = np.linspace(0.9, 0.1, count).astype(np.float32)
    return Starts(coords=coords, confidence=confidence, is_template=np.arange(count) % 2 == 0)


def test_each_epoch_sees_other_candidates_and_prediction_the_surest() -> None:
    starts = _starts(24)
    surest = starts.others(0)
    assert np.array_equal(np.sort(surest.confidence)[::-1], starts.confidence[1:9])
    rng = np.random.default_rng(0)
    drawn = [starts.others(0, rng=rng) for _ in range(50)]
    assert len({tuple(x.confidence) for x in drawn}) > 20
    assert all(starts.confidence[0] not in x.confidence for x in drawn), "never the start itself"
    assert all(not x.is_template.any() for x in [starts.others(0, templates=False, rng=rng) for _ in range(5)])


def test_training_starts_are_mostly_assemblies_and_validation_starts_at_the_surest_of_them() -> None:
    starts = _starts(24)  # every second one, the surest included, is a template's
    rng = np.random.default_rng(0)
    drawn = [starts.draw(rng) for _ in range(600)]
    shares = [np.mean([starts.is_template[k] for k, _ in drawn]), np.mean([not templates for _, templates in drawn])]
    # 0.85 x 0.25 of the draws are among all, of which half are templates; 0.15 are to see no template
    np.testing.assert_allclose(shares, [0.85 * 0.25 * 0.5, 0.15], atol=0.04)
    assert {k for k, _ in drawn} == set(range(24)), "poor ones as well"
    assert starts.first_assembly() == 1
    only = Starts(coords=starts.coords[:2], confidence=starts.confidence[:2], is_template=np.array([True, True]))
    assert only.first_assembly() == 0
    assert {only.draw(rng) for _ in range(50)} == {(0, True), (1, True)}


def test_validation_starts_at_the_first_assembly_beside_the_surest_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = _starts(24)

    class Library:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def build(self, entries: tuple[Entry, ...], *_: object) -> "Library":
            return self

        def window(self, *_: object) -> Starts:
            return starts

        def count_ready(self) -> int:
            return 1

        def __len__(self) -> int:
            return 1

    monkeypatch.setattr(prepare, "StartLibrary", Library)
    length = len(SEQUENCE)
    structure = Structure(coords=np.zeros((length, 1, 3)), mask=np.ones((length, 1), dtype=np.bool_))
    train, validation = (
        Entry(
            target=Target(target_id=name, sequence=SEQUENCE, chains=whole_chain(length)),
            references=(structure,),
        )
        for name in ("1AAA_A", "2BBB_B")
    )
    entries = Entries(train=(train,), clusters=("a",), validation=(validation,), msa_folders=())
    config = resolve_config("cpu", "minimal", ["data.start=candidates", f"data.cache={tmp_path}", "data.jobs=1"])
    (watched,) = prepare.prepare_entries(config, entries).validation
    start = watched.start
    assert watched.entry is validation and watched.example.target_id == "2BBB_B"
    np.testing.assert_array_equal(start.coords, starts.coords[1].astype(np.float64))
    assert start.confidence == pytest.approx(float(starts.confidence[1]))
    assert start.others is not None and starts.confidence[1] not in start.others.confidence
    assert starts.confidence[0] in start.others.confidence
