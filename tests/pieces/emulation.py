"""A Kaggle kernel on this machine: an image without the project, both mount schemes, read-only inputs, no network.

Imported by the tests for the pieces, and run by the image's Python as a script to execute one notebook inside.
"""

import csv
import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SHARED_DATA = CHECKOUT.parent / "shared" / "data"
# What Kaggle's image does not have, and what must not be seen of this checkout.
NOT_IN_IMAGE = (
    "rnafold",
    "__editable__",
    "biopython",
    "gemmi",
    "edlib",
    "bio",
    "biosql",
    "viennarna",
    "rna",
    "_rna",
    "squarna",
    "loky",
    "cloudpickle",
    "kaggle",
    "_pytest",
)
SCHEMES = {
    "flat": {"competition": "{slug}", "dataset": "{slug}", "kernel": "{slug}"},
    "nested": {
        "competition": "competitions/{slug}",
        "dataset": "datasets/someone/{slug}",
        "kernel": "notebooks/someone/{slug}",
    },
}
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


def rebuild_wheel(distribution: str, out: Path) -> Path:
    """A wheel of an installed package, so that bundles can be tested where there is no package index."""
    found = metadata.distribution(distribution)
    tags = [line.partition(": ")[2] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag")]
    own = next(file.parts[0] for file in found.files or [] if file.parts[0].endswith(".dist-info"))
    name = own.split("-")[0]
    wheel = out / f"{name}-{found.version}-{tags[0]}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in found.files or []:
            path = Path(str(file.locate()))
            skip = ".." in file.parts or file.suffix == ".pyc" or file.name in ("INSTALLER", "REQUESTED", "RECORD")
            if skip or not path.is_file():
                continue
            archive.write(path, str(file))
        archive.writestr(f"{own}/RECORD", "")
    return wheel


def build_image(folder: Path) -> Path:
    """A fresh environment that sees this one's packages except what Kaggle's image lacks; returns its Python."""
    site = folder / "image"
    site.mkdir(parents=True)
    for entry in Path(str(metadata.distribution("numpy").locate_file(""))).iterdir():
        if not entry.name.lower().startswith(NOT_IN_IMAGE) and entry.name != "__pycache__":
            (site / entry.name).symlink_to(entry)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    packages = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
    (packages / "image.pth").write_text(f"{site}\n", encoding="utf-8")
    return folder / "venv" / "bin" / "python"


def mount(root: Path, scheme: str, kind: str, slug: str, files: "list[Path] | Path") -> Path:
    """Copies files, or a folder's content, to where Kaggle would mount them; returns the folder."""
    target = root / SCHEMES[scheme][kind].format(slug=slug)
    if isinstance(files, Path):
        shutil.copytree(files, target)
    else:
        target.mkdir(parents=True)
        for path in files:
            shutil.copyfile(path, target / path.name)
    return target


def write_competition(folder: Path, part: int) -> bool:
    """A small competition in real files where they are at hand, in the demo's otherwise; returns whether they are real.

    Part 1: 24 chains of 12-40 residues, the two shortest CASP15 targets to validate, one of them to test. Part 2: the
    same to train on, and the two shortest public test targets of several chains.
    """
    folder.mkdir(parents=True)
    if not SHARED_DATA.is_dir():
        from rnafold.data.demo import write_demo_data

        write_demo_data(folder, num_train=20, num_test=2)
        return False
    rows = _read(SHARED_DATA / "train_sequences.csv")
    names = [r["target_id"] for r in rows if 12 <= len(r["sequence"]) <= 40 and r["temporal_cutoff"] < "2022-01-01"][
        :24
    ]
    validation = _shortest(SHARED_DATA / "validation_sequences.csv", 2)
    tests = validation[:1] if part == 1 else _shortest(SHARED_DATA / "part2" / "test_sequences.csv", 2, True)
    source = SHARED_DATA if part == 1 else SHARED_DATA / "part2"
    _filter(SHARED_DATA / "train_sequences.csv", folder / "train_sequences.csv", names)
    _filter(SHARED_DATA / "train_labels.csv", folder / "train_labels.csv", names)
    _filter(SHARED_DATA / "validation_sequences.csv", folder / "validation_sequences.csv", validation)
    _filter(SHARED_DATA / "validation_labels.csv", folder / "validation_labels.csv", validation)
    _filter(source / "test_sequences.csv", folder / "test_sequences.csv", tests)
    _filter(source / "sample_submission.csv", folder / "sample_submission.csv", tests)
    return True


def _read(path: Path) -> "list[dict[str, str]]":
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _shortest(path: Path, count: int, several_chains: bool = False) -> "list[str]":
    rows = [
        r for r in _read(path) if not several_chains or ";" in r["stoichiometry"] or r["stoichiometry"][-2:] != ":1"
    ]
    return [r["target_id"] for r in sorted(rows, key=lambda r: len(r["sequence"]))[:count]]


def _filter(source: Path, target: Path, names: "list[str]") -> None:
    """Copies the rows of some targets; the first column is a target_id, or target_id + "_" + resid."""
    with source.open(encoding="utf-8", newline="") as file, target.open("w", encoding="utf-8", newline="") as out:
        reader, writer = csv.reader(file), csv.writer(out, lineterminator="\n")
        writer.writerow(next(reader))
        writer.writerows(row for row in reader if row[0] in names or row[0].rpartition("_")[0] in names)


def make_read_only(root: Path) -> None:
    """Takes the permission to write from everything below a folder."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            (Path(folder) / name).chmod(0o444)
        Path(folder).chmod(0o555)


def can_isolate() -> bool:
    """Whether this machine lets a user make namespaces of mounts and networks."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    return subprocess.run([unshare, "-r", "-m", "-n", "true"], capture_output=True, check=False).returncode == 0


def run_notebook(
    python: Path, notebook: Path, inputs: Path, working: Path, parameters: "list[str]", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Executes a notebook as Kaggle would, offline where the machine allows; parameters are NAME=VALUE."""
    from rnafold.kaggle.staging import read_notebook, set_parameters

    content = read_notebook(notebook)
    set_parameters(content, [f"INPUT={inputs}", f"WORKING={working}", *parameters])
    working.mkdir(parents=True, exist_ok=True)
    staged = working.parent / f"{working.name}-{notebook.name}"
    staged.write_text(json.dumps(content), encoding="utf-8")
    isolated = can_isolate()
    prefix = ["unshare", "-r", "-m", "-n"] if isolated else []
    home = working.parent / "home"
    home.mkdir(exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KAGGLE", "VIRTUAL", "COV_"))}
    clean |= {"OMP_NUM_THREADS": "1", "HOME": str(home), "IPYTHONDIR": str(home), "JUPYTER_PLATFORM_DIRS": "1"}
    return subprocess.run(
        [
            *prefix,
            str(python),
            str(Path(__file__).resolve()),
            str(staged),
            str(inputs),
            "isolated" if isolated else "open",
        ],
        cwd=working,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def isolate(inputs: Path) -> None:
    """Inside fresh namespaces: loopback up (Jupyter talks over it), inputs mounted read-only, and both verified."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0x41)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(control, 0x8914, request)  # SIOCSIFFLAGS
    libc = ctypes.CDLL(None, use_errno=True)
    none, target = None, str(inputs).encode()
    for source, flags in ((b"/", MS_REC | MS_PRIVATE), (target, MS_BIND), (target, MS_BIND | MS_REMOUNT | MS_RDONLY)):
        place = b"/" if source == b"/" else target
        if libc.mount(source if source != b"/" else none, place, none, flags, none):
            raise OSError(ctypes.get_errno(), "mount failed")
    try:
        (inputs / "probe").write_text("")
    except OSError:
        pass
    else:
        raise AssertionError("inputs can be written to")
    try:
        socket.create_connection(("1.1.1.1", 53), timeout=2).close()
    except OSError:
        return
    raise AssertionError("the network can be reached")


def main(notebook: str, inputs: str, mode: str) -> int:
    """Executes the notebook in the current folder and prints the text of its outputs."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    if mode == "isolated":
        isolate(Path(inputs))
        print("isolated")
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content, timeout=220, kernel_name="python3", resources={"metadata": {"path": str(Path.cwd())}}
    )
    code = 0
    try:
        client.execute()
    except CellExecutionError as error:
        print(error.ename, error.evalue)
        code = 1
    for cell in content.cells:
        for output in cell.get("outputs", []):
            print(output.get("text", ""), end="")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
