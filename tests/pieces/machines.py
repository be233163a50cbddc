"""Two machines on this one: two launchers that meet at a port, each with a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def launch_on_two_machines(arguments: Sequence[str], port: int, timeout_seconds: float = 240.0) -> tuple[str, str]:
    """Runs a command of the kit through torch's launcher as two nodes of one process each; returns what each said."""
    # accelerate launch starts several processes on a CPU through MPI alone; on cards it uses this launcher too
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    nodes = []
    for rank in range(2):
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
        command += ["--node_rank", str(rank), "--master_addr", "127.0.0.1", "--master_port", str(port)]
        nodes.append(
            subprocess.Popen(
                [*command, "-m", "rnafold", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [node.communicate(timeout=timeout_seconds)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    return said[0], said[1]
