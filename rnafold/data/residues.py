"""Names of RNA residues in structure files: the four, and modified ones with the parent they read as."""

from collections.abc import Mapping
from typing import Final

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
_DEOXY: Final = {"DA": "A", "DC": "C", "DG": "G", "DT": "U", "DU": "U", "DI": "G"}
_OLD_NAMES: Final = {"ADE": "A", "CYT": "C", "GUA": "G", "URA": "U", "RA": "A", "RC": "C", "RG": "G", "RU": "U"}


def is_nucleotide(name: str) -> bool:
    """True for a residue name that is, or reads as, one of A, C, G, U (deoxy ones are not)."""
    return name in ALPHABET or name in PARENT_OF or name in _OLD_NAMES


def read_letter(name: str, parents: Mapping[str, str] | None = None) -> str:
    """A, C, G, U or N of a residue name; `parents` are those the file itself states and come first."""
    stated = (parents or {}).get(name, name)
    for candidate in (stated, name):
        if candidate in ALPHABET:
            return candidate
        for table in (PARENT_OF, _OLD_NAMES, _DEOXY):
            if candidate in table:
                return table[candidate]
    return UNKNOWN
