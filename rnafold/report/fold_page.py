"""What `fold` leaves of an RNA: models as mmCIF and PDB, models.json, and one HTML page that needs nothing else."""

import itertools
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from rnafold import __version__, rna
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.geometry import transform
from rnafold.prediction.fold import Folded
from rnafold.report.arcs import Strip, draw_arcs, list_arcs
from rnafold.report.export import write_mmcif, write_pdb
from rnafold.report.fold_script import FOLD_SCRIPT
from rnafold.report.structures import principal_axes
from rnafold.report.style import STYLE
from rnafold.scoring.tm import match_residues, superpose_pairs
from rnafold.structure import (
    CARRIED,
    FILLED,
    LINKER,
    LOOP,
    STEM,
    Candidate,
    FloatArray,
    IntArray,
    structure_from_points,
)

FORMAT: Final = "rnafold fold 1"
REMARK: Final = "EXPECTED ERROR OF THE RESIDUE IN ANGSTROM"
_RAMP: Final = ("#1f4ea3", "#5fb3d9", "#f3e28b", "#ee8b3c", "#b3202c")
_LIMITS: Final = (2, 4, 8, 16, 32, 64)
_CHAIN_COLORS: Final = ("#2f6fb5", "#e08a00", "#00916a", "#b3202c", "#8a63b8", "#5f6b76")
# What a residue rests on: the word, and its colour.
_GROUNDS: Final = {
    CARRIED: ("template", "#2f6fb5"),
    STEM: ("ideal stem", "#00916a"),
    LOOP: ("loop of a known structure", "#e08a00"),
    LINKER: ("ideal loop or linker", "#b59ad6"),
    FILLED: ("built, nothing known", "#b9c1ca"),
}
_OUTSIDE: Final = 5
_ORIGIN_WORDS: Final = {"network": "refined", "fallback": "plain strand", "other": "another program"}
_PROGRAM: Final = ("another program's model", "#8f6a3a")


def write_fold(folded: Folded, folder: Path) -> list[Path]:
    """Writes an RNA's models, models.json and index.html into a folder; returns their paths.

    The models are superposed on the first. PDB files are left out where the format has no room for the RNA.

    Raises:
        InputError: the folder cannot be written to.
    """
    coords = superpose_on_first(folded.models)
    written: list[Path] = []
    notes: list[str] = []
    for number, (points, errors) in enumerate(zip(coords, folded.errors), start=1):
        written.append(folder / f"model_{number}.cif")
        write_mmcif(written[-1], folded.target, points, errors, REMARK)
        try:
            write_pdb(folder / f"model_{number}.pdb", folded.target, points, errors, REMARK)
            written.append(folder / f"model_{number}.pdb")
        except InputError as error:
            if not (folder / f"model_{number}.cif").is_file():
                raise
            notes = [f"no PDB files: {error}"]
    files = [path.name for path in written]
    record = fold_to_json(folded, files) | {"notes": notes}
    write_text(folder / "models.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    write_text(folder / "index.html", build_fold_page(folded, coords, files))
    return [*written, folder / "models.json", folder / "index.html"]


def superpose_on_first(models: Sequence[Candidate]) -> FloatArray:
    """(M, L, 3) the models moved onto the first by the best TM-score, which is turned to show its widest side."""
    first = models[0].coords
    centre, axes = principal_axes(first)
    reference = structure_from_points(first)
    moved = []
    for model in models:
        pair = match_residues(model.coords, reference)
        points = model.coords
        if pair is not None and model is not models[0]:
            found = superpose_pairs([pair], "fast")[0]
            points = transform(points, found.rotation, found.translation)
        # the page looks along the third axis, the thinnest
        moved.append(((points - centre) @ axes)[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0]))
    return np.stack(moved)


def fold_to_json(folded: Folded, files: Sequence[str]) -> dict[str, Any]:
    """What models.json holds; positions count from 1 over all chains, errors are in Å."""
    target, pairing = folded.target, folded.pairing
    return {
        "format": FORMAT,
        "version": __version__,
        "name": target.target_id,
        "sequence": target.sequence,
        "chains": [
            {"id": chain.chain_id, "copy": chain.copy, "first": chain.start + 1, "last": chain.stop}
            for chain in target.chains
        ],
        "predicted_pairs": {
            "dot_bracket": rna.format_dot_bracket(pairing.partner),
            "source": pairing.source,
            "alternatives": [
                {"dot_bracket": rna.format_dot_bracket(one.partner), "source": one.source}
                for one in pairing.alternatives
            ],
        },
        "wishes": {
            "formed": _count_from_one(folded.wishes.formed),
            "forbidden": _count_from_one(folded.wishes.forbidden),
            "unpaired": [i + 1 for i in folded.wishes.unpaired],
        },
        "models": [
            {
                "model": number,
                "files": [name for name in files if name.startswith(f"model_{number}.")],
                "origin": model.origin,
                "source": model.source,
                "note": model.note,
                "expected_tm_score": round(float(model.confidence), 4),
                "mean_expected_error": round(float(errors.mean()), 2),
                "expected_error": [round(float(value), 2) for value in errors],
                "rests_on": list_grounds(model),
                "dot_bracket": rna.format_dot_bracket(partner),
                "pairs": _count_from_one([(i, int(j)) for i, j in enumerate(partner) if j > i]),
                "not_met": list(unmet),
            }
            for number, (model, errors, partner, unmet) in enumerate(
                zip(folded.models, folded.errors, folded.partners, folded.unmet), start=1
            )
        ],
        "seconds": round(folded.seconds, 1),
    }


def _count_from_one(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    return [[i + 1, j + 1] for i, j in pairs]


def _kinds_of(model: Candidate) -> IntArray:
    """(L,) what each residue rests on; a place of its own for other programs' models."""
    if model.source:
        return np.full(len(model.coords), _OUTSIDE, dtype=np.int64)
    return np.full(len(model.coords), FILLED) if model.grounds is None else model.grounds.kinds


def _name_kind(kind: int) -> tuple[str, str]:
    return _PROGRAM if kind == _OUTSIDE else _GROUNDS[kind]


def list_grounds(model: Candidate) -> list[dict[str, Any]]:
    """Stretches of residues (first and last from 1) and what each rests on."""
    kinds = _kinds_of(model)
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    return [{"first": a + 1, "last": b, "on": _name_kind(int(kinds[a]))[0]} for a, b in itertools.pairwise(edges)]


def build_fold_page(folded: Folded, coords: FloatArray, files: Sequence[str]) -> str:
    """The whole page."""
    target = folded.target
    limit = next((x for x in _LIMITS if x >= float(np.quantile(folded.errors[0], 0.9))), _LIMITS[-1])
    kinds = [_kinds_of(model) for model in folded.models]
    owner = np.concatenate([np.full(c.stop - c.start, k) for k, c in enumerate(target.chains)])
    data = {
        "limit": limit,
        "ramp": _RAMP,
        "groundColors": {str(kind): _name_kind(kind)[1] for kind in (*_GROUNDS, _OUTSIDE)},
        "chainColors": _CHAIN_COLORS,
        "chainOf": owner.tolist(),
        "ends": [[k, word] for c in target.chains[:4] for k, word in ((c.start, "5′"), (c.stop - 1, "3′"))],
        "models": [
            {
                "coords": np.round(10 * points).astype(int).reshape(-1).tolist(),
                "errors": np.round(10 * errors).astype(int).tolist(),
                "kinds": own.tolist(),
                "partner": partner.tolist(),
            }
            for points, errors, own, partner in zip(coords, folded.errors, kinds, folded.partners)
        ],
    }
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    body = _write_header(folded) + _write_view(folded, limit, kinds) + _write_arcs(folded, limit, kinds)
    body += _write_table(folded, files) + _write_notes(folded)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(target.target_id)} · rnafold</title>\n<style>{STYLE}{_STYLE}</style>\n</head>\n<body>\n"
        f'<main>\n{body}\n</main>\n<p id="page-error" role="alert" hidden></p>\n'
        f'<script type="application/json" id="fold-data">{text}</script>\n<script>{FOLD_SCRIPT}</script>\n'
        "</body>\n</html>\n"
    )


def _write_header(folded: Folded) -> str:
    target, best = folded.target, folded.models[0]
    chains = f"{len(target.chains)} chains" if len(target.chains) > 1 else "one chain"
    met = sum(not unmet for unmet in folded.unmet)
    cards = [
        ("expected TM-score", f"{best.confidence:.2f}", "of the first model; 0.45 and more is the right fold"),
        ("expected error", f"{np.median(folded.errors[0]):.1f} Å", "median residue of the first model"),
        ("made from", _name_origin(best), "the first model"),
        ("pairs", str(int((folded.partners[0] >= 0).sum()) // 2), "that the first model forms"),
    ]
    if folded.wishes:
        cards.append(("wishes", f"{met} of {len(folded.models)}", "models meet all that was asked of their pairs"))
    boxes = "".join(
        f'<div class="card"><p class="label">{escape(a)}</p><p class="value">{escape(b)}</p>'
        f'<p class="detail">{escape(c)}</p></div>'
        for a, b, c in cards
    )
    return (
        f'<header><p class="eyebrow">rnafold · five models of one RNA</p><h1>{escape(target.target_id)}</h1>'
        f'<p class="subtitle">{target.length:,} nt in {chains}; one C1′ atom a residue.</p>'
        f'<div class="cards">{boxes}</div></header>'
    )


def _name_origin(model: Candidate) -> str:
    if model.source:
        return model.source
    return _ORIGIN_WORDS.get(model.origin, model.origin)


def _write_view(folded: Folded, limit: int, kinds: Sequence[IntArray]) -> str:
    pick = "".join(
        f'<button type="button" class="switch" data-pick="{k}" aria-pressed="false">model {k + 1}</button>'
        for k in range(len(folded.models))
    )
    show = "".join(
        f'<button type="button" class="switch" data-show="{k}" aria-pressed="false">{k + 1}</button>'
        for k in range(len(folded.models))
    )
    colors = "".join(
        f'<button type="button" class="switch" data-color="{name}" aria-pressed="false">{words}</button>'
        for name, words in (("error", "expected error"), ("grounds", "what it rests on"), ("chain", "chain"))
    )
    ramp = ", ".join(_RAMP)
    used = sorted({int(kind) for own in kinds for kind in own})
    grounds = "".join(f'<span class="dot" style="--dot:{color}">{word}</span>' for word, color in map(_name_kind, used))
    chains = "".join(
        f'<span class="dot" style="--dot:{_CHAIN_COLORS[k % len(_CHAIN_COLORS)]}">{escape(chain.chain_id)}.'
        f"{chain.copy}</span>"
        for k, chain in enumerate(folded.target.chains[:12])
    )
    words = (
        f"Three-dimensional view of the models of {folded.target.target_id}, superposed on the first. Arrow keys turn "
        "it, plus and minus zoom, zero resets. The table below has the same figures."
    )
    return (
        '<section id="models"><h2>The models, superposed</h2>'
        f'<div class="tabs"><span class="soft">thick:</span>{pick}<span class="soft">beside it:</span>{show}</div>'
        f'<div class="tabs"><span class="soft">colour:</span>{colors}</div>'
        f'<figure><canvas id="view" tabindex="0" role="img" aria-label="{escape(words)}"></canvas>'
        f'<figcaption><div data-key="error"><span>0 Å</span><i class="ramp" style="background:linear-gradient(90deg,'
        f'{ramp})"></i><span>{limit} Å and more, expected</span></div><div data-key="grounds" hidden>{grounds}</div>'
        f'<div data-key="chain" hidden>{chains}</div></figcaption></figure>'
        '<p class="foot">Drag or arrow keys: turn; wheel, + and −: zoom; shift and drag: move; 0: back.</p></section>'
    )


def _write_arcs(folded: Folded, limit: int, kinds: Sequence[IntArray]) -> str:
    target, pairing = folded.target, folded.pairing
    sure = [float(pairing.probabilities[i, j]) if j >= 0 else 0.0 for i, j in enumerate(pairing.partner)]
    above = list_arcs(pairing.partner, sure)
    blocks = []
    for k, (partner, errors) in enumerate(zip(folded.partners, folded.errors)):
        below = list_arcs(partner, kind="formed")
        knots = sum(arc.kind == "knot" for arc in below)
        strips = [
            Strip(
                label="expected error", colors=[_color(e, limit) for e in errors], words=[f"{e:.1f} Å" for e in errors]
            ),
            Strip(
                label="rests on",
                colors=[_name_kind(int(kind))[1] for kind in kinds[k]],
                words=[_name_kind(int(kind))[0] for kind in kinds[k]],
            ),
        ]
        title = (
            f"Secondary structure as arcs. Above the sequence {len(above)} predicted pairs, below it {len(below)} "
            f"pairs that model {k + 1} forms, {knots} of them in pseudoknots: {rna.format_dot_bracket(partner)}"
        )
        drawing = draw_arcs(target.sequence, target.chains, above, below, strips, title=title)
        blocks.append(f'<figure data-arcs="{k}"{" hidden" if k else ""}>{drawing}</figure>')
    used = sorted({int(kind) for own in kinds for kind in own})
    grounds = "".join(f'<span class="dot" style="--dot:{color}">{word}</span>' for word, color in map(_name_kind, used))
    return (
        '<section id="pairs"><h2>Which pairs, and what each part rests on</h2>'
        '<p class="lead">Above: predicted pairs, the darker the surer. Below: pairs that the chosen model forms in '
        "space. Red: pairs that cross others, a pseudoknot. Strips: expected error, and what the residue rests on.</p>"
        f'{"".join(blocks)}<p class="legend">{grounds}</p></section>'
    )


def _color(error: float, limit: int) -> str:
    at = min(float(error) / limit, 1.0) * (len(_RAMP) - 1)
    low = min(int(at), len(_RAMP) - 2)
    one, two = ([int(_RAMP[k][x : x + 2], 16) for x in (1, 3, 5)] for k in (low, low + 1))
    return "#" + "".join(f"{round(a + (b - a) * (at - low)):02x}" for a, b in zip(one, two))


def _write_table(folded: Folded, files: Sequence[str]) -> str:
    rows = []
    for k, (model, errors, partner, unmet) in enumerate(
        zip(folded.models, folded.errors, folded.partners, folded.unmet)
    ):
        own = [name for name in files if name.startswith(f"model_{k + 1}.")]
        links = " ".join(f'<a href="{name}">{name.rpartition(".")[2]}</a>' for name in own)
        missed = f'<td class="wrap">{escape("; ".join(unmet)) or "all met"}</td>' if folded.wishes else ""
        rows.append(
            f'<tr data-model="{k}"><td>{k + 1}</td><td>{escape(_name_origin(model))}</td>'
            f'<td class="wrap">{escape(model.note)}</td><td class="num">{model.confidence:.2f}</td>'
            f'<td class="num">{errors.mean():.1f}</td><td class="num">{int((partner >= 0).sum()) // 2}</td>'
            f"{missed}<td>{links}</td></tr>"
        )
    wished = "<th>not met</th>" if folded.wishes else ""
    return (
        '<section id="table"><h2>The five</h2><div class="scroll"><table><thead><tr><th>model</th><th>made from</th>'
        '<th>in detail</th><th class="num">expected TM-score</th><th class="num">mean expected error (Å)</th>'
        f'<th class="num">pairs</th>{wished}<th>files</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        "</section>"
    )


def _write_notes(folded: Folded) -> str:
    chains = "&".join(folded.target.sequence[c.start : c.stop] for c in folded.target.chains)
    return (
        '<section id="notes"><h2>How to read this</h2><p class="lead">The expected TM-score is what a model of such '
        "confidence reached on average on RNAs of known structure. The expected error of a residue follows from where "
        "the candidates of this RNA disagree, on the level that the expected TM-score sets: it tells parts apart, and "
        "is no promise for one residue. The same figures stand in models.json and in the B-factor column of the "
        f"files.</p><pre>{escape(chains)}\n{escape(rna.format_dot_bracket(folded.pairing.partner))}  predicted, "
        f"{escape(folded.pairing.source)}\n"
        + "".join(
            f"{escape(rna.format_dot_bracket(one.partner))}  predicted, {escape(one.source)}\n"
            for one in folded.pairing.alternatives
        )
        + "\n".join(f"{rna.format_dot_bracket(p)}  model {k}" for k, p in enumerate(folded.partners, start=1))
        + f'</pre><p class="foot">rnafold {__version__}; {folded.seconds:.1f} s</p></section>'
    )


_STYLE: Final = """
#view { width: 100%; height: min(62vh, 620px); display: block; touch-action: none; cursor: grab; border-radius: 8px; }
#view:focus-visible { outline: 2px solid var(--blue); }
figcaption > div { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; padding: 4px; }
figcaption > div[hidden] { display: none; }
.ramp { display: inline-block; width: 180px; height: 10px; border-radius: 5px; }
.soft { color: var(--soft); align-self: center; font-size: 14px; }
.switch[aria-pressed="true"] { border-color: var(--blue); box-shadow: inset 0 0 0 1px var(--blue); }
.dot { font-size: 13px; color: var(--soft); margin-right: 14px; white-space: nowrap; }
.dot::before { content: ""; display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; background: var(--dot); }
.arcs { width: 100%; height: auto; display: block; }
.arcs path { fill: none; stroke-width: 1.5; } .arcs path.pair { stroke: var(--soft); }
.arcs path.formed { stroke: var(--blue); } .arcs path.knot { stroke: var(--wrong); }
.arcs text { text-anchor: middle; fill: var(--ink); font-family: ui-monospace, monospace; }
.arcs .axis { stroke: var(--soft); stroke-width: 1.2; }
.arcs .break { stroke: var(--ink); stroke-width: 1.4; stroke-dasharray: 3 2; }
td.wrap { white-space: normal; min-width: 180px; }
tr.chosen td { background: color-mix(in srgb, var(--blue) 9%, transparent); }
"""
