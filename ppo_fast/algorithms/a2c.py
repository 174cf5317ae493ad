"""A2C: advantage actor-critic.

A critic V takes the place of the rest of the episode, so a rollout may stop anywhere, and an
action is weighted by how much better it was than what V expected::

    grad J(theta) = mean over t of A_t grad log pi_theta(a_t | s_t)
    A_t           = GAE(gamma, lambda);  lambda = 0: r_t + gamma V(s_t+1) - V(s_t)

One gradient step on the whole rollout, for policy and critic together.

V. Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", 2016 (the synchronous form).
"""

from ppo_fast.algorithms.epochs import Stateless, estimate, report, shared_settings, summarize
from ppo_fast.algorithms.schedule import Schedule
from ppo_fast.config import TrainConfig
from ppo_fast.learners import GradientStep, Learner, Loss
from ppo_fast.rollout import Rollout


class A2c(Stateless):
    """See `ppo_fast.algorithms.Algorithm`."""

    whole_episodes = False

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def update(self, learner: Learner, rollout: Rollout, now: Schedule) -> dict[str, float]:
        config = self._config
        estimate(rollout, learner, config)
        loss = Loss(objective="policy_gradient", **shared_settings(now))
        samples = rollout.samples
        step = GradientStep(len(samples), now.learning_rate, config.max_grad_norm)
        result = learner.epoch(rollout, samples, loss, step)
        return report(learner, rollout, now, summarize(result.stats))
