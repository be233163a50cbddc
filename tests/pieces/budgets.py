"""Time that passes as a test wants it to."""

from torch.optim.optimizer import register_optimizer_step_post_hook

from rnafold.training.schedule import TimeBudget


class StepBudget(TimeBudget):
    """Its time is up once so many steps are taken: for everything, or for one kind of work alone."""

    def __init__(self, most_steps: int, kind: str | None = None) -> None:
        super().__init__(None)
        self.most_steps, self.kind, self.num_steps = most_steps, kind, 0

    def record(self, kind: str, seconds: float) -> None:
        self.num_steps += kind == "step"
        super().record(kind, seconds)

    def allows(self, *kinds: str) -> bool:
        return self.num_steps < self.most_steps or (self.kind is not None and self.kind not in kinds)

    def rest(self) -> "StepBudget":
        return self


class StepClock:
    """A clock on which time passes with optimizer steps alone; a context, for it watches all optimizers meanwhile."""

    def __init__(self, seconds_per_step: float) -> None:
        self.now, self.seconds_per_step = 0.0, seconds_per_step

    def __call__(self) -> float:
        return self.now

    def __enter__(self) -> "StepClock":
        self.hook = register_optimizer_step_post_hook(self._pass)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _pass(self, *_: object) -> None:
        self.now += self.seconds_per_step
