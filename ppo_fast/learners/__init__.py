"""Learners: who holds the networks, chooses actions and takes gradient steps.

`native.py` runs perceptrons on the kernels of csrc/learner; `torch.py` works for whatever torch can
express, and `cuda.py` is the same on a GPU. All hold the same module and the same Adam. Algorithms
speak to the protocol here, so an algorithm is written once for all.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ppo_fast.actions import ActionLayout
from ppo_fast.arrays import Array
from ppo_fast.config import TrainConfig
from ppo_fast.cuda import is_named
from ppo_fast.extras import require
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Actor, Critic, Rollout

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """Settings of `ppo_fast.surrogate.fused_loss` for one update; see there.

    Without `has_critic` values are neither asked for nor learned, and value_loss is 0.
    """

    objective: Literal["policy_gradient", "importance", "clipped"]
    entropy_coef: float
    value_coef: float
    clip_range: float | None = None
    clip_range_high: float | None = None
    dual_clip: float | None = None
    clip_range_values: float | None = None
    kl_coef: float = 0.0
    kl_hinge: float = 0.0
    kl_hinge_from: float = 0.0
    normalize_advantages: bool = False
    has_critic: bool = True

    def settings(self) -> dict[str, Any]:
        """What `fused_loss` calls by these names."""
        return {name: value for name, value in vars(self).items() if name != "has_critic"}

    @property
    def uses_kl(self) -> bool:
        """Whether the exact KL from the old policy is a part of the loss."""
        return self.kl_coef > 0 or self.kl_hinge > 0


@dataclass(frozen=True)
class GradientStep:
    """Settings of the gradient steps of one update."""

    minibatch_size: int
    learning_rate: float
    max_grad_norm: float | None
    stop_kl: float | None = None
    """Take no further step once the KL of a minibatch exceeds this; on a GPU no further epoch."""
    stop_on: Literal["approx_kl", "kl"] = "approx_kl"
    """Which KL: the estimate from samples, or the exact one."""


@dataclass(frozen=True)
class EpochResult:
    """What a call of `Learner.epoch` reports.

    Attributes:
        stats: [minibatches, len(STATS)] float64, a row per minibatch that was looked at; on a
            device where the learner is on one.
        stopped: Whether a KL was above stop_kl.
    """

    stats: Array
    stopped: bool


@dataclass(frozen=True)
class PolicyChange:
    """How far an update has moved the policy, on the samples that it was made from.

    Numbers, or tensors of one on the device of the learner.

    Attributes:
        kl: Mean of the exact KL(old || new), in nats.
        entropy: Mean entropy of the new policy, in nats.
        effective_sample_size: (sum r)^2 / (n sum r^2) of the importance weights r: which part of
            the samples is left if they are to speak for the new policy.
    """

    kl: Any
    entropy: Any
    effective_sample_size: Any


class TrustRegion(Protocol):
    """What TRPO asks of a policy: J, KL and their derivatives, as functions of its parameters."""

    def parameters(self) -> Vector:
        """The policy's parameters, flat [P]."""
        ...

    def set_parameters(self, parameters: Vector) -> None:
        """Put parameters [P] in place."""
        ...

    def gradient(self) -> Vector:
        """d J / d parameters [P] of J = mean(r A)."""
        ...

    def fisher_product(self, vector: Vector) -> Vector:
        """F v [P]; F is the Fisher matrix, the Hessian of KL(old || new) at new = old."""
        ...

    def surrogate_and_kl(self) -> tuple[float, float]:
        """J and the mean KL(old || new), at the parameters as they are.

        (-inf, inf) where these make no distribution of a sample.
        """
        ...


class Learner(Actor, Critic, Protocol):
    """What algorithms and the trainer need of an engine.

    Attributes:
        engine: "native" or "torch".
        why_torch: Why it is not the native engine; None if it is, or if torch was asked for.
    """

    engine: str
    why_torch: str | None

    def keep_old_policy(self, rollout: Rollout) -> None:
        """Remember the distributions of actions in the rollout: what `old` means from now on.

        And all that an update changes, for `undo`.
        """
        ...

    def undo(self) -> None:
        """Be as when `keep_old_policy` was called: an update has diverged."""
        ...

    def epoch(
        self,
        rollout: Rollout,
        order: NDArray[np.int64],
        loss: Loss,
        step: GradientStep,
    ) -> EpochResult:
        """One pass over samples of the rollout, indices into its T * N steps, in that order.

        `order` is [S], or [E, S] for one epoch after another.
        The rollout is the one that `keep_old_policy` was told of.
        """
        ...

    def value_epoch(
        self, rollout: Rollout, order: NDArray[np.int64], value_coef: float, step: GradientStep
    ) -> float:
        """As `epoch`, for the critic alone; returns the mean value loss."""
        ...

    def trust_region(self, rollout: Rollout) -> TrustRegion:
        """The policy around what it was when `keep_old_policy` was called."""
        ...

    def policy_change(self, rollout: Rollout) -> PolicyChange:
        """How far the policy is from what `keep_old_policy` remembered."""
        ...

    def read(self, numbers: dict[str, Any]) -> dict[str, float]:
        """Numbers that came of an update as Python's, once the device has come to them.

        Raises FloatingPointError if the update has diverged, where it could not be told before.
        """
        ...

    def observe(self, rollout: Rollout) -> None:
        """Count the rollout's observations, where they are normalised: from now on differently."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and numbers that `load_state` goes on from."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state; raises ValueError if it is of another network."""
        ...

    def network(self) -> Any:
        """The networks as a torch module of their own, from observations as they come."""
        ...

    def close(self) -> None:
        """Release what is kept from update to update; the state stays."""
        ...


def make_learner(config: TrainConfig, observations: ObsLayout, layout: ActionLayout) -> Learner:
    """The learner that `config.engine` and `config.device` name."""
    require("torch")
    if is_named(config.device):
        from ppo_fast.learners.cuda import CudaLearner, why_not_cuda

        reason = why_not_cuda(config)
        if reason is not None:
            raise ValueError(f"device {config.device} cannot train this: {reason}")
        return CudaLearner(config, observations, layout)
    from ppo_fast.learners.native import NativeLearner, why_not_native
    from ppo_fast.learners.torch import TorchLearner

    reason = why_not_native(config)
    if config.engine == "native" and reason is not None:
        raise ValueError(f"engine native cannot train this: {reason}; choose engine auto")
    if config.engine == "torch" or reason is not None:
        return TorchLearner(config, observations, layout, reason)
    return NativeLearner(config, observations, layout)
