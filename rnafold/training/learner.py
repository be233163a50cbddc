"""What learns: the network, its moving average and the optimizer, and how a checkpoint takes and gives them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from rnafold.config.settings import Config
from rnafold.errors import InputError
from rnafold.model.encoder import describe_encoder, rate_groups, require_encoder
from rnafold.model.network import PairNetwork, PlainNetwork, build_network
from rnafold.training.checkpoint import Checkpoint, flatten_optimizer, restore_optimizer
from rnafold.training.ranks import Ranks


class Learner:
    """The network of one run with all that its steps change."""

    def __init__(self, config: Config, ranks: Ranks) -> None:
        train = config.train
        torch.manual_seed(train.seed)
        self.ranks = ranks
        self.network: PairNetwork | PlainNetwork = build_network(config.model).to(ranks.device)
        self.network.recomputed = train.gradient_checkpointing
        self.forward = torch.compile(self.network, dynamic=True) if train.compile else self.network
        self.average = AveragedModel(self.network, multi_avg_fn=_moving_average(train.ema_decay))
        self.names: dict[torch.Tensor, str] = {p: name for name, p in self.network.named_parameters()}
        groups = _parameter_groups(self.network, train.weight_decay)
        # on a CPU one pass over each tensor instead of ten: 6 ms a step for 19; the numbers are the same
        on_cpu = ranks.device.type == "cpu"
        optimizer = torch.optim.AdamW(groups, lr=1.0, fused=on_cpu, foreach=not on_cpu)
        self.optimizer = ranks.prepare_optimizer(optimizer)

    @property
    def averaged(self) -> Any:
        """The network whose weights are the moving average."""
        return self.average.module

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step; each group takes its share of it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """The parameters that are not frozen."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def save(self, position: Mapping[str, Any], effective_batch: int) -> Checkpoint:
        """A checkpoint of the tensors and of the run's position (fields of TrainState)."""
        scaler = self.ranks.scaler
        return Checkpoint(
            tensors={
                "model": dict(self.network.state_dict()),
                "average": dict(self.averaged.state_dict()),
                "optimizer": flatten_optimizer(self.optimizer.optimizer, self.names),
            },
            state={
                "train": dict(position),
                "scaler": None if scaler is None else scaler.state_dict(),
                "averaged": int(self.average.n_averaged),
                "ranks": self.ranks.num_ranks,
                "effective_batch": effective_batch,
                "encoder": describe_encoder(self.network),
            },
        )

    def load(self, saved: Checkpoint, place: Path) -> None:
        """Takes the tensors of a checkpoint of the run in `place`.

        Raises:
            InputError: it is of another network or of another encoder.
        """
        require_encoder(self.network, saved.state.get("encoder"), place)
        try:
            self.network.load_state_dict(saved.tensors["model"])
            self.averaged.load_state_dict(saved.tensors["average"])
        except RuntimeError as error:
            raise InputError(f"{place}: the checkpoint is of another model ({str(error).splitlines()[0]})") from None
        restore_optimizer(self.optimizer.optimizer, self.names, saved.tensors.get("optimizer", {}))
        self.average.n_averaged.fill_(saved.state["averaged"])
        if self.ranks.scaler is not None and saved.state["scaler"] is not None:
            self.ranks.scaler.load_state_dict(saved.state["scaler"])


def _moving_average(decay: float) -> Any:
    """Exponential moving average whose decay rises with the count of updates, so that early weights are forgotten."""

    @torch.no_grad()
    def update(averages: Sequence[torch.Tensor], current: Sequence[torch.Tensor], count: torch.Tensor | int) -> None:
        keep = min(decay, (1.0 + float(count)) / (10.0 + float(count)))
        torch._foreach_lerp_(list(averages), list(current), 1.0 - keep)

    return update


def _parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for biases, norms and embeddings' single rows; `share` of the learning rate."""
    groups: list[dict[str, Any]] = []
    for parameters, share in rate_groups(network):
        matrices = [p for p in parameters if p.dim() > 1]
        rest = [p for p in parameters if p.dim() <= 1]
        groups += [
            {"params": matrices, "weight_decay": weight_decay, "share": share},
            {"params": rest, "weight_decay": 0.0, "share": share},
        ]
    return groups
