"""The template library and the learned models from files: competition CSVs, folders of structures, a cache on disk."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from rnafold.assembly.loop_judge import JUDGE_PATH, LoopJudge
from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files
from rnafold.data.mmcif import read_structure_file
from rnafold.data.structures.reading import ENDINGS, cut_endings
from rnafold.errors import InputError
from rnafold.files.budget import Budget
from rnafold.structure import Entry
from rnafold.templates.index import LibraryIndex
from rnafold.templates.jury import JURY_NAMES
from rnafold.templates.library import TemplateLibrary, fingerprint
from rnafold.templates.loops import build_fragments
from rnafold.templates.merging import Part, merge_parts
from rnafold.templates.prepared import PreparedLibrary, describe, find_prepared, load_prepared, save_prepared
from rnafold.templates.ranker import Ranker
from rnafold.templates.sources import Sources

log = logging.getLogger(__name__)

MODEL_FOLDER = Path(__file__).resolve().parent
# Part of the time for a library after which no more files are read: the rest is for cutting the loops of what was read.
READING_SHARE = 0.7
# Part of the time for files that reading a table may take: the rest is for finding the pairs of what was read.
TABLE_SHARE = 0.5


def find_structure_files(folder: str | Path) -> list[Path]:
    """mmCIF and PDB files below a folder, packed or not, in alphabetical order."""
    return sorted(p for p in Path(folder).rglob("*") if p.name.lower().endswith(ENDINGS) and p.is_file())


def name_apart(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each file: without its endings; where several are alike, with them or with the folders above."""
    alike: dict[str, list[Path]] = {}
    for path in paths:
        alike.setdefault(cut_endings(path.name), []).append(path)
    names: dict[Path, str] = {}
    for stem, same in alike.items():
        deepest = max(len(path.parts) for path in same)
        forms = [[stem for _ in same], [path.name for path in same]]
        forms += [["/".join([*path.parts[-1 - depth : -1], stem]) for path in same] for depth in range(1, deepest)]
        forms.append([str(path) for path in same])
        names.update(zip(same, next(form for form in forms if len(set(form)) == len(same)), strict=True))
    return names


def read_prepared(
    folders: Sequence[str | Path], cache: str | Path | None = None, budget: Budget | None = None
) -> PreparedLibrary:
    """The library of all folders, with index and loops.

    A folder at or below which `rnafold library` has left libraries gives these; any other the train_sequences and
    train_labels CSVs and the mmCIF or PDB files in it.

    Args:
        folders: of either kind.
        cache: folder for what is read of files; the next call with unchanged ones memory-maps it. None: no cache.
            One that cannot be used costs a warning.
        budget: seconds that reading files may take; what is read when they are gone is the library, which is then not
            kept for the next call. Libraries that `rnafold library` made are at hand at once and always used.

    Raises:
        InputError: no such folder, or nothing of these kinds in any. Files that cannot be read are left out, counted.
    """
    made = [path for folder in folders for path in find_prepared(folder)]
    raw = [folder for folder in folders if not find_prepared(folder)]
    found = []
    for path in made:
        prepared, manifest = load_prepared(path)
        log.info("%s: library of %d entries, contents %s", path, manifest.num_entries, manifest.identity[:12])
        found.append(prepared)
    if raw or not found:
        found.append(_read_files(raw, cache, budget or Budget()))
    if len(found) == 1:
        return found[0]
    return merge_parts([Part(library=one.library, fragments=one.fragments) for one in found])


def _read_files(folders: Sequence[str | Path], cache: str | Path | None, budget: Budget) -> PreparedLibrary:
    """The library of tables and structure files."""
    tables: list[tuple[Path, Path]] = []
    structures: list[Path] = []
    for folder in folders:
        files = find_competition_files(folder)
        if files.train_sequences is not None and files.train_labels is not None:
            tables.append((files.train_sequences, files.train_labels))
        structures += find_structure_files(folder)
    if not tables and not structures:
        looked = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{looked or 'no folder given'}: found no train_labels CSV and no mmCIF or PDB file")
    structures = list({path.resolve(): path for path in structures}.values())
    paths = [path for pair in tables for path in pair] + structures
    place = None if cache is None else Path(cache) / f"library-{fingerprint(paths)}"
    try:
        if place is not None and place.is_dir():
            prepared, manifest = load_prepared(place)
            _log_left_out(manifest.left_out, len(structures))
            return prepared
    except InputError as error:
        log.warning("%s; it is read again from the files", error)
    unreadable: list[str] = []
    # the loops are cut afterwards, in the time that is left
    reading = budget.part(READING_SHARE)
    entries = _drop_doubles(_read_all(tables, structures, unreadable, reading))
    library = TemplateLibrary.from_entries(entries, with_undated=True)
    _log_left_out(unreadable, len(structures))
    fragments = build_fragments(library, budget)
    prepared = PreparedLibrary(library=library, index=LibraryIndex(library), fragments=fragments)
    if budget.spent:
        log.warning("the loops of the library were not all cut in time; `rnafold library` makes them once")
    if place is not None and not reading.spent:
        try:
            save_prepared(place, prepared, describe(library, {}, unreadable))
        except (InputError, OSError) as error:
            log.warning("the template library is not kept for the next run: %s", error)
    return prepared


def _log_left_out(unreadable: Sequence[str], num_files: int) -> None:
    if unreadable:
        log.warning("%d of %d structure files left out, first: %s", len(unreadable), num_files, unreadable[0])


def _read_all(
    tables: Sequence[tuple[Path, Path]], structures: Sequence[Path], unreadable: list[str], budget: Budget
) -> Iterator[Entry]:
    """The entries of tables and files while there is time; what is wrong with a file goes into `unreadable`."""
    for number, (sequences, labels) in enumerate(tables):
        part = budget.part(TABLE_SHARE)
        try:
            entries = [] if budget.spent else read_entries(sequences, labels, budget=part)
        except (InputError, OSError) as error:
            log.warning("a table of known structures is left out: %s", error)
            continue
        cut = part.spent
        yield from itertools.takewhile(lambda _: not budget.spent, entries)
        if cut or budget.spent:
            _log_out_of_time(f"table {number + 1} of {len(tables)} was not read to its end")
    names = name_apart(structures)
    for number, path in enumerate(tqdm(structures, desc="structures", unit="file", disable=None)):
        if budget.spent:
            _log_out_of_time(f"{len(structures) - number} of {len(structures)} structure files were not read")
            return
        try:
            for entry in read_structure_file(path):
                yield rename_entry(entry, cut_endings(path.name), names[path])
        except (InputError, OSError) as error:
            unreadable.append(str(error))


def _log_out_of_time(what: str) -> None:
    log.warning("%s: the time for reading is up; `rnafold library` reads them once", what)


def rename_entry(entry: Entry, stem: str, name: str) -> Entry:
    """The entry of a file that goes by another name than its stem."""
    target = replace(entry.target, target_id=name + entry.target.target_id.removeprefix(stem))
    return replace(entry, target=target, source=name + entry.source.removeprefix(stem))


def _drop_doubles(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The first entry of each id and sequence: tables repeat those of earlier versions."""
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        key = (entry.target.target_id, entry.target.sequence)
        if key not in seen:
            seen.add(key)
            yield entry


def load_models(
    folder: str | Path = MODEL_FOLDER, judge: str | Path = JUDGE_PATH
) -> tuple[Ranker | None, Ranker | None, LoopJudge | None]:
    """Ranker, jury and loop judge, shipped beside their modules; None with a log line where one is absent."""
    ranker_path, jury_path = Path(folder) / "ranker.json", Path(folder) / "jury.json"
    for path in (ranker_path, jury_path):
        if not path.is_file():
            log.warning("%s is missing: templates are ranked by alignment score (scripts/train_ranker.py)", path)
    ranker = Ranker.load(ranker_path) if ranker_path.is_file() else None
    jury = Ranker.load(jury_path, JURY_NAMES) if jury_path.is_file() else None
    if not Path(judge).is_file():
        log.warning("%s is missing: loops are chosen by sizes and letters (scripts/train_loops.py)", judge)
    return ranker, jury, LoopJudge.load(judge) if Path(judge).is_file() else None


def load_sources(
    folders: Sequence[str | Path], cache: str | Path | None = None, budget: Budget | None = None
) -> Sources:
    """All that `build_candidates` needs: the library of the folders, as far as it is read in time, and the models."""
    models = load_models()
    found = read_prepared(folders, cache, budget)
    return Sources(found.library, *models, found.index, found.fragments)
