"""Thin calls of Kaggle's official client (`pip install kaggle`), which brings its own credentials and validation."""

import contextlib
import fnmatch
import importlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rnafold.errors import InputError
from rnafold.files.atomic import write_text
from rnafold.kaggle.staging import StagedKernel
from rnafold.planner.quota.ledger import append_record, read_ledger

# A session is ended by Kaggle itself this long after the hours that the notebook was given.
TIMEOUT_MARGIN_HOURS: Final = 0.25
READY_SECONDS, POLL_SECONDS = 1800.0, 5.0
# A record of what was uploaded, beside the bundle and never in it.
UPLOADED: Final = ".uploaded.json"


def connect() -> Any:
    """The official client, authenticated.

    Raises:
        InputError: it is not installed, or finds no credentials.
    """
    try:
        # importing it tries to authenticate and prints advice if it cannot: said below in one line
        with contextlib.redirect_stdout(io.StringIO()):
            module = importlib.import_module("kaggle.api.kaggle_api_extended")
    except ModuleNotFoundError as error:
        # kaggle 2.2.4 imports six without asking for it
        raise InputError(f"the kaggle client cannot be loaded ({error}): pip install kaggle six") from None
    api = module.KaggleApi()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            api.authenticate()
    except SystemExit:
        raise InputError(
            "no Kaggle credentials: put a token into ~/.kaggle/access_token, or kaggle.json into ~/.kaggle "
            "(kaggle.com, Settings, API)"
        ) from None
    return api


@contextlib.contextmanager
def as_input_errors(doing: str) -> Iterator[None]:
    """Turns what the client raises about input, rights or the network into one line."""
    import requests

    try:
        yield
    except (ValueError, requests.RequestException) as error:
        if isinstance(error, InputError):
            raise
        text = str(error).strip() or type(error).__name__
        raise InputError(f"{doing}: Kaggle's client says: {text.splitlines()[0]}") from error


def upload_bundle(
    api: Any, folder: Path, digest: str, wait: Callable[[float], None] = time.sleep, patience: float = READY_SECONDS
) -> str:
    """Uploads a bundle as a new dataset or a new version, and waits until kernels can mount it.

    Args:
        api: of `connect`.
        folder: the bundle.
        digest: of its manifest; a bundle already uploaded is not uploaded again.
        wait: sleeps so many seconds.
        patience: seconds after which waiting ends.

    Returns:
        What was done, one line.

    Raises:
        InputError: Kaggle refused it, or the dataset does not become ready.
    """
    reference = str(json.loads((folder / "dataset-metadata.json").read_text(encoding="utf-8"))["id"])
    record = folder.with_name(folder.name + UPLOADED)
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) == {"id": reference, "digest": digest}:
        return f"{reference}: uploaded before, unchanged"
    exists = _dataset_exists(api, reference)
    with as_input_errors(reference):
        if exists:
            answer = api.dataset_create_version(str(folder), f"bundle {digest[:12]}", quiet=True, dir_mode="skip")
        else:
            answer = api.dataset_create_new(str(folder), public=False, quiet=True, dir_mode="skip")
    # a refusal comes back as an answer, not as an exception
    if str(getattr(answer, "status", "")).lower() == "error" or getattr(answer, "error", None):
        raise InputError(f"{reference}: Kaggle refused the bundle: {answer.error}")
    _wait_until_ready(api, reference, wait, patience)
    write_text(record, json.dumps({"id": reference, "digest": digest}))
    return f"{reference}: {'new version' if exists else 'created'}, ready"


def _dataset_exists(api: Any, reference: str) -> bool:
    import requests

    try:
        api.dataset_status(reference)
    except requests.HTTPError as error:
        # Kaggle says 403 for what does not exist, as for what is not yours
        if error.response is not None and error.response.status_code in (403, 404):
            return False
        raise InputError(f"{reference}: Kaggle's client says: {error}") from error
    except (ValueError, requests.RequestException) as error:
        raise InputError(f"{reference}: Kaggle's client says: {error}") from error
    return True


def _wait_until_ready(api: Any, reference: str, wait: Callable[[float], None], patience: float) -> None:
    waited = 0.0
    while waited < patience:
        # asked at once Kaggle may still answer for the version before
        wait(POLL_SECONDS)
        waited += POLL_SECONDS
        state = _read_state(api, reference)
        if state == "ready":
            return
        if state in ("failed", "deleted"):
            raise InputError(f"{reference}: Kaggle says {state} of the uploaded bundle; look at it on kaggle.com")
    raise InputError(f"{reference}: not ready after {patience:.0f} s; look at it on kaggle.com, then push again")


def _read_state(api: Any, reference: str) -> str:
    import requests

    try:
        return str(api.dataset_status(reference)).lower()
    except requests.HTTPError:
        return ""  # not there yet in the first seconds


def kernel_exists(api: Any, kernel: str) -> bool:
    """Whether a version of the kernel has been pushed before."""
    import requests

    try:
        api.kernels_status(kernel)
    except ValueError as error:
        if "Cannot access kernel" in str(error):
            return False
        raise InputError(f"{kernel}: Kaggle's client says: {error}") from error
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code in (403, 404):
            return False
        raise InputError(f"{kernel}: Kaggle's client says: {error}") from error
    return True


def push_kernel(api: Any, kernel: StagedKernel, hours: float) -> str:
    """Pushes a staged kernel, which starts it; Kaggle ends it a quarter of an hour after `hours`.

    Raises:
        InputError: Kaggle refused it, or left a source out (the session that has begun would fail: stop it).
    """
    seconds = int((hours + TIMEOUT_MARGIN_HOURS) * 3600)
    with as_input_errors(kernel.id):
        answer = api.kernels_push(str(kernel.folder), timeout=str(seconds))
    if answer is None or answer.error:
        raise InputError(f"{kernel.id}: Kaggle refused the kernel: {getattr(answer, 'error', 'no answer')}")
    left_out = [
        *(answer.invalid_dataset_sources or []),
        *(answer.invalid_competition_sources or []),
        *(answer.invalid_kernel_sources or []),
    ]
    if left_out:
        raise InputError(
            f"{kernel.id}: pushed, but Kaggle left out {', '.join(left_out[:3])}: stop the session at {answer.url}, "
            "accept the competition's rules if that is what is missing, and push again"
        )
    return f"{kernel.id}: version {answer.version_number} runs: {answer.url}"


def read_status(api: Any, kernel: str) -> str:
    """The state of a kernel's newest session, one line.

    Raises:
        InputError: no such kernel, or it is not yours.
    """
    with as_input_errors(kernel):
        answer = api.kernels_status(kernel)
    message = f" ({answer.failure_message})" if answer.failure_message else ""
    return f"{kernel}: {getattr(answer.status, 'name', answer.status)}{message}"


def pull_output(api: Any, kernel: str, folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """Downloads a kernel's output and log; what is there and unchanged is not downloaded again.

    Args:
        api: as of `connect`.
        kernel: OWNER/NAME.
        folder: where the files go.
        only: names below the output's root, * for any letters, of the files to fetch; none: all.

    Raises:
        InputError: no such kernel, no output, nothing of the names in `only`, or a file would land outside the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pattern = "|".join(f"^(?:{fnmatch.translate(name)})" for name in only) or None
    with as_input_errors(kernel):
        names, _ = api.kernels_output(kernel, str(folder), file_pattern=pattern, quiet=True)
    found = [Path(name) for name in names]
    fetched = [str(path.relative_to(folder)) for path in found if path.is_relative_to(folder)]
    missing = [name for name in only if not fnmatch.filter(fetched, name)]
    if missing:
        raise InputError(f"{kernel}: its output has no {missing[0]}")
    return found


def take_over_ledger(source: Path, target: Path) -> int:
    """Adds to a ledger the records of another that it lacks, so that the quota knows of them; returns how many."""
    known = {json.dumps(record, sort_keys=True) for record in read_ledger(target)}
    new = [record for record in read_ledger(source) if json.dumps(record, sort_keys=True) not in known]
    for record in new:
        append_record(target, record)
    return len(new)
