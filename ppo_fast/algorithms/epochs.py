"""What the algorithms share: advantages, epochs of minibatches, and what an update reports."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast import _core
from ppo_fast.advantage import normalize
from ppo_fast.algorithms.schedule import Schedule
from ppo_fast.arrays import Array, cast, library
from ppo_fast.config import TrainConfig
from ppo_fast.learners import GradientStep, Learner, Loss
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS


class Stateless:
    """An algorithm that learns nothing of its own from one update to the next."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def estimate(
    rollout: Rollout, learner: Learner, config: TrainConfig, *, again: bool = False
) -> None:
    """Advantages and returns by GAE, with the critic as it is; `again` within an update."""
    rollout.estimate_advantages(learner, gamma=config.gamma, gae_lambda=config.gae_lambda)
    if not again:
        rollout.old_values[:] = rollout.values[:-1]
    if config.normalize_advantages == "batch":
        rollout.advantages[:] = normalize(rollout.advantages, eps=1e-8, ddof=1)


def shuffled(rollout: Rollout, now: Schedule, epochs: range) -> NDArray[np.int64]:
    """The samples in an order of each epoch's own, [epochs, S]."""
    seed, first = now.config.seed, now.number * now.config.num_epochs + epochs.start
    if rollout.valid is None:
        return _core.permutations(seed, first, len(epochs), rollout.num_samples)
    samples = rollout.samples
    return samples[_core.permutations(seed, first, len(epochs), len(samples))]


def run_epochs(
    learner: Learner, rollout: Rollout, loss: Loss, step: GradientStep, now: Schedule
) -> dict[str, float]:
    """Epochs of minibatches on one rollout, until done or until the KL is too large."""
    config = now.config
    # All at once, unless advantages are to be estimated in between.
    at_once = 1 if config.recompute_advantages else config.num_epochs
    rows = []
    epochs = 0
    for first in range(0, config.num_epochs, at_once):
        estimate(rollout, learner, config, again=first > 0)
        orders = shuffled(rollout, now, range(first, first + at_once))
        result = learner.epoch(rollout, orders, loss, step)
        rows.append(result.stats)
        minibatches = -(-orders.shape[1] // step.minibatch_size)
        epochs += -(-len(result.stats) // minibatches)
        if result.stopped:
            break
    measured = summarize(library(rows[0]).concatenate(rows))
    return report(learner, rollout, now, measured) | {"epochs": float(epochs)}


def shared_settings(now: Schedule) -> dict[str, Any]:
    """The fields of `Loss` that mean the same in all of them."""
    config = now.config
    return {
        "entropy_coef": now.entropy_coef,
        "value_coef": config.value_coef,
        "clip_range_values": config.clip_range_values,
        "normalize_advantages": config.normalize_advantages == "minibatch",
    }


def gradient_step(now: Schedule) -> GradientStep:
    """The steps that the config describes; they end above 1.5 target_kl."""
    config = now.config
    return GradientStep(
        minibatch_size=config.minibatch_size,
        learning_rate=now.learning_rate,
        max_grad_norm=config.max_grad_norm,
        stop_kl=None if config.target_kl is None else 1.5 * config.target_kl,
    )


def summarize(rows: Array) -> dict[str, Any]:
    """One number per statistic of an update: the mean over minibatches, or the maximum."""
    summary = dict(zip(STATS, rows.mean(axis=0), strict=True))
    summary["ratio_max"] = rows[:, STATS.index("ratio_max")].max()
    return summary


def report(
    learner: Learner, rollout: Rollout, now: Schedule, measured: dict[str, Any]
) -> dict[str, float]:
    """What an update has measured, and what every update is measured by, once it is made.

    Raises
    ------
    FloatingPointError
        If the KL is not finite: nothing masks actions here, so the policy has diverged.
    """
    change = learner.policy_change(rollout)
    metrics = learner.read(
        {
            **measured,
            "kl": change.kl,
            "effective_sample_size": change.effective_sample_size,
            "entropy": change.entropy,
            "explained_variance": explained_variance(rollout),
        }
    )
    if not math.isfinite(metrics["kl"]):
        raise FloatingPointError(f"the kl of the update is {metrics['kl']}")
    return metrics | {"learning_rate": now.learning_rate}


def explained_variance(rollout: Rollout) -> Any:
    """1 - Var(R - V) / Var(R) of the values before the update: 1 for perfect ones, 0 for constants;
    NaN if R does not vary. A number, or a tensor of one.
    """
    columns = (rollout.returns, rollout.old_values)
    if rollout.valid is not None:
        columns = tuple(x[rollout.valid] for x in columns)
    returns, values = columns
    variance = _variance(returns)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = 1 - _variance(returns - values) / variance
    return library(returns).where(variance == 0, math.nan, explained)


def _variance(x: Array) -> Array:
    wide = cast(x, "float64")
    return ((wide - wide.mean()) ** 2).mean()
