"""Names of RNA residues in structure files: the four as programs write them, and modified ones with their parents."""

from collections.abc import Mapping
from typing import Final

import gemmi

from rnafold.rna import ALPHABET, UNKNOWN

# Parent: modified residues of the PDB's chemical component dictionary seen in RNA chains.
_MODIFIED: Final = {
    "A": "1MA 2MA 6MA MA6 6MZ A2M MIA T6A 12A A23 AET 6IA MTU RIA PPU A5O 7AT 1AP 8AN MAD AVC A44 LCA ZAD",
    "C": "5MC OMC 4OC 5HM 5IC CBV CCC C5L C2E 10C RSQ S4C C43 LCC ZCY 4AC",
    "G": "OMG 2MG M2G 7MG 1MG YYG YG QUO GTP GDP G7M O2G GAO G46 G48 LCG PGP XUG 8OG G1G IG I",
    "U": "PSU H2U 5MU OMU 4SU 5BU UR3 U8U 2MU 70U MNU 5FU 125 126 127 SUR UMS S2M U36 3AU FHU CM0 B8H MUM T5O RT UD5",
}
# Inosine (I) reads as G: it pairs with C.
PARENT_OF: Final[dict[str, str]] = {name: parent for parent, names in _MODIFIED.items() for name in names.split()}
# Nucleotides that a riboswitch, a polymerase or a crystal holds as ligands; of a chain at most its first residue.
_LIGANDS: Final = (
    "AMP ADP ATP ANP ACP AGS APC A2P A3P ADN 5GP GMP GDP GTP GNP GCP GSP G2P GH3 GPX GNG C5P CDP CTP CTN U5P UMP UDP "
    "UTP DUP C2E 2BA 4BW 1SY CGA PGP G4P 0O2 SAM SAH SFG NAD NAI NAP NDP FAD FMN COA ACO"
)
LIGANDS: Final = frozenset(_LIGANDS.split())
# X-PLOR and CNS, old Rosetta (rA is RA in upper case), CHARMM; T where a program writes RNA with T.
_OLD_NAMES: Final = {
    "ADE": "A", "CYT": "C", "GUA": "G", "URA": "U", "URI": "U", "T": "U", "THY": "U",
    "RAD": "A", "RCY": "C", "RGU": "G", "RUR": "U", "RURA": "U", "RADE": "A", "RCYT": "C", "RGUA": "G",
}  # fmt: skip
# Amber, GROMACS: R or nothing, the letter, and 5, 3 or N for an end or a lone residue; `+A`: modified, before 2007.
_PLAIN: Final[dict[str, str]] = _OLD_NAMES | {
    f"{before}{letter}{after}": letter
    for letter in ALPHABET
    for before, ends in (("", ("", "3", "5", "N")), ("R", ("", "3", "5", "N")), ("+", ("",)))
    for after in ends
}  # fmt: skip
_DEOXY: Final[dict[str, str]] = {
    f"D{letter}{end}": read
    for letter, read in zip("ACGTUI", "ACGUUG", strict=True)
    for end in ("", "3", "5", "N")
}  # fmt: skip
THYMINES: Final = frozenset({"T", "THY"})


def is_plain(name: str) -> bool:
    """True for a name of A, C, G or U itself, in any program's spelling."""
    return name.upper() in _PLAIN


def is_nucleotide(name: str) -> bool:
    """True for a residue name that is, or reads as, one of A, C, G, U (deoxy ones are not)."""
    return is_plain(name) or name.upper() in PARENT_OF or _read_tabulated(name) is not None


def is_deoxy(name: str) -> bool:
    """True for the names that only DNA has."""
    return name.upper() in _DEOXY


def read_letter(name: str, parents: Mapping[str, str] | None = None) -> str:
    """A, C, G, U or N of a residue name; `parents` are those the file itself states and come first."""
    stated = (parents or {}).get(name, name)
    for candidate in (stated.upper(), name.upper()):
        for table in (_PLAIN, PARENT_OF, _DEOXY):
            if candidate in table:
                return table[candidate]
    return _read_tabulated(name) or UNKNOWN


def _read_tabulated(name: str) -> str | None:
    """The letter of a modified RNA residue by gemmi's table of common components; None where it has none."""
    found = gemmi.find_tabulated_residue(name.upper())
    letter = found.one_letter_code.upper() if found.kind == gemmi.ResidueKind.RNA else ""
    return letter if letter and letter in ALPHABET else None
