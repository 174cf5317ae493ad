"""Schedule: where in the run an update is, and what follows from that."""

from dataclasses import dataclass

from ppo_fast.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """Update `number` of a run (from 0), of which the part `remaining` in (0, 1] is to come."""

    config: TrainConfig
    number: int
    remaining: float

    @property
    def learning_rate(self) -> float:
        return self._annealed(self.config.learning_rate, self.config.anneal_lr)

    @property
    def entropy_coef(self) -> float:
        return self._annealed(self.config.entropy_coef, self.config.anneal_entropy_coef)

    @property
    def clip_range(self) -> float:
        return self._annealed(self.config.clip_range, self.config.anneal_clip_range)

    @property
    def clip_range_high(self) -> float | None:
        high = self.config.clip_range_high
        return None if high is None else self._annealed(high, self.config.anneal_clip_range)

    def _annealed(self, start: float, anneals: bool) -> float:
        return start * (self.remaining if anneals else 1)
