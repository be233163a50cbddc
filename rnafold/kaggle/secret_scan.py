"""Refuses to upload credentials: by file name and by content, also inside wheels and archives.

A private dataset is one click from public, and whoever can read a kernel can read its inputs.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# Names of files that hold credentials. kaggle.json and access_token are the Kaggle client's own.
NAMES: Final = re.compile(
    r"(?:^|/)(?:kaggle\.json|access_token|\.?netrc|_netrc|\.env(?:\..*)?|\.pypirc|\.git-credentials|credentials(?:\.json)?"
    r"|token(?:\.txt)?|id_(?:rsa|dsa|ecdsa|ed25519)|[^/]*\.(?:pem|ppk|p12|pfx|keystore)|authorized_keys)$",
    re.IGNORECASE,
)
# What credentials look like. Written with classes in brackets, so that this file does not match itself.
CONTENTS: Final = {
    "a Kaggle key": re.compile(rb"[\"']key[\"']\s*:\s*[\"'][0-9a-f]{32}[\"']"),
    "KAGGLE_KEY or a token set": re.compile(
        rb"KAGGLE_(?:KEY|API_TOKEN)[\"']?\s*\]?\s*[=:]\s*[\"']?[A-Za-z0-9_\-]{16,}", re.IGNORECASE
    ),
    "a Kaggle token": re.compile(rb"KGAT_[A-Za-z0-9]{16,}"),
    "a private key": re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a GitHub token": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z0-9]{30,}"),
    "an AWS key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Google API key": re.compile(rb"\bAIza[0-9A-Za-z_\-]{35}\b"),
    "a Slack token": re.compile(rb"\bxox[abprs]-[0-9A-Za-z\-]{10,}"),
    "an API key": re.compile(rb"\bsk-[A-Za-z0-9_\-]{32,}"),
    "a password for a machine": re.compile(rb"\bmachine\s+\S+\s+login\s+\S+\s+password\s+\S+"),
}
# Whole files up to this size are read; of larger ones (weights, data) the beginning and the end.
WHOLE_BYTES: Final = 64 * 2**20
EDGE_BYTES: Final = 2**20


def find_secrets(paths: Iterable[Path], trusted: Iterable[str] = ()) -> list[str]:
    """One line for each credential found in files: "file: what".

    Args:
        paths: files, or folders with everything below them.
        trusted: names of files that others published (wheels from the package index): only the names inside count.
    """
    known = set(trusted)
    return [line for path in _list_files(paths) for line in _scan_file(path, contents=path.name not in known)]


def _list_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file())
        else:
            yield path


def _scan_file(path: Path, contents: bool) -> Iterator[str]:
    if NAMES.search(path.as_posix()):
        yield f"{path}: a file of this name holds credentials"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                place = f"{path}, {member.filename}"
                # published packages carry certificates of public authorities, which are no secret
                if NAMES.search(member.filename) and contents:
                    yield f"{place}: a file of this name holds credentials"
                if contents and member.file_size <= WHOLE_BYTES:
                    yield from _scan_bytes(place, archive.read(member))
    elif contents:
        yield from _scan_bytes(str(path), _read_edges(path))


def _read_edges(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            return file.read()
        head = file.read(EDGE_BYTES)
        file.seek(size - EDGE_BYTES)
        return head + b"\n" + file.read()


def _scan_bytes(place: str, data: bytes) -> Iterator[str]:
    for what, pattern in CONTENTS.items():
        match = pattern.search(data)
        if match is not None:
            line = data[: match.start()].count(b"\n") + 1
            yield f"{place}: line {line} looks like {what}"
