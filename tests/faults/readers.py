"""Every reader of the kit beside a plain reading: a malformed file is refused in one line, or read as what it says.

A reader that tolerates odd files (alignments of other programs, structure files) may read less than there is; what it
reads must be there, in the file's order.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from rnafold.candidates.confidence import read_confidence
from rnafold.candidates.layouts import ModelFile
from rnafold.candidates.traces import read_models
from rnafold.candidates.traces import read_table as read_candidate_table
from rnafold.candidates.unpack import read_packed
from rnafold.config.strict_yaml import load_yaml
from rnafold.data.competition import read_labels, read_targets
from rnafold.data.structures.reading import read_structure
from rnafold.errors import InputError
from rnafold.features.cache import load_arrays
from rnafold.features.msa import read_msa
from rnafold.files.metrics import read_metrics
from rnafold.files.run_folder import read_run
from rnafold.model.weights import load_network
from rnafold.planner.quota.ledger import read_ledger, read_sessions
from rnafold.submission import COLUMNS, check_submission, read_records, read_sample, read_submission, repair_submission
from rnafold.submission.rows import COORDINATES
from rnafold.training.checkpoint import load_checkpoint
from tests.faults import corpus, plain

REFUSED = object()
Good = Callable[[Path], bytes]


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader.

    Attributes:
        name: of the format.
        file: the name that a file of it has.
        good: (folder with what lies beside) -> the good file's bytes.
        judge: (path) -> what is wrong with what was read of it, "" for nothing; may raise what the kit raises.
        packed: files of this kind may come packed by gzip.
    """

    name: str
    file: str
    good: Good
    judge: Callable[[Path], str]
    packed: bool = False


def judge_file(reader: Reader, path: Path) -> tuple[str, bool]:
    """What is wrong with how a file was read ("" for nothing), and whether it was refused."""
    before = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    refused, fault = False, ""
    try:
        fault = reader.judge(path)
    except InputError as error:
        refused = True
        message = str(error)
        if "\n" in message or not message.strip() or len(message) > 1010:
            fault = f"refused in {message.count(chr(10)) + 1} lines, {len(message)} letters"
    except Exception as error:  # noqa: BLE001 - what a user would see as a traceback
        fault = f"traceback: {type(error).__name__}: {str(error)[:200]}"
    after = {p: p.read_bytes() for p in path.parent.rglob("*") if p.is_file()}
    return fault or ("" if before == after else f"files changed: {sorted(set(after) ^ set(before))[:3]}"), refused


def compare(found: object, expected: Callable[[], object]) -> str:
    """Whether a reading is the plain one."""
    try:
        wanted = expected()
    except (ValueError, KeyError, RecursionError, OverflowError) as error:
        return f"read although a plain reading fails: {type(error).__name__}: {error}"
    return "" if found == wanted else f"read as {str(found)[:150]}, a plain reading gives {str(wanted)[:150]}"


def unpack(path: Path) -> bytes:
    """The file's bytes, unpacked."""
    import gzip

    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def judge_sequences(path: Path) -> str:
    """Ids, letters and cutoffs."""
    targets = read_targets(path)
    found = [(t.target_id, t.sequence, t.cutoff.isoformat() if t.cutoff else "") for t in targets]
    return compare(found, lambda: plain.read_sequences(unpack(path)))


def judge_labels(path: Path) -> str:
    """Every point of every conformation."""
    found = {
        name: [
            [tuple(point) if real else None for point, real in zip(one.c1.tolist(), one.residue_mask)] for one in sets
        ]
        for name, sets in read_labels(path)
    }
    wanted: dict[str, list[list[plain.Point | None]]] = {}
    fault = compare(sorted(found), lambda: sorted(wanted.update(plain.read_points(unpack(path))) or wanted))
    if fault:
        return fault
    return (
        ""
        if all(same_points(found[name], wanted[name]) for name in found)
        else f"points differ: {found} {wanted}"[:300]
    )


def same_points(found: Any, wanted: Any) -> bool:
    """Whether nested lists of points or None are the same but for the last digit of a float."""
    if found is None or wanted is None or isinstance(found, float):
        return found is wanted or (
            found is not None and wanted is not None and math.isclose(found, wanted, rel_tol=1e-12)
        )
    return len(found) == len(wanted) and all(same_points(a, b) for a, b in zip(found, wanted))


def judge_submission(path: Path) -> str:
    """Every cell."""
    read = read_submission(path)
    coords = read.coords.reshape(len(read.ids), -1).tolist()
    found = [list(row) for row in zip(read.ids, read.resnames, map(str, read.resids), coords)]
    return compare(found, lambda: [list(row) for row in plain.read_submission(path.read_bytes())])


def judge_sample(path: Path) -> str:
    """Ids, names and numbers."""
    read = read_sample(path)
    found = list(zip(read.ids, read.resnames, read.resids))
    return compare(
        found,
        lambda: [
            (r["ID"], r["resname"], int(r["resid"]))
            for r in plain.read_table(path.read_bytes())
            if set(COLUMNS) <= set(r)
        ],
    )


def judge_check(path: Path) -> str:
    """`check` calls a file valid only if every cell of the sample's rows is a number."""
    sample = path.parent / "sample.csv"
    findings = check_submission(path, sample)
    if any(finding.severity == "defect" for finding in findings):
        return ""
    rows = plain.read_table(path.read_bytes())
    wanted = [row["ID"] for row in plain.read_table(sample.read_bytes())]
    good = [row["ID"] for row in rows] == wanted and list(rows[0]) == list(COLUMNS)
    good = good and all(math.isfinite(plain.read_number(row[name])) for row in rows for name in COORDINATES)
    return "" if good else "called valid, a plain reading finds a defect"


def judge_repair(path: Path) -> str:
    """What `repair` writes is valid, and what was right in the file is kept."""
    sample, out = path.parent / "sample.csv", path.parent.parent / "repaired.csv"
    out.unlink(missing_ok=True)
    try:
        repair_submission(path, sample, out)
    except InputError:
        return "half a file was left" if out.exists() else ""
    defects = [finding.message for finding in check_submission(out, sample) if finding.severity == "defect"]
    out.unlink()
    return f"repaired, and still {defects[0]}" if defects else ""


def judge_alignment(path: Path) -> str:
    """Tokens of each row."""
    tokens = read_msa(path, corpus.TARGET).tokens
    letters = {"A": 0, "C": 1, "G": 2, "U": 3, "T": 3, "-": 5, ".": 5}
    return compare(
        tokens.tolist(),
        lambda: [[letters.get(x, 4) for x in row] for row in plain.read_blocks(unpack(path), corpus.LETTERS)],
    )


def judge_yaml(path: Path) -> str:
    """Every value is what its text says by YAML 1.2."""
    section = load_yaml(path)
    found = dict(walk_values(section, ""))
    leaves = plain.read_yaml_leaves(path.read_bytes())
    if set(found) != set(leaves):
        return f"keys {sorted(set(found) ^ set(leaves))[:4]} are in one reading only"
    for key, value in found.items():
        text = leaves[key]
        right = is_right(value, text)
        if not right:
            return f"{key}: {text!r} was read as {value!r}"
    return ""


def is_right(value: Any, text: str) -> bool:
    """Whether a value is what its text says."""
    if isinstance(value, bool):
        return text == str(value).lower()
    if isinstance(value, int):
        return int(text) == value
    if isinstance(value, float):
        return math.isnan(value) or float(text.replace(".inf", "inf")) == value
    return text in ("", "~", "null") if value is None else text == value


def walk_values(value: Any, key: str) -> list[tuple[str, Any]]:
    """The values below a value by their dotted keys."""
    if isinstance(value, dict):
        return [pair for name, inner in value.items() for pair in walk_values(inner, f"{key}.{name}")]
    if isinstance(value, list):
        return [pair for index, inner in enumerate(value) for pair in walk_values(inner, f"{key}[{index}]")]
    return [(key, value)]


def judge_structure(path: Path) -> str:
    """Every residue read is a C1' of the file with that letter; none of a plain nucleotide is left out unsaid."""
    file = read_structure(path)
    data = unpack(path)
    listed = [*plain.read_cif_points(data), *plain.read_pdb_points(data)]
    for _, chain in file.chains:
        for points in chain.models:
            for letter, point in zip(chain.sequence, points.tolist()):
                if math.isfinite(point[0]) and not any(is_at(letter, point, *one) for one in listed):
                    return f"{letter} at {point} does not stand in the file"
    return ""


def is_at(letter: str, point: Sequence[float], name: str, other: Sequence[float]) -> bool:
    """Whether a residue as read is one of the file: longer names are the kit's to know."""
    return near(point, other) and (len(name) > 1 or letter in (plain_letter(name), "N"))


def plain_letter(name: str) -> str:
    """The letter of a residue name of one letter."""
    return plain.read_letters(name) if len(name) == 1 else "N"


def near(point: Sequence[float], other: Sequence[float]) -> bool:
    """Equal but for the last digit of a float."""
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in zip(point, other))


def judge_candidates(path: Path) -> str:
    """Every residue of another program's model is a C1' of the file; its confidence never stops the reading."""
    try:
        text = read_packed(path)
        models = read_models(text)
    except ValueError as error:
        raise InputError(" ".join(str(error).split())[:500]) from error
    read = plain.read_cif_points if "_atom_site." in text else plain.read_pdb_points
    listed = read(text.encode("ascii", errors="replace"))
    for model in models:
        read_confidence(ModelFile(path=path, program="Boltz"), "Boltz", text, model)
        for trace in model.traces:
            for letter, point in zip(trace.letters, trace.points.tolist()):
                if not all(math.isfinite(x) for x in point):
                    continue
                if not any(
                    all(math.isclose(a, b) or not (math.isfinite(a) and math.isfinite(b)) for a, b in zip(point, other))
                    for _, other in listed
                ):
                    return f"{letter} at {point} does not stand in the file"
    return ""


def judge_candidate_table(path: Path) -> str:
    """The conformations of another program's submission, cell by cell."""
    try:
        models = read_candidate_table(read_packed(path))
    except ValueError as error:
        raise InputError(" ".join(str(error).split())[:500]) from error
    try:
        rows = plain.read_table(path.read_bytes().decode("utf-8", errors="replace").encode())
    except ValueError as error:
        return f"read although a plain reading fails: {error}" if models else ""
    numbers = {plain.read_number(value) for row in rows for value in row.values()}
    for model in models:
        for x in model.traces[0].points.ravel().tolist():
            if math.isfinite(x) and x not in numbers:
                return f"{x} does not stand in the file"
    return ""


def judge_confidence(path: Path) -> str:
    """A file with confidences beside a model: read or left out, never a fault."""
    text = corpus.write_pdb().decode()
    for program in ("Boltz", "AlphaFold 3", "Protenix"):
        model = read_models(text)[0]
        found = read_confidence(ModelFile(path=path, program=program, beside=path), program, text, model)
        if found is not None and found.scaled and not 0.0 < found.value <= 1.0:
            return f"a confidence of {found.value}"
    return ""


def judge_records(path: Path) -> str:
    """Every field of every record."""
    records = read_records(path, path.with_name("submission.csv"))
    found = [{f.name: getattr(r, f.name) for f in fields(r)} for rows in records.values() for r in rows]
    listed = json.loads(path.read_bytes())["predictions"]
    same = all(found_row[key] == value for found_row, row in zip(found, listed) for key, value in row.items())
    return "" if same and len(found) == len(listed) else "records differ from the file"


def judge_ledger(path: Path) -> str:
    """Sessions are those that the lines speak of; lines that say nothing sensible count for nothing."""
    sessions = read_sessions(path)
    lines = plain.read_json_lines(path.read_bytes())
    known = {line["session"] for line in lines if isinstance(line.get("session"), str)}
    odd = [s.session_id for s in sessions if s.session_id not in known or not 0 <= s.hours < math.inf]
    return (
        f"a session {odd[0]!r} that the file does not have"
        if odd
        else ("" if len(read_ledger(path)) <= len(lines) else "more records than lines")
    )


def judge_metrics(path: Path) -> str:
    """Lines of a run's metrics as its report reads them."""
    records = read_metrics(path)
    run = read_run(path.parent)
    lines = plain.read_json_lines(path.read_bytes())
    if any(record not in lines for record in records if isinstance(record, dict)):
        return "a record that is no line of the file"
    return "" if len(run.train) + len(run.evaluations) <= len(lines) else "more records than lines"


def judge_cache(path: Path) -> str:
    """Arrays of the cache: as they were written, or made again."""
    found = load_arrays(path, ["left", "values"])
    good = all(np.array_equal(found[name], value) for name, value in CACHED.items()) if found is not None else True
    return "" if good else "other arrays than were written"


CACHED = {"left": np.arange(40, dtype=np.int32), "values": np.linspace(0, 1, 40, dtype=np.float32)}


def judge_weights(path: Path) -> str:
    """Weights: refused, or every tensor the bytes of the file."""
    network = load_network(path)
    state = network.state_dict()
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        same = all(
            name in names and np.array_equal(file.get_tensor(name).numpy(), value.numpy(), equal_nan=True)
            for name, value in state.items()
        )
    finite = all(bool(np.isfinite(value.numpy()).all()) for value in state.values())
    return "" if same and finite else ("tensors differ" if not same else "weights that are not finite were taken")


def judge_checkpoint(path: Path) -> str:
    """One file of the newest checkpoint is malformed: that one as it was written, or the one before."""
    loaded = load_checkpoint(path.parent.parent)
    if loaded is None:
        return "no checkpoint is left"
    step = loaded.state.get("step")
    right = step in (1, 2) and loaded.tensors["model"]["w"].tolist() == [float(step)] * 3
    return "" if right else f"a checkpoint that nobody wrote: {loaded.state}"


def judge_pointer(path: Path) -> str:
    """LATEST is malformed: the newest complete checkpoint, or the one that it names."""
    loaded = load_checkpoint(path.parent)
    named = path.read_bytes().strip() == b"step_00000001"
    return "" if loaded is not None and loaded.state["step"] == (1 if named else 2) else "another checkpoint"
