"""What candidates are made from: the library with its index and loops, the models; a task; a chain's ranked hits."""

import copy
import functools
import math
from dataclasses import dataclass, replace

import numpy as np

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.loop_judge import LoopJudge
from rnafold.features.wishes import PairWishes
from rnafold.structure import FloatArray, IntArray, Pairing, Target, whole_chain
from rnafold.templates.alignment import Hit
from rnafold.templates.complexes import group_complexes
from rnafold.templates.index import LibraryIndex
from rnafold.templates.library import Gate, TemplateLibrary
from rnafold.templates.loops import LibraryChains, build_fragments
from rnafold.templates.ranker import Ranker, measure_features
from rnafold.templates.search import search_chain

HITS_OF_EACH_SETTING = 25
ALIGNMENTS_OF_A_SEQUENCE = 2


class Sources:
    """What candidates are made from, built once a run: the library with its index and loops, the learned models."""

    def __init__(
        self,
        library: TemplateLibrary,
        ranker: Ranker | None,
        jury: Ranker | None = None,
        loop_judge: LoopJudge | None = None,
        index: LibraryIndex | None = None,
        fragments: FragmentLibrary | None = None,
    ) -> None:
        """`index` and `fragments` are built of the library unless given (`prepared.load_prepared`)."""
        self.library, self.ranker, self.jury, self.loop_judge = library, ranker, jury, loop_judge
        self.index = index or LibraryIndex(library)
        self.complexes = group_complexes(library)
        self._fragments = fragments or build_fragments(library)
        self._gated = functools.lru_cache(maxsize=4)(self._restrict)

    def _restrict(self, gate: Gate | None) -> FragmentLibrary:
        chains = self._fragments.chains
        assert isinstance(chains, LibraryChains)
        before = None if gate is None else gate.before
        judge = self.loop_judge if self.loop_judge is not None and self.loop_judge.may_rate(before) else None
        return self._fragments.select(self.library.allowed(gate)[chains.chains]).judged_by(judge)

    def fragments(self, gate: Gate | None) -> FragmentLibrary:
        """The loops that the gate lets a target see, with the judge that it may ask."""
        return self._gated(gate)

    def rated_by(self, ranker: Ranker | None, jury: Ranker | None, loop_judge: LoopJudge | None = None) -> "Sources":
        """The same library, index and loops with other models; nothing is built again."""
        other = copy.copy(self)
        other.ranker, other.jury, other.loop_judge = ranker, jury, loop_judge
        other._gated = functools.lru_cache(maxsize=4)(other._restrict)
        return other


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModellingTask:
    """One target to be modelled, and all that its candidates may be made from.

    Attributes:
        target: sequence and chains.
        pairing: its predicted pairs.
        sources: library, loops and models.
        gate: what of them the target may see (`gate_for`); None switches every gate off, which leaks.
        seed: of every random choice on the way.
        wishes: pairs that must form or must not, which the predicted pairs obey already.
    """

    target: Target
    pairing: Pairing
    sources: Sources
    gate: Gate | None
    seed: int = 0
    wishes: PairWishes | None = None

    @property
    def fragments(self) -> FragmentLibrary:
        """The loops that the target may see."""
        return self.sources.fragments(self.gate)

    @property
    def ranker(self) -> Ranker | None:
        """The ranker, or None where its own training saw structures that the gate hides."""
        return self._ask(self.sources.ranker)

    @property
    def jury(self) -> Ranker | None:
        """The jury, or None where its own training saw structures that the gate hides."""
        return self._ask(self.sources.jury)

    def _ask(self, model: Ranker | None) -> Ranker | None:
        before = None if self.gate is None else self.gate.before
        return model if model is not None and model.may_rate(before) else None

    def obey(self, partner: IntArray) -> IntArray:
        """Partners (L,) as the wishes want them."""
        return self.wishes.obey(partner) if self.wishes else partner

    def release(self, carried: FloatArray) -> FloatArray:
        """Template coordinates (L, 3) without those that stand against the wishes."""
        return self.wishes.release(carried) if self.wishes else carried

    def for_chain(self, sequence: str, pairing: Pairing) -> "ModellingTask":
        """The task of one chain on its own, behind the gate of the whole target; wishes as of its first copy."""
        alone = Target(target_id=self.target.target_id, sequence=sequence, chains=whole_chain(len(sequence)))
        first = next((c for c in self.target.chains if self.target.sequence[c.start : c.stop] == sequence), None)
        wishes = self.wishes.cut(first.start, first.stop) if self.wishes and first is not None else None
        return replace(self, target=alone, pairing=pairing, wishes=wishes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """A hit of one chain with the TM-score that its hybrid is expected to reach."""

    hit: Hit
    expected_tm: float


def rank_hits(task: ModellingTask, seconds: float = math.inf) -> list[Ranked]:
    """Hits of one chain, best expected TM-score first: up to two alignments of each different library sequence.

    `seconds` is what the chain's candidates may take in all.
    """
    sequence, pairing, library = task.target.sequence, task.pairing, task.sources.library
    index = task.sources.index
    hits = search_chain(index, sequence, pairing.probabilities, task.gate, HITS_OF_EACH_SETTING, seconds=seconds)
    features = measure_features(library, hits, sequence, pairing.probabilities, pairing.partner)
    if task.ranker is not None:
        expected = task.ranker.predict(features)
    else:  # the score of a perfect match is about 1: as good an order, a worse confidence
        expected = np.clip(0.7 * np.array([hit.score for hit in hits]), 0.02, 0.9)
    ranked: list[Ranked] = []
    seen: dict[bytes, list[bytes]] = {}
    for row in np.argsort(-expected, kind="stable"):
        content = library.tokens[library.chain_rows(hits[row].chain)].tobytes()
        mappings = seen.setdefault(content, [])
        mapping = hits[row].mapping.tobytes()
        if len(mappings) < ALIGNMENTS_OF_A_SEQUENCE and mapping not in mappings:
            mappings.append(mapping)
            ranked.append(Ranked(hit=hits[row], expected_tm=float(expected[row])))
    return ranked
