"""The text of a model card, section by section, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rnafold import __version__
from rnafold.config.reproduction import format_train_command, wrap_command
from rnafold.config.settings import Config, TrainChoices
from rnafold.features.build import MAX_WHOLE
from rnafold.files.run_folder import RunRecord, look_up, read_number

if TYPE_CHECKING:
    from rnafold.report.model_card import Result

_CURVE_ROWS: Final = 8
_BASELINES: Final = (("zeros", "all zeros"), ("straight_line", "straight lines"), ("start", "start structures"))
_NOTHING: Final = "–"
# Limits that depend on whether a start structure is refined.
_PSEUDOKNOTS: Final = {
    "pair": "assembled starts hold nested base pairs only; a pseudoknot has to come from a template's coordinates",
    "plain": "it knows no base pairs, nested or not",
}
_COMPLEXES: Final = {
    "pair": "it begins at the arrangement that the start structure gives the chains and was not made to dock them",
    "plain": "it tells chains apart by number only and was not made to place them",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a card is written from: the run's records and configuration, and the weights file's own figures.

    `description` is what the weights file says of itself, `weights_name` what the card calls it.
    """

    run: RunRecord
    run_folder: str
    config: Config
    choices: TrainChoices
    description: Mapping[str, Any]
    weights_name: str
    num_parameters: int
    num_bytes: int
    sha256: str


def build_card(facts: CardFacts, results: Sequence["Result"]) -> str:
    """The whole card."""
    parts = (
        _write_model(facts),
        _write_use(facts),
        _write_data(facts),
        _write_commands(facts, results),
        _write_curve(facts),
        _write_results(results),
        _write_limits(facts),
        _write_versions(facts),
    )
    return "\n\n".join(parts) + "\n"


def _write_model(facts: CardFacts) -> str:
    model = facts.config.model
    kind = (
        "refines an assembly from base pairs with pair-biased attention, told of templates and other assemblies,"
        if model.kind == "pair"
        else "is a plain transformer that sees the sequence alone, with neither pairs nor a start structure,"
    )
    rows = [
        ("network", f"`{model.name}` (kind {model.kind}), {facts.num_parameters:,} parameters"),
        ("layers, width, heads", f"{model.layers}, {model.width}, {model.attention_heads}"),
        ("weights file", f"`{facts.weights_name}`, {facts.num_bytes:,} bytes ({facts.num_bytes / 2**20:.1f} MiB)"),
        ("sha256", f"`{facts.sha256}`"),
        ("taken at", f"step {int(facts.description['step']):,}: moving average, best validation TM-score"),
        ("seed", f"{facts.config.train.seed} (data order, crops, noise, weights and dropout hang on it)"),
    ]
    about = f"An RNA 3D structure network: it {kind} and gives one C1' position a residue, in Å."
    return f"# {facts.weights_name}\n\n{about}\n\n{_table(('', ''), rows)}"


def _write_use(facts: CardFacts) -> str:
    return (
        "## Intended use\n\nC1' models of RNA for research: one source of the five predictions of `python -m rnafold "
        f"predict --weights {facts.weights_name}`, and a start for further training. Not for decisions about people, "
        "and no replacement for an experiment."
    )


def _write_data(facts: CardFacts) -> str:
    data = facts.config.data
    columns = ("entries", "clusters", "residues", "longest")
    rows = []
    for part in ("train", "validation"):
        values = [read_number(look_up(facts.run.summary, part, name)) for name in columns]
        rows.append((part, *(_NOTHING if value is None else f"{value:,.0f}" for value in values)))
    if data.validation == "file":
        split = "Validation: the data folder's own validation file, never trained on"
    else:
        split = (
            f"Split: the latest {data.development_fraction:.0%} of the sequence clusters validate, so that each is "
            f"younger than every training entry and none is {data.cluster_identity:.0%} identical to one"
        )
    split += f"; at most {data.max_validation} of them, spread over the lengths." if data.max_validation else "."
    what = (
        "Chains of `train_sequences.csv` and `train_labels.csv`, files of the Stanford RNA 3D Folding competitions, "
        f"released before the cutoff **{data.cutoff}**, of {data.min_length} residues or more, cropped to "
        f"{data.crop_length}. Start structures: {data.start}."
    )
    header = ("", "entries", "clusters", "residues", "longest (nt)")
    return f"## Data\n\n{what}\n\n{_table(header, rows)}\n\n{split}"


def _write_commands(facts: CardFacts, results: Sequence["Result"]) -> str:
    weights = facts.weights_name
    train = format_train_command(facts.choices, "DIR", f"runs/{facts.run_folder}")
    predict = wrap_command(
        ["python -m rnafold predict", "--test DIR/test_sequences.csv", "--sample DIR/sample_submission.csv"]
        + ["--templates DIR", f"--weights {weights}", "--out submission.csv"]
    )
    sets = " ".join(dict.fromkeys(result.set for result in results))
    benchmark = wrap_command(
        ["python benchmarks/network.py", "--data DIR", f"--weights {weights}", f"--sets {sets}", "--json results.json"]
    )
    card = wrap_command([f"python -m rnafold card --run runs/{facts.run_folder}", "--results results.json"])
    blocks = "\n\n".join(f"    {command}".replace("\n", "\n    ") for command in (train, predict, benchmark, card))
    return (
        f"## Commands that reproduce it\n\n{_explain_folds(facts)}`DIR` holds the competition's files. Of these the "
        "first trains the weights, the others predict with them, measure them and write this card. Where the cache "
        f"lies (`data.cache`) is left out: it changes nothing.\n\n{blocks}"
    )


def _explain_folds(facts: CardFacts) -> str:
    models = facts.config.data.start_models
    if not models:
        return ""
    return (
        f"The fold models `{models}`, which rate the starts of training chains, come first: `python "
        f"scripts/train_ranker.py --data DIR --out runs/folds-scratch --folds {models}`; `make weights DATA=DIR` "
        "does all of this in one go. "
    )


def _write_curve(facts: CardFacts) -> str:
    run = facts.run
    rows = []
    for record in choose_evaluations(run.evaluations):
        step = float(record["step"])
        before: Mapping[str, Any] = next((e for e in reversed(run.train) if float(e["step"]) <= step), {})
        seconds = read_number(before.get("elapsed_seconds"))
        rows.append(
            (
                f"{step:,.0f}",
                _number(record.get("epoch"), "g"),
                _number(before.get("loss"), ".3f"),
                _number(before.get("learning_rate"), ".2g"),
                _number(record.get("tm_score"), ".4f"),
                _NOTHING if seconds is None else f"{seconds / 3600:.2f}",
            )
        )
    known = {label: read_number(look_up(run.summary, "baselines_tm_score", key)) for key, label in _BASELINES}
    baselines = ", ".join(f"{label} {value:.4f}" for label, value in known.items() if value is not None)
    header = ("step", "epoch", "training loss", "learning rate", "validation TM-score", "hours")
    epoch, planned = read_number(run.train[-1].get("epoch")) or 0.0, facts.config.train.epochs
    early = "" if epoch >= planned else f" It stopped at epoch {epoch:g} of the {planned} that the command allows."
    return (
        f"## Training\n\n{_table(header, rows)}\n\nValidation TM-score: mean over the validation targets, one "
        f"prediction each. Beside it: {baselines}.{early}"
    )


def choose_evaluations(records: Sequence[Mapping[str, Any]], most: int = _CURVE_ROWS) -> list[Mapping[str, Any]]:
    """At most `most` evaluations: the first, the best, the last, and others evenly between."""
    if len(records) <= most:
        return list(records)
    best = max(range(len(records)), key=lambda k: read_number(records[k].get("tm_score")) or 0.0)
    even = {round(k * (len(records) - 1) / (most - 2)) for k in range(most - 1)}
    return [records[k] for k in sorted(even | {best})]


def _write_results(results: Sequence["Result"]) -> str:
    rows = [
        (
            result.set,
            result.row,
            f"{result.mean:.4f}",
            _NOTHING if result.standard_error is None else f"{result.standard_error:.4f}",
            str(len(result.by_target)) if result.by_target else _NOTHING,
        )
        for result in results
    ]
    parts = ["## Results", _table(("set", "what", "mean", "standard error", "targets"), rows)]
    for name in dict.fromkeys(result.set for result in results):
        columns = [result for result in results if result.set == name and result.by_target]
        if columns:
            parts.append(f"### {_escape(name)}, by target")
            parts.append(_write_targets(columns))
    return "\n\n".join(parts)


def _write_targets(columns: Sequence["Result"]) -> str:
    """A row a target, the best by the first column first."""
    first = columns[0].by_target
    names = dict.fromkeys(target_id for result in columns for target_id in result.by_target)
    ordered = sorted(names, key=lambda name: (-first[name] if name in first else float("inf"), name))
    rows = [(name, *(_number(result.by_target.get(name), ".4f") for result in columns)) for name in ordered]
    return _table(("target", *(result.row for result in columns)), rows)


def _write_limits(facts: CardFacts) -> str:
    data, summary = facts.config.data, facts.run.summary
    longest = read_number(look_up(summary, "train", "longest"))
    start = read_number(look_up(summary, "baselines_tm_score", "start"))
    reached = read_number(facts.description.get("validation_tm_score"))
    seen = "" if longest is None else f" (the longest had {longest:,.0f})"
    lines = [
        "One C1' atom a residue: no backbone, no bases, no hydrogens.",
        f"Length: trained on at most {data.crop_length} residues at once, pieces of longer chains{seen}. Longer "
        f"targets are predicted all the same, whole up to {MAX_WHOLE} residues and in superposed chunks beyond: it "
        "never trained on that.",
        f"Pseudoknots: {_PSEUDOKNOTS[facts.config.model.kind]}.",
        f"Complexes: {_COMPLEXES[facts.config.model.kind]}. Proteins, DNA, ligands and ions are not seen.",
        "It reads A, C, G and U: modified residues count as their parents.",
        f"Not trained on anything released on or after {data.cutoff}, nor on chains shorter than {data.min_length} "
        "residues; folds unlike those known by then are beyond what was measured in training.",
    ]
    if start is not None and reached is not None and facts.config.model.kind == "pair":
        gain = reached - start
        what = "better than" if gain > 0 else "no better than"
        lines.append(
            f"On its own validation set it is {what} its start structures: {reached:.4f} against {start:.4f} "
            f"({gain:+.4f}); this set chose the step and flatters it."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _write_versions(facts: CardFacts) -> str:
    versions = look_up(facts.run.summary, "versions")
    rows = [(str(name), str(value)) for name, value in versions.items()] if isinstance(versions, Mapping) else []
    rows += [("hardware", facts.config.hardware.name), ("precision", facts.config.train.precision)]
    rows.append(("this card by rnafold", __version__))
    return f"## Versions\n\n{_table(('trained with', ''), rows)}"


def _number(value: Any, form: str) -> str:
    number = read_number(value)
    return _NOTHING if number is None else f"{number:{form}}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def _escape(text: str) -> str:
    """A cell's text on one line, with no bar that would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")
