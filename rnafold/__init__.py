"""rnafold: from the competition's CSVs to a scored, valid submission of RNA 3D structures; and for your own RNA.

What stands in `__all__` is what the package promises (docs/api.md); it is loaded when it is first asked for, so that
`import rnafold` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rnafold.api import check_submission as check_submission
    from rnafold.api import fold as fold
    from rnafold.api import pick as pick
    from rnafold.api import plan as plan
    from rnafold.api import score_submission as score_submission
    from rnafold.api import tm_score as tm_score
    from rnafold.errors import InputError as InputError
    from rnafold.features.wishes import PairWishes as PairWishes
    from rnafold.planner.plan import Plan as Plan
    from rnafold.prediction.fold import Folded as Folded
    from rnafold.structure import Candidate as Candidate
    from rnafold.structure import Chain as Chain
    from rnafold.structure import Score as Score
    from rnafold.structure import Structure as Structure
    from rnafold.structure import Target as Target
    from rnafold.submission.check import Finding as Finding

__version__ = "0.1.0"

# Where each promised name lives: functions first, then value types.
_HOMES: Final = {
    "fold": "rnafold.api",
    "tm_score": "rnafold.api",
    "score_submission": "rnafold.api",
    "check_submission": "rnafold.api",
    "pick": "rnafold.api",
    "plan": "rnafold.api",
    "Target": "rnafold.structure",
    "Chain": "rnafold.structure",
    "Structure": "rnafold.structure",
    "Candidate": "rnafold.structure",
    "Score": "rnafold.structure",
    "Folded": "rnafold.prediction.fold",
    "PairWishes": "rnafold.features.wishes",
    "Finding": "rnafold.submission.check",
    "Plan": "rnafold.planner.plan",
    "InputError": "rnafold.errors",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Loads a promised name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rnafold' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
