"""Everything about several processes: who this one is, what they agree on, and how their gradients become one.

Gradients are reduced by hand once a window instead of by DDP once a backward pass: so the loss is divided by the
resolved residues of the whole window over all ranks, a rank may run out of memory without leaving the others waiting,
and a rank without a micro batch takes part all the same.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from rnafold.config.settings import Config

MIXED_PRECISION = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


class Ranks:
    """The processes of one run, one a card; alone, every method answers at once."""

    def __init__(self, config: Config) -> None:
        # Accelerate keeps the precision of the first run of a process and refuses another; the process group stays
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=MIXED_PRECISION[config.train.precision],
            cpu=config.hardware.device_type == "cpu",
            step_scheduler_with_optimizer=False,
        )
        self.device: torch.device = self.accelerator.device
        self.is_main: bool = self.accelerator.is_main_process
        self.rank: int = self.accelerator.process_index
        self.num_ranks: int = self.accelerator.num_processes
        if self.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(config.train.memory_share)
            torch.backends.cudnn.benchmark = True

    @property
    def scaler(self) -> Any:
        """The gradient scaler of fp16, None otherwise."""
        return self.accelerator.scaler

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        """The optimizer behind Accelerate's, which knows the scaler; the given one is its `optimizer`."""
        return self.accelerator.prepare_optimizer(optimizer)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for a forward pass, as configured."""
        found: AbstractContextManager[Any] = self.accelerator.autocast()
        return found

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a scalar, scaled under fp16."""
        self.accelerator.backward(loss)

    def clip_gradients(self, parameters: Sequence[torch.Tensor], largest: float) -> float:
        """Scales the gradients down to a norm of at most `largest`; returns the norm before."""
        return float(self.accelerator.clip_grad_norm_(parameters, largest))

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks, on the CPU."""
        if self.num_ranks == 1:
            return value
        reduced: torch.Tensor = self.accelerator.reduce(value.to(self.device), reduction="sum")
        return reduced.cpu()

    def agree(self, flag: bool) -> bool:
        """True on all ranks if it is on one."""
        return bool(self.sum(torch.tensor(float(flag))) > 0) if self.num_ranks > 1 else flag

    def reduce_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Gives every parameter the sum of its gradients over the ranks; one without a gradient gets zeros."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.num_ranks > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
            flat = self.accelerator.reduce(flat, reduction="sum")
            for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
                parameter.grad = part.view_as(parameter).clone()

    def wait(self) -> None:
        """Until every rank is here."""
        self.accelerator.wait_for_everyone()

    def free_memory(self) -> None:
        """Gives the card's cached blocks back, so that other sizes find room."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
