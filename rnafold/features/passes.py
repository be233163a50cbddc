"""How the examples of a step are dealt to forward passes: cut by length where less padding outweighs one pass more.

A pass holds at most the residues of a micro batch of the longest examples, so short ones share one. The gradient of a
step is that of its window however it is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rnafold.config.settings import Config
from rnafold.features.build import padded_length

# Seconds of a training step's share on one CPU core: a pass, a residue, a pair of residues. Source: fitted to base's
# passes of 16 to 256 residues and plain's, float32, AMD EPYC; what matters is what they are to each other.
CPU_SECONDS = {"pair": (0.04, 2.1e-4, 6.5e-6), "plain": (0.015, 1.7e-4, 2e-7)}
# Pairs of one pass on a CPU, above one example: the pair track's tensors then stay below the 32 MiB from which on the
# system is asked for the memory of each anew, and a pass keeps half a GiB for its gradient.
MOST_PAIRS_ON_CPU = 2**16
# On a card a pass costs its launches, residues and pairs their traffic: operations, bytes a residue and a pair, traced
# (planner.memory.trace, base and plain, half a recycle).
CARD_WORK = {"pair": (8300, 2.2e6, 1.1e5), "plain": (1300, 1.1e6, 20.0)}
LAUNCH_SECONDS, BANDWIDTH_SHARE = 8e-6, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRule:
    """What a pass costs, in any unit, and how much it may hold.

    Attributes:
        whole, residue, pair: cost of a pass itself, of a padded residue and of a padded pair of residues.
        most_residues, most_pairs: padded, in one pass; a single example may exceed both.
    """

    whole: float
    residue: float
    pair: float
    most_residues: int
    most_pairs: int

    def cost(self, count: int, size: int) -> float:
        """Of a pass of `count` examples padded to `size`."""
        return self.whole + count * (size * self.residue + size * size * self.pair)

    def most_examples(self, size: int) -> int:
        """How many examples padded to `size` a pass may hold, at least one."""
        return max(1, min(self.most_residues // size, self.most_pairs // size**2))


def pass_rule(config: Config, longest: int, micro_batch: int | None = None) -> PassRule:
    """The rule of a configuration for examples of up to `longest` residues; `micro_batch` in place of its own."""
    hardware, kind = config.hardware, config.model.kind
    count = config.train.micro_batch if micro_batch is None else micro_batch
    size = padded_length(longest)
    if hardware.device_type == "cpu":
        whole, residue, pair = CPU_SECONDS[kind]
        most_pairs = min(count * size * size, MOST_PAIRS_ON_CPU)
    else:
        operations, *traffic = CARD_WORK[kind]
        whole = operations * LAUNCH_SECONDS
        residue, pair = (x / (hardware.memory.bandwidth_gb_per_s * 1e9 * BANDWIDTH_SHARE) for x in traffic)
        most_pairs = count * size * size
    return PassRule(whole=whole, residue=residue, pair=pair, most_residues=count * size, most_pairs=most_pairs)


def cut_passes(lengths: Sequence[int], rule: PassRule) -> list[tuple[int, ...]]:
    """Positions of the examples of each pass, the longest pass first; the cheapest cut of the examples by length."""
    order = sorted(range(len(lengths)), key=lambda k: (lengths[k], k))
    sizes = [padded_length(lengths[k]) for k in order]
    # cheapest[n]: cost of the n shortest, and where their last pass begins
    cheapest: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, len(order) + 1):
        size = sizes[stop - 1]
        first = max(0, stop - rule.most_examples(size))
        cheapest.append(min((cheapest[k][0] + rule.cost(stop - k, size), k) for k in range(first, stop)))
    passes, stop = [], len(order)
    while stop:
        first = cheapest[stop][1]
        passes.append(tuple(order[first:stop]))
        stop = first
    return passes
