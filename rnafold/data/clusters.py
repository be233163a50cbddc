"""Clusters of sequences by single linkage, found once for a set of sequences and kept on disk under its content."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from rnafold.data.identity import IdentityIndex, find_identity
from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.files.bounded import parse_json
from rnafold.files.mounts import find_made

log = logging.getLogger(__name__)
IntArray = npt.NDArray[np.int64]

METHOD_VERSION: Final = 1
# Pairs of long sequences that may fail between two clusters, those that share most k-mers first, before the clusters
# count as different: without a limit two families of a thousand ribosomal RNAs would be aligned a million times.
MOST_FAILURES: Final = 64
# Fewer different sequences are clustered without a progress bar.
SILENT_BELOW: Final = 500


def cluster_sequences(
    sequences: Sequence[str], identity: float = 0.8, cache: Path | None = None
) -> npt.NDArray[np.int64]:
    """Cluster number (N,) of each sequence, 0 for the first met; linked pairs are at least `identity` identical.

    Single linkage: two sequences of different clusters are not that identical, so no cluster leaks into another; exact
    below 200 residues, beyond as far as shared k-mers tell (`data.identity`).

    Args:
        sequences: N texts, in any order, equal ones among them.
        identity: fraction 0-1 from which two are linked.
        cache: folder for the result; the next call with the same different sequences reads it. None: no cache.

    Raises:
        ValueError: an identity outside (0, 1].
    """
    if not 0 < identity <= 1:
        raise ValueError(f"identity {identity} must lie in (0, 1]")
    texts = sorted(set(sequences), key=lambda text: (len(text), text))
    labels = _keep(cache, "clusters", _name(texts, [], identity), len(texts), lambda: _link(texts, identity).tolist())
    cluster_of = dict(zip(texts, labels, strict=True))
    numbers: dict[int, int] = {}
    found = [numbers.setdefault(cluster_of[sequence], len(numbers)) for sequence in sequences]
    return np.array(found, dtype=np.int64)


def _link(texts: Sequence[str], identity: float) -> IntArray:
    """Label (N,) of each of different texts in order of length, so that relatives follow each other."""
    index = IdentityIndex(texts)
    labels = np.arange(len(texts))
    failures: Counter[tuple[int, int]] = Counter()
    for number in tqdm(range(len(texts)), desc="clusters", disable=None if len(texts) >= SILENT_BELOW else True):
        # members of the own cluster need no second look
        among = np.flatnonzero(labels[:number] != labels[number])
        short, long, _ = index.candidates(index.tokens[number], identity, among)
        for other, _ in index.align_short(texts[number], index.tokens[number], short, identity):
            labels[labels == labels[other]] = labels[number]
        for other in long.tolist():
            pair = (int(labels[other]), int(labels[number]))
            if pair[0] == pair[1] or failures[pair] >= MOST_FAILURES:
                continue
            if find_identity(texts[number], texts[other], identity) is None:
                failures[pair] += 1
            else:
                labels[labels == pair[1]] = pair[0]
    return labels


def find_relatives(
    queries: Sequence[str], sequences: Sequence[str], identity: float = 0.8, cache: Path | None = None
) -> list[list[tuple[int, float]]]:
    """For each query (index, identity) of the sequences at least `identity` (0-1) identical; kept in `cache`."""

    def search() -> list[list[tuple[int, float]]]:
        index = IdentityIndex(sequences)
        silent = len(sequences) < SILENT_BELOW
        return [index.find(q, identity) for q in tqdm(queries, desc="leaks", disable=True if silent else None)]

    found = _keep(cache, "relatives", _name(sequences, queries, identity), len(queries), search)
    return [[(int(number), float(share)) for number, share in rows] for rows in found]


def _name(texts: Sequence[str], queries: Sequence[str], identity: float) -> str:
    """Digest of what a result depends on."""
    content = hashlib.sha256(json.dumps([METHOD_VERSION, identity, len(texts), len(queries)]).encode())
    for text in (*texts, *queries):
        content.update(text.encode() + b"\n")
    return content.hexdigest()[:24]


def _keep(cache: Path | None, kind: str, name: str, count: int, make: Callable[[], list[Any]]) -> list[Any]:
    """A list of `count` from the cache, else made and put there under a temporary name: ranks may do so at once."""
    if cache is None:
        return make()
    path = cache / f"{kind}-{name}.json"
    try:
        stored = parse_json((find_made(path) or path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = None
    if isinstance(stored, list) and len(stored) == count:
        return stored
    made = make()
    try:
        write_text(path, json.dumps(made))
    except InputError as error:
        log.warning("the %s are not kept: %s", kind, error)
    return made
