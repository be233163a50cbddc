"""Loss terms on C1' coordinates: superposed, distances, and four physics terms; each a value a target, unweighted.

A physics term is a measure (coordinates -> values and weights) and one flat-bottomed penalty. Unresolved residues
enter no term. Shapes: B batch, L residues, M sampled partners, K neighbours. Lengths in Å, angles in radians inside.
Constants: rnafold.rna, each with its source.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rnafold import rna
from rnafold.config.settings import LossConfig
from rnafold.features.batch import Batch
from rnafold.model.heads import distogram_bins, tm_scale
from rnafold.model.network import Output
from rnafold.model.stem_frames import measure_arrangement

PHYSICS_TERMS = ("bond", "angle", "clash", "watson_crick")
TERMS = ("superposed", "distance", "distogram", "pairs", *PHYSICS_TERMS, "confidence", "expected_tm")
NUM_NEIGHBOURS = 8
NEAR_SEQUENCE = 8
ROW_CHUNK = 128
# Where the search for the superposition begins, as shares of the resolved residues, and widths of its kernel in
# units of d0.
FRAGMENTS = ((0.0, 1.1), (0.0, 0.5), (0.25, 0.75), (0.5, 1.1), (0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.1))
WIDTHS = (4.0, 2.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossTerms:
    """`total` (B,) weighted; `terms` name -> (B,) unweighted; `residues` (B,) resolved residues: a target's weight."""

    total: Tensor
    terms: dict[str, Tensor]
    residues: Tensor


def penalty(values: Tensor, ideal: Tensor | float, tolerance: Tensor | float) -> Tensor:
    """Flat-bottomed: 0 within `tolerance` of `ideal`, quadratic just outside, logarithmic far outside.

    The logarithm keeps a gradient everywhere, yet lets a pair that is 100 Å apart pull no harder than one at 1 Å.
    """
    excess = ((values - ideal).abs() - tolerance).clamp_min(0.0)
    return torch.log1p(excess * excess)


def saturate(values: Tensor, scale: Tensor | float) -> Tensor:
    """1 - 1 / (1 + (v / scale)^2): what a residue loses of the TM-score; what is hopelessly far pulls no more.

    An unbounded loss would draw every uncertain residue to the mean of its possible places, which no RNA has.
    """
    square = values * values
    return square / (square + scale * scale)


def average(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean (B,) over all axes but the first; 0 for a target without weight."""
    weights = weights.to(values.dtype)
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp_min(1e-6)


def length(difference: Tensor) -> Tensor:
    """Norm over the last axis with a finite gradient at zero."""
    result: Tensor = (difference * difference).sum(-1).add(1e-8).sqrt()
    return result


def superpose_onto(mobile: Tensor, reference: Tensor, weights: Tensor) -> Tensor:
    """`mobile` (B, L, 3) moved onto `reference` by the best proper rotation for weights (B, L).

    The rotation is a constant for the gradient: at the optimum its derivative does not contribute.
    Source: Kabsch (1976), sign corrected so that a mirror image is never superposed.
    """
    w = weights[..., None] / weights.sum(1).clamp_min(1e-6)[:, None, None]
    mean_mobile, mean_reference = (w * mobile).sum(1, keepdim=True), (w * reference).sum(1, keepdim=True)
    with torch.no_grad():
        covariance = ((mobile - mean_mobile) * w).transpose(1, 2) @ (reference - mean_reference)
        u, _, vt = torch.linalg.svd(covariance)
        first, second, third = (u @ vt).unbind(1)
        sign = torch.where((torch.linalg.cross(first, second) * third).sum(-1) < 0, -1.0, 1.0)
        flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
        rotation = (u * flip[:, None, :]) @ vt
    moved: Tensor = (mobile - mean_mobile) @ rotation + mean_reference
    return moved


def superposed_distances(coords: Tensor, start: Tensor | None, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Distances (B, L) in Å after the superposition that the TM-score asks for, and the TM-score (B,) reached: a little
    below the metric's, whose search tries more fragments. With `start` (B, L, 3) that of the start as well."""
    reference, mask = batch.coords[:, :, 0], batch.coord_mask[:, :, 0]
    # one search for both: it costs by the call
    both = [coords.detach()] if start is None else [coords.detach(), start]
    weights, tm = search_superposition(torch.cat(both), reference.repeat(len(both), 1, 1), mask.repeat(len(both), 1))
    distance = length(superpose_onto(coords, reference, weights[: len(coords)]) - reference)
    return distance, list(tm.split(len(coords)))


@torch.no_grad()
def search_superposition(coords: Tensor, reference: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, L) of the superposition with the highest TM-score found, and that score (B,).

    From each fragment of FRAGMENTS the weights are moved to those of the TM-score's own kernel, wide at first. The best
    superposition of all residues is not the one that the metric takes: it spreads the error of a misplaced domain.
    """
    count = mask.sum(1, keepdim=True)
    place = (mask.cumsum(1) - 1) / count.clamp_min(1)
    scale = tm_scale(mask.sum(1))[:, None].clamp_min(0.3)
    # all fragments at once, as a batch of their own: small decompositions cost by the call
    part = torch.stack([(place >= first) & (place < last) & mask for first, last in FRAGMENTS], 1)
    # a fragment of fewer than three residues has no superposition of its own
    part = torch.where(part.sum(2, keepdim=True) >= 3, part, mask[:, None])
    shape = (len(coords), len(FRAGMENTS))
    weights = part.flatten(0, 1).to(coords.dtype)
    moving, fixed = (x[:, None].expand(-1, shape[1], -1, -1).flatten(0, 1) for x in (coords, reference))
    real, wide_scale = (x[:, None].expand(-1, shape[1], -1).flatten(0, 1) for x in (mask, scale))
    for wide in WIDTHS:
        distance = length(superpose_onto(moving, fixed, weights) - fixed)
        weights = real / (1.0 + (distance / (wide * wide_scale)) ** 2) ** 2
    distance = length(superpose_onto(moving, fixed, weights) - fixed)
    tm = average(1.0 / (1.0 + (distance / wide_scale) ** 2), real).view(shape)
    best = tm.argmax(1)
    chosen = weights.view(*shape, -1).gather(1, best[:, None, None].expand(-1, 1, weights.shape[-1]))[:, 0]
    return chosen, tm.gather(1, best[:, None])[:, 0]


def sample_pairs(batch: Batch, num: int) -> tuple[Tensor, Tensor]:
    """Partner index (B, L, M) of each residue, `num` of them: up to 16 near in sequence, the rest anywhere; and their
    mask, True where both are resolved and different. Random numbers come from torch's current seed."""
    batch_size, size = batch.mask.shape
    device = batch.mask.device
    near = min(2 * NEAR_SEQUENCE, num)
    offsets = torch.cat([torch.arange(1, near // 2 + 1), -torch.arange(1, near - near // 2 + 1)]).to(device)
    local = (torch.arange(size, device=device)[:, None] + offsets).expand(batch_size, size, near)
    count = batch.mask.sum(1)[:, None, None]
    anywhere = (torch.rand(batch_size, size, num - near, device=device) * count).long()
    index = torch.cat([local, anywhere], dim=2)
    inside = (index >= 0) & (index < count)
    index = index.clamp(0, size - 1)
    resolved = batch.coord_mask[:, :, 0]
    mask = inside & resolved[:, :, None] & gather(resolved, index)
    return index, mask & (index != torch.arange(size, device=device)[:, None])


def gather(values: Tensor, index: Tensor) -> Tensor:
    """values (B, L, ...) at index (B, L, M) -> (B, L, M, ...)."""
    rows = torch.arange(len(values), device=values.device)[:, None, None]
    return values[rows, index]


def pair_distances(coords: Tensor, index: Tensor) -> Tensor:
    """Distances (B, L, M) in Å between residues and their partners."""
    return length(coords[:, :, None] - gather(coords, index))


def measure_bond(coords: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """Bond term (B,): [4.7, 6.5] Å at a tenth of the slope, [4.7, 9.5] in full, and 5.50 ± 0.60 Å inside stems."""
    low, high = rna.BOND_RANGE
    values = length(coords[:, 1:] - coords[:, :-1])
    real = batch.same_chain_step & mask[:, 1:] & mask[:, :-1]
    middle, half = (low + high) / 2, (high - low) / 2
    wide_middle, wide_half = (low + rna.BOND_SOFT_MAXIMUM) / 2, (rna.BOND_SOFT_MAXIMUM - low) / 2
    stem = (batch.partner[:, :-1] >= 0) & (batch.partner[:, 1:] == batch.partner[:, :-1] - 1) & real
    ideal, deviation = rna.STEM_BOND
    return average(
        0.1 * penalty(values, middle, half)
        + penalty(values, wide_middle, wide_half)
        + torch.where(stem, penalty(values, ideal, 2 * deviation), 0.0),
        real,
    )


def measure_angle(coords: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """Angle term (B,): virtual angle inside 70-170 degrees, excess in units of 10 degrees."""
    back, forth = coords[:, :-2] - coords[:, 1:-1], coords[:, 2:] - coords[:, 1:-1]
    # atan2 keeps the gradient finite at straight triples, where arccos has none
    angle = torch.atan2(length(torch.linalg.cross(back, forth, dim=-1)), (back * forth).sum(-1))
    steps = batch.same_chain_step
    real = steps[:, 1:] & steps[:, :-1] & mask[:, 2:] & mask[:, 1:-1] & mask[:, :-2]
    low, high = (math.radians(x) for x in rna.ANGLE_RANGE_DEGREES)
    unit = math.radians(10.0)
    return average(penalty(angle / unit, (low + high) / 2 / unit, (high - low) / 2 / unit), real)


def nearest_neighbours(coords: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """Indices (B, L, K) of the K nearest residues of each, sequence neighbours and itself left out.

    Searched in chunks of rows without gradient, so that no (L, L) array stays in memory.
    """
    points = torch.where(mask[..., None], coords.detach(), torch.full_like(coords, 1e4))
    size = coords.shape[1]
    position = torch.arange(size, device=coords.device)
    bonded = torch.zeros_like(mask)
    bonded[:, :-1] = batch.same_chain_step
    found = []
    for first in range(0, size, ROW_CHUNK):
        rows = position[first : first + ROW_CHUNK]
        distance = torch.cdist(points[:, first : first + ROW_CHUNK], points)
        gap = position[None, :] - rows[:, None]
        excluded = (
            (gap == 0)[None] | ((gap == 1)[None] & bonded[:, rows, None]) | ((gap == -1)[None] & bonded[:, None, :])
        )
        distance = distance.masked_fill(excluded, 1e6)
        found.append(distance.topk(min(NUM_NEIGHBOURS, size), largest=False).indices)
    return torch.cat(found, dim=1)


def measure_clash(coords: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """Clash term (B,): penalties below 4.0 Å (soft) and, five times as strong, below 3.5 Å (hard), a residue."""
    index = nearest_neighbours(coords, batch, mask)
    position = torch.arange(coords.shape[1], device=coords.device)[:, None]
    step = (index - position).abs() == 1
    bonded = torch.zeros_like(mask)
    bonded[:, :-1] = batch.same_chain_step
    neighbour = step & gather(bonded, torch.minimum(index, position.expand_as(index)))
    real = mask[:, :, None] & gather(mask, index) & (index != position) & ~neighbour
    distance = pair_distances(coords, index)
    values = penalty_below(distance, rna.CLASH_SOFT) + 5.0 * penalty_below(distance, rna.CLASH_HARD)
    return average((values * real).sum(-1), mask)


def penalty_below(values: Tensor, minimum: float) -> Tensor:
    """The flat-bottomed penalty with no upper wall."""
    return penalty(values.clamp_max(minimum), minimum, 0.0)


def measure_watson_crick(coords: Tensor, batch: Batch, mask: Tensor, deviations: float) -> Tensor:
    """Watson-Crick term (B,): each existing pair's own distance, and for stacked pairs the two cross distances.

    Only pairs that exist (`batch.partner`) count; each is flat within `deviations` standard deviations.
    """
    size = coords.shape[1]
    position = torch.arange(size, device=coords.device)
    partner = batch.partner.clamp_min(0)
    other = gather(coords, partner[..., None])[:, :, 0]
    real = (batch.partner > position) & mask & gather(mask, partner[..., None])[..., 0]
    ideal, spread = pair_tables(coords.device)
    tokens, other_tokens = batch.tokens, gather(batch.tokens, partner[..., None])[..., 0]
    values = penalty(length(coords - other), ideal[tokens, other_tokens], deviations * spread[tokens, other_tokens])
    stacked = real[:, :-1] & real[:, 1:] & (batch.partner[:, 1:] == batch.partner[:, :-1] - 1)
    near = penalty(
        length(coords[:, 1:] - other[:, :-1]), rna.CROSS_DISTANCE_NEAR[0], deviations * rna.CROSS_DISTANCE_NEAR[1]
    )
    far = penalty(
        length(coords[:, :-1] - other[:, 1:]), rna.CROSS_DISTANCE_FAR[0], deviations * rna.CROSS_DISTANCE_FAR[1]
    )
    cross = torch.where(stacked, near + far, 0.0)
    values = torch.cat([values[:, :1], values[:, 1:] + cross], dim=1)
    return average(values, real)


def pair_tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """(5, 5) ideal C1'-C1' distance and standard deviation of each pair of tokens, in Å."""
    ideal = torch.full((rna.NUM_TOKENS, rna.NUM_TOKENS), 10.5)
    spread = torch.full((rna.NUM_TOKENS, rna.NUM_TOKENS), 0.5)
    for pair, (mean, deviation) in rna.PAIR_DISTANCE.items():
        i, j = rna.ALPHABET.index(pair[0]), rna.ALPHABET.index(pair[1])
        ideal[i, j] = ideal[j, i] = mean
        spread[i, j] = spread[j, i] = deviation
    return ideal.to(device), spread.to(device)


def distogram_loss(logits: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy (B,) of a distogram (B, .., K) at true distances in Å (B, ..), a mean over `mask`."""
    loss = F.cross_entropy(logits.flatten(0, -2), distogram_bins(true).flatten(), reduction="none")
    return average(loss.view(true.shape), mask)


@torch.no_grad()
def true_distances(batch: Batch) -> Tensor:
    """(B, L, L) distances in Å of the reference; unresolved residues give what their zeros give."""
    points = batch.coords[:, :, 0].float()
    return torch.cdist(points, points)


def measure_pairs(logits: Tensor, batch: Batch, mask: Tensor) -> Tensor:
    """Cross-entropy (B,) of the pair logits (B, L, L) for the reference's pairs: summed over a residue's
    possible partners, a mean over resolved residues."""
    size = batch.partner.shape[1]
    is_pair = F.one_hot(batch.partner.clamp_min(0), size) * (batch.partner >= 0)[..., None]
    real = (mask[:, :, None] & mask[:, None, :]).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, is_pair.to(logits.dtype), reduction="none")
    return average((loss * real).sum(-1), mask)


@torch.no_grad()
def measure_residue_lddt(coords: Tensor, batch: Batch) -> Tensor:
    """lDDT (B, L) of each residue against the reference: pairs within 15 Å, thresholds 0.5, 1, 2 and 4 Å.

    Source: Mariani et al., Bioinformatics 29, 2722 (2013), on C1' atoms. Computed in chunks of rows.
    """
    reference, mask = batch.coords[:, :, 0], batch.coord_mask[:, :, 0]
    position = torch.arange(coords.shape[1], device=coords.device)
    rows = []
    for first in range(0, coords.shape[1], ROW_CHUNK):
        part = slice(first, first + ROW_CHUNK)
        true, found = torch.cdist(reference[:, part], reference), torch.cdist(coords[:, part], coords)
        inside = (true < 15.0) & mask[:, None, :] & (position[None, :] != position[part, None])
        error = (true - found).abs()
        hits = torch.stack([error < t for t in (0.5, 1.0, 2.0, 4.0)]).float().mean(0)
        rows.append((hits * inside).sum(-1) / inside.sum(-1).clamp_min(1))
    return torch.cat(rows, dim=1)


def measure_physics(coords: Tensor, batch: Batch, mask: Tensor, deviations: float = 2.0) -> dict[str, Tensor]:
    """The four physics terms (B,) of coords (B, L, 3) over the residues of `mask` (B, L)."""
    return {
        "bond": measure_bond(coords, batch, mask),
        "angle": measure_angle(coords, batch, mask),
        "clash": measure_clash(coords, batch, mask),
        "watson_crick": measure_watson_crick(coords, batch, mask, deviations),
    }


def compute_losses(output: Output, batch: Batch, config: LossConfig, epoch: float) -> LossTerms:
    """All terms of a batch in float32, and their weighted sum, each weight ramped to `epoch` (may be a fraction)."""
    coords = output.coords[:, :, 0].float()
    with torch.autocast(coords.device.type, enabled=False):
        start = None if output.start_tm is None else batch.start[:, :, 0].float()
        distance, (tm, *of_start) = superposed_distances(coords, start, batch)
        mask = batch.coord_mask[:, :, 0]
        # the metric's own d0 sets what counts as near: fractions of an Å below 30 residues, several Å above 100
        scale = (config.superposed_scale * tm_scale(mask.sum(1))).clamp_min(1.0)[:, None]
        index, pair_mask = sample_pairs(batch, config.pairs_per_residue)
        true = pair_distances(batch.coords[:, :, 0], index)
        error = (pair_distances(coords, index) - true).abs().clamp_max(config.distance_clamp)
        near = pair_mask & (true < config.distance_cutoff)
        terms = {
            "superposed": average(saturate(distance, scale) + config.tail * torch.log1p(distance), mask),
            "distance": average(saturate(error, config.distance_scale) + config.tail * torch.log1p(error), near),
            **measure_physics(coords, batch, mask, config.pair_tolerance_deviations),
        }
        if config.arrangement.weight:
            terms["arrangement"] = average(*measure_arrangement(coords, batch))
        if output.distogram is not None and output.pairs is not None:
            whole = true_distances(batch)
            resolved = mask[:, :, None] & mask[:, None, :]
            terms["distogram"] = distogram_loss(output.distogram, whole, resolved)
            terms["pairs"] = measure_pairs(output.pairs, batch, mask)
        if output.lddt is not None:
            terms["confidence"] = average((output.lddt - measure_residue_lddt(coords, batch)) ** 2, mask)
        if output.expected_tm is not None:
            terms["expected_tm"] = (output.expected_tm - tm) ** 2
        if output.start_tm is not None and "expected_tm" in terms:
            terms["expected_tm"] = 0.5 * (terms["expected_tm"] + (output.start_tm - of_start[0]) ** 2)
        total = torch.zeros_like(tm)
        for name, value in terms.items():
            total = total + term_weight(config, name, epoch) * value
    return LossTerms(total=total, terms=terms, residues=mask.sum(1))


def list_terms(config: LossConfig) -> tuple[str, ...]:
    """The terms that a run measures: TERMS, and the arrangement of stems where it has a weight."""
    return (*TERMS, "arrangement") if config.arrangement.weight else TERMS


def term_weight(config: LossConfig, name: str, epoch: float) -> float:
    """Weight of a term at `epoch`: linear from 0 over its ramp, then constant."""
    term = getattr(config, name)
    ramp = min(1.0, epoch / term.ramp_epochs) if term.ramp_epochs > 0 else 1.0
    return float(term.weight * ramp)
