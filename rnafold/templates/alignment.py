"""How queries are aligned with library chains, and what an alignment is."""

from dataclasses import dataclass

from rnafold.structure import IntArray


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to align: `mode` global, semi (end gaps free) or local; `structure` weighs the pairing term."""

    name: str
    mode: str
    structure: float
    opening: float
    extension: float


SETTINGS = (
    Setting("global", "global", 0.0, -8.0, -0.4),
    Setting("global+structure", "global", 1.0, -8.0, -0.4),
    Setting("semi+structure", "semi", 1.0, -6.0, -0.6),
    Setting("local+structure", "local", 1.0, -6.0, -0.6),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hit:
    """One alignment: `mapping` (L,) the library chain's residue of each query residue, -1 where none; `score` / 2L."""

    chain: int
    setting: int
    score: float
    mapping: IntArray
