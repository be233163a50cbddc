"""One store of traces for the planner's tests, kept from run to run."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trace_folder() -> Path:
    """Where traces are kept: each is named by a digest of its settings, of the sources that it depends on and of torch.

    So nothing old is ever taken for new, and what did not change is not traced again.
    """
    return Path(__file__).resolve().parents[2] / ".cache" / "test-traces"
