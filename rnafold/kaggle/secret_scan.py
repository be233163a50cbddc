"""Refuses to upload credentials: by file name and by content, also inside wheels and archives.

A private dataset is one click from public, and whoever can read a kernel can read its inputs.
"""

import gzip
import io
import itertools
import math
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# Names of files that hold credentials. kaggle.json and access_token are the Kaggle client's own.
NAMES: Final = re.compile(
    r"(?:^|/)(?:kaggle\.json|access_token|\.?netrc|_netrc|\.env(?:\..*)?|\.pypirc|\.npmrc|\.git-credentials|\.htpasswd"
    r"|credentials(?:\.(?:json|ya?ml|toml|db))?|(?:client_)?secrets?(?:\.(?:json|ya?ml|toml|txt|env))|\.boto|\.s3cfg"
    r"|service[_-]?account[^/]*\.json|token(?:\.txt)?|id_(?:rsa|dsa|ecdsa|ed25519)(?:_[^/.]*)?|authorized_keys"
    r"|\.docker/config\.json|\.dockercfg|[^/]*\.(?:pem|ppk|p12|pfx|keystore|jks|kdbx))$",
    re.IGNORECASE,
)
# What credentials look like. Written with classes in brackets, so that this file does not match itself.
CONTENTS: Final = {
    "a Kaggle key": re.compile(rb"\\?[\"']key\\?[\"']\s*:\s*\\?[\"'][0-9a-f]{32}\\?[\"']"),
    "KAGGLE_KEY or a token set": re.compile(
        rb"KAGGLE_(?:KEY|API_TOKEN)\\?[\"']?\s*\]?\s*(?:[=:]\s*\\?[\"']?|,\s*\\?[\"'])(?=[A-Za-z_\-]*[0-9])[A-Za-z0-9_\-]{16,}",
        re.IGNORECASE,
    ),
    "a Kaggle token": re.compile(rb"KGAT_[A-Za-z0-9]{16,}"),
    "a private key": re.compile(
        rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-[0-9]|AGE-SECRET-KEY-1[0-9A-Z]{40,}"
    ),
    "a GitHub token": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z0-9]{30,}"),
    "an AWS key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a Google key": re.compile(rb"\b(?:AIza[0-9A-Za-z_\-]{35}\b|ya29\.[0-9A-Za-z_\-]{30,}|GOCSPX-[0-9A-Za-z_\-]{20,})"),
    "a Slack token": re.compile(
        rb"\bxox[abeoprs]-[0-9A-Za-z\-]{10,}|hooks\.slack\.com/services/T[0-9A-Z]+/[0-9A-Z]+/\w{16,}"
    ),
    "an API key": re.compile(rb"\b(?:sk|pk|rk)[-_](?:(?:live|test|proj|ant|or)[-_])?[A-Za-z0-9_\-]{32,}"),
    "a GitLab token": re.compile(rb"\bgl(?:pat|ptt|rt|dt|ft|soat)-[0-9A-Za-z_\-]{20,}"),
    "a package index's token": re.compile(
        rb"\b(?:pypi-[A-Za-z0-9_\-]{50,}|npm_[A-Za-z0-9]{36}|dckr_pat_[A-Za-z0-9_\-]{20,})"
    ),
    "a service's token": re.compile(
        rb"\b(?:gsk_[A-Za-z0-9]{30,}|r8_[A-Za-z0-9]{30,}|dop_v1_[0-9a-f]{40,}|dapi[0-9a-f]{32}|lin_api_[A-Za-z0-9]{30,}"
        rb"|ntn_[A-Za-z0-9]{30,}|shp(?:at|ss)_[0-9a-fA-F]{32}|SG\.[A-Za-z0-9_\-]{20,}\.[A-Za-z0-9_\-]{30,}"
        rb"|[0-9]{8,10}:AA[A-Za-z0-9_\-]{32,}|nvapi-[A-Za-z0-9_\-]{40,}|xai-[A-Za-z0-9]{60,}|tvly-[A-Za-z0-9\-]{20,})"
    ),
    "a signed web token": re.compile(rb"\beyJ[A-Za-z0-9_\-]{16,}\.eyJ[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}"),
    "a storage key": re.compile(rb"\bAccountKey=[A-Za-z0-9+/]{40,}={0,2}|[?&]sig=[A-Za-z0-9%+/]{40,}"),
    "an address with a password": re.compile(
        rb"\b[a-z][a-z0-9+]{1,12}://[^\s/:@\"'<>{}$]{1,64}:[^\s/@\"'<>{}$]{6,}@[\w.\-]+"
    ),
    "a password for a machine": re.compile(rb"\bmachine\s+\S+\s+login\s+\S+\s+password\s+\S+"),
}
# One of these stands in every match of the pattern (in small letters, where the pattern takes both), so that patterns,
# which take a hundred times as long, are tried where a match with it can begin alone: at most so far before it.
_BEFORE: Final = 16
_HELD: Final = {
    "a Kaggle key": (b"key",),
    "KAGGLE_KEY or a token set": (b"kaggle_key", b"kaggle_api_token"),
    "a Kaggle token": (b"KGAT_",),
    "a private key": (b"-----BEGIN ", b"PuTTY-User-Key-File-", b"AGE-SECRET-KEY-1"),
    "a GitHub token": (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
    "a Hugging Face token": (b"hf_",),
    "an AWS key": (b"AKIA", b"ASIA"),
    "a Google key": (b"AIza", b"ya29.", b"GOCSPX-"),
    "a Slack token": (b"xox", b"hooks.slack.com/services/T"),
    "an API key": (b"sk-", b"sk_", b"pk-", b"pk_", b"rk-", b"rk_"),
    "a GitLab token": (b"glpat-", b"glptt-", b"glrt-", b"gldt-", b"glft-", b"glsoat-"),
    "a package index's token": (b"pypi-", b"npm_", b"dckr_pat_"),
    "a service's token": (
        b"gsk_",
        b"r8_",
        b"dop_v1_",
        b"dapi",
        b"lin_api_",
        b"ntn_",
        b"shpat_",
        b"shpss_",
        b"SG.",
        b":AA",
        b"nvapi-",
        b"xai-",
        b"tvly-",
    ),
    "a signed web token": (b"eyJ",),
    "a storage key": (b"AccountKey=", b"sig="),
    "an address with a password": (b"://",),
    "a password for a machine": (b"machine",),
}
# A value given to a name of this kind: a secret if it is as random as one.
_ASSIGNED: Final = re.compile(
    rb"(?:api[_\-]?key|secret|token|passw(?:or)?d|access[_\-]?key|private[_\-]?key|auth)[A-Za-z0-9_]{0,20}"
    rb"\\?[\"']?\s*\]?\s*(?:[=:]\s*\\?[\"']?|,\s*\\?[\"'])([A-Za-z0-9+/_\-]{24,}={0,2})",
    re.IGNORECASE,
)
# How what _ASSIGNED matches begins.
_ASSIGNED_HELD: Final = (
    *(b"api_key", b"api-key", b"apikey", b"secret", b"token", b"passw", b"auth"),
    *(b"access_key", b"access-key", b"accesskey", b"private_key", b"private-key", b"privatekey"),
)
_LEAST_BITS: Final = 3.5
# Archives within archives are opened so deep.
_MOST_DEPTH: Final = 4
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
    # published packages carry certificates of public authorities, which are no secret
    if contents:
        is_archive = zipfile.is_zipfile(path) or path.suffix in (".tar", ".gz", ".tgz")
        yield from _scan_bytes(str(path), _read_edges(path, whole=is_archive))


def _read_edges(path: Path, whole: bool) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        if whole or size <= WHOLE_BYTES:
            return file.read()
        head = file.read(EDGE_BYTES)
        file.seek(size - EDGE_BYTES)
        return head + b"\n" + file.read()


def _scan_bytes(place: str, data: bytes, depth: int = 0) -> Iterator[str]:
    """What looks like a credential in a file's bytes, and in those of the archive that it is."""
    if depth < _MOST_DEPTH:
        for name, content in _unpack(data):
            inside = f"{place}, {name}"
            if NAMES.search(name):
                yield f"{inside}: a file of this name holds credentials"
            yield from _scan_bytes(inside, content, depth + 1)
    plain = data.replace(b"\0", b"") if data[:4096].count(b"\0") * 3 > len(data[:4096]) else data  # UTF-16
    small = plain.lower()
    found = [(what, match) for what in CONTENTS if (match := _find_first(what, plain, small))]
    if not found:
        found = [("a secret given to a name", match) for match in itertools.islice(_find_given(plain, small), 1)]
    for what, match in found:
        line = plain.count(b"\n", 0, match.start()) + 1
        yield f"{place}: line {line} looks like {what}"


def _find_first(what: str, plain: bytes, small: bytes) -> re.Match[bytes] | None:
    """The first match of one of CONTENTS, looked for around what it must hold; a match may be as long as it likes."""
    pattern = CONTENTS[what]
    places = _places(small if pattern.flags & re.IGNORECASE else plain, _HELD[what])
    starts = (start for at in places for start in range(max(at - _BEFORE, 0), at + 1))
    matches = (match for start in starts if (match := pattern.match(plain, start)))
    return min(matches, key=lambda match: match.start(), default=None)


def _find_given(plain: bytes, small: bytes) -> Iterator[re.Match[bytes]]:
    """Random values given to names of secrets."""
    for at in _places(small, _ASSIGNED_HELD):
        match = _ASSIGNED.match(plain, at)
        if match and _is_random(match.group(1)):
            yield match


def _places(data: bytes, parts: tuple[bytes, ...]) -> Iterator[int]:
    for part in parts:
        at = data.find(part)
        while at >= 0:
            yield at
            at = data.find(part, at + 1)


def _is_random(value: bytes) -> bool:
    """True for letters and digits mixed without a word's order: most bits a letter that a text of this length has."""
    counts = Counter(value)
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    digits = sum(counts[digit] for digit in b"0123456789")
    return bits >= _LEAST_BITS and digits >= 2 and len(value) - digits >= 3


def _unpack(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a zip, tar or gzip; what is damaged or too large is passed over."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for member in archive.infolist():
                    if member.file_size <= WHOLE_BYTES:
                        yield member.filename, archive.read(member)
        elif data[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for part in tar:
                    file = tar.extractfile(part) if part.isfile() and part.size <= WHOLE_BYTES else None
                    if file is not None:
                        yield part.name, file.read()
        elif data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as packed:
                yield "unpacked", packed.read(WHOLE_BYTES)
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError):
        return
