"""The list of readers with their good files, and the trials on malformed ones."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
    good_checkpoint("state.json")(folder / "step_00000002")
    return b"step_00000002"


CONFIDENCE = json.dumps({"complex_plddt": 0.8, "confidence_score": 0.7, "ptm": 0.6, "plddt": [80.0, 70.0]}).encode()
SEQUENCES, PDB, CIF = fixed(corpus.SEQUENCES), fixed(corpus.write_pdb()), fixed(corpus.write_cif())
BARE_PDB = fixed(corpus.write_pdb(header=False))


def list_readers() -> Iterator[Reader]:
    """Every reader."""
    yield Reader("CSV of sequences", "sequences.csv", SEQUENCES, readers.judge_sequences)
    yield Reader("CSV of sequences, packed", "sequences.csv.gz", SEQUENCES, readers.judge_sequences, packed=True)
    yield Reader("CSV of labels", "labels.csv", fixed(corpus.LABELS), readers.judge_labels)
    yield Reader("submission", "submission.csv", good_submission, readers.judge_submission)
    yield Reader("submission, `check`", "submission.csv", good_submission, readers.judge_check)
    yield Reader("submission, `check --repair`", "submission.csv", good_submission, readers.judge_repair)
    yield Reader("sample", "sample.csv", good_submission, readers.judge_sample)
    yield Reader("YAML", "config.yaml", fixed(corpus.CONFIG), readers.judge_yaml)
    yield Reader("mmCIF", "9xyz.cif", CIF, readers.judge_structure)
    authors = fixed(corpus.write_cif(full=False))
    yield Reader("mmCIF, author's columns", "mine.cif", authors, readers.judge_structure)
    yield Reader("PDB", "9xyz.pdb", PDB, readers.judge_structure)
    yield Reader("PDB, packed", "9xyz.ent.gz", PDB, readers.judge_structure, packed=True)
    yield Reader("a3m and FASTA", "T1.MSA.fasta", fixed(corpus.write_alignment()), readers.judge_alignment)
    yield Reader("Stockholm", "T1.sto", fixed(corpus.write_stockholm()), readers.judge_alignment)
    yield Reader("record of predictions", "submission.predictions.json", good_records, readers.judge_records)
    yield Reader("ledger", "ledger.jsonl", corpus.write_ledger, readers.judge_ledger)
    yield Reader("metrics", "metrics.jsonl", good_metrics, readers.judge_metrics)
    yield Reader("cache", "key.npz", good_cache, readers.judge_cache)
    yield Reader("weights", "best.safetensors", good_weights, readers.judge_weights)
    for name in ("model.safetensors", "state.json", "manifest.json"):
        file = f"checkpoints/step_00000002/{name}"
        yield Reader(f"checkpoint, {name}", file, good_checkpoint(name), readers.judge_checkpoint)
    yield Reader("checkpoint, LATEST", "checkpoints/LATEST", good_pointer, readers.judge_pointer)
    yield Reader("candidates, PDB", "model_0.pdb", BARE_PDB, readers.judge_candidates)
    yield Reader("candidates, mmCIF", "model_0.cif", CIF, readers.judge_candidates)
    yield Reader("candidates, packed", "model_0.pdb.gz", BARE_PDB, readers.judge_candidates, packed=True)
    yield Reader("candidates, submission", "other.csv", good_submission, readers.judge_candidate_table)
    yield Reader("candidates, confidence", "confidence_a_model_0.json", fixed(CONFIDENCE), readers.judge_confidence)


READERS: Final = tuple(list_readers())


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

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(malformed(good, reader.packed))
    def try_one(data: bytes) -> None:
        path.write_bytes(data)
        fault, refused = readers.judge_file(reader, path)
        tally.add(fault and f"{reader.name}: {fault}; {data[:3000]!r}", refused=refused)

    try_one()
    return tally
