"""The commands `report`, `export` and `card`: what people look at, in the browser, in ChimeraX or PyMOL, as text."""

import argparse
import logging
from pathlib import Path

from rnafold.errors import ExitCode, InputError

log = logging.getLogger(__name__)


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the three commands to the parser."""
    report = commands.add_parser(
        "report",
        help="one HTML page about a run: curves, targets, 3D views",
        description="Writes one self-contained HTML file that opens offline. With a submission and its labels the page "
        "has each target's scores, its predictions superposed on the reference, errors and contacts, and expected "
        "against achieved TM-scores.",
    )
    report.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    report.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the run folder")
    report.add_argument("--submission", type=Path, metavar="CSV", help="predictions to score and draw (with --labels)")
    report.add_argument("--labels", type=Path, metavar="CSV", help="labels of the submission's targets")
    report.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="expected scores as `predict` wrote them (default: SUBMISSION.predictions.json, where it lies there)",
    )
    report.add_argument(
        "--targets",
        nargs="+",
        default=[],
        metavar="ID",
        help="targets to draw in 3D (default: all of up to 12, else best, quartiles and worst)",
    )
    report.add_argument("--mode", choices=("exact", "fast"), default="exact", help="the scorer's search")
    report.add_argument(
        "--versus",
        type=Path,
        metavar="RUN_OR_CSV",
        help="a second run, or with --labels a second submission, beside the first",
    )
    report.set_defaults(call=_report)
    export = commands.add_parser(
        "export",
        help="write a submission's predictions as PDB or mmCIF files, or the input files of other programs",
        description="One file a target with the five predictions as models, superposed, C1' atoms only. The B-factor "
        "column holds 100 x the mean lDDT of a residue against the other four predictions (high: they agree), or with "
        "--labels its distance to the reference in Å; then the reference is written as well. With --for, the input of "
        "another program: SUBMISSION as RNAPro's templates, or the test sequences, one entry a different chain with "
        "its own slice of the alignment, for Protenix, Boltz and AlphaFold 3.",
    )
    export.add_argument("submission", type=Path, nargs="?", metavar="SUBMISSION", help="not with --for protenix etc.")
    export.add_argument("--test", required=True, type=Path, metavar="CSV", help="the sequences file with the chains")
    export.add_argument("--out", required=True, type=Path, metavar="DIR")
    export.add_argument("--format", choices=("pdb", "mmcif"), default="mmcif", help="default: mmcif")
    export.add_argument("--labels", type=Path, metavar="CSV", help="superpose on the reference, B-factor = error in Å")
    export.add_argument(
        "--for",
        dest="program",
        choices=("rnapro", "protenix", "boltz", "alphafold3"),
        help="write this program's input",
    )
    export.add_argument("--msa", type=Path, action="append", default=[], metavar="DIR", help="with --for: MSA folder")
    export.add_argument("--no-ligands", action="store_true", help="with --for: leave the competition's ligands out")
    export.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="N", help="with --for (default: 1)")
    export.set_defaults(call=_export)
    card = commands.add_parser(
        "card",
        help="write the model card of a run's weights",
        description="Writes a Markdown page: what the network is, its data, seed, the commands that reproduce it, "
        "training curve, results by target, limits, sha256 and versions. Every file of the run must be there.",
    )
    card.add_argument("--run", required=True, type=Path, metavar="RUN", help="a run folder with best.safetensors")
    card.add_argument("--results", required=True, type=Path, metavar="FILE", help="benchmarks/network.py --json FILE")
    card.add_argument("--out", type=Path, metavar="FILE", help="default: best.md in the run folder")
    card.set_defaults(call=_card)


def _report(arguments: argparse.Namespace) -> int:
    from rnafold.report import write_report

    if (arguments.submission is None) != (arguments.labels is None):
        raise InputError("--submission and --labels go together: found one without the other")
    if arguments.targets and arguments.submission is None:
        raise InputError("--targets: needs --submission and --labels, there is nothing to draw without them")
    if arguments.predictions is not None and arguments.submission is None:
        raise InputError("--predictions: needs --submission and --labels, there is nothing to compare without them")
    path = write_report(
        arguments.run,
        arguments.out,
        arguments.submission,
        arguments.labels,
        predictions=arguments.predictions,
        targets=arguments.targets,
        mode=arguments.mode,
        versus=arguments.versus,
    )
    print(f"{path}: written ({path.stat().st_size / 2**20:.1f} MiB)")
    return ExitCode.DONE


def _card(arguments: argparse.Namespace) -> int:
    from rnafold.report.model_card import write_card

    print(f"{write_card(arguments.run, arguments.results, arguments.out)}: written")
    return ExitCode.DONE


def _export(arguments: argparse.Namespace) -> int:
    import numpy as np

    from rnafold.data.competition import read_targets
    from rnafold.files.names import name_files
    from rnafold.geometry import superpose, transform
    from rnafold.report.export import measure_model_agreement, write_mmcif, write_pdb
    from rnafold.submission import read_submission

    if arguments.program is not None:
        return _export_inputs(arguments)
    if arguments.submission is None:
        raise InputError("export: a SUBMISSION is needed, or --for PROGRAM")
    write, suffix = (write_pdb, "pdb") if arguments.format == "pdb" else (write_mmcif, "cif")
    if arguments.labels is not None:
        return _export_with_labels(arguments)
    submission = read_submission(arguments.submission)
    targets = {target.target_id: target for target in read_targets(arguments.test)}
    names = name_files(list(submission.groups))
    for target_id in submission.groups:
        target = targets.get(target_id)
        if target is None:
            raise InputError(f"{arguments.submission}: target {target_id} is not in {arguments.test}")
        models = submission.predictions(target_id)
        if models.shape[1] != target.length:
            raise InputError(
                f"{arguments.submission}: {target_id} has {models.shape[1]} rows, its sequence {target.length} residues"
            )
        moved = np.stack([transform(points, *superpose(points, models[0])) for points in models])
        remark = "100 X MEAN LDDT AGAINST THE OTHER PREDICTIONS"
        write(
            arguments.out / f"{names[target_id]}.{suffix}", target, moved, 100 * measure_model_agreement(models), remark
        )
    print(f"{arguments.out}: {len(submission.groups)} files written")
    return ExitCode.DONE


def _export_inputs(arguments: argparse.Namespace) -> int:
    from rnafold.candidates.inputs import write_inputs, write_templates

    if arguments.program == "rnapro":
        if arguments.submission is None:
            raise InputError("--for rnapro: needs a SUBMISSION, whose conformations become its templates")
        path = write_templates(arguments.submission, arguments.test, arguments.out)
        print(f"{path}: written; convert it with RNAPro's convert_templates_to_pt_files.py --input_csv")
        return 0
    if arguments.submission is not None or arguments.labels is not None:
        raise InputError(
            f"--for {arguments.program}: takes the sequences of --test alone, no SUBMISSION and no --labels"
        )
    written = write_inputs(
        arguments.program,
        arguments.test,
        arguments.out,
        msa_folders=arguments.msa,
        ligands=not arguments.no_ligands,
        seeds=arguments.seeds,
    )
    print(f"{arguments.out}: {len(written)} files written")
    return 0


def _export_with_labels(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from rnafold.data.competition import read_targets
    from rnafold.files.names import name_files
    from rnafold.report.export import write_mmcif, write_pdb
    from rnafold.report.structures import collect_results, superpose_result

    write, suffix = (write_pdb, "pdb") if arguments.format == "pdb" else (write_mmcif, "cif")
    targets = {target.target_id: target for target in read_targets(arguments.test)}
    results = collect_results(arguments.submission, arguments.labels)
    names = name_files([f"{result.score.target_id}{end}" for result in results for end in ("", "_reference")])
    for result in results:
        target_id = result.score.target_id
        if target_id not in targets:
            raise InputError(f"{arguments.labels}: target {target_id} is not in {arguments.test}")
        target = replace(targets[target_id], chains=result.chains)
        overlay = superpose_result(result)
        write(
            arguments.out / f"{names[target_id]}.{suffix}",
            target,
            overlay.predictions,
            overlay.errors,
            "DISTANCE TO THE REFERENCE IN ANGSTROM",
        )
        write(arguments.out / f"{names[target_id + '_reference']}.{suffix}", target, result.reference.c1)
    print(f"{arguments.out}: {2 * len(results)} files written")
    return ExitCode.DONE
