"""Algorithms: one step of the lecture each, on one collector. `TrainConfig.algorithm` names one."""

from collections.abc import Callable
from typing import Any, Protocol

from ppo_fast.algorithms.a2c import A2c
from ppo_fast.algorithms.ppo import PpoClip, PpoUnclipped
from ppo_fast.algorithms.ppo_kl import PpoKl
from ppo_fast.algorithms.reinforce import Reinforce
from ppo_fast.algorithms.schedule import Schedule
from ppo_fast.algorithms.trpo import Trpo
from ppo_fast.config import TrainConfig
from ppo_fast.learners import Learner
from ppo_fast.rollout import Rollout

__all__ = ["ALGORITHMS", "Algorithm", "Schedule", "make_algorithm"]


class Algorithm(Protocol):
    """Turns a rollout into a better policy.

    Attributes:
        whole_episodes: Whether its rollouts must consist of complete episodes.
    """

    whole_episodes: bool

    def update(self, learner: Learner, rollout: Rollout, now: Schedule) -> dict[str, float]:
        """Improve the learner; returns metrics, the same names each time.

        The trainer has called `learner.keep_old_policy(rollout)`.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What the algorithm itself has learned, as numbers; `load_state` goes on from it."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...


ALGORITHMS: dict[str, Callable[[TrainConfig], Algorithm]] = {
    "reinforce": Reinforce,
    "a2c": A2c,
    "ppo-unclipped": PpoUnclipped,
    "trpo": Trpo,
    "ppo-kl": PpoKl,
    "ppo-clip": PpoClip,
}


def make_algorithm(config: TrainConfig) -> Algorithm:
    """The algorithm that `config.algorithm` names."""
    return ALGORITHMS[config.algorithm](config)
