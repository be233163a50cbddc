"""The template library and the learned models from files: competition CSVs, folders of structures, a cache on disk."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files
from rnafold.data.mmcif import read_structure_file
from rnafold.errors import InputError
from rnafold.structure import Entry
from rnafold.templates.jury import JURY_NAMES
from rnafold.templates.library import TemplateLibrary, fingerprint
from rnafold.templates.ranker import Ranker
from rnafold.templates.sources import Sources

log = logging.getLogger(__name__)

STRUCTURE_ENDINGS = (".cif", ".cif.gz", ".mmcif", ".pdb", ".ent")
MODEL_FOLDER = Path(__file__).resolve().parent


def find_structure_files(folder: str | Path) -> list[Path]:
    """mmCIF and PDB files below a folder, in alphabetical order."""
    return sorted(p for p in Path(folder).rglob("*") if p.is_file() and p.name.lower().endswith(STRUCTURE_ENDINGS))


def read_library(folders: Sequence[str | Path], cache: str | Path | None = None) -> TemplateLibrary:
    """The library of all folders: train_sequences and train_labels CSVs, and mmCIF or PDB files.

    Args:
        folders: each holds one or both kinds, at any depth.
        cache: folder for the library's arrays; the next call with unchanged files memory-maps them. None: no cache.

    Raises:
        InputError: no such folder, nothing found in any, or nothing in them has a release date.
    """
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
    paths = [path for pair in tables for path in pair] + structures
    place = None if cache is None else Path(cache) / f"library-{fingerprint(paths)}"
    if place is not None and place.is_dir():
        return TemplateLibrary.load(place)
    library = TemplateLibrary.from_entries(_drop_doubles(_read_all(tables, structures)))
    if not library.num_entries:
        raise InputError(f"{paths[0]} and {len(paths) - 1} more: no structure with a release date")
    if place is not None:
        library.save(place)
    return library


def _read_all(tables: Iterable[tuple[Path, Path]], structures: Sequence[Path]) -> Iterator[Entry]:
    for sequences, labels in tables:
        yield from read_entries(sequences, labels)
    unreadable: list[str] = []
    for path in tqdm(structures, desc="structures", unit="file", disable=None):
        try:
            yield from read_structure_file(path)
        except InputError as error:
            unreadable.append(str(error))
    if unreadable:
        log.warning("%d of %d structure files left out, first: %s", len(unreadable), len(structures), unreadable[0])


def _drop_doubles(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The first entry of each id."""
    seen: set[str] = set()
    for entry in entries:
        if entry.target.target_id not in seen:
            seen.add(entry.target.target_id)
            yield entry


def load_models(folder: str | Path = MODEL_FOLDER) -> tuple[Ranker | None, Ranker | None]:
    """Ranker and jury from ranker.json and jury.json, shipped beside this module; None with a log line where absent."""
    ranker_path, jury_path = Path(folder) / "ranker.json", Path(folder) / "jury.json"
    for path in (ranker_path, jury_path):
        if not path.is_file():
            log.warning("%s is missing: templates are ranked by alignment score (scripts/train_ranker.py)", path)
    ranker = Ranker.load(ranker_path) if ranker_path.is_file() else None
    jury = Ranker.load(jury_path, JURY_NAMES) if jury_path.is_file() else None
    return ranker, jury


def load_sources(folders: Sequence[str | Path], cache: str | Path | None = None) -> Sources:
    """All that `build_candidates` needs: the library of the folders and the shipped models."""
    ranker, jury = load_models()
    return Sources(read_library(folders, cache), ranker, jury)
