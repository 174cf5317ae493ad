"""From on-policy to off-policy, and PPO2: proximal policy optimization with the clipped surrogate.

Samples of the policy theta_k are used for several epochs. The importance weight r_t =
pi_theta(a_t | s_t) / pi_theta_k(a_t | s_t) corrects for the policy having moved on::

    ppo-unclipped   J(theta) = mean over t of r_t A_t
    ppo-clip        J(theta) = mean over t of min(r_t A_t, clip(r_t, 1 - eps, 1 + eps) A_t)

Nothing keeps the first from moving so far that the weights are of a few samples only (see
`effective_sample_size`). The clip does, in place of TRPO's constraint and the KL penalty of
`ppo_kl.py`: a ratio beyond the bound gains nothing more.

J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization
Algorithms", 2017, eq. 6 and 7.
"""

from ppo_fast.algorithms.epochs import Stateless, gradient_step, run_epochs, shared_settings
from ppo_fast.algorithms.schedule import Schedule
from ppo_fast.config import TrainConfig
from ppo_fast.learners import Learner, Loss
from ppo_fast.rollout import Rollout


class PpoUnclipped(Stateless):
    """See `ppo_fast.algorithms.Algorithm`."""

    whole_episodes = False

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def loss(self, now: Schedule) -> Loss:
        """What an update of the run minimises."""
        return Loss(objective="importance", **shared_settings(now))

    def update(self, learner: Learner, rollout: Rollout, now: Schedule) -> dict[str, float]:
        return run_epochs(learner, rollout, self.loss(now), gradient_step(now), now)


class PpoClip(PpoUnclipped):
    """See `ppo_fast.algorithms.Algorithm`."""

    def loss(self, now: Schedule) -> Loss:
        return Loss(
            objective="clipped",
            clip_range=now.clip_range,
            clip_range_high=now.clip_range_high,
            dual_clip=self._config.dual_clip,
            **shared_settings(now),
        )

    def update(self, learner: Learner, rollout: Rollout, now: Schedule) -> dict[str, float]:
        return super().update(learner, rollout, now) | {"clip_range": now.clip_range}
