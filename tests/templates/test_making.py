"""A library made once: from tables and files, in parts, resumed, moved, mounted read-only, each structure once."""

import datetime
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnafold.cli.main import main
from rnafold.errors import InputError
from rnafold.structure import Entry, structure_from_points
from rnafold.templates import making
from rnafold.templates.library import UNDATED, TemplateLibrary, gate_for
from rnafold.templates.loops import build_fragments
from rnafold.templates.making import make_library, read_release_dates
from rnafold.templates.merging import keep_first
from rnafold.templates.prepared import find_prepared, load_prepared, read_manifest
from rnafold.templates.reading import load_sources, read_prepared
from rnafold.templates.search import search_chain
from tests.pieces.folds import make_entries
from tests.templates.test_reading import _write_model, _write_tables


def assert_same(one: TemplateLibrary, other: TemplateLibrary) -> None:
    assert one.ids == other.ids and one.chain_names == other.chain_names and one.codes == other.codes
    for name in ("coords", "tokens", "partner", "starts", "chain_entry", "chain_start", "chain_stop", "released"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_library_made_in_parts_is_what_one_reading_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_tables(tmp_path / "data")
    _write_model(tmp_path / "data" / "mine.pdb")
    monkeypatch.setattr(making, "PART_RESIDUES", 1)
    manifest, progress = make_library([tmp_path / "data"], tmp_path / "lib")
    assert progress.parts_made == len(make_entries()) + 1 and not (tmp_path / "lib.parts").exists()
    whole = read_prepared([tmp_path / "data"])
    made, again = load_prepared(tmp_path / "lib")
    assert again == manifest and manifest.num_entries == whole.library.num_entries == len(make_entries()) + 1
    assert_same(made.library, whole.library)
    assert made.fragments.count() == whole.fragments.count()
    for size, table in whole.fragments.rings.items():
        for field in ("stems", "sizes", "depths", "chain"):
            np.testing.assert_array_equal(getattr(made.fragments.rings[size], field), getattr(table, field))
    for one, other in zip(made.index.arrays, whole.index.arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_may_be_moved_and_mounted_read_only_and_serves_a_search(tmp_path: Path) -> None:
    _write_tables(tmp_path / "data")
    manifest, _ = make_library([tmp_path / "data"], tmp_path / "lib")
    mount = tmp_path / "input" / "prepared" / "library"
    mount.parent.mkdir(parents=True)
    shutil.move(tmp_path / "lib", mount)
    shutil.rmtree(tmp_path / "data")
    for path in [*mount.iterdir(), mount]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert find_prepared(tmp_path / "input") == [mount]
    sources = load_sources([tmp_path / "input"], tmp_path / "cache")
    assert isinstance(sources.library.coords, np.memmap) and not (tmp_path / "cache").exists()
    entry = make_entries()[0]
    length = entry.target.length
    hits = search_chain(sources.index, entry.target.sequence, np.zeros((length, length), np.float32), None)
    assert sources.library.chain_id(hits[0].chain) == entry.target.target_id
    gate = gate_for(entry.target)
    loops = sources.fragments(gate)
    allowed = {sources.library.chain_id(int(c)) for c in np.flatnonzero(sources.library.allowed(gate))}
    assert {loops.chains[int(row)].chain_id for row in loops.linkers.chain} <= allowed
    assert read_manifest(mount).identity == manifest.identity
    mount.chmod(0o755)


def test_the_identity_follows_the_contents_alone(tmp_path: Path) -> None:
    _write_tables(tmp_path / "one")
    _write_tables(tmp_path / "elsewhere" / "two")
    first, second = (make_library([tmp_path / name], tmp_path / f"{name}-lib")[0] for name in ("one", "elsewhere"))
    assert first.identity == second.identity
    path = tmp_path / "one" / "train_sequences.csv"
    path.write_text(path.read_text().replace("2001-05-01", "2001-05-02"))
    assert make_library([tmp_path / "one"], tmp_path / "one-lib")[0].identity != first.identity


def test_a_stopped_call_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_tables(tmp_path / "data")
    for name in ("1abc", "2abc", "3abc"):
        _write_model(tmp_path / "data" / f"{name}.pdb")
    monkeypatch.setattr(making, "PART_FILES", 1)
    made: list[str] = []
    original = making.make_part

    def stop_at_third(one: making.Work, path: Path) -> int:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(one.key)
        return original(one, path)

    monkeypatch.setattr(making, "make_part", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        make_library([tmp_path / "data"], tmp_path / "lib")
    assert not (tmp_path / "lib").exists() and len(list((tmp_path / "lib.parts").iterdir())) == 2
    monkeypatch.setattr(making, "make_part", original)
    _, progress = make_library([tmp_path / "data"], tmp_path / "lib")
    assert (progress.parts_found, progress.parts_made) == (2, 2)
    assert_same(load_prepared(tmp_path / "lib")[0].library, load_sources([tmp_path / "data"]).library)


def test_processes_give_the_same_library_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_tables(tmp_path / "data")
    _write_model(tmp_path / "data" / "1abc.pdb")
    (tmp_path / "data" / "bad.cif").write_text("no structure\n")
    first = make_library([tmp_path / "data"], tmp_path / "a", jobs=1)[0]
    second = make_library([tmp_path / "data"], tmp_path / "b", jobs=2)[0]
    assert first == second and len(first.left_out) == 1 and "bad.cif" in first.left_out[0]


def test_the_same_chain_of_a_table_and_of_a_file_is_kept_once() -> None:
    entry = make_entries()[0]

    def rename(target_id: str, chain_id: str, sequence: str | None = None) -> Entry:
        chains = tuple(replace(c, chain_id=chain_id) for c in entry.target.chains)
        letters = sequence or entry.target.sequence
        return replace(entry, target=replace(entry.target, target_id=target_id, chains=chains, sequence=letters))

    other = "C" * entry.target.length
    table = TemplateLibrary.from_entries([rename("1ABC_B", "A"), rename("2ABC", "X")], show_progress=False)
    files = TemplateLibrary.from_entries(
        [rename("1abc_B", "B"), rename("1abc_C", "C"), rename("2abc_X", "X"), rename("2abc_X.2", "X", other)],
        show_progress=False,
    )
    kept = keep_first([table, files])
    # 1abc_B and 2abc_X stand in the table, 1abc_C is another chain, the last another sequence
    assert [k.tolist() for k in kept] == [[True, True], [False, True, False, True]]


def test_release_dates_come_from_the_file_of_dates_where_a_structure_states_none(tmp_path: Path) -> None:
    _write_model(tmp_path / "1abc.pdb")
    _write_model(tmp_path / "2abc.pdb")
    (tmp_path / making.RELEASE_DATES).write_text("entry_id,release_date\n1ABC,2019-03-04\n9XYZ,1999-01-01\n7QQQ,\n")
    assert read_release_dates([tmp_path])["1ABC"] == datetime.date(2019, 3, 4)
    library = load_prepared(_make(tmp_path))[0].library
    assert [str(library.chain_date(k)) for k in range(2)] == ["2019-03-04", str(UNDATED)]
    (tmp_path / making.RELEASE_DATES).write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected one of PDB codes and one of release dates"):
        _make(tmp_path)


def _make(folder: Path) -> Path:
    make_library([folder], folder.parent / f"{folder.name}-lib")
    return folder.parent / f"{folder.name}-lib"


def test_a_library_beside_other_folders_is_put_together_with_them(tmp_path: Path) -> None:
    _write_tables(tmp_path / "data")
    _write_model(tmp_path / "mine" / "1abc.pdb")
    make_library([tmp_path / "data"], tmp_path / "lib")
    both = read_prepared([tmp_path / "lib", tmp_path / "mine"])
    assert both.library.ids == [*(e.target.target_id for e in make_entries()), "1abc_A"]
    assert {both.fragments.chains[int(row)].chain_id for row in both.fragments.linkers.chain} <= set(both.library.ids)


def test_a_library_made_before_loops_were_judged_still_loads(tmp_path: Path) -> None:
    _write_tables(tmp_path / "data")
    make_library([tmp_path / "data"], tmp_path / "lib")
    new = load_prepared(tmp_path / "lib")[0].fragments
    for path in [*tmp_path.glob("lib/loops-*-kin.npy"), *tmp_path.glob("lib/loops-*-whole.npy")]:
        path.unlink()
    old = load_prepared(tmp_path / "lib")[0].fragments
    assert old.count() == new.count() and sum(old.count().values()) > 0
    for size, table in new.rings.items():
        np.testing.assert_array_equal(old.rings[size].kin, table.kin)
        np.testing.assert_array_equal(old.rings[size].whole, table.whole)
    (tmp_path / "lib" / "loops-ring1-depths.npy").unlink()
    with pytest.raises(InputError, match="not a complete template library"):
        load_prepared(tmp_path / "lib")


def test_the_command_makes_shows_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_tables(tmp_path / "data")
    lib = tmp_path / "lib"
    assert main(["library", "--from", str(tmp_path / "data"), "--out", str(lib), "--jobs", "1"]) == 0
    assert main(["library", "--show", str(lib)]) == 0
    out = capsys.readouterr().out
    assert f"{len(make_entries())} entries read from train_labels.csv" in out and "released 2001" in out
    assert main(["library", "--show", str(lib), "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["library"] == str(lib) and shown["sources"] == {"train_labels.csv": len(make_entries())}
    for arguments in (
        ["--out", str(lib)],
        ["--show", str(tmp_path / "data")],
        ["--from", str(tmp_path / "none"), "--out", "x"],
    ):
        assert main(["library", *arguments]) == 2
    (lib / "library.json").write_text(json.dumps({"version": 99}))
    assert main(["library", "--show", str(lib)]) == 2
    assert "of version 99" in capsys.readouterr().err


def test_a_chain_longer_than_a_small_integer_counts(tmp_path: Path) -> None:
    # two stems 40,000 residues apart: the size of what lies between is beyond 16 bits
    entry = make_entries()[0]
    gap = 40_000
    points = entry.references[0].c1
    far = np.full((gap, 3), np.nan)
    sequence = entry.target.sequence + "A" * gap + entry.target.sequence
    chains = (replace(entry.target.chains[0], stop=len(sequence)),)
    long = replace(
        entry,
        target=replace(entry.target, sequence=sequence, chains=chains),
        references=(structure_from_points(np.concatenate([points, far, points + 30.0])),),
    )
    library = TemplateLibrary.from_entries([long], show_progress=False)
    assert int(build_fragments(library).linkers.sizes.max(initial=0)) >= gap
