"""Learners: who holds the networks, chooses actions and takes gradient steps.

`torch.py` works for any network that torch can express. Algorithms speak to the protocol here, so
an algorithm is written once for all engines.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ppo_fast.config import TrainConfig
from ppo_fast.extras import require
from ppo_fast.rollout import Actor, Critic, Rollout


@dataclass(frozen=True)
class ClippedLoss:
    """Settings of `ppo_fast.ppo_loss` for one update."""

    clip_range: float
    entropy_coef: float
    value_coef: float
    normalize_advantages: bool


@dataclass(frozen=True)
class GradientStep:
    """Settings of the gradient steps of one update."""

    minibatch_size: int
    learning_rate: float
    max_grad_norm: float | None
    stop_kl: float | None
    """Take no further step once a minibatch's approx_kl exceeds this."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch reports.

    Attributes:
        stats: [minibatches, len(STATS)] float64, a row per minibatch that was looked at.
        stopped: Whether stop_kl ended it before its last gradient step.
    """

    stats: NDArray[np.float64]
    stopped: bool


class Learner(Actor, Critic, Protocol):
    """What algorithms and the trainer need of an engine."""

    def epoch(
        self,
        rollout: Rollout,
        order: NDArray[np.int64],
        loss: ClippedLoss,
        step: GradientStep,
    ) -> EpochResult:
        """One pass over the samples of the rollout, in the given order [T * N]."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and numbers that `load_state` goes on from."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state; raises ValueError if it is of another network."""
        ...


def make_learner(config: TrainConfig, obs_size: int, num_actions: int) -> Learner:
    """The learner that `config.engine` names."""
    require("torch")
    from ppo_fast.learners.torch import TorchLearner

    return TorchLearner(config, obs_size, num_actions)
