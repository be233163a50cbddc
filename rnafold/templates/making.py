"""A library made once of whole databases: tables and structure files read in parallel, and resumed where it stopped.

The work is cut into parts (a stretch of a table, a stack of files), each written to a folder beside the library as it
is done; the same call after a stop finds them by what they were made of. Then the parts are put together.
"""

import datetime
import hashlib
import json
import logging
import multiprocessing
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files
from rnafold.data.mmcif import read_structure_file
from rnafold.data.structures.reading import cut_endings
from rnafold.data.tables import read_rows
from rnafold.errors import InputError
from rnafold.files.atomic import replace_folder
from rnafold.files.mounts import sample_digest, walk_files
from rnafold.structure import Entry
from rnafold.templates.library import FORMAT_VERSION, TemplateLibrary
from rnafold.templates.loops import build_fragments
from rnafold.templates.merging import Part, merge_parts
from rnafold.templates.prepared import Manifest, PreparedLibrary, describe, read_loops, save_prepared, write_loops
from rnafold.templates.reading import find_structure_files, name_apart, rename_entry

log = logging.getLogger(__name__)

# What one part holds at most: bytes of files or residues of a table. Small enough that a stop costs a minute at most.
PART_BYTES, PART_RESIDUES, PART_FILES = 100 << 20, 400_000, 200
RELEASE_DATES: Final = "pdb_release_dates_NA.csv"
_LEFT_OUT: Final = "left_out.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """One part to be made: entries of a table, or files with the names that their entries get."""

    key: str
    source: str
    entries: tuple[Entry, ...] = ()
    files: tuple[tuple[Path, str], ...] = ()
    num_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a call found done, what it did, and how fast."""

    parts_found: int = 0
    parts_made: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    sources: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def megabytes_per_second(self) -> float:
        """Rate at which this call read structure files."""
        return self.bytes_read / 1e6 / max(self.seconds, 1e-9)


def make_library(folders: Sequence[Path], out: Path, jobs: int = 1) -> tuple[Manifest, Progress]:
    """Makes the library `out` of all tables and structure files below the folders.

    Args:
        folders: where train_sequences and train_labels CSVs, mmCIF and PDB files and release dates lie, at any depth.
        out: the library; what is there already is replaced when the new one is complete.
        jobs: processes that read.

    Raises:
        InputError: no such folder, nothing to read below them, nothing readable, or `out` cannot be written.
    """
    began = time.monotonic()
    work = out.with_name(f"{out.name}.parts")
    progress = Progress()
    order: list[tuple[Work, Path]] = []
    parts = (_place(one, work, order) for one in list_work(folders))
    _make_all(parts, jobs, progress)
    if not order:
        raise InputError(f"{', '.join(map(str, folders))}: found no train_labels CSV and no mmCIF or PDB file")
    loaded = [_load_part(path) for _, path in order]
    for (one, path), part in zip(order, loaded, strict=True):
        progress.sources[one.source] = progress.sources.get(one.source, 0) + part.library.num_entries
        progress.left_out += json.loads((path / _LEFT_OUT).read_text(encoding="utf-8"))
    dates = read_release_dates(folders)
    prepared: PreparedLibrary = merge_parts(loaded, dates)
    if not prepared.library.num_entries:
        raise InputError(f"{', '.join(map(str, folders))}: no RNA in any of the files there")
    manifest = describe(prepared.library, progress.sources, progress.left_out)
    save_prepared(out, prepared, manifest)
    shutil.rmtree(work, ignore_errors=True)
    progress.seconds = time.monotonic() - began
    return manifest, progress


def list_work(folders: Sequence[Path]) -> Iterator[Work]:
    """The parts in order of precedence: tables first, then files by name. Tables are read here, files by the parts.

    Raises:
        InputError: a folder is not there.
    """
    structures: list[Path] = []
    for folder in folders:
        files = find_competition_files(folder)
        structures += find_structure_files(folder)
        if files.train_sequences is not None and files.train_labels is not None:
            try:
                yield from _cut_table(read_entries(files.train_sequences, files.train_labels), files.train_labels)
            except InputError as error:
                log.warning("a table of known structures is left out: %s", error)
    structures = list({path.resolve(): path for path in structures}.values())
    yield from _stack_files(structures)


def _cut_table(entries: Sequence[Entry], path: Path) -> Iterator[Work]:
    stretch: list[Entry] = []
    for entry in entries:
        stretch.append(entry)
        if sum(e.target.length for e in stretch) >= PART_RESIDUES:
            yield Work(key=_digest_entries(stretch), source=path.name, entries=tuple(stretch))
            stretch = []
    if stretch:
        yield Work(key=_digest_entries(stretch), source=path.name, entries=tuple(stretch))


def _stack_files(paths: Sequence[Path]) -> Iterator[Work]:
    names = name_apart(paths)
    stack: list[Path] = []
    size = 0
    for path in sorted(paths, key=lambda p: (names[p], str(p))):
        stack.append(path)
        size += path.stat().st_size
        if size >= PART_BYTES or len(stack) >= PART_FILES:
            yield _work_of(stack, names, size)
            stack, size = [], 0
    if stack:
        yield _work_of(stack, names, size)


def _work_of(stack: Sequence[Path], names: Mapping[Path, str], size: int) -> Work:
    files = tuple((path, names[path]) for path in stack)
    return Work(key=_digest_files(files), source="structure files", files=files, num_bytes=size)


def _digest_entries(entries: Sequence[Entry]) -> str:
    digest = hashlib.sha256(str(FORMAT_VERSION).encode())
    for entry in entries:
        target = entry.target
        digest.update(f"{target.target_id}|{target.sequence}|{target.cutoff}|{entry.group}|{target.chains}".encode())
        digest.update(entry.references[0].coords.tobytes() + entry.references[0].mask.tobytes())
    return digest.hexdigest()[:24]


def _digest_files(files: Sequence[tuple[Path, str]]) -> str:
    """By names, sizes and both ends of the contents; an unreadable file counts as empty, and is left out later."""
    digest = hashlib.sha256(str(FORMAT_VERSION).encode())
    for path, name in files:
        try:
            contents = sample_digest(path)
        except OSError:
            contents = ""
        digest.update(f"{name}|{path.name}|{contents}|".encode())
    return digest.hexdigest()[:24]


def _place(one: Work, folder: Path, order: list[tuple[Work, Path]]) -> tuple[Work, Path]:
    """A part with the folder it goes to, noted in order."""
    path = folder / one.key
    # what is noted needs no entries: they would be kept in memory to the end
    order.append((Work(key=one.key, source=one.source), path))
    return one, path


def _make_all(parts: Iterator[tuple[Work, Path]], jobs: int, progress: Progress) -> None:
    """Makes the parts that are not there in `jobs` processes, with progress and rate on a terminal."""
    began = time.monotonic()
    # spawn: a forked copy of a process that already runs threads (BLAS) may hang
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) if jobs > 1 else None
    running: set[Future[int]] = set()
    bar: tqdm[Any]
    with tqdm(desc="library", unit="B", unit_scale=True, disable=None) as bar:
        try:
            for one, path in parts:
                if (path / _LEFT_OUT).is_file():
                    progress.parts_found += 1
                    continue
                if pool is None:
                    _note(make_part(one, path), progress, bar)
                    continue
                running.add(pool.submit(make_part, one, path))
                if len(running) >= 2 * jobs:
                    over, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in over:
                        _note(future.result(), progress, bar)
            for future in running:
                _note(future.result(), progress, bar)
        finally:
            if pool is not None:
                pool.shutdown(cancel_futures=True)
    progress.seconds = time.monotonic() - began


def _note(num_bytes: int, progress: Progress, bar: "tqdm[Any]") -> None:
    progress.parts_made += 1
    progress.bytes_read += num_bytes
    bar.update(num_bytes)


def make_part(one: Work, path: Path) -> int:
    """Reads the entries of a part and writes them with their loops; returns the bytes read."""
    left_out: list[str] = []
    entries = one.entries or _read_files(one.files, left_out)
    library = TemplateLibrary.from_entries(entries, with_undated=True, show_progress=False)
    with replace_folder(path) as place:
        library.write_arrays(place)
        write_loops(place, build_fragments(library))
        (place / _LEFT_OUT).write_text(json.dumps(left_out), encoding="utf-8")
    return one.num_bytes


def _read_files(files: Sequence[tuple[Path, str]], left_out: list[str]) -> Iterator[Entry]:
    for path, name in files:
        try:
            for entry in read_structure_file(path):
                yield rename_entry(entry, cut_endings(path.name), name)
        except (InputError, OSError) as error:
            left_out.append(str(error))


def _load_part(path: Path) -> Part:
    library = TemplateLibrary.load(path)
    return Part(library=library, fragments=read_loops(path, library))


def read_release_dates(folders: Sequence[Path]) -> dict[str, datetime.date]:
    """Release by PDB code (upper case) of every pdb_release_dates_NA.csv below the folders, the first that states one.

    The code's column is the one whose name has `pdb`, `entry` or `id` in it, the date's the one with `date`.

    Raises:
        InputError: such a file without these columns.
    """
    dates: dict[str, datetime.date] = {}
    for path in (p for folder in folders for p in walk_files(folder) if p.name == RELEASE_DATES):
        header, rows = read_rows(path, ())
        lowered = [name.lower() for name in header]
        date_column = next((k for k, name in enumerate(lowered) if "date" in name), None)
        code_column = next((k for k, name in enumerate(lowered) if k != date_column and _names_code(name)), None)
        if date_column is None or code_column is None:
            raise InputError(f"{path}: columns {', '.join(header)}: expected one of PDB codes and one of release dates")
        for row in rows:
            try:
                released = datetime.date.fromisoformat(row[date_column].strip()[:10])
            except ValueError:
                continue
            dates.setdefault(row[code_column].strip().upper(), released)
    return dates


def _names_code(name: str) -> bool:
    return "pdb" in name or "entry" in name or name == "id"
