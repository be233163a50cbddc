"""The command `library`: make a template library of whole databases once, or say what one holds."""

import argparse
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rnafold.errors import ExitCode, InputError

if TYPE_CHECKING:
    from rnafold.templates.prepared import Manifest

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Reads competition CSVs and folders of mmCIF and PDB files once, in parallel, into one folder that `predict --templates`
and `train` load in a second or two, memory-mapped, loops and search index included. The folder may be moved and mounted
read-only. A call that was stopped goes on where it was; release dates come from the files, else from
pdb_release_dates_NA.csv.
"""


def add_library(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `library`."""
    library = commands.add_parser(
        "library",
        help="make a template library of CSVs and structure folders once, or show one",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = library.add_argument
    add("--from", dest="folders", type=Path, action="append", default=[], metavar="DIR", help="read this folder too")
    add("--out", type=Path, metavar="LIB", help="the library's folder")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one a core)")
    add("--show", type=Path, metavar="LIB", help="say what a library holds")
    add("--json", action="store_true", help="print JSON: a list with one entry a library")
    library.set_defaults(call=run_library)


def run_library(arguments: argparse.Namespace) -> int:
    """Runs `library`; returns the exit code."""
    from rnafold.templates.making import make_library
    from rnafold.templates.prepared import find_prepared, read_manifest

    if arguments.show is not None:
        if arguments.folders or arguments.out:
            raise InputError("--show: takes neither --from nor --out")
        if not arguments.show.is_dir():
            raise InputError(f"--show {arguments.show}: no such folder")
        folders = find_prepared(arguments.show) or [arguments.show]
        _print([(folder, read_manifest(folder)) for folder in folders], arguments.json)
        return ExitCode.DONE
    if not arguments.folders or arguments.out is None:
        raise InputError("library: expected --from DIR [--from DIR ..] --out LIB, or --show LIB")
    if arguments.jobs < 1:
        raise InputError(f"--jobs {arguments.jobs}: expected 1 or more")
    manifest, progress = make_library(arguments.folders, arguments.out, arguments.jobs)
    _print([(arguments.out, manifest)], arguments.json)
    rate = f", {progress.megabytes_per_second:.0f} MB/s" if progress.bytes_read else ""
    log.info(
        f"{progress.parts_made} parts made, {progress.parts_found} found, {progress.bytes_read / 1e6:.0f} MB of "
        f"structure files in {progress.seconds:.0f} s{rate}"
    )
    return ExitCode.DONE


def _print(found: "list[tuple[Path, Manifest]]", as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"library": str(folder), **asdict(manifest)} for folder, manifest in found]))
        return
    for folder, manifest in found:
        print(format_manifest(folder, manifest))


def format_manifest(folder: Path, manifest: "Manifest") -> str:
    """A few lines: what a library holds and from where."""
    dates = f"released {manifest.first} to {manifest.last}" if manifest.first else "none dated"
    lines = [
        f"{folder}: {manifest.num_entries} entries, {manifest.num_chains} chains, {manifest.num_residues:,} residues; "
        f"{dates}, {manifest.num_undated} undated; contents {manifest.identity[:12]}",
        *(f"  {count} entries read from {name}" for name, count in manifest.sources.items()),
    ]
    if manifest.left_out:
        lines.append(f"  {len(manifest.left_out)} files left out, first: {manifest.left_out[0]}")
    return "\n".join(lines)
