"""Both notebooks run as on Kaggle: packages from the bundle alone, read-only inputs, both mount schemes, no network."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from safetensors.torch import save_file

from rnafold.config.settings import resolve_config
from rnafold.files.metrics import read_metrics
from rnafold.kaggle.staging import FIELDS, read_metadata, read_notebook, read_parameters
from rnafold.model.network import build_network
from rnafold.submission import check_submission, list_defects, read_submission
from tests.pieces import emulation

KERNELS = emulation.CHECKOUT / "kernels"
KINDS = ("train", "predict", "prepare")
TRAINING = [
    "train.warmup_epochs=0",
    "train.log_every_steps=2",
    "train.checkpoint_every_epochs=1",
    "train.evaluate_every_epochs=1000",
    "train.patience=0",
    "train.micro_batch=4",
    "train.effective_batch=4",
    "train.accumulation=1",
    "train.loader_workers=0",
    "data.cutoff=2022-01-01",
    "data.validation=file",
    "data.jobs=1",
    # so short that the planner takes the run for a trial, which is not worth tracing
    "data.crop_length=64",
]


@dataclass(frozen=True)
class Kaggle:
    """A bundle and an image that lacks the project; both are built once."""

    python: Path
    bundle: Path


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory: pytest.TempPathFactory) -> Kaggle:
    base = tmp_path_factory.getbasetemp()
    # test processes share it: the folder above theirs is the same for all
    root = (base.parent if base.name.startswith("popen-") else base) / "kaggle-emulation"
    with FileLock(f"{root}.lock"):
        if not (root / "done").is_file():
            shutil.rmtree(root, ignore_errors=True)
            python = emulation.build_image(root)
            wheels = root / "wheels"
            wheels.mkdir()
            for name in (
                "biopython",
                "gemmi",
                "edlib",
                "ViennaRNA",
                "SQUARNA",
                "loky",
                "cloudpickle",
                "accelerate",
                "safetensors",
            ):
                emulation.rebuild_wheel(name, wheels)
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            command = [sys.executable, "-m", "rnafold", "kaggle", "bundle", "--user", "someone"]
            command += ["--out", str(root / "bundle"), "--wheels", str(wheels)]
            command += ["--platform", "native", "--python", version]
            subprocess.run(command, check=True, cwd=root, capture_output=True)
            (root / "done").write_text(str(python), encoding="utf-8")
    return Kaggle(python=Path((root / "done").read_text(encoding="utf-8")), bundle=root / "bundle")


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_metadata_is_written_and_internet_is_off(kind: str) -> None:
    metadata = read_metadata(KERNELS / kind)
    assert tuple(metadata) == FIELDS
    assert metadata["enable_internet"] is False
    # preparation takes no hour of the GPU quota
    assert metadata["enable_gpu"] is (kind != "prepare")
    assert metadata["machine_shape"] == ("" if kind == "prepare" else "NvidiaTeslaT4")
    assert metadata["is_private"] is True


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_has_at_most_thirty_lines_of_code_and_no_outputs(kind: str) -> None:
    notebook = read_notebook(KERNELS / kind / f"rnafold-{kind}.ipynb")
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell["source"]).splitlines() if line.strip()]
    assert len(lines) <= 30
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert read_parameters(notebook)["INPUT"] == "/kaggle/input"


def test_kernels_are_attached_to_their_own_and_the_preparations_output() -> None:
    found = {kind: read_metadata(KERNELS / kind) for kind in KINDS}
    prepare = found["prepare"]["id"]
    assert found["train"]["kernel_sources"] == [found["train"]["id"], prepare]
    assert found["predict"]["kernel_sources"] == found["prepare"]["kernel_sources"] == [prepare]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["nested"])
def test_training_stopped_by_its_deadline_goes_on_from_its_own_output_and_ends(
    kaggle: Kaggle, tmp_path: Path, scheme: str
) -> None:
    first_inputs = tmp_path / "input-1"
    emulation.write_competition(tmp_path / "data", 1)
    emulation.mount(first_inputs, scheme, "competition", "stanford-rna-3d-folding", tmp_path / "data")
    emulation.mount(first_inputs, scheme, "dataset", "rnafold-bundle", kaggle.bundle)
    emulation.make_read_only(first_inputs)
    notebook = KERNELS / "train" / "rnafold-train.ipynb"

    def run(inputs: Path, working: Path, hours: float, epochs: int) -> "subprocess.CompletedProcess[str]":
        settings = [*TRAINING, f"train.epochs={epochs}"]
        parameters = ["GPU=cpu", "MODEL=minimal", f"HOURS={hours}", f"SETTINGS={settings!r}"]
        return emulation.run_notebook(kaggle.python, notebook, inputs, working, parameters)

    # 5,000 epochs end at no deadline; a machine too busy to take a single step in time is given more
    for hours in (0.0045, 0.012, 0.03):
        first = tmp_path / f"working-{hours}"
        done = run(first_inputs, first, hours, 5_000)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    session = json.loads((first / "session.json").read_text(encoding="utf-8"))
    assert session["finished"] == "time"
    assert session["epoch"] < 5_000
    assert session["resumed_from_step"] == 0

    second_inputs = tmp_path / "input-2"
    emulation.mount(second_inputs, scheme, "competition", "stanford-rna-3d-folding", tmp_path / "data")
    emulation.mount(second_inputs, scheme, "dataset", "rnafold-bundle", kaggle.bundle)
    emulation.mount(second_inputs, scheme, "kernel", "rnafold-train", first)
    emulation.make_read_only(second_inputs)
    second = tmp_path / "working-second"
    done = run(second_inputs, second, 1.0, session["epoch"] + 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("isolated" in done.stdout) == emulation.can_isolate()
    summary = json.loads((second / "session.json").read_text(encoding="utf-8"))
    assert summary["finished"] == "epochs"
    assert summary["resumed_from_step"] == session["step"]
    assert summary["step"] > session["step"]
    steps = [r["step"] for r in read_metrics(second / "run" / "metrics.jsonl") if r["kind"] == "train"]
    before = [r["step"] for r in read_metrics(first / "run" / "metrics.jsonl") if r["kind"] == "train"]
    assert steps[: len(before)] == before
    assert all(0 < after - earlier <= 2 for earlier, after in zip([0, *steps], steps))
    assert steps[-1] == summary["step"]
    assert (second / "run" / "best.safetensors").is_file()


@pytest.mark.slow
def test_preparation_offline_goes_on_from_its_own_output_and_serves_training_and_prediction(
    kaggle: Kaggle, tmp_path: Path
) -> None:
    inputs = tmp_path / "input-1"
    slug = "stanford-rna-3d-folding-2"
    emulation.write_competition(tmp_path / "data", 2)
    emulation.mount(inputs, "nested", "competition", slug, tmp_path / "data")
    emulation.mount(inputs, "nested", "dataset", "rnafold-bundle", kaggle.bundle)
    emulation.make_read_only(inputs)
    kept = [text for text in TRAINING if text.startswith("data.")]
    parameters = ["GPU=cpu", "MODEL=minimal", "HOURS=0.06", f"SETTINGS={kept!r}"]
    first = tmp_path / "working-1"
    notebook = KERNELS / "prepare" / "rnafold-prepare.ipynb"
    done = emulation.run_notebook(kaggle.python, notebook, inputs, first, parameters)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((first / "session.json").read_text(encoding="utf-8"))
    assert said["library"] and said["hours_of_quota"] == 0.0 and not (first / "cache").exists()
    assert "prepared files, with a template library" in done.stdout

    second_inputs = tmp_path / "input-2"
    emulation.mount(second_inputs, "nested", "competition", slug, tmp_path / "data")
    emulation.mount(second_inputs, "nested", "dataset", "rnafold-bundle", kaggle.bundle)
    emulation.mount(second_inputs, "nested", "kernel", "rnafold-prepare", first)
    emulation.make_read_only(second_inputs)
    second = tmp_path / "working-2"
    done = emulation.run_notebook(kaggle.python, notebook, second_inputs, second, parameters)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (second / "cache.zip").stat().st_size >= (first / "cache.zip").stat().st_size
    assert json.loads((second / "library" / "library.json").read_text()) == json.loads(
        (first / "library" / "library.json").read_text()
    )

    trained = tmp_path / "working-3"
    settings = [*TRAINING, "train.epochs=1"]
    parameters = ["GPU=cpu", "MODEL=minimal", "HOURS=0.05", f"SETTINGS={settings!r}"]
    train = KERNELS / "train" / "rnafold-train.ipynb"
    done = emulation.run_notebook(kaggle.python, train, second_inputs, trained, parameters)
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"candidate starts of (\d+) of (\d+) training chains", done.stdout)
    assert count is not None and count[1] == count[2] != "0", "the prepared starts are used, and none is made"
    made = sorted(path.name for path in (trained / "cache").glob("*.npz"))
    assert not [name for name in made if name.endswith((".starts.npz", ".pairing.npz"))]


def _write_weights(path: Path) -> None:
    """Weights of an untrained minimal network, with the metadata that `train` writes."""
    model = resolve_config("cpu", "minimal").model
    text = json.dumps({"model": asdict(model), "validation_tm_score": 0.1})
    save_file(dict(build_network(model).state_dict()), path, metadata={"rnafold": text})


@pytest.mark.slow
# both mount schemes, both parts, the scored rerun and the public one; each crossed with each is 40 seconds more
@pytest.mark.parametrize(("scheme", "part", "rerun"), [("flat", 1, "1"), ("nested", 2, "")])
def test_prediction_offline_leaves_a_file_that_is_valid_against_the_mounted_sample(
    kaggle: Kaggle, tmp_path: Path, scheme: str, part: int, rerun: str
) -> None:
    inputs, working = tmp_path / "input", tmp_path / "working"
    emulation.write_competition(tmp_path / "data", part)
    slug = "stanford-rna-3d-folding" + ("-2" if part == 2 else "")
    emulation.mount(inputs, scheme, "competition", slug, tmp_path / "data")
    bundle = emulation.mount(inputs, scheme, "dataset", "rnafold-bundle", kaggle.bundle)
    _write_weights(bundle / "best.safetensors")
    emulation.make_read_only(inputs)
    done = emulation.run_notebook(
        kaggle.python,
        KERNELS / "predict" / "rnafold-predict.ipynb",
        inputs,
        working,
        ["GPU=cpu", "HOURS=0.1", "COMMIT_HOURS=0.1"],
        **({"KAGGLE_IS_COMPETITION_RERUN": rerun} if rerun else {}),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sample = next(inputs.rglob("sample_submission.csv"))
    assert list_defects(check_submission(working / "submission.csv", sample)) == []
    assert read_submission(working / "submission.csv").ids == _ids(sample)
    summary = json.loads((working / "session.json").read_text(encoding="utf-8"))
    assert summary["rerun"] is bool(rerun)
    assert summary["improved"] == summary["targets"] > 0
    assert summary["weights"].endswith("best.safetensors")
    assert "scored rerun" in done.stdout
    assert ("isolated" in done.stdout) == emulation.can_isolate()


def _ids(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(row[0] for row in csv.reader(file))[1:]


def test_a_kernel_without_its_dataset_says_what_to_attach(kaggle: Kaggle, tmp_path: Path) -> None:
    inputs = tmp_path / "input"
    inputs.mkdir()
    notebook = KERNELS / "predict" / "rnafold-predict.ipynb"
    done = emulation.run_notebook(kaggle.python, notebook, inputs, tmp_path / "working", ["GPU=cpu"])
    assert done.returncode == 1
    assert "attach the dataset" in done.stdout


def _find_python_312() -> str | None:
    """A Python 3.12, Kaggle's version, wherever this machine has one."""
    places = [os.environ.get("PYTHON312"), sys.executable, shutil.which("python3.12")]
    places += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.12*/bin/python3.12"))]
    for place in places:
        if place is None:
            continue
        done = subprocess.run([place, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and "3.12." in done.stdout:
            return place
    return None


def test_the_bundle_installs_on_python_312_without_index_and_compiles(kaggle: Kaggle, tmp_path: Path) -> None:
    """The wheels that are not for one Python alone; torch and what needs it stay out of this test."""
    python = _find_python_312()
    if python is None:
        pytest.skip("no Python 3.12 here; set PYTHON312 to the path of one")
    subprocess.run([python, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    own = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(own), "install", "--quiet", "--no-index", "--no-deps"]
    packages = ["rnafold-kit", "accelerate", "safetensors"]
    subprocess.run([*pip, "--find-links", str(kaggle.bundle), *packages], check=True, cwd=tmp_path)
    site = next((tmp_path / "venv" / "lib").glob("python3.12/site-packages"))
    # the command line reads YAML, whose package also works without its compiled part
    (tmp_path / "yaml").symlink_to(Path(yaml.__file__).parent)
    commands = (
        ["-W", "error", "-m", "compileall", "-q", str(site / "rnafold")],
        ["-m", "rnafold", "--version"],
        ["-m", "rnafold", "kaggle", "push", "--help"],
        ["-c", "import safetensors, rnafold; print(rnafold.__file__)"],
    )
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for command in commands:
        done = subprocess.run([own, *command], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(str(site))
