"""Every kernel again in slow, obvious NumPy: the specification that the tests compare to."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class _Ends(NamedTuple):
    """What the flags of [T, N] transitions come to, time first."""

    after: Array  # V'_t, the value after the transition
    cut: NDArray[np.bool_]  # nothing is carried back over the transition
    masked: NDArray[np.bool_]  # the row does not count: its advantage is 0


def _ends(
    values: Array,
    *,
    last_values: Array | None,
    next_values: Array | None,
    terminated: Array | None,
    truncated: Array | None,
    final_values: Array | None,
    on_truncation: str | None,
    episode_starts: Array | None,
    last_done: Array | None,
    prev_done: Array | None,
) -> _Ends:
    never = np.zeros(values.shape, bool)
    if next_values is None:
        after = np.concatenate([values[1:], np.asarray(last_values, values.dtype).reshape(1, -1)])
    else:
        after = next_values
    if episode_starts is not None:
        last = np.asarray(last_done).reshape(1, -1) != 0
        terminated = np.concatenate([episode_starts[1:] != 0, last])
    terminated = never if terminated is None else terminated != 0
    truncated = never if truncated is None else (truncated != 0) & ~terminated
    masked = never if prev_done is None else prev_done != 0
    if final_values is not None:
        after = np.where(truncated, final_values, after)
    if on_truncation == "current_value":
        after = np.where(truncated, values, after)
    if on_truncation == "terminate":
        terminated = terminated | truncated
    if on_truncation == "drop":
        masked = masked | truncated
    zero = values.dtype.type(0)
    return _Ends(np.where(terminated, zero, after), terminated | truncated | masked, masked)


def _time_first(time_axis: int, *arrays: Any) -> list[Any]:
    """Arrays as [T, N], whatever their layout; what is None or has no time axis stays."""
    result = []
    for array in arrays:
        if array is not None and array.ndim == 3:
            array = array[..., 0]
        if array is not None and array.ndim == 1:
            array = array[:, None]
        result.append(array if array is None or time_axis == 0 else array.T)
    return result


def _like(array: Array, rewards: Array, time_axis: int) -> Array:
    return (array if time_axis == 0 or rewards.ndim == 1 else array.T).reshape(rewards.shape)


def gae(
    rewards: Array,
    values: Array,
    *,
    gamma: float,
    gae_lambda: float | Array,
    last_values: Any = None,
    next_values: Array | None = None,
    terminated: Array | None = None,
    truncated: Array | None = None,
    final_values: Array | None = None,
    on_truncation: str | None = None,
    episode_starts: Array | None = None,
    last_done: Array | None = None,
    prev_done: Array | None = None,
    time_axis: int = 0,
) -> tuple[Array, Array]:
    """`ppo_fast.gae` as the plain loop, in the dtype of the rewards."""
    shaped = rewards
    time_axis = 0 if rewards.ndim == 1 else time_axis
    rewards, values, next_values, terminated, truncated, final_values = _time_first(
        time_axis, rewards, values, next_values, terminated, truncated, final_values
    )
    episode_starts, prev_done = _time_first(time_axis, episode_starts, prev_done)
    scalar = rewards.dtype.type
    if len(values) == len(rewards) + 1:
        values, last_values = values[:-1], values[-1]
    ends = _ends(
        values,
        last_values=last_values,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        final_values=final_values,
        on_truncation=on_truncation,
        episode_starts=episode_starts,
        last_done=last_done,
        prev_done=prev_done,
    )
    delta = rewards + scalar(gamma) * ends.after - values
    delta = np.where(ends.masked, scalar(0), delta)
    decay = (np.float64(gamma) * np.asarray(gae_lambda, np.float64)).astype(scalar)
    advantage = np.zeros(rewards.shape[1], scalar)
    advantages = np.empty(rewards.shape, scalar)
    for t in reversed(range(len(rewards))):
        advantage = np.where(ends.cut[t], delta[t], delta[t] + decay * advantage)
        advantages[t] = advantage
    returns = advantages + values
    return _like(advantages, shaped, time_axis), _like(returns, shaped, time_axis)


def discounted_returns(rewards: Array, *, gamma: float, **rest: Any) -> Array:
    """`ppo_fast.discounted_returns`: gae of a critic that says 0 everywhere, with lambda 1."""
    return gae(rewards, np.zeros_like(rewards), gamma=gamma, gae_lambda=1.0, **rest)[0]


def lambda_returns(rewards: Array, values: Array, **rest: Any) -> Array:
    """`ppo_fast.lambda_returns`: the returns of gae."""
    return gae(rewards, values, **rest)[1]


def vtrace(
    rewards: Array,
    values: Array,
    *,
    log_rhos: Array,
    gamma: float,
    gae_lambda: float | Array = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    pg_rho_clip: float = 1.0,
    last_values: Any = None,
    next_values: Array | None = None,
    terminated: Array | None = None,
    truncated: Array | None = None,
    final_values: Array | None = None,
    on_truncation: str | None = None,
    episode_starts: Array | None = None,
    last_done: Array | None = None,
    prev_done: Array | None = None,
    time_axis: int = 0,
) -> tuple[Array, Array]:
    """`ppo_fast.vtrace` as the plain loop (L. Espeholt et al., IMPALA, 2018, eq. 1)."""
    shaped = rewards
    time_axis = 0 if rewards.ndim == 1 else time_axis
    rewards, values, log_rhos, next_values, terminated, truncated, final_values = _time_first(
        time_axis, rewards, values, log_rhos, next_values, terminated, truncated, final_values
    )
    episode_starts, prev_done = _time_first(time_axis, episode_starts, prev_done)
    scalar = rewards.dtype.type
    if len(values) == len(rewards) + 1:
        values, last_values = values[:-1], values[-1]
    ends = _ends(
        values,
        last_values=last_values,
        next_values=next_values,
        terminated=terminated,
        truncated=truncated,
        final_values=final_values,
        on_truncation=on_truncation,
        episode_starts=episode_starts,
        last_done=last_done,
        prev_done=prev_done,
    )
    rho = np.exp(log_rhos)
    delta = np.minimum(rho, scalar(rho_clip)) * (rewards + scalar(gamma) * ends.after - values)
    delta = np.where(ends.masked, scalar(0), delta)
    decay = (np.float64(gamma) * np.asarray(gae_lambda, np.float64)).astype(scalar)
    coefficient = decay * np.minimum(rho, scalar(c_clip))
    correction = np.zeros(rewards.shape[1], scalar)  # vs - V
    vs = np.empty(rewards.shape, scalar)
    pg_advantages = np.empty(rewards.shape, scalar)
    for t in reversed(range(len(rewards))):
        last = t == len(rewards) - 1
        next_vs = ends.after[t] if last else np.where(ends.cut[t], ends.after[t], vs[t + 1])
        correction = np.where(ends.cut[t], delta[t], delta[t] + coefficient[t] * correction)
        vs[t] = values[t] + correction
        error = rewards[t] + scalar(gamma) * next_vs - values[t]
        pg = np.minimum(rho[t], scalar(pg_rho_clip)) * error
        pg_advantages[t] = np.where(ends.masked[t], scalar(0), pg)
    return _like(vs, shaped, time_axis), _like(pg_advantages, shaped, time_axis)


def token_gae(
    rewards: Array,
    values: Array,
    *,
    mask: Array,
    gamma: float,
    gae_lambda: float | Array,
    masked: str = "skip",
    bootstrap: Any = 0.0,
    cu_seqlens: Array | None = None,
) -> tuple[Array, Array]:
    """`ppo_fast.token_gae` as the plain loop: [B, L], or [tokens] with `cu_seqlens` [B + 1]."""
    scalar = rewards.dtype.type
    advantages = np.zeros(rewards.shape, scalar)
    if cu_seqlens is None:
        rows: list[Any] = list(range(len(rewards)))
    else:
        rows = [slice(*bounds) for bounds in itertools.pairwise(cu_seqlens)]
    bootstraps = np.broadcast_to(np.asarray(bootstrap, scalar), len(rows))
    lambdas = np.broadcast_to(np.asarray(gae_lambda, np.float64), len(rows))
    for row, after, lam in zip(rows, bootstraps, lambdas, strict=True):
        r, v, m, out = rewards[row], values[row], mask[row] != 0, advantages[row]
        decay = scalar(np.float64(gamma) * lam)
        advantage = scalar(0)
        for t in reversed(range(len(r))):
            if m[t]:
                delta = r[t] + scalar(gamma) * after - v[t]
                advantage = delta + decay * advantage
                after = v[t]
                out[t] = advantage
            elif masked == "decay":
                # The token counts as a step with reward 0 and value 0.
                advantage = scalar(gamma) * after + decay * advantage
                after = scalar(0)
    return advantages, advantages + values


def normalize(x: Array, *, valid: Array | None = None, eps: float, ddof: int) -> Array:
    """`ppo_fast.normalize`, with the moments in float64."""
    counted = np.ones(x.shape, bool) if valid is None else valid != 0
    chosen = x[counted].astype(np.float64)
    result: Array = np.where(counted, x, x.dtype.type(0))
    if len(chosen) > ddof:
        normal = (x - chosen.mean()) / (chosen.std(ddof=ddof) + eps)
        result = np.where(counted, normal.astype(x.dtype), x.dtype.type(0))
    return result


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
