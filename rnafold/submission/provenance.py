"""Where each prediction of a submission comes from and what it was expected to reach: a JSON file beside the CSV.

The file holds the submission's sha256, so that a record of another submission, or of one that was changed since, is
refused instead of being read as this one's.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Final

from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.bounded import read_json
from rnafold.files.mounts import hash_file
from rnafold.structure import ORIGINS, Candidate, Evidence, Origin
from rnafold.submission.rows import NUM_CONFORMATIONS, read_sample

SUFFIX: Final = ".predictions.json"
_FORMAT: Final = "rnafold predictions 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRecord:
    """One prediction of a target.

    Attributes:
        target_id: as in the submission.
        prediction: 1 to 5, as in the submission's columns.
        origin: what made it.
        confidence: expected TM-score; None where nothing was expected (a plain strand, or a candidate that failed
            quality control and only fills a place).
        note: from what (a template's id, a seed, another program's file).
        source: the other program that made it, "" for this one.
        spread: standard deviation of the TM-score around the expected one, where several programs' were judged.
        likeness: mean TM-score to the other sources' models, where several programs' were judged on one scale.
        own_confidence: what that program says of it itself; `own_name` says which figure that is.
        may_have_seen: the target was released before the stated training cutoff of the program.
        num_added: residues that the model lacked and the assembler added.
    """

    target_id: str
    prediction: int
    origin: Origin
    confidence: float | None
    note: str = ""
    source: str = ""
    spread: float | None = None
    likeness: float | None = None
    own_confidence: float | None = None
    own_name: str = ""
    may_have_seen: bool = False
    num_added: int = 0


# What a record has only where other programs' models were judged, each with its kinds.
_OPTIONAL: Final[dict[str, tuple[type, ...]]] = {
    "source": (str,),
    "spread": (float, int, NoneType),
    "likeness": (float, int, NoneType),
    "own_confidence": (float, int, NoneType),
    "own_name": (str,),
    "may_have_seen": (bool,),
    "num_added": (int,),
}


Records = Mapping[str, tuple[PredictionRecord, ...]]


def describe_candidates(target_id: str, candidates: Sequence[Candidate]) -> tuple[PredictionRecord, ...]:
    """Records of the candidates picked for a target, in the order of the submission."""
    return tuple(_describe(target_id, number, candidate) for number, candidate in enumerate(candidates, start=1))


def _describe(target_id: str, number: int, candidate: Candidate) -> PredictionRecord:
    evidence = candidate.evidence or Evidence()
    return PredictionRecord(
        target_id=target_id,
        prediction=number,
        origin=candidate.origin,
        confidence=float(candidate.confidence) if 0.0 < candidate.confidence <= 1.0 else None,
        note=candidate.note,
        source=candidate.source,
        spread=evidence.spread or None,
        likeness=evidence.likeness,
        own_confidence=evidence.own_confidence,
        own_name=evidence.own_name,
        may_have_seen=evidence.may_have_seen,
        num_added=evidence.num_added,
    )


def _to_mapping(record: PredictionRecord) -> dict[str, Any]:
    """A record as JSON; what only other programs' models have is left out where there is none."""
    plain = PredictionRecord(target_id="", prediction=0, origin=record.origin, confidence=None)
    return {key: value for key, value in asdict(record).items() if key not in _OPTIONAL or value != getattr(plain, key)}


def describe_fallback(target_id: str) -> tuple[PredictionRecord, ...]:
    """Records of a target that keeps the plain strands of the first file."""
    strand = PredictionRecord(
        target_id=target_id, prediction=1, origin="fallback", confidence=None, note="A-form strand"
    )
    return tuple(replace(strand, prediction=number) for number in range(1, NUM_CONFORMATIONS + 1))


def records_path(submission: Path) -> Path:
    """`submission.predictions.json` for `submission.csv`, so that two submissions in a folder have one each."""
    return submission.with_suffix(SUFFIX)


def write_records(submission: Path, records: Records) -> Path:
    """Writes the record beside a submission that is complete on disk; returns its path.

    Raises:
        InputError: the submission cannot be read, or the folder not written to.
    """
    content = {
        "format": _FORMAT,
        "submission": submission.name,
        "sha256": hash_file(submission),
        "predictions": [_to_mapping(record) for rows in records.values() for record in rows],
    }
    path = records_path(submission)
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def find_records(submission: Path, chosen: Path | None = None) -> tuple[Records | None, str]:
    """The records of a submission, or None and one line that says why there are none.

    A record asked for must fit. One that merely lies beside the submission and does not fit is left out.

    Raises:
        InputError: the record asked for does not exist, is malformed, or is another submission's.
    """
    if chosen is not None:
        return read_records(chosen, submission), ""
    beside = records_path(submission)
    if not beside.is_file():
        return None, f"{beside}: no such file; `predict` writes it beside its submission"
    try:
        return read_records(beside, submission), ""
    except InputError as error:
        return None, str(error)


def read_records(path: Path, submission: Path) -> dict[str, tuple[PredictionRecord, ...]]:
    """The records of a submission by target, each five in order.

    Raises:
        InputError: no valid record, or one of another submission: sha256, targets or counts differ.
    """
    content = _read_object(path)
    expected, found = content["sha256"], hash_file(submission)
    if found != expected:
        raise InputError(
            f"{path}: is of another file than {submission} (sha256 {str(expected)[:12]}... recorded, {found[:12]}... "
            "found): the submission was changed or written again since"
        )
    records: dict[str, list[PredictionRecord]] = {}
    for place, item in enumerate(content["predictions"], start=1):
        record = _parse_record(item, f"{path}: prediction {place}")
        records.setdefault(record.target_id, []).append(record)
    targets = read_sample(submission).groups
    odd = sorted(set(targets) ^ set(records))
    if odd:
        raise InputError(f"{path}: {len(odd)} targets are in it or in {submission} only, first {', '.join(odd[:3])}")
    for target_id, rows in records.items():
        if [record.prediction for record in rows] != list(range(1, NUM_CONFORMATIONS + 1)):
            numbers = ", ".join(str(record.prediction) for record in rows)
            raise InputError(f"{path}: {target_id} has the predictions {numbers}, expected 1 to {NUM_CONFORMATIONS}")
    return {target_id: tuple(rows) for target_id, rows in records.items()}


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{path}: not a record of predictions (expected the format {_FORMAT!r})")
    if not isinstance(content.get("sha256"), str) or not isinstance(content.get("predictions"), list):
        raise InputError(f"{path}: lacks its sha256 or its predictions (cut off?)")
    return content


def _parse_record(item: Any, place: str) -> PredictionRecord:
    kinds = {"target_id": str, "prediction": int, "origin": str, "note": str}
    if not isinstance(item, dict) or set(item) - set(_OPTIONAL) != {*kinds, "confidence"}:
        raise InputError(f"{place}: expected the keys target_id, prediction, origin, confidence and note")
    wrong = [name for name, kind in kinds.items() if type(item[name]) is not kind]
    wrong += [name for name in _OPTIONAL if name in item and type(item[name]) not in _OPTIONAL[name]]
    for name in ("spread", "likeness", "own_confidence"):
        if isinstance(item.get(name), float) and not math.isfinite(item[name]):
            wrong.append(name)
    confidence = item["confidence"]
    if confidence is not None:
        number = isinstance(confidence, (int, float)) and not isinstance(confidence, bool)
        if not number or not math.isfinite(confidence) or not 0.0 <= confidence <= 1.0:
            wrong.append("confidence")
    if wrong:
        raise InputError(f"{place}: {wrong[0]}: found {item[wrong[0]]!r}")
    if item["origin"] not in ORIGINS:
        raise InputError(f"{place}: origin: found {item['origin']!r}, expected one of {', '.join(ORIGINS)}")
    return PredictionRecord(**item)
