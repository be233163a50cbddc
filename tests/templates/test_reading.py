"""The library read from competition files and structure files, and its cache."""

import datetime
import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from rnafold.data.stoichiometry import build_chains
from rnafold.errors import InputError
from rnafold.files.budget import Budget
from rnafold.structure import Target
from rnafold.templates import reading
from rnafold.templates.library import gate_for
from rnafold.templates.making import make_library
from rnafold.templates.pipeline import build_candidates
from rnafold.templates.reading import load_models, load_sources, name_apart
from rnafold.templates.sources import ModellingTask, Sources
from tests.pieces.folds import FOLDS, make_entries, make_pairing


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
    first = load_sources([tmp_path / "data"], tmp_path / "cache").library
    assert first.ids == [entry.target.target_id for entry in make_entries()]
    monkeypatch.setattr(reading, "read_entries", lambda *_, **__: pytest.fail("read the tables again"))
    second = load_sources([tmp_path / "data"], tmp_path / "cache").library
    assert isinstance(second.coords, np.memmap)
    np.testing.assert_array_equal(second.coords, first.coords)


def test_changed_tables_are_read_again(tmp_path: Path) -> None:
    _write_tables(tmp_path / "data")
    load_sources([tmp_path / "data"], tmp_path / "cache")
    path = tmp_path / "data" / "train_sequences.csv"
    path.write_text(path.read_text().replace("2001-05-01", "2001-05-02x"[:10]))
    assert str(load_sources([tmp_path / "data"], tmp_path / "cache").library.chain_date(0)) == "2001-05-02"


def test_a_folder_without_structures_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path.name}: found no train_labels"):
        load_sources([tmp_path])


def test_an_unreadable_structure_file_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write_tables(tmp_path)
    (tmp_path / "bad.cif").write_text("no structure\n")
    with caplog.at_level(logging.WARNING):
        assert load_sources([tmp_path]).library.num_entries == len(make_entries())
    assert "1 of 1 structure files left out" in caplog.text


def _write_model(path: Path, index: int = 0, shift: float = 0.0, released: str = "") -> None:
    """One of the example folds as a PDB file."""
    entry = make_entries()[index]
    rows = [
        f"ATOM  {i:>5}  C1'   {letter} A{i:>4}    {x + shift:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
        for i, (letter, (x, y, z)) in enumerate(zip(entry.target.sequence, entry.references[0].c1), start=1)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([*([f"REVDAT   1   {released} 1XYZ    0"] if released else []), *rows, "END", ""])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def test_files_of_one_name_in_several_folders_all_give_entries(tmp_path: Path) -> None:
    for folder, index in (("gly", 0), ("cob", 2)):
        _write_model(tmp_path / folder / "model_0.pdb", index, released="01-JAN-10")
    _write_model(tmp_path / "model_1.pdb", released="01-JAN-10")
    library = load_sources([tmp_path, tmp_path / "gly"]).library
    assert sorted(library.ids) == ["cob/model_0_A", "gly/model_0_A", "model_1_A"]
    assert sorted(library.frames) == ["cob/model_0", "gly/model_0", "model_1"]
    assert len(Sources(library, None).complexes) == 3  # no two of them share a frame


def test_two_files_with_a_common_beginning_never_join_a_complex(tmp_path: Path) -> None:
    names = list(FOLDS)[:3:2]
    entries = make_entries()[:3:2]
    for name, index, shift in (("rna_a", 0, 0.0), ("rna_b", 2, 400.0)):
        _write_model(tmp_path / f"{name}.pdb", index, shift, released="01-JAN-10")
    first_length = entries[0].target.length
    target = Target(
        target_id="rna_1",
        sequence="".join(entry.target.sequence for entry in entries),
        chains=build_chains([("A", 1, first_length), ("B", 1, entries[1].target.length)]),
        cutoff=datetime.date(2030, 1, 1),
    )
    sources = Sources(load_sources([tmp_path]).library, None)
    assert sources.library.allowed(gate_for(target)).all(), "rna_1 is neither rna_a nor rna_b"
    pairing = make_pairing("".join(FOLDS[name][1] for name in names))
    task = ModellingTask(target=target, pairing=pairing, sources=sources, gate=gate_for(target))
    for candidate in build_candidates(task, num_templates=4, num_assemblies=4):
        first, second = candidate.coords[:first_length], candidate.coords[first_length:]
        assert "complex" not in candidate.note
        assert np.linalg.norm(first.mean(0) - second.mean(0)) < 200.0


def test_files_are_named_apart_by_ending_or_folder() -> None:
    paths = [Path(name) for name in ("t/1abc.pdb", "t/1abc.cif", "t/a/x.pdb", "t/b/x.pdb", "u/a/x.pdb", "t/y.ent.gz")]
    assert list(name_apart(paths).values()) == ["1abc.pdb", "1abc.cif", "t/a/x", "t/b/x", "u/a/x", "y"]


@pytest.mark.parametrize("name", ["m.pdb.gz", "pdbm.ent.gz", "m.ent", "M.PDB"])
def test_packed_files_are_found_in_a_folder(tmp_path: Path, name: str) -> None:
    _write_model(tmp_path / name)
    assert load_sources([tmp_path]).library.num_undated == 1


@pytest.mark.parametrize("fault", ["cut", "stars", "packed", "renamed"])
def test_a_damaged_file_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    _write_model(tmp_path / "good.pdb", released="01-JAN-10")
    text = (tmp_path / "good.pdb").read_text()
    if fault in ("packed", "renamed"):
        data = gzip.compress(text.encode())
        (tmp_path / ("bad.pdb.gz" if fault == "packed" else "bad.pdb")).write_bytes(data[: len(data) // 2])
    else:
        (tmp_path / "bad.pdb").write_text(text[:440] if fault == "cut" else text.replace(text[110:118], "********"))
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert load_sources([tmp_path], cache).library.ids == ["good_A"]
        assert "1 of 2 structure files left out, first: " in caplog.text and "bad.pdb" in caplog.text


@pytest.mark.parametrize("damage", ["a file in its place", "a damaged library"])
def test_a_cache_that_cannot_be_used_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    _write_tables(tmp_path / "data")
    if damage == "a file in its place":
        (tmp_path / "cache").write_text("x")
    else:
        load_sources([tmp_path / "data"], tmp_path / "cache")
        next((tmp_path / "cache").glob("library-*/names.json")).write_text("[]")
    with caplog.at_level(logging.WARNING):
        assert load_sources([tmp_path / "data"], tmp_path / "cache").library.num_entries == len(make_entries())
    assert ("is not kept" if damage == "a file in its place" else "read again") in caplog.text


class _Clock:
    """Goes on by a second whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_reading_stops_when_its_time_is_up_and_what_was_read_is_the_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(8):
        _write_model(tmp_path / "files" / f"m{number}.pdb", released="01-JAN-10")
    with caplog.at_level(logging.WARNING):
        # 12 s by this clock: of the 8 files, each asked for once, those within seven tenths of the time
        found = load_sources([tmp_path / "files"], tmp_path / "cache", Budget(9.0, _Clock())).library.num_entries
    assert 0 < found < 8
    assert f"{8 - found} of 8 structure files were not read: the time for reading is up" in caplog.text
    # half a library is not kept for a whole one
    assert load_sources([tmp_path / "files"], tmp_path / "cache").library.num_entries == 8


# a second an entry read, one an entry whose pairs are found: of 18 s seven tenths are for both, and half of these first
@pytest.mark.parametrize(("seconds", "entries"), [(0.0, 0), (18.0, 2), (30.0, 6)])
def test_a_table_is_read_while_there_is_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seconds: float, entries: int
) -> None:
    _write_tables(tmp_path)
    with caplog.at_level(logging.WARNING):
        sources = load_sources([tmp_path], None, Budget(seconds, _Clock()))
    assert sources.library.num_entries == entries
    assert ("table 1 of 1 was not read to its end" in caplog.text) == (entries < len(make_entries()))
    assert ("loops of the library were not all cut" in caplog.text) == (entries == 0)


def test_a_library_made_before_is_used_however_little_time_there_is(tmp_path: Path) -> None:
    _write_tables(tmp_path / "data")
    make_library([tmp_path / "data"], tmp_path / "library")
    sources = load_sources([tmp_path / "library"], None, Budget(0.0, _Clock()))
    assert sources.library.num_entries == len(make_entries())
    assert sources.fragments(None).count() == load_sources([tmp_path / "data"]).fragments(None).count()


def test_an_unreadable_table_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write_tables(tmp_path)
    (tmp_path / "train_labels.csv").write_text("ID,resname\n")
    _write_model(tmp_path / "mine.pdb")
    with caplog.at_level(logging.WARNING):
        assert load_sources([tmp_path]).library.ids == ["mine_A"]
    assert "a table of known structures is left out" in caplog.text


def test_the_shipped_models_load_and_were_trained_before_the_validation_targets() -> None:
    models = load_models()
    # The validation targets' temporal cutoff is 2022-05-27.
    assert all(model is not None and str(model.trained_before) <= "2022-05-27" for model in models)


def test_without_the_shipped_models_the_search_still_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_models(tmp_path, tmp_path / "loops.json") == (None, None, None)
    assert "ranked by alignment score" in caplog.text and "by sizes and letters" in caplog.text


def test_sources_come_in_one_call(tmp_path: Path) -> None:
    _write_tables(tmp_path)
    sources = load_sources([tmp_path], tmp_path / "cache")
    assert sources.library.num_chains == len(make_entries())
    assert sources.ranker is not None
