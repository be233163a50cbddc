"""One owner of what a weights file says of itself."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rnafold.files.weights_header import (
    WeightsDescription,
    format_metadata,
    parse_metadata,
    read_weights_description,
)

PACKAGE = Path(__file__).resolve().parents[2] / "rnafold"
ONE: WeightsDescription = {"model": {"name": "minimal"}, "step": 7, "validation_tm_score": 0.25}


def test_a_description_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors", metadata=format_metadata(ONE))
    assert read_weights_description(tmp_path / "w.safetensors") == ONE


def test_equal_descriptions_give_equal_bytes() -> None:
    turned: WeightsDescription = {"validation_tm_score": 0.25, "step": 7, "model": {"name": "minimal"}}
    assert format_metadata(ONE) == format_metadata(turned)
    assert len(format_metadata(ONE)) == 1


@pytest.mark.parametrize(
    "metadata",
    [{}, {"format": "pt"}, {"rnafold": "{"}, {"rnafold": "[]"}, {"rnafold": json.dumps({"step": 1})}],
    ids=["none", "another program's", "cut off", "a list", "no model"],
)
def test_what_train_did_not_write_is_none(metadata: dict[str, str]) -> None:
    assert parse_metadata(metadata) is None


def test_no_other_module_reads_or_writes_the_key() -> None:
    used = re.compile(r'metadata\(?\)?\["rnafold"\]|"rnafold" (not )?in metadata|\{"rnafold": (json|text)')
    assert used.search('found = json.loads(file.metadata()["rnafold"])')
    assert not [path for path in PACKAGE.rglob("*.py") if used.search(path.read_text(encoding="utf-8"))]
