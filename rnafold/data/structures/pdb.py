"""PDB files through gemmi: whatever stands in the columns, refused where coordinates are cut off or no numbers."""

import datetime
import math
import re
from dataclasses import dataclass, field
from typing import Final

import gemmi

from rnafold.data.structures.chains import RnaChain, build_chains
from rnafold.data.structures.dates import parse_date
from rnafold.data.structures.sites import KEPT_ATOMS, AtomRecord, ChainSites
from rnafold.data.tables import parse_number
from rnafold.errors import InputError

UNNAMED: Final = "A"
_COORDINATES: Final = r"(?:(?=[-+ .]{0,7}[0-9])[-+ 0-9.]{8}){3}"
_BAD_ATOM: Final = re.compile(rf"^(?:ATOM|HETA)..(?!.{{24}}{_COORDINATES}).*", re.MULTILINE | re.IGNORECASE)
# Where a cell was lost or put in, the columns of the point hold parts of two numbers.
_POINT: Final = re.compile(
    r"^(?:ATOM|HETA)...{6}(?: C1['*]|C1['*] ).{14}(.{8})(.{8})(.{8})", re.MULTILINE | re.IGNORECASE
)
_SHORT_ATOM: Final = re.compile(r"^(?:ATOM|HETA)...{48,60}$", re.MULTILINE | re.IGNORECASE)
_CODE: Final = re.compile(r"[0-9][A-Za-z0-9]{3}")


@dataclass(slots=True, kw_only=True)
class _Header:
    """What stands above the atoms: SEQRES names by chain, parents of MODRES, dates of REVDAT, the code of HEADER."""

    stated: dict[str, list[str]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    dates: list[datetime.date] = field(default_factory=list)
    code: str = ""


def read_pdb(text: str) -> tuple[list[RnaChain], datetime.date | None, str]:
    """RNA chains, first release (REVDAT 1) and PDB code of a PDB file's text.

    Raises:
        InputError: no atoms, a line cut off, or coordinates that are no numbers; the message does not name the file.
    """
    header = _read_header(text)
    last = text[text.rfind("\n") + 1 :].rstrip()
    if last and any(record.startswith(last) for record in ("ATOM  ", "HETATM")):
        raise InputError(f"the last line is {last!r}, cut off")
    if bad := _BAD_ATOM.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise InputError(f"line {line}: {bad.group()[30:54].strip()!r}, expected three coordinates in columns 31-54")
    _check_points(text)
    try:
        structure = gemmi.read_pdb_string(_close_models(_SHORT_ATOM.sub(_pad_line, text)), split_chain_on_ter=True)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"not a complete PDB file ({' '.join(str(error).split())})") from error
    groups = _collect_sites(structure)
    if not groups:
        raise InputError("no ATOM rows, expected a PDB file")
    chains = []
    for chain_id, sites in groups.items():
        name = chain_id or UNNAMED
        stated = header.stated.get(name, [])
        chains += build_chains(name, sites.sites, stated, header.parents, named=bool(chain_id))
    return chains, min(header.dates, default=None), header.code


def _check_points(text: str) -> None:
    """Refuses C1' whose columns hold something else than a number each.

    Raises:
        InputError: naming the line.
    """
    for found in _POINT.finditer(text):
        if any(math.isnan(parse_number(cell)) for cell in found.groups()):
            line = text.count("\n", 0, found.start()) + 1
            cells = "".join(found.groups()).strip()
            raise InputError(f"line {line}: {cells!r}, expected three coordinates in columns 31-54")


def _pad_line(match: re.Match[str]) -> str:
    """An atom's line with occupancy and B factor where the file ends it after the coordinates."""
    line = match.group()
    return f"{line:<54}{line[54:60].strip() or '1.00':>6}" + f"{0.0:6.2f}"


def _close_models(text: str) -> str:
    """The text with an ENDMDL before each MODEL that follows another without one."""
    if len(re.findall("^MODEL ", text, re.MULTILINE)) == len(re.findall("^ENDMDL", text, re.MULTILINE)):
        return text
    parts = re.split("^(?=MODEL )", text, flags=re.MULTILINE)
    closed = [part if "\nENDMDL" in part else part.rstrip("\n") + "\nENDMDL\n" for part in parts[1:]]
    return parts[0] + "".join(closed)


def _read_header(text: str) -> _Header:
    header = _Header()
    last: dict[str, int] = {}
    for line in text[: _find_atoms(text)].splitlines():
        if line.startswith("SEQRES"):
            chain_id, serial = line[11:12].strip() or UNNAMED, line[7:10].strip()
            number = int(serial) if serial.isascii() and serial.isdigit() else last.get(chain_id, 0) + 1
            if number > last.get(chain_id, 0):  # some files hold the records twice
                header.stated.setdefault(chain_id, []).extend(line[19:70].split())
                last[chain_id] = number
        elif line.startswith("MODRES"):
            header.parents[line[12:15].strip()] = line[24:27].strip()
        elif line.startswith("REVDAT") and (date := parse_date(line[13:22])):
            header.dates.append(date)
        elif line.startswith("HEADER") and _CODE.fullmatch(line[62:66]):
            header.code = line[62:66].upper()
    return header


def _find_atoms(text: str) -> int:
    """Where the first atom's line begins."""
    found = re.search(r"^(?:ATOM|HETA)..", text, re.MULTILINE)
    return found.start() if found else len(text)


def _collect_sites(structure: gemmi.Structure) -> dict[str, ChainSites]:
    """Residues by chain id, or by segment where the chain column is blank (X-PLOR, CHARMM)."""
    groups: dict[str, ChainSites] = {}
    for model in structure:
        for chain in model:
            begun: set[str] = set()
            for residue in chain:
                chain_id = chain.name.strip() or residue.segment.strip()
                sites = groups.setdefault(chain_id, ChainSites())
                if chain_id not in begun:
                    begun.add(chain_id)
                    sites.end_run()
                _add_residue(sites, str(model.num), residue)
    return groups


def _add_residue(sites: ChainSites, model: str, residue: gemmi.Residue) -> None:
    for atom in residue:
        name = KEPT_ATOMS.get(atom.name)
        if name is not None:
            record = AtomRecord(
                model=model,
                number=residue.seqid.num,
                insertion=residue.seqid.icode.strip(),
                name=residue.name,
                is_het=residue.het_flag == "H",
                atom=name,
                alternate="" if atom.altloc == "\0" else atom.altloc,
                occupancy=atom.occ,
            )
            position = atom.pos
            sites.add_atom(record, (position.x, position.y, position.z))
