"""PPO with a KL penalty, whose weight beta finds itself.

The distance between the policies is measured where it matters, on the actions, and paid for::

    J(theta) = mean over t of r_t A_t - beta KL(theta_k || theta)

    KL > KL_max: increase beta;  KL < KL_min: decrease beta

`kl_rule` says how. adaptive: J. Schulman et al., "Proximal Policy Optimization Algorithms", 2017,
section 4: by 2, KL_max = 1.5 d, KL_min = d / 1.5. distributed: N. Heess et al., "Emergence of
Locomotion Behaviours in Rich Environments", 2017: by 1.5, KL_max = 2 d, KL_min = d / 2, a
hinge 50 max(0, KL - 2 d)^2 in the loss, and no further step of an update once KL > 4 d on a
minibatch (on a GPU: no further epoch). d is `kl_target`.

KL is exact, a sum or a formula over all actions, not an estimate from those that were drawn.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

from ppo_fast.algorithms.epochs import gradient_step, run_epochs, shared_settings
from ppo_fast.algorithms.schedule import Schedule
from ppo_fast.config import TrainConfig
from ppo_fast.learners import Learner, Loss
from ppo_fast.rollout import Rollout

_HINGE = 50.0
_HINGE_FROM = 2.0  # times kl_target
_STOP_AT = 4.0  # times kl_target


@dataclass
class AdaptiveBeta:
    """The weight of the penalty, and the rule by which it follows the KL of the updates."""

    beta: float
    kl_min: float
    kl_max: float
    factor: float
    least: float = 1e-4
    most: float = 1e4

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """The rule that the config names; "fixed" has the factor 1."""
        factor = {"fixed": 1.0, "adaptive": 2.0, "distributed": 1.5}[config.kl_rule]
        kl_min, kl_max = config.kl_bounds
        beta = config.kl_coef
        if factor > 1:
            beta = min(max(beta, cls.least), cls.most)
        return cls(beta, kl_min, kl_max, factor)

    def follow(self, kl: float) -> None:
        """Go on from the KL that an update has made."""
        if self.factor == 1:
            return
        if kl > self.kl_max:
            self.beta = min(self.beta * self.factor, self.most)
        elif kl < self.kl_min:
            self.beta = max(self.beta / self.factor, self.least)


class PpoKl:
    """See `ppo_fast.algorithms.Algorithm`."""

    whole_episodes = False

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._penalty = AdaptiveBeta.of(config)

    def update(self, learner: Learner, rollout: Rollout, now: Schedule) -> dict[str, float]:
        config = self._config
        beta = self._penalty.beta
        loss = Loss(objective="importance", kl_coef=beta, **shared_settings(now))
        step = gradient_step(now)
        if config.kl_rule == "distributed":
            loss = replace(loss, kl_hinge=_HINGE, kl_hinge_from=_HINGE_FROM * config.kl_target)
            step = replace(step, stop_kl=_STOP_AT * config.kl_target, stop_on="kl")
        metrics = run_epochs(learner, rollout, loss, step, now)
        self._penalty.follow(metrics["kl"])
        return metrics | {"beta": beta}

    def state(self) -> dict[str, Any]:
        return {"beta": self._penalty.beta}

    def load_state(self, state: dict[str, Any]) -> None:
        self._penalty.beta = float(state["beta"])
