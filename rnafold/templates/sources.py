"""What candidates are made from: the library with its index and loops, the models; and the ranked hits of a chain."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.structure import Pairing, Template
from rnafold.templates.complexes import group_complexes
from rnafold.templates.library import Gate, TemplateLibrary
from rnafold.templates.ranker import Ranker, measure_features
from rnafold.templates.search import Hit, LibraryIndex, search_chain
from rnafold.templates.transfer import carry_coords

IntArray = npt.NDArray[np.int64]
HITS_OF_EACH_SETTING = 25
ALIGNMENTS_OF_A_SEQUENCE = 2


class Sources:
    """What candidates are made from, built once a run: the library with its index and loops, the two learned models."""

    def __init__(self, library: TemplateLibrary, ranker: Ranker | None, jury: Ranker | None = None) -> None:
        self.library, self.ranker, self.jury = library, ranker, jury
        self.index = LibraryIndex(library)
        self.complexes = group_complexes(library)
        self._fragments = library.build_fragments()
        self._gated = functools.lru_cache(maxsize=4)(self._restrict)

    def _restrict(self, gate: Gate) -> FragmentLibrary:
        return self._fragments.restrict(gate.before, gate.codes, gate.groups)

    def fragments(self, gate: Gate | None) -> FragmentLibrary:
        """The loops that the gate lets a target see."""
        return self._fragments if gate is None else self._gated(gate)

    def usable_ranker(self, gate: Gate | None) -> Ranker | None:
        """The ranker, or None where its own training saw structures that the gate hides."""
        return self.ranker if _was_trained_behind(self.ranker, gate) else None

    def usable_jury(self, gate: Gate | None) -> Ranker | None:
        """The jury for `slots.pick_five`, or None where its own training saw structures that the gate hides."""
        return self.jury if _was_trained_behind(self.jury, gate) else None


def _was_trained_behind(model: Ranker | None, gate: Gate | None) -> bool:
    return model is not None and (gate is None or gate.before is None or model.trained_before <= gate.before)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """A hit of one chain with the TM-score that its hybrid is expected to reach."""

    hit: Hit
    expected_tm: float


def rank_hits(sources: Sources, sequence: str, pairing: Pairing, gate: Gate | None) -> list[Ranked]:
    """Hits of one chain, best expected TM-score first: up to two alignments of each different library sequence."""
    hits = search_chain(sources.index, sequence, pairing.probabilities, gate, HITS_OF_EACH_SETTING)
    features = measure_features(sources.library, hits, sequence, pairing.probabilities, pairing.partner)
    ranker = sources.usable_ranker(gate)
    if ranker is not None:
        expected = ranker.predict(features)
    else:  # the score of a perfect match is about 1: as good an order, a worse confidence
        expected = np.clip(0.7 * np.array([hit.score for hit in hits]), 0.02, 0.9)
    ranked: list[Ranked] = []
    seen: dict[bytes, list[bytes]] = {}
    for row in np.argsort(-expected, kind="stable"):
        content = sources.library.tokens[sources.library.chain_rows(hits[row].chain)].tobytes()
        mappings = seen.setdefault(content, [])
        mapping = hits[row].mapping.tobytes()
        if len(mappings) < ALIGNMENTS_OF_A_SEQUENCE and mapping not in mappings:
            mappings.append(mapping)
            ranked.append(Ranked(hit=hits[row], expected_tm=float(expected[row])))
    return ranked


def describe_template(library: TemplateLibrary, ranked: Ranked, tokens: IntArray) -> Template:
    """A ranked hit as a Template: coordinates carried over, identity and coverage, date."""
    hit = ranked.hit
    coords = carry_coords(library, hit)
    aligned = hit.mapping >= 0
    same = tokens[aligned] == library.tokens[library.chain_rows(hit.chain)][hit.mapping[aligned]]
    return Template(
        template_id=library.ids[int(library.chain_entry[hit.chain])],
        coords=coords,
        identity=float(same.mean()) if aligned.any() else 0.0,
        coverage=float(np.isfinite(coords).all(1).mean()),
        released=library.chain_date(hit.chain),
        score=hit.score,
        expected_tm=ranked.expected_tm,
    )
