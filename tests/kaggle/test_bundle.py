"""A bundle holds what a kernel needs and nothing that it must not."""

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rnafold.cli.main import main
from rnafold.errors import InputError
from rnafold.kaggle.bundle import Limits, build_bundle, check_bundle
from rnafold.kaggle.secret_scan import find_secrets
from rnafold.kaggle.wheels import WheelPlan, download_wheels, read_needs, read_package_list
from tests.pieces.bundles import CHECKOUT, bundle_options, use_small_project_wheel, write_wheel

SECRETS = {
    "kaggle.json": '{"username": "me", "key": "%s"}' % ("0123456789abcdef" * 2),
    ".netrc": "machine kaggle.com " + "login me password secret",
    "access_token": "anything",
    "notes.txt": "export KAGGLE_KEY=" + "0123456789abcdef" * 2,
    "settings.py": 'os.environ["KAGGLE_API_TOKEN"] = "' + "KGAT" + "_" + "a1" * 16 + '"',
    "deploy.txt": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nabc",
    "id_ed25519": "x",
    "server.pem": "x",
    "ci.yaml": "token: " + "gh" + "p_" + "A1b2" * 9,
    "model.md": "login with " + "hf" + "_" + "Ab1" * 12,
    "aws.ini": "key = " + "AKIA" + "ABCDEFGHIJKLMNOP",
    "aws2.ini": "aws_secret_access" + "_key = wJalrXUtnFEMIK7MDENGbPxRfiCYzz3XAMPLEKEY",
    "lab.yaml": "token: " + "glpat" + "-x1Y2z3A4b5C6d7E8f9G0",
    "pub.toml": "pw = " + "pypi" + "-AgEIcHlwaS5vcmcC" + "aB3-" * 12,
    "node.txt": "npm" + "_" + "a1B2" * 9,
    "bot.py": "BOT = '" + "123456789" + ":AA" + "Hf3kLm9Qp2Rs5Tu8Vw1Xy4Za7Bc0De6Fg2'",
    "openai.txt": "sk" + "-proj-" + "a1B2c3D4" * 5,
    "claude.txt": "sk" + "-ant-api03-" + "a1B2c3D4" * 5,
    "stripe.txt": "sk" + "_live_" + "a1B2c3D4" * 5,
    "groq.txt": "gsk" + "_" + "a1B2c3D4" * 5,
    "jwt.txt": "ey" + "JhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + "SflKxwRJSMeKKF2QT4fw",
    "azure.txt": "Account" + "Key=" + "a1B2c3D4" * 8 + "==",
    "db.txt": "postgres" + "://me:" + "hunter2hunter2" + "@db.example.org/x",
    "gcp.txt": "GOC" + "SPX-" + "a1B2c3D4" * 4,
    "wandb.txt": "WANDB_API" + "_KEY=" + "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c",
    "unknown.env.txt": "FANCY_NEW_SERVICE" + "_TOKEN: 'Zx81-k2Lm9" + "_Qw3Er5Ty7Ui0Op4As6'",
    "cells.ipynb": '{"source": "os.environ[\\"KAGGLE' + '_KEY\\"] = \\"' + "0123456789abcdef" * 2 + '\\""}',
    "putty.txt": "PuTTY" + "-User-Key-File-3: ssh-ed25519",
    "secrets.toml": "x",
    "service-account-lab.json": "{}",
}
HARMLESS = {
    "config.yaml": "data.start_models: scripts/folds\ntokens: 30000000000000000000000000\ntoken_dim: 256",
    "code.py": "NUM_TOKENS: Final = 5; encode_tokens(sequence_letters_of_all_chains_in_order)",
    "hash.json": '{"sha256": "' + hashlib.sha256(b"x").hexdigest() + '"}',
    "page.html": "https://example.org:8080/a@b https://user@example.org/x",
    "seq.fasta": ">a\nGGGAUCGAUCGAUUAGCUAGCUAGCUAGCUAGUCGAUCGUAGCUAGC",
}


def pack(kind: str, name: str, data: bytes) -> bytes:
    """One file in an archive."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(name, data)
    elif kind == "gz":
        out.write(gzip.compress(data))
    else:
        with tarfile.open(fileobj=out, mode="w:gz" if kind == "tgz" else "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("kinds", [("zip",), ("gz",), ("tar",), ("tgz",), ("zip", "tgz"), ("gz", "zip", "tar")])
def test_a_secret_is_found_inside_archives(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    data = SECRETS["notes.txt"].encode()
    for kind in kinds:
        data = pack(kind, "notes.txt", data)
    (tmp_path / "data.bin").write_bytes(data)
    # what is packed without compression is seen from outside too
    assert any("data.bin, " in line and "looks like KAGGLE_KEY" in line for line in find_secrets([tmp_path]))


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_wherever_it_stands_in_a_large_file(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(97, 123, 300_000, dtype=np.uint8).tobytes()
    (tmp_path / "large.txt").write_bytes(noise + b"\n" + SECRETS[name].encode() + b"\n" + noise)
    if not find_secrets([tmp_path]):  # a name alone gives it away
        (tmp_path / name).write_text(SECRETS[name])
        assert "of this name" in find_secrets([tmp_path])[0]


def test_a_token_with_a_long_middle_is_found(tmp_path: Path) -> None:
    (tmp_path / "web.txt").write_text(".".join(["eyJ" + "h" * 20, "eyJ" + "p" * 5000, "s" * 20]))
    (tmp_path / "address.txt").write_text("https://someone:" + "w" * 3000 + "@example" + ".org")
    assert [line.rpartition("like ")[2] for line in find_secrets([tmp_path])] == [
        "an address with a password",
        "a signed web token",
    ]


def test_a_secret_in_utf_16_is_found_and_a_damaged_archive_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(SECRETS["notes.txt"].encode("utf-16"))
    (tmp_path / "cut.zip").write_bytes(pack("zip", "a", b"x" * 1000)[:-30])
    (tmp_path / "cut.tgz").write_bytes(pack("tgz", "a", b"x" * 1000)[:-30])
    (line,) = find_secrets([tmp_path])
    assert "notes.txt: line 1" in line


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_secret_passes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HARMLESS[name])
    assert find_secrets([tmp_path]) == []


def write_weights(path: Path, described: bool = True) -> Path:
    text = json.dumps({"model": {"name": "minimal"}})
    save_file({"w": torch.zeros(2)}, path, metadata={"rnafold": text} if described else None)
    return path


@pytest.mark.parametrize("name", SECRETS)
def test_a_planted_secret_is_found_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    use_small_project_wheel(monkeypatch)
    planted = tmp_path / name
    planted.write_text(SECRETS[name])
    with pytest.raises(InputError, match=r"not bundled, [12] secrets found") as caught:
        build_bundle(bundle_options(tmp_path / "bundle", add=(planted,)))
    assert name in str(caught.value)
    assert not (tmp_path / "bundle").exists()
    assert not any("bundle" in path.name for path in tmp_path.iterdir())


def test_a_secret_inside_the_projects_own_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_project_wheel(monkeypatch, **{"rnafold/notes.txt": SECRETS["notes.txt"]})
    with pytest.raises(InputError, match=r"rnafold/notes\.txt: line 1 looks like KAGGLE_KEY"):
        build_bundle(bundle_options(tmp_path / "bundle"))


def test_a_secret_put_into_a_finished_bundle_is_found_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_project_wheel(monkeypatch)
    build_bundle(bundle_options(tmp_path / "bundle"))
    (tmp_path / "bundle" / "kaggle.json").write_text(SECRETS["kaggle.json"])
    with pytest.raises(InputError, match=r"not in the manifest: \['kaggle.json'\]"):
        check_bundle(tmp_path / "bundle", Limits())


def test_the_project_itself_holds_no_secret() -> None:
    folders = ("rnafold", "configs", "kernels", "submission", "tests")
    found = find_secrets([CHECKOUT / name for name in folders if (CHECKOUT / name).is_dir()])
    assert [line for line in found if ".pyc" not in line] == []


def test_the_manifest_names_every_file_with_its_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_project_wheel(monkeypatch)
    weights = write_weights(tmp_path / "best.safetensors")
    manifest = build_bundle(bundle_options(tmp_path / "bundle", weights=(weights,)))
    on_disk = {p.name: p for p in (tmp_path / "bundle").iterdir() if p.name != "manifest.json"}
    assert {entry["name"] for entry in manifest["files"]} == set(on_disk)
    for entry in manifest["files"]:
        content = on_disk[entry["name"]].read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
    kinds = {entry["name"]: entry["kind"] for entry in manifest["files"]}
    assert kinds["best.safetensors"] == "weights"
    assert kinds["rnafold_kit-0.1.0-py3-none-any.whl"] == "project"
    assert "gpu/t4x2.yaml" in manifest["configs_in_the_project_wheel"]
    metadata = json.loads(on_disk["dataset-metadata.json"].read_text())
    assert metadata["id"] == "someone/rnafold-bundle"
    assert not any(path.is_dir() for path in on_disk.values())


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_project_wheel(monkeypatch)
    build_bundle(bundle_options(tmp_path / "bundle"))
    (tmp_path / "bundle" / "requirements.txt").write_text("rnafold-kit==0.0.1\n")
    with pytest.raises(InputError, match=r"requirements\.txt: does not match its sha256"):
        check_bundle(tmp_path / "bundle", Limits())


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param(Limits(file_gib=1e-6), "the limit for a file is 1e-06", id="file"),
        pytest.param(Limits(total_gib=1e-6), "GiB, the limit is 1e-06", id="all"),
        pytest.param(Limits(num_files=2), "files, Kaggle takes 2", id="count"),
    ],
)
def test_what_is_over_the_limits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, expected: str
) -> None:
    use_small_project_wheel(monkeypatch)
    with pytest.raises(InputError, match=expected):
        build_bundle(bundle_options(tmp_path / "bundle", limits=limits))
    assert not (tmp_path / "bundle").exists()


def test_weights_of_another_origin_folders_and_name_clashes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_project_wheel(monkeypatch)
    foreign = write_weights(tmp_path / "foreign.safetensors", described=False)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("1")
    (tmp_path / "a.txt").write_text("2")
    out = tmp_path / "bundle"
    for changes, expected in (
        ({"weights": (foreign,)}, "no weights that `train` wrote"),
        ({"add": (tmp_path / "folder",)}, "a folder; add its files"),
        ({"add": (tmp_path / "a.txt", tmp_path / "folder" / "a.txt")}, "a second file of the name a.txt"),
        ({"add": (tmp_path / "absent",)}, "no such file"),
        ({"user": "USERNAME"}, "expected your Kaggle user name"),
        ({"checkout": tmp_path}, "configs or data files are not inside"),
    ):
        with pytest.raises(InputError, match=expected):
            build_bundle(bundle_options(out, **changes))
    assert not out.exists()


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(InputError, match="exists and is no bundle"):
        build_bundle(bundle_options(tmp_path))
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_needs_are_followed_until_the_image_has_them(tmp_path: Path) -> None:
    index, out = tmp_path / "index", tmp_path / "out"
    index.mkdir()
    out.mkdir()
    write_wheel(index, "folding", needs=("helper>=1", "numpy>=1", "torch", "extra-thing; extra == 'all'"))
    write_wheel(index, "helper", needs=("only-windows; sys_platform == 'win32'", "folding"))
    plan = WheelPlan(requirements=("folding",), image=frozenset({"numpy", "torch"}), platforms=(), source=index)
    names = [path.name for path in download_wheels(plan, out)]
    assert names == ["folding-1.0-py3-none-any.whl", "helper-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("name", ["torch", "nvidia-cublas-cu12", "triton", "torchvision"])
def test_torch_and_its_family_are_never_carried(tmp_path: Path, name: str) -> None:
    write_wheel(tmp_path, "folding", needs=(name,))
    for requirements in ((name,), ("folding",)):
        plan = WheelPlan(requirements=requirements, image=frozenset(), platforms=(), source=tmp_path)
        with pytest.raises(InputError, match="never carried"):
            download_wheels(plan, tmp_path)


def test_a_package_without_a_wheel_is_named(tmp_path: Path) -> None:
    plan = WheelPlan(requirements=("absent>=2",), image=frozenset(), platforms=(), source=tmp_path)
    with pytest.raises(InputError, match=r"no wheel of absent>=2 for Python 3\.12"):
        download_wheels(plan, tmp_path)


def test_needs_are_read_for_kaggles_python_not_for_this_one(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "x", needs=("old; python_version < '3.12'", "new; python_version >= '3.12'"))
    assert [need.name for need in read_needs(wheel, "3.12")] == ["new"]
    assert [need.name for need in read_needs(wheel, "3.11")] == ["old"]


def test_the_package_lists_are_readable_and_keep_torch_out() -> None:
    lines = read_package_list(CHECKOUT / "kernels" / "wheels.txt")
    assert {"biopython>=1.84", "gemmi>=0.7", "viennarna>=2.6", "squarna>=3.2", "loky>=3.4"} <= set(lines)
    carried = {re.split("[>=]", text)[0] for text in read_package_list(CHECKOUT / "kernels" / "wheels.txt")}
    image = set(read_package_list(CHECKOUT / "kernels" / "image.txt"))
    assert "torch" in image
    assert not carried & image


def test_a_line_that_names_no_package_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "wheels.txt"
    path.write_text("numpy\n# comment\nnot a package!\n")
    with pytest.raises(InputError, match="line 3: 'not a package!'"):
        read_package_list(path)


def test_the_command_needs_a_user_and_knows_what_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    assert main(["kaggle", "bundle", "--out", str(tmp_path / "b")]) == 2
    assert "--user NAME is needed" in capsys.readouterr().err
    assert main(["kaggle", "bundle", "--user", "me", "--without", "nothing-known"]) == 2
    assert "--without nothing-known: not in the list" in capsys.readouterr().err


@pytest.mark.slow
def test_the_projects_wheel_installs_offline_with_plain_pip_and_answers(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    command = ["kaggle", "bundle", "--user", "someone", "--out", str(out), "--platform", "native"]
    others = ["biopython", "gemmi", "viennarna", "squarna", "loky", "accelerate", "safetensors"]
    assert main([*command, "--without", *others]) == 0
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--find-links", str(out)]
    subprocess.run([*pip, "--target", str(site), "rnafold-kit"], check=True)
    for arguments in (["--version"], ["kaggle", "preflight", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "rnafold", *arguments],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(site)},
        )
        assert "rnafold" in done.stdout
    assert sorted(p.stem for p in (site / "rnafold" / "_configs" / "gpu").glob("*.yaml")) == sorted(
        p.stem for p in (CHECKOUT / "configs" / "gpu").glob("*.yaml")
    )
    assert (site / "rnafold" / "templates" / "ranker.json").is_file()
    assert (site / "rnafold" / "_submission" / "slots.yaml").is_file()
    assert json.loads((out / "manifest.json").read_text())["files"]
