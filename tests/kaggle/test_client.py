"""Pushing through Kaggle's own client, whose validation runs in full: only the sending of requests is replaced."""

import datetime
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from rnafold.cli.main import main
from rnafold.errors import InputError
from rnafold.kaggle import client
from rnafold.kaggle.bundle import build_bundle
from rnafold.kaggle.staging import METADATA, StageOptions, read_metadata, read_notebook, set_parameters, stage_kernel
from rnafold.planner.quota.ledger import LedgerSession, read_sessions
from tests.pieces.bundles import CHECKOUT, bundle_options, use_small_project_wheel

Answer = dict[str, Any] | int


class FakeKaggle:
    """Answers requests by the name of the service's method; a number is an HTTP status without content."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.uploads: dict[str, int] = {}
        self.answers: dict[str, Answer | Callable[[dict[str, Any]], Answer]] = {
            "GetDatasetStatus": {"status": "READY"},
            "StartBlobUpload": self._start_upload,
            "CreateDataset": {"status": "ok", "url": "https://kaggle/d"},
            "CreateDatasetVersion": {"status": "ok", "url": "https://kaggle/d"},
            "SaveKernel": {"url": "https://kaggle/k", "versionNumber": 3},
            "GetKernelSessionStatus": {"status": "COMPLETE"},
            "GetAcceleratorQuotaStatistics": {
                "gpuQuota": {"timeUsed": "36000s", "timeReserved": "3600s", "totalTimeAllowed": "108000s"}
            },
        }

    def _start_upload(self, body: dict[str, Any]) -> Answer:
        return {"token": f"token-{body['name']}", "createUrl": f"https://upload.test/{body['name']}"}

    def send(self, _session: requests.Session, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        assert request.url is not None
        response = requests.Response()
        response.request, response.url, response.status_code = request, request.url, 200
        if request.url.startswith("https://upload.test/"):
            body: Any = request.body
            self.uploads[request.url.rpartition("/")[2]] = len(body.read() if hasattr(body, "read") else body or b"")
            response._content = b""
            return response
        name = request.url.rpartition("/")[2]
        sent: Any = request.body
        body = json.loads(sent or b"{}")
        self.calls.append((name, body))
        answer = self.answers[name]
        answer = answer(body) if callable(answer) else answer
        response.headers["Content-Type"] = "application/json"
        if isinstance(answer, int):
            response.status_code, answer = answer, {"code": answer, "message": "Permission denied"}
        response._content = json.dumps(answer).encode()
        return response

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def body(self, name: str) -> dict[str, Any]:
        return next(body for called, body in self.calls if called == name)


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKaggle:
    fake = FakeKaggle()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "no-config"))
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "no-real-key")
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.setattr(requests.Session, "send", lambda *args, **options: fake.send(*args, **options))
    monkeypatch.setattr(client, "POLL_SECONDS", 0.01)
    return fake


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_small_project_wheel(monkeypatch)
    build_bundle(bundle_options(tmp_path / "dist" / "bundle"))
    return tmp_path / "dist" / "bundle"


def push(kind: str, bundle: Path, *arguments: str) -> int:
    return main(["kaggle", "push", kind, "--user", "someone", "--bundle", str(bundle), *arguments])


@pytest.mark.parametrize("kind", ["train", "predict"])
def test_without_yes_nothing_is_sent_and_everything_is_said(
    kind: str, kaggle: FakeKaggle, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(kind, bundle) == 0
    printed = capsys.readouterr().out
    assert kaggle.calls == []
    for text in ("rnafold_kit-0.1.0", f"kernel someone/rnafold-{kind}, private, internet off", "nothing sent"):
        assert text in printed
    assert f"quota: up to {11 if kind == 'train' else 1} h of GPU time" in printed


@pytest.mark.parametrize("prepared", [False, True], ids=["no preparation", "preparation"])
@pytest.mark.parametrize("kind", ["train", "predict"])
def test_the_official_client_accepts_bundle_and_kernel_up_to_the_sending(
    kind: str, prepared: bool, kaggle: FakeKaggle, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.answers["GetDatasetStatus"] = _absent_until_created(kaggle)
    kaggle.answers["GetKernelSessionStatus"] = lambda body: (
        404 if not prepared and "prepare" in json.dumps(body) else {"status": "COMPLETE"}
    )
    assert push(kind, bundle, "--yes") == 0
    printed = capsys.readouterr().out
    created = kaggle.body("CreateDataset")
    assert (created["ownerSlug"], created["slug"], created["isPrivate"]) == ("someone", "rnafold-bundle", True)
    listed = {p.name for p in bundle.iterdir()} - {"dataset-metadata.json"}
    assert {f["token"] for f in created["files"]} == {f"token-{name}" for name in listed}
    assert kaggle.uploads == {p.name: p.stat().st_size for p in bundle.iterdir() if p.name in listed}
    saved = kaggle.body("SaveKernel")
    assert saved["slug"] == f"someone/rnafold-{kind}"
    assert saved["enableInternet"] is False
    assert saved["enableGpu"] is True
    assert saved["isPrivate"] is True
    assert saved["machineShape"] == "NvidiaTeslaT4"
    assert saved["datasetDataSources"] == ["someone/rnafold-bundle"]
    attached = ["someone/rnafold-train"] * (kind == "train") + ["someone/rnafold-prepare"] * prepared
    assert saved.get("kernelDataSources", []) == attached
    # the notebook's own hours and a quarter more: (11 + 0.25) * 3600 = 40500, (1 + 0.25) * 3600 = 4500
    assert saved["sessionTimeoutSeconds"] == (40500 if kind == "train" else 4500)
    assert len(json.loads(saved["text"])["cells"]) == 5
    assert "does not resolve" not in printed
    assert "19.0 h left of 30.0 (1.0 h reserved" in printed
    assert "version 3 runs: https://kaggle/k" in printed


def _absent_until_created(kaggle: FakeKaggle) -> Callable[[dict[str, Any]], Answer]:
    return lambda _body: {"status": "READY"} if "CreateDataset" in kaggle.names() else 404


def test_a_second_push_sends_an_unchanged_bundle_no_more_and_a_changed_one_as_a_version(
    kaggle: FakeKaggle, bundle: Path, tmp_path: Path
) -> None:
    assert push("train", bundle, "--yes") == 0
    assert "CreateDatasetVersion" in kaggle.names()
    kaggle.calls.clear()
    assert push("predict", bundle, "--yes") == 0
    assert {"CreateDatasetVersion", "CreateDataset", "StartBlobUpload"}.isdisjoint(kaggle.names())
    added = tmp_path / "added.txt"
    added.write_text("new")
    build_bundle(bundle_options(bundle, add=(added,)))
    kaggle.calls.clear()
    assert push("train", bundle, "--yes") == 0
    assert "CreateDatasetVersion" in kaggle.names()


def test_the_first_version_is_not_attached_to_an_output_that_does_not_exist(kaggle: FakeKaggle, bundle: Path) -> None:
    kaggle.answers["GetKernelSessionStatus"] = 403
    assert push("train", bundle, "--yes") == 0
    assert kaggle.body("SaveKernel").get("kernelDataSources", []) == []


def test_a_push_beyond_the_quota_is_refused_before_anything_is_uploaded(
    kaggle: FakeKaggle, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 30 h - 20 h used - 1 h reserved = 9 h left, 11 needed
    kaggle.answers["GetAcceleratorQuotaStatistics"] = {
        "gpuQuota": {"timeUsed": "72000s", "timeReserved": "3600s", "totalTimeAllowed": "108000s"}
    }
    assert push("train", bundle, "--yes") == 2
    assert "11 h needed, 9.0 h left" in capsys.readouterr().err
    assert {"SaveKernel", "StartBlobUpload"}.isdisjoint(kaggle.names())
    assert push("train", bundle, "--yes", "--ignore-quota") == 0
    kaggle.calls.clear()
    assert push("train", bundle, "--yes", "--parameter", "HOURS=8.5") == 0
    assert "HOURS = 8.5" in kaggle.body("SaveKernel")["text"]


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        pytest.param(
            "SaveKernel", {"error": "Maximum batch GPU session count of 2 reached"}, "Maximum batch", id="full"
        ),
        pytest.param(
            "SaveKernel",
            {"url": "u", "versionNumber": 1, "invalidCompetitionSources": ["stanford-rna-3d-folding-2"]},
            "left out stanford-rna-3d-folding-2: stop the session",
            id="rules not accepted",
        ),
        pytest.param("CreateDatasetVersion", {"status": "error", "error": "Slug taken"}, "Slug taken", id="dataset"),
        pytest.param("GetDatasetStatus", {"status": "FAILED"}, "Kaggle says failed", id="processing"),
        pytest.param("SaveKernel", 401, "Kaggle's client says", id="rights"),
        pytest.param("GetDatasetStatus", 500, "Kaggle's client says", id="server"),
    ],
)
def test_a_refusal_is_told_in_one_line(
    kaggle: FakeKaggle,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    answer: Answer,
    expected: str,
) -> None:
    kaggle.answers[name] = answer
    assert push("train", bundle, "--yes") == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_a_dataset_that_does_not_become_ready_is_not_waited_for_without_end(
    kaggle: FakeKaggle, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "POLL_SECONDS", 5.0)
    kaggle.answers["GetDatasetStatus"] = {"status": "BLOBS_RECEIVED"}
    waited: list[float] = []
    with pytest.raises(InputError, match="not ready after 20 s"):
        client.upload_bundle(client.connect(), bundle, "digest", wait=waited.append, patience=20.0)
    assert waited == [5.0] * 4


def test_without_credentials_the_way_to_get_them_is_told(
    kaggle: FakeKaggle, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.delenv("KAGGLE_USERNAME")
    assert push("train", bundle, "--yes") == 2
    printed = capsys.readouterr()
    assert "no Kaggle credentials" in printed.err
    assert kaggle.names() == []


def test_status_and_pull_ask_only_with_yes(
    kaggle: FakeKaggle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle.answers["ListKernelSessionOutput"] = {"files": [], "log": "trained"}
    for action in ("status", "pull"):
        assert main(["kaggle", action, "train", "--user", "someone"]) == 0
    assert kaggle.calls == []
    assert "costs no quota" in capsys.readouterr().out
    assert main(["kaggle", "status", "train", "--user", "someone", "--yes"]) == 0
    assert "someone/rnafold-train: COMPLETE" in capsys.readouterr().out
    out = tmp_path / "output"
    assert main(["kaggle", "pull", "train", "--user", "someone", "--yes", "--out", str(out)]) == 0
    assert (out / "rnafold-train.log").read_text() == "trained"


class OneOutput:
    """An output of two files, of which the client fetches those that the pattern finds."""

    def kernels_output(self, kernel: str, path: str, *, file_pattern: str | None, quiet: bool) -> tuple[list[str], str]:
        names = ["run/best.safetensors", "run/metrics.jsonl", "ledger.jsonl"]
        kept = [name for name in names if file_pattern is None or re.search(file_pattern, name)]
        return [f"{path}/{name}" for name in kept], ""


def test_only_the_files_asked_for_are_pulled(tmp_path: Path) -> None:
    def pull(*only: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in client.pull_output(OneOutput(), "a/b", tmp_path, only)]

    assert len(pull()) == 3
    assert pull("run/best.safetensors") == ["run/best.safetensors"]
    assert pull("run/*", "ledger.jsonl") == ["run/best.safetensors", "run/metrics.jsonl", "ledger.jsonl"]
    with pytest.raises(InputError, match=r"a/b: its output has no best.safetensors"):
        pull("best.safetensors")


def test_a_pulled_ledger_is_taken_over_once(tmp_path: Path) -> None:
    source, target = tmp_path / "pulled.jsonl", tmp_path / "runs" / "ledger.jsonl"
    LedgerSession(source, "train base", "t4x2", counts=True).end("time")
    assert client.take_over_ledger(source, target) == 2
    assert client.take_over_ledger(source, target) == 0
    assert read_sessions(target) == read_sessions(source)
    assert client.take_over_ledger(tmp_path / "absent.jsonl", target) == 0


def stage(tmp_path: Path, source: Path = CHECKOUT / "kernels" / "train", **options: Any) -> Path:
    return stage_kernel(source, tmp_path / "staged", StageOptions(user="someone", **options)).folder


def test_a_staged_kernel_bears_the_users_name_everywhere(tmp_path: Path) -> None:
    metadata = read_metadata(stage(tmp_path, competition="stanford-rna-3d-folding", datasets=("a/b",)))
    assert "USERNAME" not in json.dumps(metadata)
    assert metadata["competition_sources"] == ["stanford-rna-3d-folding"]
    assert metadata["dataset_sources"] == ["someone/rnafold-bundle", "a/b"]
    assert read_metadata(stage(tmp_path, fresh=True))["kernel_sources"] == ["someone/rnafold-prepare"]
    absent = ("someone/rnafold-prepare", "someone/rnafold-train")
    assert read_metadata(stage(tmp_path, absent=absent))["kernel_sources"] == []


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        pytest.param("HOURS", "expected NAME=VALUE", id="no value"),
        pytest.param("HORUS=3", "NAME one of GPU, MODEL, HOURS", id="unknown"),
        pytest.param("HOURS=long", "expected a float such as 11.0", id="type"),
        pytest.param("SETTINGS=train.epochs=3", "expected a list", id="list"),
    ],
)
def test_a_parameter_that_the_notebook_cannot_take_is_refused(tmp_path: Path, parameter: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        stage(tmp_path, parameters=(parameter,))


def test_parameters_are_assigned_behind_the_notebooks_own() -> None:
    notebook = read_notebook(CHECKOUT / "kernels" / "train" / "rnafold-train.ipynb")
    set_parameters(notebook, ["HOURS=8", "MODEL=large", 'SETTINGS=["a=1"]'])
    source = "".join(notebook["cells"][2]["source"])
    assert source == "HOURS = 8.0\nMODEL = 'large'\nSETTINGS = ['a=1']\n"


def test_metadata_with_internet_on_or_a_field_missing_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kernel"
    folder.mkdir()
    good = json.loads((CHECKOUT / "kernels" / "train" / METADATA).read_text())
    for change, expected in (
        ({"enable_internet": True}, "enable_internet: found True"),
        ({"enable_internet": "false"}, "enable_internet: found 'false'"),
        ({"machine_shape": None}, "missing fields"),
        ({"machineshape": "x"}, "unknown fields"),
    ):
        changed = {**good, **change}
        if change == {"machine_shape": None}:
            del changed["machine_shape"]
        (folder / METADATA).write_text(json.dumps(changed))
        with pytest.raises(InputError, match=expected):
            read_metadata(folder)


def test_a_secret_in_a_notebook_is_not_pushed(tmp_path: Path) -> None:
    source = tmp_path / "kernel"
    source.mkdir()
    for path in (CHECKOUT / "kernels" / "train").iterdir():
        (source / path.name).write_text(path.read_text())
    notebook = source / "rnafold-train.ipynb"
    notebook.write_text(notebook.read_text().replace("# rnafold: train", "KAGGLE_KEY=" + "0123456789abcdef" * 2))
    with pytest.raises(InputError, match="not pushed, 1 secrets"):
        stage(tmp_path, source)
    assert not (tmp_path / "staged").exists()


def test_the_metadata_fields_are_those_that_the_client_knows() -> None:
    api = importlib.import_module("kaggle.api.kaggle_api_extended").KaggleApi
    metadata = read_metadata(CHECKOUT / "kernels" / "predict")
    assert metadata["docker_image_pinning_type"] in api.valid_push_pinning_types
    assert metadata["kernel_type"] in api.valid_push_kernel_types
    assert metadata["language"] in api.valid_push_language_types


def test_the_quota_is_read_with_what_running_sessions_reserve(kaggle: FakeKaggle) -> None:
    from rnafold.kaggle.quota import read_kaggle_quota
    from rnafold.planner.quota.rules import load_rules

    state = read_kaggle_quota(client.connect(), load_rules(), datetime.datetime.now(datetime.UTC))
    assert (state.total, state.used, state.reserved, state.left) == (30.0, 10.0, 1.0, 19.0)
