"""TRPO: trust region policy optimization.

The importance-weighted objective is trusted only where the new policy is close to the old one::

    maximise  J(theta) = mean over t of r_t A_t   subject to  KL(theta_k || theta) < delta

To first order in J and second order in KL, with g = grad J and the Fisher matrix F::

    theta = theta_k + sqrt(2 delta / (x . F x)) x,    F x = g

x comes from the conjugate gradient method, which needs F times a vector only. The step is then
shortened until both hold for real: J has not fallen, and KL < delta. If it never does, the policy
stays as it was. The critic is fitted apart, by Adam.

J. Schulman, S. Levine, P. Moritz, M. Jordan, P. Abbeel, "Trust Region Policy Optimization", 2015.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ppo_fast.advantage import normalize
from ppo_fast.algorithms.epochs import Stateless, estimate, gradient_step, report, shuffled
from ppo_fast.algorithms.schedule import Schedule
from ppo_fast.config import TrainConfig
from ppo_fast.learners import Learner, TrustRegion, Vector
from ppo_fast.rollout import Rollout

_SHRINK = 0.8


class Trpo(Stateless):
    """See `ppo_fast.algorithms.Algorithm`."""

    whole_episodes = False

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def update(self, learner: Learner, rollout: Rollout, now: Schedule) -> dict[str, float]:
        config = self._config
        estimate(rollout, learner, config)
        if config.normalize_advantages == "minibatch":  # the whole rollout is the minibatch
            rollout.advantages[:] = normalize(rollout.advantages, eps=1e-8, ddof=1)
        step = improve(learner.trust_region(rollout), config)
        errors = [
            learner.value_epoch(rollout, order, config.value_coef, gradient_step(now))
            for order in shuffled(rollout, now, range(config.num_epochs))
        ]
        measured = {
            "policy_loss": -step.surrogate,
            "value_loss": float(np.mean(errors)),
            "step_size": step.size,
        }
        return report(learner, rollout, now, measured)


@dataclass(frozen=True)
class Step:
    """What became of a step: its part of the full one (0: given up), and J and KL after it."""

    size: float
    surrogate: float
    kl: float


def improve(policy: TrustRegion, config: TrainConfig) -> Step:
    """Take the natural gradient step, as long as it keeps its promises."""
    start = policy.parameters()
    before, _ = policy.surrogate_and_kl()
    if not np.isfinite(before):
        raise FloatingPointError(f"the surrogate before the step is {before}")
    gradient = policy.gradient()

    def damped_fisher(vector: Vector) -> Vector:
        return policy.fisher_product(vector) + config.cg_damping * vector

    direction = conjugate_gradient(damped_fisher, gradient, config.cg_steps)
    curvature = direction @ damped_fisher(direction)
    if not np.isfinite(curvature):
        raise FloatingPointError(f"the curvature of the KL along the step is {curvature}")
    if curvature > 0:
        full = np.sqrt(2 * config.trust_region / curvature) * direction
        for k in range(config.line_search_steps):
            size = _SHRINK**k
            policy.set_parameters(start + size * full)
            surrogate, kl = policy.surrogate_and_kl()
            if surrogate >= before and kl < config.trust_region:
                return Step(size, surrogate, kl)
    policy.set_parameters(start)
    return Step(0.0, before, 0.0)


def conjugate_gradient(
    product: Callable[[Vector], Vector], b: Vector, steps: int, tolerance: float = 1e-10
) -> Vector:
    """x with A x = b for a positive definite A, of which only `product`(v) = A v is needed.

    M. Hestenes, E. Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
    """
    x = np.zeros_like(b)
    residual = b.copy()
    direction = b.copy()
    square = residual @ residual
    for _ in range(steps):
        if square <= tolerance * (b @ b):
            break
        image = product(direction)
        length = square / (direction @ image)
        x += length * direction
        residual -= length * image
        before, square = square, residual @ residual
        direction = residual + (square / before) * direction
    return x
