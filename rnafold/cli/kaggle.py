"""`python -m rnafold kaggle ...`: from a clone to a running kernel; nothing is sent without --yes."""

import argparse
import datetime
import json
import os
from pathlib import Path

from rnafold.errors import ExitCode, InputError
from rnafold.planner.quota.ledger import LEDGER_FILE

ROOT = Path("dist/kaggle")
LEDGER = Path("runs") / LEDGER_FILE
KINDS = ("train", "predict")
KERNELS = (*KINDS, "prepare")
# Which of a notebook's parameters says how long a pushed session may take.
HOURS_OF = {"train": "HOURS", "predict": "COMMIT_HOURS", "prepare": "HOURS"}


def add_kaggle(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `kaggle` command and what is below it."""
    kaggle = commands.add_parser(
        "kaggle",
        help="bundle, push, follow and fetch Kaggle kernels",
        description="bundle -> push train --yes -> pull train --yes. Nothing is sent or fetched without --yes.",
    )
    actions = kaggle.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_bundle(actions)
    _add_push(actions)
    for name, text, call in (("status", "state of a kernel's session", _status), ("pull", "download output", _pull)):
        action = actions.add_parser(name, help=text)
        _add_common(action)
        if name == "pull":
            action.add_argument("--out", type=Path, metavar="DIR", help=f"default: {ROOT}/output/KERNEL")
            only = "fetch this file alone, for instance run/best.safetensors; * stands for any letters; repeatable"
            action.add_argument("--only", action="append", default=[], metavar="FILE", help=only)
        action.set_defaults(call=call)
    _add_preflight(actions)


def _add_common(action: argparse.ArgumentParser) -> None:
    action.add_argument("kernel", choices=KERNELS)
    action.add_argument("--user", metavar="NAME", help="your Kaggle user name (default: $KAGGLE_USERNAME)")
    action.add_argument("--yes", action="store_true", help="do it; without, only say what would be done")


def _add_bundle(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bundle = actions.add_parser(
        "bundle",
        help="build the dataset that the kernels install from",
        description="Writes wheels, weights, requirements and a manifest to a flat folder; sends nothing.",
    )
    bundle.add_argument("--user", metavar="NAME", help="your Kaggle user name (default: $KAGGLE_USERNAME)")
    bundle.add_argument("--out", type=Path, default=ROOT / "bundle", metavar="DIR", help=f"default: {ROOT}/bundle")
    bundle.add_argument("--source", type=Path, metavar="DIR", help="checkout of the project (default: this one)")
    bundle.add_argument("--weights", type=Path, nargs="+", default=[], metavar="FILE", help="default: the shipped ones")
    bundle.add_argument("--add", type=Path, nargs="+", default=[], metavar="FILE", help="further files")
    bundle.add_argument("--wheel", nargs="+", default=[], metavar="PACKAGE", help="further packages, as for pip")
    bundle.add_argument("--without", nargs="+", default=[], metavar="PACKAGE", help="packages to leave out")
    bundle.add_argument("--wheels", type=Path, metavar="DIR", help="take wheels from here, not from the package index")
    bundle.add_argument("--python", default="3.12", metavar="X.Y", help="Python of the image (default: 3.12)")
    bundle.add_argument(
        "--platform", nargs="+", metavar="TAG", help="pip's platform tags, or native (default: manylinux x86_64)"
    )
    bundle.set_defaults(call=_bundle)


def _add_push(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    push = actions.add_parser(
        "push",
        help="upload the bundle and start a kernel",
        description="Says what will be uploaded and what it takes from the quota; with --yes does it.",
    )
    _add_common(push)
    push.add_argument("--bundle", type=Path, default=ROOT / "bundle", metavar="DIR", help=f"default: {ROOT}/bundle")
    push.add_argument("--source", type=Path, metavar="DIR", help="checkout of the project (default: this one)")
    push.add_argument(
        "--competition", default="", metavar="SLUG", help="whose data to attach (default: as in kernels/)"
    )
    push.add_argument("--dataset", nargs="+", default=[], metavar="OWNER/SLUG", help="further datasets to attach")
    push.add_argument("--parameter", nargs="+", default=[], metavar="NAME=VALUE", help="of the notebook: HOURS=5")
    push.add_argument("--fresh", action="store_true", help="do not go on from the kernel's earlier output")
    push.add_argument("--ignore-quota", action="store_true", help="push even if the quota will not last")
    push.set_defaults(call=_push)


def _add_preflight(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    preflight = actions.add_parser("preflight", help="look at card, versions, disk and inputs before spending hours")
    preflight.add_argument("--for", dest="kind", choices=KINDS, default="train", help="default: train")
    preflight.add_argument("--gpu", default="t4x2", metavar="NAME", help="a file in configs/gpu (default: t4x2)")
    preflight.add_argument("--input", type=Path, default=Path("/kaggle/input"), metavar="DIR")
    preflight.add_argument("--working", type=Path, default=Path("/kaggle/working"), metavar="DIR")
    preflight.add_argument("--competition", default="", metavar="SLUG", help="the one meant, if several are mounted")
    preflight.add_argument("--least-disk-gib", type=float, default=3.0, metavar="G", help="default: 3")
    preflight.set_defaults(call=_preflight)


def _user(arguments: argparse.Namespace) -> str:
    user = arguments.user or os.environ.get("KAGGLE_USERNAME", "")
    if not user:
        raise InputError("--user NAME is needed: your Kaggle user name (or set KAGGLE_USERNAME)")
    return str(user)


def _checkout(arguments: argparse.Namespace) -> Path:
    return Path(arguments.source) if arguments.source else Path(__file__).resolve().parents[2]


def _bundle(arguments: argparse.Namespace) -> int:
    from rnafold.kaggle import wheels
    from rnafold.kaggle.bundle import BundleOptions, build_bundle

    checkout = _checkout(arguments)
    left_out = {wheels.requirement_name(text) for text in arguments.without}
    listed = [*wheels.read_package_list(checkout / "kernels" / "wheels.txt"), *arguments.wheel]
    names = {wheels.requirement_name(text): text for text in listed}
    strange = sorted(left_out - set(names))
    if strange:
        raise InputError(f"--without {strange[0]}: not in the list ({', '.join(names)})")
    image = frozenset(map(wheels.requirement_name, wheels.read_package_list(checkout / "kernels" / "image.txt")))
    platforms = arguments.platform or list(wheels.PLATFORMS)
    plan = wheels.WheelPlan(
        requirements=tuple(text for name, text in names.items() if name not in left_out),
        image=image,
        python=arguments.python,
        platforms=() if platforms == ["native"] else tuple(platforms),
        source=arguments.wheels,
    )
    manifest = build_bundle(
        BundleOptions(
            out=arguments.out,
            checkout=checkout,
            user=_user(arguments),
            plan=plan,
            weights=tuple(arguments.weights),
            add=tuple(arguments.add),
        )
    )
    _print_files(arguments.out, manifest["files"])
    return ExitCode.DONE


def _print_files(folder: Path, files: "list[dict[str, object]]") -> None:
    total = sum(int(str(entry["bytes"])) for entry in files)
    for entry in files:
        print(f"  {int(str(entry['bytes'])) / 1e6:9.2f} MB  {entry['kind']:<13}{entry['name']}")
    print(f"{folder}: {len(files)} files, {total / 1e6:.1f} MB")


def _push(arguments: argparse.Namespace) -> int:
    from rnafold.kaggle import client
    from rnafold.kaggle.bundle import Limits, check_bundle
    from rnafold.kaggle.staging import StageOptions, stage_kernel

    user, checkout = _user(arguments), _checkout(arguments)
    manifest = check_bundle(arguments.bundle, Limits())
    owner = json.loads((arguments.bundle / "dataset-metadata.json").read_text(encoding="utf-8"))["id"].split("/")[0]
    if owner != user:
        raise InputError(f"{arguments.bundle}: made for {owner}, not for {user}; make it anew with --user {user}")
    api = client.connect() if arguments.yes else None
    source = checkout / "kernels" / arguments.kernel
    own = f"{user}/rnafold-{arguments.kernel}"
    fresh = arguments.fresh or (api is not None and not client.kernel_exists(api, own))
    kernel = stage_kernel(
        source,
        arguments.bundle.parent / arguments.kernel,
        StageOptions(
            user=user,
            competition=arguments.competition,
            datasets=tuple(arguments.dataset),
            fresh=fresh,
            absent=_list_absent(api, source, user),
            parameters=tuple(arguments.parameter),
        ),
    )
    name_of_hours, on_gpu = HOURS_OF[arguments.kernel], bool(kernel.metadata["enable_gpu"])
    hours = float(kernel.parameters[name_of_hours])
    print(f"dataset {user}/rnafold-bundle, private:")
    _print_files(arguments.bundle, manifest["files"])
    print(f"kernel {kernel.id}, private, internet off, {kernel.metadata['machine_shape'] or 'CPU'}:")
    for name in ("dataset_sources", "competition_sources", "kernel_sources"):
        print(f"  {name.replace('_', ' ')}: {', '.join(kernel.metadata[name]) or 'none'}")
    print(f"  parameters: {', '.join(f'{k}={v!r}' for k, v in kernel.parameters.items() if k.isupper())}")
    cost = (
        "of GPU time, by wall clock (two cards count once)" if on_gpu else "of CPU time, which the GPU quota leaves out"
    )
    print(f"quota: up to {hours:g} h {cost}")
    if arguments.kernel == "predict":
        print(f"  the scored rerun, which you start by submitting, takes up to {kernel.parameters['HOURS']:g} h more")
    if api is None:
        print("nothing sent: add --yes to upload and start")
        return ExitCode.DONE
    if on_gpu:
        _require_quota(api, name_of_hours, hours, arguments.ignore_quota)
    print(client.upload_bundle(api, arguments.bundle, str(manifest["digest"])))
    print(client.push_kernel(api, kernel, hours))
    print(f"follow it: python -m rnafold kaggle status {arguments.kernel} --user {user} --yes")
    return ExitCode.DONE


def _list_absent(api: object | None, source: Path, user: str) -> tuple[str, ...]:
    """Kernels among a kernel's sources that were never pushed: Kaggle refuses to attach them."""
    from rnafold.kaggle import client
    from rnafold.kaggle.staging import PLACEHOLDER, read_metadata

    names = [name.replace(PLACEHOLDER, user) for name in read_metadata(source)["kernel_sources"]]
    return () if api is None else tuple(name for name in names if not client.kernel_exists(api, name))


def _require_quota(api: object, name: str, hours: float, ignore: bool) -> None:
    from rnafold.kaggle.quota import read_kaggle_quota
    from rnafold.planner.quota.rules import load_rules

    state = read_kaggle_quota(api, load_rules(), datetime.datetime.now(datetime.UTC))
    text = f"{state.left:.1f} h left of {state.total:.1f} ({state.reserved:.1f} h reserved by running sessions)"
    print(f"  now {text}; resets {state.resets_at:%Y-%m-%d %H:%M} UTC")
    if hours > state.left and not ignore:
        raise InputError(
            f"quota: {hours:g} h needed, {text}; --parameter {name}={max(state.left - 0.5, 0):.1f} plans for "
            "what is left, --ignore-quota pushes all the same"
        )


def _status(arguments: argparse.Namespace) -> int:
    from rnafold.kaggle import client

    kernel = f"{_user(arguments)}/rnafold-{arguments.kernel}"
    if not arguments.yes:
        print(f"would ask Kaggle for the status of {kernel}; costs no quota; add --yes")
        return ExitCode.DONE
    print(client.read_status(client.connect(), kernel))
    return ExitCode.DONE


def _pull(arguments: argparse.Namespace) -> int:
    from rnafold.files.run_folder import RunFolder
    from rnafold.kaggle import client

    kernel = f"{_user(arguments)}/rnafold-{arguments.kernel}"
    out = arguments.out or ROOT / "output" / arguments.kernel
    if not arguments.yes:
        what = ", ".join(arguments.only) or "the output"
        print(f"would download {what} of {kernel} to {out}; costs no quota; add --yes")
        return ExitCode.DONE
    files = client.pull_output(client.connect(), kernel, out, arguments.only)
    print(f"{out}: {len(files)} files")
    added = client.take_over_ledger(out / LEDGER_FILE, LEDGER)
    if added:
        print(f"{LEDGER}: {added} records taken over; see python -m rnafold quota")
    weights = RunFolder(out / "run").weights_file
    if weights.is_file():
        print(f"predict with them: python -m rnafold kaggle bundle --weights {weights}")
    return ExitCode.DONE


def _preflight(arguments: argparse.Namespace) -> int:
    from rnafold.kaggle.preflight import run_preflight

    report = run_preflight(
        arguments.kind,
        arguments.gpu,
        arguments.input,
        arguments.working,
        competition=arguments.competition,
        least_disk_gib=arguments.least_disk_gib,
    )
    print(report.format())
    report.require_no_faults()
    return ExitCode.DONE
