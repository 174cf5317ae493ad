"""Policy-gradient losses and their gradients in one native pass, for NumPy and torch.

J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization
Algorithms" (2017), eq. 6 to 9::

    r     = exp(logp - old_logp)
    J     = mean(r A), mean(min(r A, clip(r, 1 - clip_range, 1 + clip_range) A)) or mean(logp A)
    loss  = -J + value_coef mean((V - R)^2) - entropy_coef mean(H) + kl_coef mean(KL(old || new))
               + kl_hinge max(0, mean(KL) - kl_hinge_from)^2

Means are sum(w x) / sum(w) over the samples' weights; a mask is weights of 0 and 1. What has weight
0 is never looked at: NaN or padding may stand there, and its gradients are 0.

Log-ratios are limited to +-60, beyond which there is no gradient.
"""

from typing import Any, Literal

import numpy as np

from ppo_fast import _core
from ppo_fast.distributions import Distribution

# A NumPy array or a torch tensor on the CPU or a CUDA device; all arrays of a call are of one kind.
Array = Any

# What a loss reports besides itself.
STATS: tuple[str, ...] = _core.LOSS_STATS
# The arrays of a loss in the order of `_core.loss`, those with a gradient first; {0} stands for
# logp, logits or mean.
LOSS_ARRAYS = (
    "{0}",
    "log_std",
    "values",
    "kl",
    "dist.mask",
    "actions",
    "old_dist.{0}",
    "old_dist.log_std",
    "old_dist.mask",
    "old_logp",
    "advantages",
    "returns",
    "old_values",
    "weights",
    "mask",
)
# The family of a policy that is known by its log-probabilities alone.
GIVEN = -1
# What a loss cannot report without an old policy, and what without a distribution and values.
_KL = ("kl",)
_OF_DISTRIBUTIONS = ("entropy", "value_loss", "explained_variance")

_Objective = Literal["policy_gradient", "importance", "clipped"]


def importance_surrogate(
    logp: Array,
    old_logp: Array,
    advantages: Array,
    *,
    weights: Array | None = None,
    mask: Array | None = None,
    normalize_advantages: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """-mean(r A): reuse of old samples without a constraint (Schulman et al. 2017, eq. 6).

    With torch tensors the loss carries gradients to `logp`.

    Parameters
    ----------
    logp
        [B] float32 or float64: log-probabilities of the actions now. The other arrays have its
        dtype.
    old_logp
        [B]: log-probabilities when they were taken.
    advantages
        [B].
    weights
        [B] or None: how much a sample counts, 0 or more.
    mask
        bool [B] or None: False for samples that do not count.
    normalize_advantages
        Use (A - mean) / (std(ddof=1) + 1e-8) over the samples that count; a single one is left as
        it is.

    Returns
    -------
    loss
        A float, or a torch scalar with gradients.
    stats
        Mapping of `STATS`, without those of entropies, values and an exact KL, to floats or float64
        scalars; see `ppo_loss`.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For a wrong shape, a negative or NaN weight, or when no sample counts.
    """
    return _logp_loss(
        "importance_surrogate",
        logp,
        old_logp,
        advantages,
        None,
        weights,
        mask,
        normalize_advantages,
    )


def clipped_surrogate(
    logp: Array,
    old_logp: Array,
    advantages: Array,
    *,
    clip_range: float,
    clip_range_high: float | None = None,
    dual_clip: float | None = None,
    weights: Array | None = None,
    mask: Array | None = None,
    normalize_advantages: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """-mean(min(r A, clip(r, 1 - clip_range, 1 + clip_range_high) A)): PPO2's objective.

    Schulman et al. 2017, eq. 7.

    `clip_range_high` is `clip_range` if it is not given. With `dual_clip` c > 1 the minimum is
    bounded by c A from below where A < 0 (D. Ye et al. 2020, eq. 5). Bounds are formed in double
    and inclusive for the gradient. Everything else is as in `importance_surrogate`.
    """
    return _logp_loss(
        "clipped_surrogate",
        logp,
        old_logp,
        advantages,
        None,
        weights,
        mask,
        normalize_advantages,
        objective="clipped",
        clip_range=clip_range,
        clip_range_high=clip_range_high,
        dual_clip=dual_clip,
    )


def kl_penalty_surrogate(
    logp: Array,
    old_logp: Array,
    advantages: Array,
    kl: Array,
    *,
    beta: float,
    weights: Array | None = None,
    mask: Array | None = None,
    normalize_advantages: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """-mean(r A) + beta mean(KL(old || new)) (Schulman et al. 2017, eq. 8).

    `kl` [B] is the divergence of each sample, as `Distribution.kl` gives it; with torch tensors it
    gets a gradient as well. Everything else is as in `importance_surrogate`.
    """
    return _logp_loss(
        "kl_penalty_surrogate",
        logp,
        old_logp,
        advantages,
        kl,
        weights,
        mask,
        normalize_advantages,
        kl_coef=beta,
    )


def ppo_loss(
    dist: Distribution,
    actions: Array,
    old_logp: Array,
    advantages: Array,
    values: Array,
    returns: Array,
    *,
    old_values: Array | None = None,
    clip_range: float | None,
    clip_range_high: float | None = None,
    dual_clip: float | None = None,
    clip_range_values: float | None = None,
    old_dist: Distribution | None = None,
    kl_coef: float = 0.0,
    kl_hinge: float = 0.0,
    kl_hinge_from: float = 0.0,
    entropy_coef: float,
    value_coef: float,
    weights: Array | None = None,
    mask: Array | None = None,
    normalize_advantages: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """The PPO loss of a batch of B samples and its statistics.

    With torch tensors the loss carries gradients to the parameters of `dist` and to `values`; they
    were computed in the same pass, so `backward` is nearly free. All arrays have the dtype of the
    parameters, float32 or float64, except the actions of discrete distributions and the mask.

    On a CUDA device nothing is waited for: numbers that the CPU refuses make NaN of the loss, and
    coefficients may be float64 tensors of one number, which the kernels read when they run.

    Parameters
    ----------
    dist
        The policy's distributions over actions, one of `ppo_fast.distributions`.
    actions
        The actions that were taken, as the distribution's class describes them.
    old_logp
        [B]: their log-probabilities when they were taken.
    advantages
        [B].
    values
        [B]: V now; None, together with returns, for a loss of the policy alone.
    returns
        [B]: what V should become.
    old_values
        [B]: V when the actions were taken; needed for clip_range_values.
    clip_range, clip_range_high
        The ratio is clipped to 1 - clip_range .. 1 + clip_range_high (clip_range if it is not
        given); bounds are formed in double and inclusive for the gradient. A clip_range of None
        clips nothing.
    dual_clip
        c > 1: where A < 0, the clipped objective is bounded by c A from below.
    clip_range_values
        c: the value loss is (old_V + clamp(V - old_V, -c, c) - R)^2. This is stable-baselines3's
        form; others take the maximum of it and the unclipped loss.
    old_dist
        The policy's distributions when the actions were taken, of the same class, for the exact KL.
        They get no gradient.
    kl_coef
        Weight of mean(KL(old || new)).
    kl_hinge, kl_hinge_from
        Weight of max(0, mean(KL) - kl_hinge_from)^2.
    entropy_coef, value_coef
        Weights of the entropy bonus and of the value loss (which has no factor 1/2).
    weights
        [B] or None: how much a sample counts, 0 or more.
    mask
        bool [B] or None: False for samples that do not count.
    normalize_advantages
        Use (A - mean) / (std(ddof=1) + 1e-8) over the samples that count; a single one is left as
        it is. With weights, the variance is sum(w (A - mean)^2) / (W - sum(w^2) / W), W = sum(w).

    Returns
    -------
    loss
        A float, or a torch scalar with gradients.
    stats
        Mapping of `STATS` to floats or float64 scalars: the parts of the loss, the KL estimates k3
        (`approx_kl`) and k1, the fraction of clipped ratios, their mean and maximum, the effective
        sample size (sum w r)^2 / (W sum w r^2) of the importance weights, the fraction of
        log-ratios that were limited to +-60, the explained variance of the values, and the exact
        mean KL, which only an `old_dist` gives. What there is nothing to form from is NaN; without
        values, value_loss is 0.

    Raises
    ------
    TypeError
        For something that is no distribution, or a wrong dtype.
    ValueError
        For a wrong shape, an action out of range, a setting out of range, parameters that are no
        distribution (a NaN, an infinity, a mask that allows nothing), a negative or NaN weight, or
        when no sample counts.
    """
    loss, row = _distribution_loss(
        "ppo_loss",
        dist,
        actions,
        old_dist,
        old_logp,
        advantages,
        values,
        returns,
        old_values,
        weights,
        mask,
        loss_settings(
            objective="importance" if clip_range is None else "clipped",
            clip_range=clip_range,
            clip_range_high=clip_range_high,
            dual_clip=dual_clip,
            clip_range_values=clip_range_values,
            kl_coef=kl_coef,
            kl_hinge=kl_hinge,
            kl_hinge_from=kl_hinge_from,
            entropy_coef=entropy_coef,
            value_coef=value_coef,
            normalize_advantages=normalize_advantages,
        ),
    )
    return loss, _named(row, () if old_dist is not None else _KL)


def fused_loss(
    dist: Distribution,
    actions: Array,
    advantages: Array,
    *,
    objective: _Objective,
    old_logp: Array | None = None,
    values: Array | None = None,
    returns: Array | None = None,
    old_values: Array | None = None,
    clip_range: float | None = None,
    clip_range_high: float | None = None,
    dual_clip: float | None = None,
    clip_range_values: float | None = None,
    old_dist: Distribution | None = None,
    kl_coef: float = 0.0,
    kl_hinge: float = 0.0,
    kl_hinge_from: float = 0.0,
    entropy_coef: float = 0.0,
    value_coef: float = 0.0,
    weights: Array | None = None,
    mask: Array | None = None,
    normalize_advantages: bool = False,
) -> tuple[Any, Any]:
    """`ppo_loss` for any objective, with its statistics as a row: what learners call.

    Of tensors that takes a third less time before it returns than to make a tensor of each.

    Parameters
    ----------
    objective
        What is averaged: `policy_gradient` logp A, `importance` r A, or `clipped` as in `ppo_loss`.
        With `policy_gradient`, old_logp is optional and serves the statistics of the ratio.

    Returns
    -------
    loss
        A float, or a torch scalar with gradients.
    row
        float64 [len(STATS)], an array or a tensor; NaN for what there is nothing to form from.
    """
    return _distribution_loss(
        "fused_loss",
        dist,
        actions,
        old_dist,
        old_logp,
        advantages,
        values,
        returns,
        old_values,
        weights,
        mask,
        loss_settings(
            objective=objective,
            clip_range=clip_range,
            clip_range_high=clip_range_high,
            dual_clip=dual_clip,
            clip_range_values=clip_range_values,
            kl_coef=kl_coef,
            kl_hinge=kl_hinge,
            kl_hinge_from=kl_hinge_from,
            entropy_coef=entropy_coef,
            value_coef=value_coef,
            normalize_advantages=normalize_advantages,
        ),
    )


# Settings of a loss in the order of `_core.loss`, which `loss_settings` alone knows.
_Settings = tuple[Any, ...]


def loss_settings(
    *,
    objective: _Objective,
    clip_range: float | None = None,
    clip_range_high: float | None = None,
    dual_clip: float | None = None,
    clip_range_values: float | None = None,
    kl_coef: float = 0.0,
    kl_hinge: float = 0.0,
    kl_hinge_from: float = 0.0,
    entropy_coef: float = 0.0,
    value_coef: float = 0.0,
    normalize_advantages: bool = False,
) -> _Settings:
    """The settings of a loss as the kernels take them; see `fused_loss`."""
    return (
        objective,
        clip_range,
        clip_range_high,
        dual_clip,
        clip_range_values,
        kl_coef,
        kl_hinge,
        kl_hinge_from,
        entropy_coef,
        value_coef,
        normalize_advantages,
    )


LOSS_SETTINGS = tuple(name for name in loss_settings.__annotations__ if name != "return")


def _distribution_loss(
    function: str,
    dist: Distribution,
    actions: Array,
    old_dist: Distribution | None,
    old_logp: Array | None,
    advantages: Array,
    values: Array | None,
    returns: Array | None,
    old_values: Array | None,
    weights: Array | None,
    mask: Array | None,
    settings: _Settings,
) -> tuple[Any, Any]:
    if not isinstance(dist, Distribution):
        raise TypeError(
            f"{function}: dist must be one of ppo_fast.distributions, such as Categorical, "
            f"got {type(dist).__name__}"
        )
    family, first, second, dist_mask, nvec = dist._parameters()
    old_first = old_second = old_mask = old_nvec = None
    if old_dist is not None:
        if type(old_dist) is not type(dist):
            raise TypeError(
                f"{function}: old_dist must be a {type(dist).__name__} like dist, "
                f"got {type(old_dist).__name__}"
            )
        _, old_first, old_second, old_mask, old_nvec = old_dist._parameters()
    arrays = (
        *(first, second, values, None, dist_mask, actions),
        *(old_first, old_second, old_mask),
        *(old_logp, advantages, returns, old_values, weights, mask),
    )
    return _run(function, (family, nvec, old_nvec), arrays, settings)


def _logp_loss(
    function: str,
    logp: Array,
    old_logp: Array,
    advantages: Array,
    kl: Array | None,
    weights: Array | None,
    mask: Array | None,
    normalize_advantages: bool,
    *,
    objective: _Objective = "importance",
    clip_range: float | None = None,
    clip_range_high: float | None = None,
    dual_clip: float | None = None,
    kl_coef: float = 0.0,
) -> tuple[Any, dict[str, Any]]:
    arrays = (
        *(logp, None, None, kl, None, None),
        *(None, None, None),
        *(old_logp, advantages, None, None, weights, mask),
    )
    settings = loss_settings(
        objective=objective,
        clip_range=clip_range,
        clip_range_high=clip_range_high,
        dual_clip=dual_clip,
        kl_coef=kl_coef,
        normalize_advantages=normalize_advantages,
    )
    loss, row = _run(function, (GIVEN, None, None), arrays, settings)
    return loss, _named(row, _OF_DISTRIBUTIONS if kl is not None else (*_OF_DISTRIBUTIONS, *_KL))


def _run(
    function: str,
    form: tuple[int, Any, Any],
    arrays: tuple[Any, ...],
    settings: _Settings,
) -> tuple[Any, Any]:
    """The loss and its statistics, of NumPy arrays or of tensors; the order is `_core.loss`'s."""
    if isinstance(arrays[0], np.ndarray):
        value, row, *_ = _core.loss(function, form, arrays, settings)
        return value.item(), row
    if not hasattr(arrays[0], "detach"):
        what = "logp" if form[0] == GIVEN else "each parameter of dist"
        raise TypeError(
            f"{function}: {what} must be a NumPy array or a torch tensor, "
            f"got {type(arrays[0]).__name__}"
        )
    from ppo_fast import torch_ops

    return torch_ops.loss(function, form, arrays, settings)


def _named(row: Any, without: tuple[str, ...]) -> dict[str, Any]:
    values = row.tolist() if isinstance(row, np.ndarray) else row.unbind()
    stats = dict(zip(STATS, values, strict=True))
    for name in without:
        del stats[name]
    return stats
