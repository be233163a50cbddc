"""What a run is told about a pretrained encoder: where its weights lie, how much of it trains, what it must beat."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """A pretrained encoder in front of the network. Its sizes are read from the weights file and never typed here.

    Attributes:
        path: weights file that the user mounts (.pt or .safetensors); a file that is not there is searched by its name
            below the mounted inputs (rnafold.mounts).
        layout: names and order of operations of the encoder.
        unfreeze_last: how many of its last layers train; the rest stays as it was read.
        unfreeze_every_epochs: gradual unfreezing: one more layer, from the last backwards, every so many epochs, none
            before the first of them is over; 0 trains all of them from the start.
        learning_rate_share: learning rate of the encoder's layers, as a share of the network's.
        context: residues of a chain that are this far apart or farther do not see each other inside the encoder.
        compare_with: run folder or weights of the network without encoder that this one has to beat on the validation
            targets; without it, or if it does not, `predict` leaves the encoder's weights alone.
    """

    path: str
    layout: Literal["ribonanzanet"] = "ribonanzanet"
    unfreeze_last: int = 0
    unfreeze_every_epochs: int = 0
    learning_rate_share: float = 0.1
    context: int = 512
    compare_with: str | None = None

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path: found no name, expected the file of the encoder's weights")
        for name in ("unfreeze_last", "unfreeze_every_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if not 0.0 < self.learning_rate_share <= 1.0:
            raise ValueError(f"learning_rate_share: found {self.learning_rate_share}, expected above 0 and at most 1")
        if self.context < 16:
            raise ValueError(f"context: found {self.context}, expected 16 or more")

    def count_trained(self, epoch: int) -> int:
        """How many of the last layers train in an epoch (0-based): a pure function, so a resume needs no state."""
        if self.unfreeze_every_epochs == 0:
            return self.unfreeze_last
        return min(self.unfreeze_last, -(-epoch // self.unfreeze_every_epochs))

    def without_places(self) -> "EncoderConfig":
        """The same without where files lie, which may differ from one session to the next."""
        return replace(self, path="-", compare_with=None)
