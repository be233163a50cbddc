"""Files that mean harm: nothing in them is executed, nothing unfolds without end, nothing leads out of its folder."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rnafold.config.strict_yaml import load_yaml
from rnafold.errors import InputError
from rnafold.features.cache import load_arrays, save_arrays
from rnafold.files.bounded import read_json
from rnafold.files.mounts import hash_file
from rnafold.files.run_folder import CheckpointFolder, find_damage, read_run
from rnafold.model.encoder import read_tensors
from rnafold.model.weights import load_network
from rnafold.submission.provenance import read_records
from rnafold.templates.library import TemplateLibrary
from rnafold.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.pieces.folds import make_entries


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def write_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": Payload(mark)}, protocol=2))


def write_torch(path: Path, mark: Path) -> None:
    torch.save({"weights": Payload(mark)}, path)


def write_legacy(path: Path, mark: Path) -> None:
    torch.save({"weights": Payload(mark)}, path, _use_new_zipfile_serialization=False)


WRITERS = {"pickle": write_pickle, "torch": write_torch, "old torch": write_legacy}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
Writer = Callable[[Path, Path], None]


def test_the_payload_would_go_off(tmp_path: Path) -> None:
    write_pickle(tmp_path / "x", tmp_path / "mark")
    pickle.loads((tmp_path / "x").read_bytes())  # noqa: S301 - what the other tests must never do
    assert (tmp_path / "mark").is_dir()


@writers
@pytest.mark.parametrize("name", ["encoder.pt", "encoder.bin", "encoder.safetensors"])
def test_a_malicious_encoder_is_refused_and_nothing_executed(tmp_path: Path, write: Writer, name: str) -> None:
    write(tmp_path / name, tmp_path / "mark")
    with pytest.raises(InputError, match=name):
        read_tensors(tmp_path / name)
    assert not (tmp_path / "mark").exists()


@writers
def test_malicious_weights_are_refused_and_nothing_executed(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "best.safetensors", tmp_path / "mark")
    with pytest.raises(InputError, match=r"best\.safetensors"):
        load_network(tmp_path / "best.safetensors")
    assert not (tmp_path / "mark").exists()


def save(folder: Path, step: int) -> Path:
    tensors = {"model": {"w": torch.full((3,), float(step))}}
    return save_checkpoint(folder, step, Checkpoint(tensors=tensors, state={"train": {"step": step}}), keep=5)


def forge(checkpoint: Path) -> None:
    """A manifest that fits whatever lies there now."""
    names = [path for path in sorted(checkpoint.iterdir()) if path.name != "manifest.json"]
    manifest = {path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)} for path in names}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@writers
def test_a_malicious_checkpoint_is_passed_over_and_nothing_executed(tmp_path: Path, write: Writer) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    write(newest / "model.safetensors", tmp_path / "mark")
    forge(newest)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.state["train"]["step"] == 1
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "manifest", [b"[]", b"\xff\xfe", b"null", b"{" * 100_000, b'{"../../x": {}}', b'{"a": 3}', b""], ids=repr
)
def test_an_odd_manifest_is_damage(tmp_path: Path, manifest: bytes) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    (newest / "manifest.json").write_bytes(manifest)
    (tmp_path.parent / "x").write_text("x")
    assert find_damage(newest) is not None
    found = load_checkpoint(tmp_path)
    assert found is not None and found.state["train"]["step"] == 1


@pytest.mark.parametrize("latest", [b"\xff\xfe", b"../../x", b"step_9999999999", b""], ids=repr)
def test_an_odd_latest_leads_nowhere(tmp_path: Path, latest: bytes) -> None:
    save(tmp_path, 3)
    (tmp_path / "LATEST").write_bytes(latest)
    assert CheckpointFolder(tmp_path).newest() == 3


def test_arrays_of_objects_are_not_loaded(tmp_path: Path) -> None:
    objects = np.array([Payload(tmp_path / "mark")], dtype=object)
    np.savez(tmp_path / "cache.npz", profile=objects)
    assert load_arrays(tmp_path / "cache.npz", ["profile"]) is None
    TemplateLibrary.from_entries(make_entries()).save(tmp_path / "library")
    np.save(tmp_path / "library" / "coords.npy", objects)
    with pytest.raises(InputError, match="not a template library"):
        TemplateLibrary.load(tmp_path / "library")
    assert not (tmp_path / "mark").exists()


def test_a_header_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes((1 << 42).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError):
        load_network(tmp_path / "best.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "cut.safetensors")
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-3])
    with pytest.raises(InputError):
        load_network(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
            f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 9)}]\n" for k in range(12)
        ),
        "a: " + "[" * 5000,
        "a: &a [*a]\n",
        "a: !!python/object/apply:os.mkdir [mark]\n",
        "#" * (5 << 20),
    ],
    ids=["anchors of anchors", "nested", "an anchor in itself", "an object", "large"],
)  # fmt: skip
def test_a_hostile_configuration_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_yaml(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value) and not (tmp_path / "mark").exists()


@pytest.mark.parametrize("text", ["[" * 200_000, "{", "\x00", ""], ids=["nested", "cut", "binary", "empty"])
def test_hostile_json_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    for read in (read_json, lambda p: read_records(p, p)):
        with pytest.raises(InputError, match=r"x\.json: not valid JSON") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="larger than"):
        (tmp_path / "large.json").write_text(" " * 100)
        read_json(tmp_path / "large.json", most=10)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        read_run(tmp_path / "run")


def test_a_zip_that_unpacks_without_end_is_no_cache(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
        archive.writestr("profile.npy", header.ljust(128) + b"\0" * 1000)
    assert load_arrays(tmp_path / "bomb.npz", ["profile"]) is None


def test_a_cache_file_flipped_anywhere_is_absent_or_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    arrays = {"profile": np.arange(60, dtype=np.float32).reshape(10, 6), "version": np.array(3)}
    save_arrays(path, arrays)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(data), size=400):
        flipped = bytearray(data)
        flipped[place] ^= int(rng.integers(1, 256))
        path.write_bytes(flipped[: int(rng.integers(1, len(data)))] if place % 4 == 0 else flipped)
        found = load_arrays(path, list(arrays))
        assert found is None or all(np.array_equal(found[name], arrays[name]) for name in arrays)
