"""Algorithms: one step of the lecture each, on one collector. `TrainConfig.algorithm` names one."""

from typing import Protocol

from ppo_fast.algorithms.ppo import PpoClip
from ppo_fast.config import TrainConfig
from ppo_fast.learners import Learner
from ppo_fast.rollout import Rollout


class Algorithm(Protocol):
    """Turns a rollout into a better policy."""

    def update(self, learner: Learner, rollout: Rollout, *, number: int) -> dict[str, float]:
        """Improve the learner with rollout `number` of the run (from 0); returns metrics."""
        ...


def make_algorithm(config: TrainConfig) -> Algorithm:
    """The algorithm that `config.algorithm` names."""
    return {"ppo-clip": PpoClip}[config.algorithm](config)
