"""PPO2: proximal policy optimization with the clipped surrogate.

Samples of the policy theta_k are used for several epochs. The importance weight r_t =
pi_theta(a_t | s_t) / pi_theta_k(a_t | s_t) corrects for the policy having moved on, and the clip
keeps it from moving too far, in place of TRPO's constraint and PPO's KL penalty::

    J(theta) = mean over t of min(r_t A_t, clip(r_t, 1 - eps, 1 + eps) A_t)

J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization
Algorithms", 2017.
"""

import numpy as np
from numpy.typing import NDArray

from ppo_fast import _core
from ppo_fast.config import TrainConfig
from ppo_fast.learners import ClippedLoss, GradientStep, Learner
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS


class PpoClip:
    """See `ppo_fast.algorithms.Algorithm`."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def update(self, learner: Learner, rollout: Rollout, *, number: int) -> dict[str, float]:
        """Advantages once, then epochs of minibatches until done or until the KL is too large."""
        config = self._config
        remaining = 1 - number / config.num_updates
        loss = ClippedLoss(
            clip_range=config.clip_range * (remaining if config.anneal_clip_range else 1),
            entropy_coef=config.entropy_coef,
            value_coef=config.value_coef,
            normalize_advantages=config.normalize_advantages,
        )
        step = GradientStep(
            minibatch_size=config.minibatch_size,
            learning_rate=config.learning_rate * (remaining if config.anneal_lr else 1),
            max_grad_norm=config.max_grad_norm,
            stop_kl=None if config.target_kl is None else 1.5 * config.target_kl,
        )

        rollout.estimate_advantages(learner, gamma=config.gamma, gae_lambda=config.gae_lambda)
        rows = []
        for epoch in range(config.num_epochs):
            order = _core.permutation(
                config.seed, number * config.num_epochs + epoch, config.batch_size
            )
            result = learner.epoch(rollout, order, loss, step)
            rows.append(result.stats)
            if result.stopped:
                break
        return {
            **summarize(np.concatenate(rows)),
            "explained_variance": explained_variance(rollout.values[:-1], rollout.returns),
            "epochs": float(len(rows)),
            "learning_rate": step.learning_rate,
            "clip_range": loss.clip_range,
        }


def summarize(rows: NDArray[np.float64]) -> dict[str, float]:
    """One number per statistic of an update: the mean over minibatches, or the maximum."""
    summary = dict(zip(STATS, rows.mean(axis=0).tolist(), strict=True))
    summary["ratio_max"] = float(rows[:, STATS.index("ratio_max")].max())
    return summary


def explained_variance(values: NDArray[np.float32], returns: NDArray[np.float32]) -> float:
    """1 - Var(R - V) / Var(R): 1 for perfect values, 0 for constants; NaN if R does not vary."""
    variance = np.var(returns, dtype=np.float64)
    if variance == 0:
        return float("nan")
    return float(1 - np.var(returns - values, dtype=np.float64) / variance)
