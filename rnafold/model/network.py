"""The two networks: `PairNetwork` refines a start structure under pair-biased attention, `PlainNetwork` is the brief's
transformer. Both give C1' coordinates in Å, a confidence a residue (pLDDT as a fraction) and an expected TM-score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rnafold.config.settings import ModelConfig
from rnafold.features.batch import Batch
from rnafold.features.build import NUM_RESIDUE_CHANNELS, START_CONFIDENCE_CHANNEL
from rnafold.model import layers
from rnafold.model.coordinates import Relaxation, settle
from rnafold.model.encoder import Embeddings, MountedEncoder
from rnafold.model.heads import Judge, PairHeads, measure_agreement
from rnafold.model.ribonanza import RibonanzaShape
from rnafold.rna import NUM_TOKENS

NUM_CHAIN_ROWS = 17


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Output:
    """What a network gives; None where a network has no such head.

    Attributes:
        coords: (B, L, A, 3) float32, Å.
        lddt: (B, L) expected lDDT of each residue, 0-1.
        expected_tm: (B,) expected TM-score of `coords`, 0-1.
        start_tm: (B,) expected TM-score of `batch.start`, which the first pass began with, 0-1.
        distogram: (B, L, L, K) logits of the bins of model.heads, symmetric; only where a gradient is kept.
        pairs: (B, L, L) logits of base pairs, symmetric; only where a gradient is kept.
    """

    coords: Tensor
    lddt: Tensor | None = None
    expected_tm: Tensor | None = None
    start_tm: Tensor | None = None
    distogram: Tensor | None = None
    pairs: Tensor | None = None


class PlainNetwork(nn.Module):
    """Transformer encoder from tokens to coordinates; no pair track, no start structure.

    The head gives the step from one C1' to the next, which is summed up along the sequence: a head that gave
    positions would hold a bias that every loss ignores.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.head_channels = width // config.attention_heads
        self.tokens = nn.Embedding(NUM_TOKENS, width)
        self.chains = nn.Embedding(NUM_CHAIN_ROWS, width)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            layers.Block(width, config.attention_heads, config.feed_forward, config.dropout)
            for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(width)
        self.step = nn.Linear(width, 3)
        self.max_recycles = config.max_recycles
        self.use_checkpointing = False

    def forward(self, batch: Batch, recycles: int = 0) -> Output:
        """Coordinates of a batch; `recycles` is accepted for the common call and must be 0."""
        if recycles:
            raise ValueError("the plain network does not recycle")
        x = self.norm_in(self.tokens(batch.tokens) + self.chains(batch.chain_index.clamp_max(NUM_CHAIN_ROWS - 1)))
        rotary = layers.rotary_angles(torch.cumsum(batch.mask.long(), 1), self.head_channels)
        mask = layers.attention_mask(batch.mask, None)
        for block in self.blocks:
            x = run_block(block, x, rotary, mask, use_checkpointing=self.use_checkpointing and self.training)
        steps = self.step(self.norm_out(x)).float() * 6.0 * batch.mask[..., None]
        with torch.autocast(steps.device.type, enabled=False):
            coords = torch.cumsum(steps, dim=1)
        return Output(coords=coords[:, :, None, :])


def run_block(
    block: nn.Module, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor, *, use_checkpointing: bool
) -> Tensor:
    """One layer, recomputed in the backward pass when memory is short."""
    if use_checkpointing:
        result: Tensor = checkpoint(block, x, rotary, mask, use_reentrant=False)
        return result
    output: Tensor = block(x, rotary, mask)
    return output


class PairNetwork(nn.Module):
    """Single track under pair-biased attention, a thin pair track, and coordinates refined from a start structure."""

    def __init__(self, config: ModelConfig, encoder_shape: RibonanzaShape | None = None) -> None:
        super().__init__()
        width, channels = config.width, config.pair_channels
        self.head_channels = width // config.attention_heads
        self.tokens = nn.Embedding(NUM_TOKENS, width)
        self.residue = nn.Linear(NUM_RESIDUE_CHANNELS, width)
        self.pair_input = layers.PairInput(channels)
        self.norm_bias = nn.LayerNorm(channels)
        self.bias = nn.ModuleList(nn.Linear(channels, config.attention_heads, bias=False) for _ in range(config.layers))
        self.blocks = nn.ModuleList(
            layers.Block(width, config.attention_heads, config.feed_forward, config.dropout)
            for _ in range(config.layers)
        )
        self.updates = nn.ModuleList(
            layers.PairUpdate(width, channels, config.attention_heads) for _ in range(config.pair_updates)
        )
        # updates are spread evenly: after layers n/k, 2n/k, ..
        self.update_after = [(k + 1) * config.layers // (config.pair_updates + 1) for k in range(config.pair_updates)]
        self.relaxation = Relaxation(width, channels, config.relax_steps)
        self.norm_out = nn.LayerNorm(width)
        self.lddt = nn.Linear(width, 1)
        self.pair_heads = PairHeads(channels)
        self.judge = Judge(width)
        self.max_recycles = config.max_recycles
        self.use_checkpointing = False
        self.is_recycling = False  # for whoever watches a pass, such as the planner
        # last, so that the parameters above are those of the network without
        mounted = config.encoder
        self.encoder = None if mounted is None else MountedEncoder(mounted, width, channels, encoder_shape)

    def forward(self, batch: Batch, recycles: int = 0) -> Output:
        """Refines `batch.start`; each recycle starts from the coordinates of the pass before, without gradient."""
        start = batch.start[:, :, 0].float()
        consensus = layers.measure_consensus(batch.others, batch.other_confidence)
        known = (batch.pairing, batch.covariation, layers.sampled_pairs(batch.samples))
        encoded = None if self.encoder is None else self.encoder(batch, self.use_checkpointing)
        coords = start
        self.is_recycling = True
        with torch.no_grad():
            for _ in range(recycles):
                coords = self.refine(batch, coords, known, consensus, encoded)[2]
        self.is_recycling = False
        return self.judge_result(batch, start, *self.refine(batch, coords, known, consensus, encoded))

    def refine(
        self,
        batch: Batch,
        coords: Tensor,
        known: Sequence[Tensor],
        consensus: Sequence[Any],
        encoded: Embeddings | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass from `coords` (B, L, 3): single (B, L, D), pair (B, L, L, C) and new coords."""
        with torch.autocast(coords.device.type, enabled=False):
            coords = centre(coords, batch.mask)
            frames = layers.build_frames(coords, batch.mask)
        relative = layers.relative_position(batch.chain_index, batch.residue_index)
        pair = self.pair_input(known, relative, coords, frames, consensus)
        single = self.tokens(batch.tokens) + self.residue(batch.residue_channels)
        if encoded is not None:
            single, pair = single + encoded.single, pair + encoded.pair
        rotary = layers.rotary_angles(batch.residue_index, self.head_channels)
        recompute = self.use_checkpointing and self.training
        updates = dict(zip(self.update_after, self.updates))
        bias_input = self.norm_bias(pair)
        for index, block in enumerate(self.blocks):
            if index in updates:
                update, args = updates[index], (single, pair, batch.mask)
                single, pair = checkpoint(update, *args, use_reentrant=False) if recompute else update(*args)
                bias_input = self.norm_bias(pair)
            mask = layers.attention_mask(batch.mask, self.bias[index](bias_input).permute(0, 3, 1, 2))
            single = run_block(block, single, rotary, mask, use_checkpointing=recompute)
        return (
            single,
            pair,
            settle(self.relaxation(single, pair, coords, batch.mask), batch.same_chain_step, batch.mask),
        )

    def judge_result(self, batch: Batch, start: Tensor, single: Tensor, pair: Tensor, coords: Tensor) -> Output:
        """The heads on the last pass; `start` (B, L, 3) is what the first pass began with."""
        out = self.norm_out(single)
        lddt = torch.sigmoid(self.lddt(out)[..., 0].float())
        symmetric = pair + pair.transpose(1, 2)
        logits = self.pair_heads(symmetric) if torch.is_grad_enabled() else (None, None)
        measures = measure_agreement(self.pair_heads, symmetric, (start, coords.detach()), batch.mask)
        confidence = batch.residue_channels[:, 0, START_CONFIDENCE_CHANNEL]
        expected = self.judge(out, lddt, measures, confidence, batch.mask)
        return Output(
            coords=coords[:, :, None, :],
            lddt=lddt,
            expected_tm=expected[:, 1],
            start_tm=expected[:, 0],
            distogram=logits[0],
            pairs=logits[1],
        )


def centre(coords: Tensor, mask: Tensor) -> Tensor:
    """coords (B, L, 3) with the mean of the real residues at the origin and padding at the origin too."""
    real = mask[..., None].to(coords.dtype)
    mean = (coords * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1.0)
    return (coords - mean) * real


def build_network(config: ModelConfig, encoder_shape: RibonanzaShape | None = None) -> PlainNetwork | PairNetwork:
    """The network of a model configuration, freshly initialised from torch's current seed.

    Its encoder, if any, is read from its file; with `encoder_shape` it has that form and no weights (for the planner).

    Raises:
        InputError: the encoder's file is not there or of another layout.
    """
    return PlainNetwork(config) if config.kind == "plain" else PairNetwork(config, encoder_shape)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
