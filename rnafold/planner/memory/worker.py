"""Traces steps in a process of its own: `python -m rnafold.planner.memory.worker FOLDER` reads keys as JSON lines.

CUDA's autocast rules are process-global, so CPU traces come first and the rules are put in before the first CUDA one.
"""

import sys
import warnings
from pathlib import Path

from rnafold.planner.memory.records import TraceKey


def trace_all(folder: Path, lines: list[str]) -> None:
    """Traces every key of `lines` and leaves the results in `folder`."""
    from rnafold.planner.memory.autocast import install_cuda_policy
    from rnafold.planner.memory.trace import record

    warnings.simplefilter("ignore")
    keys = [TraceKey.from_json(line) for line in lines]
    library = None
    for key in sorted(keys, key=lambda k: (k.device == "cuda" and k.precision != "fp32", k.to_json())):
        if key.device == "cuda" and key.precision != "fp32" and library is None:
            library = install_cuda_policy()
        record(key).save(folder)


if __name__ == "__main__":
    trace_all(Path(sys.argv[1]), [line for line in sys.stdin.read().splitlines() if line])
