"""The scorer: TM-score as the competition computes it, and further measures of a prediction.

`score_target` and `score_all` are the official metrics of whole targets; `tm_score` is the bare (P, R) matrix of
single chains.
"""

from rnafold.scoring.complexes import map_copies, score_all, score_target
from rnafold.scoring.measures import Violations, count_violations, measure_lddt, measure_superposed_rmsd
from rnafold.scoring.tm import Mode, measure_d0, tm_score
from rnafold.scoring.usalign import find_usalign, score_with_usalign

__all__ = [
    "Mode",
    "Violations",
    "count_violations",
    "find_usalign",
    "map_copies",
    "measure_d0",
    "measure_lddt",
    "measure_superposed_rmsd",
    "score_all",
    "score_target",
    "score_with_usalign",
    "tm_score",
]
