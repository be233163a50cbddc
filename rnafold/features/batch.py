"""Tensors of a padded batch, and how features of single targets become one.

Shape letters: B batch, L residues (padded), A atoms. Padding is False in `mask` and holds zeros elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from rnafold.features.build import NUM_RESIDUE_CHANNELS, NUM_SAMPLES, Example, padded_length


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What the network and the losses read.

    Attributes:
        tokens: (B, L) int64, rna.encode_sequence.
        mask: (B, L) bool, True = a residue, False = padding.
        chain_index: (B, L) int64, 0-based index of the residue's chain or copy.
        residue_index: (B, L) int64, 0-based position inside its chain (before any crop).
        residue_channels: (B, L, NUM_RESIDUE_CHANNELS) float32, see features.build.
        pairing: (B, L, L) float32 base-pair probabilities.
        covariation: (B, L, L) float32 in 0-1, zeros without an alignment.
        samples: (B, NUM_SAMPLES, L) int64, partners in sampled secondary structures, -1 = none.
        start: (B, L, A, 3) float32, Å: the candidate that the network refines, centred.
        others: (B, K, L, 3) float32, Å: further candidates, as many as any target shows (at most NUM_OTHERS, maybe
            none), centred; zeros where there are fewer.
        other_confidence: (B, K, 2) float32, expected TM-scores: column 0 of templates, 1 of others.
        coords: (B, L, A, 3) float32, Å: the reference, zeros where unresolved.
        coord_mask: (B, L, A) bool, True = resolved.
        partner: (B, L) int64, the residue it pairs with in the reference or the predicted pairing, -1 = none.
    """

    tokens: Tensor
    mask: Tensor
    chain_index: Tensor
    residue_index: Tensor
    residue_channels: Tensor
    pairing: Tensor
    covariation: Tensor
    samples: Tensor
    start: Tensor
    others: Tensor
    other_confidence: Tensor
    coords: Tensor
    coord_mask: Tensor
    partner: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with every tensor on `device`."""
        return Batch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory (DataLoader calls this)."""
        return Batch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def split(self, size: int) -> list["Batch"]:
        """Batches of at most `size` targets, in order."""
        parts = {f.name: torch.split(getattr(self, f.name), size) for f in fields(self)}
        return [Batch(**{name: value[k] for name, value in parts.items()}) for k in range(len(parts["mask"]))]

    @property
    def same_chain_step(self) -> Tensor:
        """(B, L-1) bool: residues i and i+1 are neighbours in one chain and both real."""
        near = (self.chain_index[:, 1:] == self.chain_index[:, :-1]) & (
            self.residue_index[:, 1:] == self.residue_index[:, :-1] + 1
        )
        return near & self.mask[:, 1:] & self.mask[:, :-1]


def collate(examples: Sequence[Example], length: int | None = None) -> Batch:
    """Pads examples to one length (the longest's, rounded up to a multiple of 8, unless given) and stacks them."""
    size = padded_length(max(e.length for e in examples)) if length is None else length
    num, atoms = len(examples), examples[0].start.shape[1]
    shown = max(len(e.others) for e in examples)
    arrays: dict[str, np.ndarray] = {
        "tokens": np.zeros((num, size), np.int64),
        "mask": np.zeros((num, size), np.bool_),
        "chain_index": np.zeros((num, size), np.int64),
        "residue_index": np.zeros((num, size), np.int64),
        "residue_channels": np.zeros((num, size, NUM_RESIDUE_CHANNELS), np.float32),
        "pairing": np.zeros((num, size, size), np.float32),
        "covariation": np.zeros((num, size, size), np.float32),
        "samples": np.full((num, NUM_SAMPLES, size), -1, np.int64),
        "start": np.zeros((num, size, atoms, 3), np.float32),
        "others": np.zeros((num, shown, size, 3), np.float32),
        "other_confidence": np.zeros((num, shown, 2), np.float32),
        "coords": np.zeros((num, size, atoms, 3), np.float32),
        "coord_mask": np.zeros((num, size, atoms), np.bool_),
        "partner": np.full((num, size), -1, np.int64),
    }
    for row, example in enumerate(examples):
        n = example.length
        arrays["mask"][row, :n] = True
        for name in ("tokens", "chain_index", "residue_index", "residue_channels", "start", "coords", "coord_mask"):
            arrays[name][row, :n] = getattr(example, name)
        arrays["partner"][row, :n] = example.partner
        arrays["samples"][row, : len(example.samples), :n] = example.samples
        arrays["others"][row, : len(example.others), :n] = example.others
        arrays["other_confidence"][row, : len(example.others)] = example.other_confidence
        arrays["pairing"][row, :n, :n] = example.pairing
        if example.covariation is not None:
            arrays["covariation"][row, :n, :n] = example.covariation
    return Batch(**{name: torch.from_numpy(value) for name, value in arrays.items()})
