"""The library read from competition files and structure files, and its cache."""

import logging
from pathlib import Path

import numpy as np
import pytest

from rnafold.errors import InputError
from rnafold.templates import reading
from rnafold.templates.reading import load_models, load_sources, read_library
from tests.pieces.folds import make_entries


def _write_tables(folder: Path) -> None:
    """train_sequences.csv and train_labels.csv of the example entries."""
    folder.mkdir(parents=True, exist_ok=True)
    sequences = ["target_id,sequence,temporal_cutoff,description,all_sequences"]
    labels = ["ID,resname,resid,x_1,y_1,z_1"]
    for entry in make_entries():
        target = entry.target
        sequences.append(f"{target.target_id},{target.sequence},{target.cutoff},made up,")
        for number, (letter, point) in enumerate(zip(target.sequence, entry.references[0].c1), start=1):
            labels.append(f"{target.target_id}_{number},{letter},{number}," + ",".join(f"{x:.3f}" for x in point))
    (folder / "train_sequences.csv").write_text("\n".join(sequences) + "\n")
    (folder / "train_labels.csv").write_text("\n".join(labels) + "\n")


def test_a_library_is_read_from_tables_and_the_second_time_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_tables(tmp_path / "data")
    first = read_library([tmp_path / "data"], tmp_path / "cache")
    assert first.ids == [entry.target.target_id for entry in make_entries()]
    monkeypatch.setattr(reading, "read_entries", lambda *_: pytest.fail("read the tables again"))
    second = read_library([tmp_path / "data"], tmp_path / "cache")
    assert isinstance(second.coords, np.memmap)
    np.testing.assert_array_equal(second.coords, first.coords)


def test_changed_tables_are_read_again(tmp_path: Path) -> None:
    _write_tables(tmp_path / "data")
    read_library([tmp_path / "data"], tmp_path / "cache")
    path = tmp_path / "data" / "train_sequences.csv"
    path.write_text(path.read_text().replace("2001-05-01", "2001-05-02x"[:10]))
    assert str(read_library([tmp_path / "data"], tmp_path / "cache").chain_date(0)) == "2001-05-02"


def test_a_folder_without_structures_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path.name}: found no train_labels"):
        read_library([tmp_path])


def test_an_unreadable_structure_file_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write_tables(tmp_path)
    (tmp_path / "bad.cif").write_text("no structure\n")
    with caplog.at_level(logging.WARNING):
        assert read_library([tmp_path]).num_entries == len(make_entries())
    assert "1 of 1 structure files left out" in caplog.text


def test_the_shipped_models_load_and_were_trained_before_the_validation_targets() -> None:
    ranker, jury = load_models()
    assert ranker is not None and jury is not None
    # The validation targets' temporal cutoff is 2022-05-27.
    assert str(ranker.trained_before) <= "2022-05-27" and str(jury.trained_before) <= "2022-05-27"


def test_without_the_shipped_models_the_search_still_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_models(tmp_path) == (None, None)
    assert "ranked by alignment score" in caplog.text


def test_sources_come_in_one_call(tmp_path: Path) -> None:
    _write_tables(tmp_path)
    sources = load_sources([tmp_path], tmp_path / "cache")
    assert sources.library.num_chains == len(make_entries())
    assert sources.ranker is not None
