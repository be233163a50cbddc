"""One source of models: what a user names, and what came of it, with every refusal counted."""

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rnafold.candidates.confidence import OwnConfidence
from rnafold.candidates.layouts import PLAIN
from rnafold.errors import InputError
from rnafold.structure import ORIGINS, FloatArray, Target

_DATE: Final = re.compile(r"^(?P<name>[^@]*)@(?P<date>\d{4}-\d{2}-\d{2})$")
# Names of our own, which no source may have.
RESERVED: Final = frozenset(ORIGINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What a user names: a path, the source's name ("": by what is found there), and its training cutoff if stated."""

    path: Path
    name: str = ""
    trained_until: datetime.date | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutsideModel:
    """A model that another program made of a target.

    Attributes:
        points: (L, 3) in Å, NaN where the model lacks a residue.
        note: file and number in it.
        own: what the program itself says of it.
        chain_ids: as the file names the chains taken: the copies of one job have one each.
        order: sorts a source's models as the program ranks them.
    """

    points: FloatArray
    note: str
    own: OwnConfidence | None = None
    chain_ids: tuple[str, ...] = ()
    order: tuple[object, ...] = ()


@dataclass(slots=True, kw_only=True)
class Source:
    """The models of one source by target, and how many were refused for what, with the first file of each.

    Attributes:
        name: by which slots.yaml and the report know it.
        program: what wrote it, as far as it was recognised.
        trained_until: the training cutoff that the user stated.
        models: by target_id, as the program ranks them.
        refused: reason -> names of files.
    """

    name: str
    program: str = PLAIN
    trained_until: datetime.date | None = None
    models: dict[str, list[OutsideModel]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_models(self) -> int:
        """How many models of all targets there are."""
        return sum(len(models) for models in self.models.values())

    def may_have_seen(self, target: Target) -> bool:
        """Whether the target was released before the source's stated training cutoff."""
        return self.trained_until is not None and target.cutoff is not None and target.cutoff <= self.trained_until

    def refuse(self, reason: str, name: str) -> None:
        """Counts a refusal."""
        self.refused.setdefault(reason, []).append(name)

    def describe(self) -> str:
        """One line: what was read, what refused and why, the first file of each reason."""
        told = ", ".join(
            f"{len(names)} {reason} ({names[0]}{', ..' if len(names) > 1 else ''})"
            for reason, names in self.refused.items()
        )
        until = f", trained until {self.trained_until}" if self.trained_until else ""
        known = f" ({self.program})" if self.program not in (PLAIN, self.name) else ""
        line = f"{self.name}{known}{until}: {self.num_models} models of {len(self.models)} targets"
        return f"{line}; refused: {told}" if told else line


def parse_source(text: str) -> SourceSpec:
    """`[NAME[@YYYY-MM-DD]=]PATH`.

    Raises:
        InputError: no such path, a date that is none, or the name of an origin of our own.
    """
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        name, path = "", text
    until = None
    if "@" in name:
        match = _DATE.match(name)
        if match is None:
            raise InputError(f"--candidates {text}: found {name!r}, expected NAME@YYYY-MM-DD=PATH")
        name = match["name"]
        try:
            until = datetime.date.fromisoformat(match["date"])
        except ValueError:
            raise InputError(f"--candidates {text}: {match['date']} is no date") from None
    if name.lower() in RESERVED or (equals and name == "" and path != text and until is None):
        raise InputError(f"--candidates {text}: the name {name!r} is taken; call the source something else")
    if not path or not Path(path).exists():
        raise InputError(f"--candidates {text}: no such file or folder: {path or '(empty)'}")
    return SourceSpec(path=Path(path), name=name, trained_until=until)
