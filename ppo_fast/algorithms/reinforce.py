"""REINFORCE: the policy gradient, as the lecture begins.

An episode tau is played to its end; every action in it is made more or less likely by how well that
went. One gradient step on the whole batch, then the episodes are thrown away::

    J(theta)      = E[R(tau)]
    grad J(theta) = mean over t of w_t grad log pi_theta(a_t | s_t)

    credit trajectory     w_t = R(tau) = sum over all t' of gamma^t' r_t'
    credit reward_to_go   w_t = G_t    = sum over t' >= t of gamma^(t' - t) r_t'
    baseline none         w_t
    baseline mean         w_t - b,       b their mean: over episodes for R(tau), over steps for G_t
    baseline critic       w_t - V(s_t),  V fitted to G_t

An episode that was cut by a limit of steps counts as it is: R(tau) is the sum of its rewards. The
weights are not normalised, which would be a baseline of its own.

R. Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning", 1992.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ppo_fast.advantage import discounted_returns
from ppo_fast.algorithms.epochs import Stateless, report, summarize
from ppo_fast.algorithms.schedule import Schedule
from ppo_fast.config import TrainConfig
from ppo_fast.learners import GradientStep, Learner, Loss
from ppo_fast.rollout import Rollout


class Reinforce(Stateless):
    """See `ppo_fast.algorithms.Algorithm`."""

    whole_episodes = True

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def update(self, learner: Learner, rollout: Rollout, now: Schedule) -> dict[str, float]:
        config = self._config
        has_critic = config.baseline == "critic"
        if has_critic:
            rollout.estimate_values(learner)
            rollout.old_values[:] = rollout.values[:-1]
        weigh(rollout, config)
        loss = Loss(
            objective="policy_gradient",
            entropy_coef=now.entropy_coef,
            value_coef=config.value_coef if has_critic else 0.0,
            has_critic=has_critic,
        )
        samples = rollout.samples
        step = GradientStep(len(samples), now.learning_rate, config.max_grad_norm)
        result = learner.epoch(rollout, samples, loss, step)
        metrics = report(learner, rollout, now, summarize(result.stats))
        if not has_critic:
            metrics["explained_variance"] = math.nan
        return metrics


def weigh(rollout: Rollout, config: TrainConfig) -> None:
    """Fill returns with G_t, and advantages with the weight of each action."""
    done = rollout.terminated | rollout.truncated
    returns = discounted_returns(
        rollout.rewards,
        gamma=config.gamma,
        last_values=np.zeros(rollout.num_envs, np.float32),
        terminated=done,
        out=rollout.returns,
    )
    weights = returns
    counted = np.ones_like(done) if rollout.valid is None else rollout.valid
    baseline: NDArray[np.float32] | np.floating = np.float32(0)
    if config.credit == "trajectory":
        weights, first = of_episode(returns, done)
        counted = counted & first
    if config.baseline == "mean":
        baseline = weights[counted].mean(dtype=np.float64)
    elif config.baseline == "critic":
        baseline = rollout.values[:-1]
    rollout.advantages[:] = weights - baseline


def of_episode(
    returns: NDArray[np.float32], done: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """R(tau) of the episode that each step [T, N] belongs to, and whether the step opens it."""
    first = np.ones_like(done)
    first[1:] = done[:-1]
    whole = returns.copy()
    for t in range(1, len(whole)):
        whole[t] = np.where(first[t], returns[t], whole[t - 1])
    return whole, first
