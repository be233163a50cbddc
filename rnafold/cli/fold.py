"""The command `fold`: one RNA, or some, from its sequence to models and a page to look at."""

import argparse
import logging
from pathlib import Path

from rnafold.cli.predict import parse_cutoff
from rnafold.errors import ExitCode, InputError

log = logging.getLogger(__name__)


def add_fold(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `fold`."""
    fold = commands.add_parser(
        "fold",
        help="fold one RNA, or those of a FASTA file, and look at the models",
        description="Writes for each RNA a folder with five models as mmCIF and PDB (B-factor: expected error of the "
        "residue in Å), models.json and index.html, a page with the models in 3D and their pairs.",
    )
    add = fold.add_argument
    add("sequence", metavar="SEQUENCE_OR_FASTA", help="letters ACGU (lower case and T too), chains joined by &")
    add("--out", required=True, type=Path, metavar="DIR", help="gets a folder for each RNA")
    add("--complex", action="store_true", help="all records of the FASTA are chains of one RNA; `>name x2`: two copies")
    add("--templates", type=Path, action="append", default=[], metavar="DIR", help="known structures; repeatable")
    add(
        "--candidates",
        action="append",
        default=[],
        metavar="[NAME[@DATE]=]PATH",
        help="other programs' models to judge beside ours, as for `predict`; repeatable",
    )
    add(
        "--msa",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with NAME.MSA.fasta (.a3m, .sto, .afa, .aln)",
    )
    add("--before", type=parse_cutoff, metavar="DATE", help="see structures released before DATE (default: today)")
    add(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="dot-bracket file of pairs that must form; x: stays unpaired; a line that begins with !: pairs that must "
        "not form",
    )
    add("--no-network", action="store_true", help="leave the network out, as is done where torch is not installed")
    add("--weights", type=Path, metavar="FILE", help="best.safetensors (default: the shipped weights)")
    add("--gpu", default="auto", metavar="NAME", help="a file in configs/gpu, or auto (default)")
    add("--cache", type=Path, default=Path(".cache/rnafold"), metavar="DIR", help="library and computed features")
    add("--seconds", type=float, default=600.0, metavar="S", help="about how long one RNA may take (default: 600)")
    add("--seed", type=int, default=0, metavar="N", help="every random choice hangs on it")
    fold.set_defaults(call=_fold)


def _fold(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from rnafold.data.sequences import read_sequences
    from rnafold.features.wishes import read_wishes
    from rnafold.prediction.fold import FoldOptions, open_folder
    from rnafold.prediction.obedience import check_wishes
    from rnafold.report.fold_page import write_fold

    targets = read_sequences(arguments.sequence, one_complex=arguments.complex)
    wishes = {}
    if arguments.pairs is not None:
        wishes = read_wishes(arguments.pairs, {target.target_id: target.sequence for target in targets})
        check_wishes(targets, wishes)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise InputError(f"--out {arguments.out}: is a file, expected a folder")
    folder = open_folder(
        FoldOptions(
            templates=tuple(arguments.templates),
            candidates=tuple(arguments.candidates),
            msa_folders=tuple(arguments.msa),
            before=arguments.before,
            use_network=not arguments.no_network,
            weights=arguments.weights,
            gpu=arguments.gpu,
            cache=arguments.cache,
            seconds=arguments.seconds,
            seed=arguments.seed,
        ),
        targets,
    )
    for target in tqdm(targets, desc="fold", unit="RNA", disable=None if len(targets) > 1 else True):
        folded = folder.fold(target, wishes.get(target.target_id))
        place = arguments.out / target.target_id
        write_fold(folded, place)
        best = folded.models[0]
        print(
            f"{target.target_id}: {target.length} nt, expected TM-score {best.confidence:.2f}, {folded.seconds:.1f} s; "
            f"open {place / 'index.html'}",
            flush=True,
        )
        for line in dict.fromkeys(line for unmet in folded.unmet for line in unmet):
            count = sum(line in unmet for unmet in folded.unmet)
            print(f"  not met by {count} of {len(folded.models)} models: {line}", flush=True)
    folder.losses.log_summary()
    return ExitCode.DONE
