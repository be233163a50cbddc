"""The two networks: `PairNetwork` refines a start structure under pair-biased attention, `PlainNetwork` is the brief's
transformer (docs/studies/gpu.md). Both give C1' coordinates in Å, a confidence a residue (pLDDT as a fraction) and an
expected TM-score.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rnafold.config.machine_use import Checkpointing
from rnafold.config.settings import ModelConfig
from rnafold.features.batch import Batch
from rnafold.features.build import NUM_RESIDUE_CHANNELS, START_CONFIDENCE_CHANNEL
from rnafold.model import layers, pair_track
from rnafold.model.attention import rotary_angles
from rnafold.model.coordinates import Relaxation, repair_geometry
from rnafold.model.encoder import Embeddings, MountedEncoder
from rnafold.model.heads import ConfidenceHead, PairHeads, measure_agreement
from rnafold.model.products import Linear
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
            layers.TransformerBlock(width, config.attention_heads, config.feed_forward, config.dropout)
            for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(width)
        self.step = Linear(width, 3)
        self.max_recycles = config.max_recycles
        self.recomputed: Checkpointing = False

    def forward(self, batch: Batch, recycles: int = 0) -> Output:
        """Coordinates of a batch; `recycles` is accepted for the common call and must be 0."""
        if recycles:
            raise ValueError("the plain network does not recycle")
        x = self.norm_in(self.tokens(batch.tokens) + self.chains(batch.chain_index.clamp_max(NUM_CHAIN_ROWS - 1)))
        rotary = rotary_angles(torch.cumsum(batch.mask.long(), 1), self.head_channels)
        mask = batch.mask[:, None, None, :]
        for block in self.blocks:
            x = run_block(block, x, rotary, mask, use_checkpointing=self.recomputed is True and self.training)
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
        self.residue = Linear(NUM_RESIDUE_CHANNELS, width)
        self.pair_input = pair_track.PairInput(channels)
        self.norm_bias = nn.LayerNorm(channels)
        self.bias = nn.ModuleList(Linear(channels, config.attention_heads, bias=False) for _ in range(config.layers))
        self.blocks = nn.ModuleList(
            layers.TransformerBlock(width, config.attention_heads, config.feed_forward, config.dropout)
            for _ in range(config.layers)
        )
        self.updates = nn.ModuleList(
            pair_track.PairUpdate(width, channels, config.attention_heads) for _ in range(config.pair_updates)
        )
        # layers from .. to between two updates, which are spread evenly
        cuts = [k * config.layers // (config.pair_updates + 1) for k in range(config.pair_updates + 2)]
        self.stages = list(itertools.pairwise(cuts))
        self.relaxation = Relaxation(width, channels, config.relax_steps)
        self.norm_out = nn.LayerNorm(width)
        self.lddt = Linear(width, 1)
        self.pair_heads = PairHeads(channels)
        self.judge = ConfidenceHead(width)  # under this name it stands in weights and checkpoints
        self.max_recycles = config.max_recycles
        self.recomputed: Checkpointing = False
        self.is_recycling = False  # for whoever watches a pass, such as the planner
        # last, so that the parameters above are those of the network without
        mounted = config.encoder
        self.encoder = None if mounted is None else MountedEncoder(mounted, width, channels, encoder_shape)

    def forward(self, batch: Batch, recycles: int = 0) -> Output:
        """Refines `batch.start`; each recycle starts from the coordinates of the pass before, without gradient."""
        start = batch.start[:, :, 0].float()
        consensus = pair_track.measure_consensus(batch.others, batch.other_confidence)
        known = (batch.pairing, batch.covariation, pair_track.sampled_pairs(batch.samples))
        relative = pair_track.relative_position(batch.chain_index, batch.residue_index)
        projected = self.pair_input.project_known(known, relative, consensus)
        encoded = None if self.encoder is None else self.encoder(batch, bool(self.recomputed))
        coords = start
        self.is_recycling = True
        with torch.no_grad():
            for _ in range(recycles):
                coords = self.refine(batch, coords, projected, consensus, encoded)[2]
        self.is_recycling = False
        return self.apply_heads(batch, start, *self.refine(batch, coords, projected, consensus, encoded))

    def refine(
        self,
        batch: Batch,
        coords: Tensor,
        projected: Tensor,
        consensus: pair_track.Consensus,
        encoded: Embeddings | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One pass from `coords` (B, L, 3): single (B, L, D), pair (B, L, L, C) and new coords."""
        with torch.autocast(coords.device.type, enabled=False):
            coords = centre(coords, batch.mask)
            frames = layers.build_frames(coords, batch.mask)
        pair = self.pair_input(projected, coords, frames, consensus)
        single = self.tokens(batch.tokens) + self.residue(batch.residue_channels)
        if encoded is not None:
            single, pair = single + encoded.single, pair + encoded.pair
        rotary = rotary_angles(batch.residue_index, self.head_channels)
        key_mask = layers.key_mask(batch.mask)
        recompute_updates = bool(self.recomputed) and self.training
        recompute_blocks = self.recomputed is True and self.training
        # as many updates as layers: the first comes before all of them
        biases: Iterable[Tensor] = self._bias_projection(0).read(pair, key_mask) if self.stages[0][1] else ()
        for stage, (first, stop) in enumerate(self.stages):
            if stage:
                update, args = self.updates[stage - 1], (single, pair, key_mask, self._bias_projection(stage))
                found = checkpoint(update, *args, use_reentrant=False) if recompute_updates else update(*args)
                single, pair, biases = found
            for block, mask in zip(self.blocks[first:stop], biases):
                single = run_block(block, single, rotary, mask, use_checkpointing=recompute_blocks)
        moved = self.relaxation(single, pair, coords, batch.mask)
        return single, pair, repair_geometry(moved, batch.same_chain_step, batch.mask)

    def _bias_projection(self, stage: int) -> pair_track.BiasProjection:
        """What reads the attention biases of a stage's layers off the pair track."""
        first, stop = self.stages[stage]
        return pair_track.BiasProjection(self.norm_bias, self.bias[first:stop])

    def apply_heads(self, batch: Batch, start: Tensor, single: Tensor, pair: Tensor, coords: Tensor) -> Output:
        """The heads on the last pass; `start` (B, L, 3) is what the first pass began with."""
        out = self.norm_out(single)
        lddt = torch.sigmoid(self.lddt(out)[..., 0].float())
        symmetric = pair + pair.transpose(1, 2)
        logits = self.pair_heads(symmetric) if torch.is_grad_enabled() else None
        measures = measure_agreement(self.pair_heads, symmetric, (start, coords.detach()), batch.mask, logits)
        confidence = batch.residue_channels[:, 0, START_CONFIDENCE_CHANNEL]
        expected = self.judge(out, lddt, measures, confidence, batch.mask)
        return Output(
            coords=coords[:, :, None, :],
            lddt=lddt,
            expected_tm=expected[:, 1],
            start_tm=expected[:, 0],
            distogram=None if logits is None else logits[0],
            pairs=None if logits is None else logits[1],
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
