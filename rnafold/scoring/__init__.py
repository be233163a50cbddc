"""The judge: TM-score as the competition computes it, and further measures of a prediction.

`score_target` and `score_all` are part 2's metric for whole targets, `tm_score` the bare (P, R) matrix without copies.
"""

from rnafold.scoring.complexes import map_copies, score_all, score_target
from rnafold.scoring.tm import Mode, measure_d0, tm_score

__all__ = ["Mode", "map_copies", "measure_d0", "score_all", "score_target", "tm_score"]
