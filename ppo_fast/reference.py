"""Every kernel again in slow, obvious NumPy: the specification that the tests compare to."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def gae(
    rewards: Array,
    values: Array,
    *,
    gamma: float,
    gae_lambda: float,
    last_values: Array | None = None,
    terminated: Array | None = None,
    truncated: Array | None = None,
    final_values: Array | None = None,
) -> tuple[Array, Array]:
    """`ppo_fast.gae` as the plain loop, in the dtype of the rewards."""
    scalar = rewards.dtype.type
    num_steps, num_envs = rewards.shape
    never = np.zeros(rewards.shape, dtype=bool)
    terminated = never if terminated is None else terminated.astype(bool)
    truncated = never if truncated is None else truncated.astype(bool)
    next_values = np.zeros(num_envs, scalar) if last_values is None else last_values
    advantage = np.zeros(num_envs, scalar)
    advantages = np.empty(rewards.shape, scalar)
    for t in reversed(range(num_steps)):
        after = (
            next_values
            if final_values is None
            else np.where(truncated[t], final_values[t], next_values)
        )
        after = np.where(terminated[t], scalar(0), after)
        delta = rewards[t] + scalar(gamma) * after - values[t]
        done = terminated[t] | truncated[t]
        advantage = np.where(done, delta, delta + scalar(gamma * gae_lambda) * advantage)
        advantages[t] = advantage
        next_values = values[t]
    return advantages, advantages + values


def log_softmax(logits: Array) -> Array:
    """Log-probabilities [B, A] of a categorical policy."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def categorical_ppo_loss(
    logits: Array,
    actions: Array,
    old_logp: Array,
    advantages: Array,
    values: Array,
    returns: Array,
    *,
    clip_range: float,
    entropy_coef: float,
    value_coef: float,
    normalize_advantages: bool = False,
) -> tuple[float, dict[str, float]]:
    """Loss and statistics of `ppo_fast.ppo_loss`, without gradients, in float64."""
    logits, old_logp, advantages, values, returns = (
        np.asarray(x, np.float64) for x in (logits, old_logp, advantages, values, returns)
    )
    if normalize_advantages and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)
    logp_all = log_softmax(logits)
    p = np.exp(logp_all)
    entropy = -np.sum(np.where(p > 0, p * np.where(p > 0, logp_all, 0.0), 0.0), axis=-1)
    log_ratio = logp_all[np.arange(len(actions)), actions] - old_logp
    limited = np.abs(log_ratio) > 60
    log_ratio = np.clip(log_ratio, -60, 60)
    ratio = np.exp(log_ratio)
    low, high = 1 - clip_range, 1 + clip_range
    objective = np.minimum(ratio * advantages, np.clip(ratio, low, high) * advantages)
    stats = {
        "policy_loss": -objective.mean(),
        "value_loss": np.mean((values - returns) ** 2),
        "entropy": entropy.mean(),
        "approx_kl": np.mean(ratio - 1 - log_ratio),
        "approx_kl_k1": -log_ratio.mean(),
        "clip_fraction": np.mean((ratio < low) | (ratio > high)),
        "ratio_mean": ratio.mean(),
        "ratio_max": ratio.max(),
        "effective_sample_size": ratio.sum() ** 2 / (len(ratio) * np.sum(ratio**2)),
        "limited_fraction": limited.mean(),
        "explained_variance": 1 - np.var(returns - values) / np.var(returns),
    }
    loss = stats["policy_loss"] + value_coef * stats["value_loss"] - entropy_coef * stats["entropy"]
    return float(loss), {name: float(value) for name, value in stats.items()}
