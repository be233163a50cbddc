"""Nothing that a file holds is executed, no name leads outside its folder, and sizes are known before they are read."""

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnafold.candidates import unpack
from rnafold.data import tables
from rnafold.data.structures import reading
from rnafold.errors import InputError
from rnafold.features.cache import load_arrays
from rnafold.files.run_folder import CheckpointFolder
from rnafold.files.weights_header import MAX_HEADER_BYTES, read_weights_description
from rnafold.model.encoder import read_tensors
from rnafold.model.weights import load_network
from rnafold.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


class Planted:
    """What a pickle would execute as it is read: it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there once a planted pickle was executed."""
    return tmp_path / "executed"


def test_the_planted_pickle_would_be_executed(mark: Path) -> None:
    pickle.loads(pickle.dumps(Planted(mark)))  # noqa: S301 - that it does is what the other tests rest on
    assert mark.is_dir()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "plain pickle"])
def test_an_encoder_file_that_would_execute_something_is_refused(
    tmp_path: Path, mark: Path, suffix: str, zipped: bool
) -> None:
    path = tmp_path / f"encoder{suffix}"
    if zipped:
        torch.save({"encoder.weight": torch.zeros(2), "planted": Planted(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"encoder.weight": Planted(mark)}, protocol=2))
    with pytest.raises(InputError, match="not a readable file of encoder weights"):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_checkpoint_that_would_execute_something_is_passed_over(tmp_path: Path, mark: Path, name: str) -> None:
    for step in (1, 2):
        made = Checkpoint(tensors={"model": {"w": torch.full((2,), float(step))}}, state={"step": step})
        save_checkpoint(tmp_path / "run", step, made, keep=3)
    (CheckpointFolder(tmp_path / "run").at(2) / name).write_bytes(pickle.dumps(Planted(mark)))
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded is not None
    assert not mark.exists()
    # a file that the manifest does not name is none of the checkpoint's
    assert loaded.state["step"] == (2 if name == "optimizer.safetensors" else 1)
    assert set(loaded.tensors) == {"model"}


def test_weights_and_caches_that_would_execute_something_are_refused(tmp_path: Path, mark: Path) -> None:
    weights = tmp_path / "best.safetensors"
    torch.save({"w": Planted(mark)}, weights)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_network(weights)
    np.savez(tmp_path / "key.npz", values=np.array([Planted(mark)], dtype=object))
    assert load_arrays(tmp_path / "key.npz", ["values"]) is None
    assert not mark.exists()


def test_a_manifest_names_no_file_outside_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("x")
    for step in (1, 2):
        made = Checkpoint(tensors={"model": {"w": torch.zeros(2)}}, state={"step": step})
        save_checkpoint(tmp_path / "run", step, made, keep=3)
    manifest = CheckpointFolder(tmp_path / "run").at(2) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"state.json"', '"../../outside.txt"'))
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded is not None and loaded.state["step"] == 1


def test_a_packed_file_is_never_unpacked_beyond_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of zeros packs to a kilobyte; the limits are set to a tenth of that here."""
    for module in (unpack, tables, reading):
        monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    for name, read in (
        ("model.pdb.gz", unpack.read_packed),
        ("train.csv.gz", tables.read_text),
        ("9xyz.cif.gz", reading.read_structure),
    ):
        (tmp_path / name).write_bytes(gzip.compress(b" " * 1_000_000))
        with pytest.raises(ValueError, match="more than"):
            read(tmp_path / name)


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}")
    assert read_weights_description(path) is None
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_network(path)
