"""What a prediction went on without: an optional step that fails costs itself, never the target."""

import logging
from dataclasses import dataclass, field
from types import TracebackType

from rnafold.errors import InputError, OutOfTime

log = logging.getLogger(__name__)


@dataclass(slots=True)
class StepLosses:
    """The optional steps that failed in a run: by step its causes, first to last."""

    causes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, step: str, name: str, error: BaseException) -> None:
        """Counts a failure; a first one that no user can mend is logged with its traceback."""
        known = self.causes.setdefault(step, [])
        known.append(f"{name}: {str(error) or type(error).__name__}")
        if len(known) == 1 and not isinstance(error, (InputError, OSError)):
            log.info("%s: %s failed", name, step, exc_info=error)

    def allow(self, step: str, name: str) -> "AllowedLoss":
        """A block that may fail: its failure is noted and what follows goes on. Only the end of time passes."""
        return AllowedLoss(self, step, name)

    def log_summary(self) -> None:
        """One warning a step: how often it failed, and the first cause."""
        for step, causes in self.causes.items():
            log.warning("%s: left out %d times, first: %s", step, len(causes), causes[0])


@dataclass(frozen=True, slots=True)
class AllowedLoss:
    """The block of `StepLosses.allow`."""

    losses: StepLosses
    step: str
    name: str

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Notes a failure and holds it back; the end of time and a stop by the user pass."""
        if not isinstance(error, Exception) or isinstance(error, OutOfTime):
            return False
        self.losses.note(self.step, self.name, error)
        return True
