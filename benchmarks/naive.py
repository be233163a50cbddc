"""The usual script, to measure against: every chain padded to 1,200, a transformer with dropout in its attention maps.

    python benchmarks/naive.py --data DIRECTORY [--steps 4] [--json FILE]

What a first notebook of the competition looks like, with the brief's sizes (256 wide, 5 layers, 8 heads, batches of 8):
tokens and learned positions, torch's own encoder layers, a linear head, squared error of the coordinates that are
resolved. Nothing in it is slowed down on purpose. The chains are those that `train` would take, in its order.
"""

import argparse
import itertools
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rnafold import rna
from rnafold.config.settings import DataConfig
from rnafold.data.sampler import plan_epoch
from rnafold.data.selection import choose_entries
from rnafold.structure import Entry

BATCH, PADDED = 8, 1200
WIDTH, LAYERS, HEADS, FEED_FORWARD, DROPOUT = 256, 5, 8, 1024, 0.1


class NaiveNetwork(nn.Module):
    """Tokens (B, 1200) and their mask to coordinates (B, 1200, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(rna.NUM_TOKENS + 1, WIDTH, padding_idx=rna.NUM_TOKENS)
        self.positions = nn.Parameter(0.02 * torch.randn(PADDED, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, FEED_FORWARD, DROPOUT, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """mask True = a residue."""
        x = self.encoder(self.tokens(tokens) + self.positions, src_key_padding_mask=~mask)
        result: Tensor = self.head(x)
        return result


def collate_padded(entries: Sequence[Entry]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens, mask, coordinates in Å and which are resolved, all padded to 1,200."""
    tokens = np.full((len(entries), PADDED), rna.NUM_TOKENS, np.int64)
    mask, resolved = np.zeros((2, len(entries), PADDED), np.bool_)
    coords = np.zeros((len(entries), PADDED, 3), np.float32)
    for row, entry in enumerate(entries):
        size = min(entry.target.length, PADDED)
        tokens[row, :size] = rna.encode_sequence(entry.target.sequence)[:size]
        mask[row, :size] = True
        reference = entry.references[0]
        resolved[row, :size] = reference.residue_mask[:size]
        coords[row, :size] = np.nan_to_num(reference.c1[:size])
    return torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(coords), torch.from_numpy(resolved)


def take_steps(data: Path) -> Iterator[list[int]]:
    """Trains, one optimizer step each time it is asked; gives the lengths of its chains, cut at 1,200."""
    config = DataConfig()
    chosen = choose_entries(data, config)
    entries = chosen.train
    lengths = [min(e.target.length, config.crop_length) for e in entries]
    torch.manual_seed(0)
    network = NaiveNetwork().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    for epoch in itertools.count():
        for window in plan_epoch(lengths, chosen.clusters, 0, epoch, BATCH, BATCH):
            batch = [entries[k] for micro in window.micro_batches for k in micro]
            tokens, mask, coords, resolved = collate_padded(batch)
            optimizer.zero_grad()
            error = ((network(tokens, mask) - coords) ** 2).sum(-1)
            loss = (error * resolved).sum() / resolved.sum().clamp_min(1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            yield [min(e.target.length, PADDED) for e in batch]


def train(data: Path, steps: int) -> dict[str, float]:
    """Trains for some steps after one to warm up; samples and residues a second by wall, and the peak memory in GiB."""
    stepping = take_steps(data)
    next(stepping)
    began = time.perf_counter()
    lengths = [n for _ in range(steps) for n in next(stepping)]
    seconds = time.perf_counter() - began
    return {
        "samples_per_second": len(lengths) / seconds,
        "residues_per_second": sum(lengths) / seconds,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "samples": len(lengths),
    }


def main() -> None:
    """Parse the command line, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = train(arguments.data, arguments.steps)
    if arguments.json:
        arguments.json.write_text(json.dumps(found), encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
