"""Every kernel again in slow, obvious NumPy: the specification that the tests compare to."""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppo_fast._core import LOSS_STATS

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


def fused_loss(
    logp: Array,
    entropy: Array,
    advantages: Array,
    *,
    objective: str,
    old_logp: Array | None = None,
    kl: Array | None = None,
    values: Array | None = None,
    returns: Array | None = None,
    old_values: Array | None = None,
    clip_range: float | None = None,
    clip_range_high: float | None = None,
    dual_clip: float | None = None,
    clip_range_values: float | None = None,
    kl_coef: float = 0.0,
    kl_hinge: float = 0.0,
    kl_hinge_from: float = 0.0,
    entropy_coef: float = 0.0,
    value_coef: float = 0.0,
    weights: Array | None = None,
    mask: Array | None = None,
    normalize_advantages: bool = False,
) -> tuple[float, dict[str, float]]:
    """`ppo_fast.surrogate.fused_loss` without gradients, in float64.

    In place of distributions there are their terms: log-probabilities, entropies and
    KL(old || new), [B] each.
    """
    nan = float("nan")
    w = np.ones(len(logp)) if weights is None else np.asarray(weights, np.float64)
    counts = w > 0 if mask is None else mask & (w > 0)
    w = w[counts]
    total = w.sum()

    def column(x: Array) -> Array:
        return np.asarray(x, np.float64)[counts]

    def mean(x: Array) -> float:
        return float((w * x).sum() / total)

    def variance(x: Array) -> float:
        return mean((x - mean(x)) ** 2)

    logp, entropy, a = column(logp), column(entropy), column(advantages)
    if normalize_advantages and len(a) > 1:
        spread = (w * (a - mean(a)) ** 2).sum() / (total - (w**2).sum() / total)
        a = (a - mean(a)) / (np.sqrt(spread) + 1e-8)

    stats = dict.fromkeys(LOSS_STATS, nan)
    term = logp * a
    if old_logp is not None:
        log_ratio = logp - column(old_logp)
        relative = np.exp(log_ratio - log_ratio.max())
        limited = np.abs(log_ratio) > 60
        log_ratio = np.clip(log_ratio, -60, 60)
        ratio = np.exp(log_ratio)
        low, high = -np.inf, np.inf
        if objective == "clipped":
            assert clip_range is not None
            low = 1 - clip_range
            high = 1 + (clip_range if clip_range_high is None else clip_range_high)
        if objective != "policy_gradient":
            term = np.minimum(ratio * a, np.clip(ratio, low, high) * a)
        if dual_clip is not None:
            term = np.where(a < 0, np.maximum(term, dual_clip * a), term)
        stats |= {
            "approx_kl": mean(ratio - 1 - log_ratio),
            "approx_kl_k1": -mean(log_ratio),
            "clip_fraction": mean((ratio < low) | (ratio > high)),
            "ratio_mean": mean(ratio),
            "ratio_max": ratio.max(),
            "effective_sample_size": (w * relative).sum() ** 2 / (total * (w * relative**2).sum()),
            "limited_fraction": mean(limited),
        }
    stats |= {"policy_loss": -mean(term), "value_loss": 0.0, "entropy": mean(entropy)}
    if values is not None and returns is not None:
        v, r = column(values), column(returns)
        clipped = v
        if clip_range_values is not None and old_values is not None:
            before = column(old_values)
            clipped = before + np.clip(v - before, -clip_range_values, clip_range_values)
        stats["value_loss"] = mean((clipped - r) ** 2)
        if variance(r) > 0:
            stats["explained_variance"] = 1 - variance(r - v) / variance(r)
    penalty = 0.0
    if kl is not None:
        stats["kl"] = mean(column(kl))
        penalty = kl_coef * stats["kl"] + kl_hinge * max(0.0, stats["kl"] - kl_hinge_from) ** 2
    loss = stats["policy_loss"] + value_coef * stats["value_loss"]
    loss += penalty - entropy_coef * stats["entropy"]
    return float(loss), {name: float(value) for name, value in stats.items()}


def categorical_terms(logits: Array, actions: Array) -> tuple[Array, Array]:
    """Log-probabilities [B] of actions and entropies [B] of categorical distributions."""
    logp_all = log_softmax(np.asarray(logits, np.float64))
    p = np.exp(logp_all)
    entropy = -np.sum(np.where(p > 0, p * np.where(p > 0, logp_all, 0.0), 0.0), axis=-1)
    return logp_all[np.arange(len(actions)), actions], entropy
