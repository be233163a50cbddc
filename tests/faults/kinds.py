"""The list of readers with their good files, and the trials on malformed ones."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from safetensors.torch import save_file

from rnafold.config.settings import ModelConfig, resolve_config
from rnafold.config.strict_yaml import to_mapping
from rnafold.features.cache import save_arrays
from rnafold.files.weights_header import format_metadata
from rnafold.model.network import build_network
from rnafold.training.checkpoint import Checkpoint, save_checkpoint
from tests.faults import corpus, readers
from tests.faults.malforming import malformed
from tests.faults.readers import Good, Reader
from tests.faults.tally import Tally


def fixed(data: bytes) -> Good:
    """A good file that needs nothing beside it."""
    return lambda _folder: data


def good_submission(folder: Path) -> bytes:
    """A submission, with its sample beside it."""
    path = corpus.write_good_submission(folder)
    shutil.copy(path, folder / "sample.csv")
    return path.read_bytes()


def good_records(folder: Path) -> bytes:
    """The record beside a submission."""
    return corpus.write_good_submission(folder).with_suffix(".predictions.json").read_bytes()


def good_metrics(folder: Path) -> bytes:
    """Metrics beside a run's summary."""
    (folder / "run.json").write_text("{}", encoding="utf-8")
    return corpus.write_metrics()


def good_cache(folder: Path) -> bytes:
    """Arrays of the cache."""
    save_arrays(folder / "made.npz", readers.CACHED)
    return (folder / "made.npz").read_bytes()


def tiny_model() -> ModelConfig:
    """The smallest network."""
    small = ("width=4", "attention_heads=1", "feed_forward=4", "layers=1", "pair_channels=2", "pair_updates=0")
    return resolve_config("cpu", "minimal", [f"model.{text}" for text in small]).model


def good_weights(folder: Path) -> bytes:
    """Weights of the smallest network."""
    model = tiny_model()
    torch.manual_seed(0)
    tensors = {name: value.contiguous().clone() for name, value in build_network(model).state_dict().items()}
    save_file(tensors, folder / "good.safetensors", metadata=format_metadata({"model": to_mapping(model)}))
    return (folder / "good.safetensors").read_bytes()


def good_checkpoint(name: str) -> Good:
    """A file of the newer of two checkpoints; `folder` is that one's."""

    def write(folder: Path) -> bytes:
        for step in (1, 2):
            made = Checkpoint(tensors={"model": {"w": torch.full((3,), float(step))}}, state={"step": step})
            save_checkpoint(folder.parent, step, made, keep=5)
        return (folder / name).read_bytes()

    return write


def good_pointer(folder: Path) -> bytes:
    """LATEST beside two checkpoints."""
    good_checkpoint("state.json")(folder.parent / "step_00000002")
    return b"step_00000002"


CONFIDENCE = json.dumps({"complex_plddt": 0.8, "confidence_score": 0.7, "ptm": 0.6, "plddt": [80.0, 70.0]}).encode()
CHECKPOINT = "checkpoints/step_00000002"
READERS: tuple[Reader, ...] = (
    Reader(name="CSV of sequences", file="sequences.csv", good=fixed(corpus.SEQUENCES), judge=readers.judge_sequences),
    Reader(name="CSV of sequences, packed", file="sequences.csv.gz", good=fixed(corpus.SEQUENCES), judge=readers.judge_sequences, packed=True),
    Reader(name="CSV of labels", file="labels.csv", good=fixed(corpus.LABELS), judge=readers.judge_labels),
    Reader(name="submission", file="submission.csv", good=good_submission, judge=readers.judge_submission),
    Reader(name="submission, `check`", file="submission.csv", good=good_submission, judge=readers.judge_check),
    Reader(name="submission, `check --repair`", file="submission.csv", good=good_submission, judge=readers.judge_repair),
    Reader(name="sample", file="sample.csv", good=good_submission, judge=readers.judge_sample),
    Reader(name="YAML", file="config.yaml", good=fixed(corpus.CONFIG), judge=readers.judge_yaml),
    Reader(name="mmCIF", file="9xyz.cif", good=fixed(corpus.write_cif()), judge=readers.judge_structure),
    Reader(name="mmCIF, author's columns", file="mine.cif", good=fixed(corpus.write_cif(full=False)), judge=readers.judge_structure),
    Reader(name="PDB", file="9xyz.pdb", good=fixed(corpus.write_pdb()), judge=readers.judge_structure),
    Reader(name="PDB, packed", file="9xyz.ent.gz", good=fixed(corpus.write_pdb()), judge=readers.judge_structure, packed=True),
    Reader(name="a3m and FASTA", file="T1.MSA.fasta", good=fixed(corpus.write_alignment()), judge=readers.judge_alignment),
    Reader(name="record of predictions", file="submission.predictions.json", good=good_records, judge=readers.judge_records),
    Reader(name="ledger", file="ledger.jsonl", good=corpus.write_ledger, judge=readers.judge_ledger),
    Reader(name="metrics", file="metrics.jsonl", good=good_metrics, judge=readers.judge_metrics),
    Reader(name="cache", file="key.npz", good=good_cache, judge=readers.judge_cache),
    Reader(name="weights", file="best.safetensors", good=good_weights, judge=readers.judge_weights),
    Reader(name="checkpoint, tensors", file=f"{CHECKPOINT}/model.safetensors", good=good_checkpoint("model.safetensors"), judge=readers.judge_checkpoint),
    Reader(name="checkpoint, state", file=f"{CHECKPOINT}/state.json", good=good_checkpoint("state.json"), judge=readers.judge_checkpoint),
    Reader(name="checkpoint, manifest", file=f"{CHECKPOINT}/manifest.json", good=good_checkpoint("manifest.json"), judge=readers.judge_checkpoint),
    Reader(name="candidates, PDB", file="model_0.pdb", good=fixed(corpus.write_pdb(header=False)), judge=readers.judge_candidates),
    Reader(name="candidates, mmCIF", file="model_0.cif", good=fixed(corpus.write_cif()), judge=readers.judge_candidates),
    Reader(name="candidates, packed", file="model_0.pdb.gz", good=fixed(corpus.write_pdb(header=False)), judge=readers.judge_candidates, packed=True),
    Reader(name="candidates, submission", file="other.csv", good=good_submission, judge=readers.judge_candidate_table),
    Reader(name="candidates, confidence", file="confidence_a_model_0.json", good=fixed(CONFIDENCE), judge=readers.judge_confidence),
)  # fmt: skip


def malform(folder: Path, count: int, chosen: tuple[Reader, ...] = READERS) -> Iterator[Tally]:
    """`count` malformed files for each reader, a tally each."""
    for number, reader in enumerate(chosen):
        yield malform_one(reader, folder / str(number), count)


def malform_one(reader: Reader, folder: Path, count: int) -> Tally:
    """`count` malformed files for one reader."""
    tally = Tally(f"malformed: {reader.name}")
    path = folder / reader.file
    path.parent.mkdir(parents=True)
    good = reader.good(path.parent)
    path.write_bytes(good if not reader.packed else b"")

    @settings(max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(malformed(good, reader.packed))
    def try_one(data: bytes) -> None:
        path.write_bytes(data)
        fault, refused = readers.judge_file(reader, path)
        tally.add(fault and f"{reader.name}: {fault}; {data[:3000]!r}", refused=refused)

    try_one()
    return tally
