"""The PPO loss with its gradients in one native pass, for NumPy arrays and torch CPU tensors.

J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization
Algorithms" (2017), eq. 7 and 9::

    r     = exp(logp - old_logp)
    loss  = -mean(min(r A, clip(r, 1 - clip_range, 1 + clip_range) A))
            + value_coef mean((V - R)^2) - entropy_coef mean(H)
"""

from typing import Any

import numpy as np

from ppo_fast import _core
from ppo_fast.distributions import Categorical

# A NumPy array or a torch CPU tensor; all arrays of a call are of one kind.
Array = Any

# What a loss reports besides itself, in the order of csrc/surrogate/cpu.h.
STATS = (
    "policy_loss",
    "value_loss",
    "entropy",
    "approx_kl",
    "approx_kl_k1",
    "clip_fraction",
    "ratio_mean",
    "ratio_max",
    "effective_sample_size",
    "limited_fraction",
    "explained_variance",
)


def ppo_loss(
    dist: Categorical,
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
) -> tuple[Any, dict[str, Any]]:
    """The clipped PPO loss of a batch of B samples and its statistics.

    With torch tensors the loss carries gradients to `dist.logits` and `values`; they were computed
    in the same pass, so `backward` is nearly free. All arrays have the dtype of the logits, float32
    or float64, except the actions.

    Parameters
    ----------
    dist
        The policy's distribution over actions, `Categorical(logits)` with logits [B, A].
    actions
        int64 [B]: actions that were taken.
    old_logp
        [B]: their log-probabilities when they were taken.
    advantages
        [B].
    values
        [B]: V now.
    returns
        [B]: what V should become.
    clip_range
        eps; the bounds 1 -+ eps are formed in double and inclusive for the gradient.
    entropy_coef, value_coef
        Weights of the entropy bonus and of the value loss (which has no factor 1/2).
    normalize_advantages
        Use (A - mean) / (std(ddof=1) + 1e-8); a single sample is left as it is.

    Returns
    -------
    loss
        A float, or a torch scalar with gradients.
    stats
        Mapping of `STATS` to floats or float64 scalars: the parts of the loss, the KL estimates k3
        (`approx_kl`) and k1, the fraction of clipped ratios, their mean and maximum, the effective
        sample size (sum r)^2 / (B sum r^2) of the importance weights, the fraction of log-ratios
        that were limited to +-60, and the explained variance of the values.

    Raises
    ------
    TypeError
        For another distribution or a wrong dtype.
    ValueError
        For a wrong shape, an action out of range or a clip_range that is not positive.
    """
    if not isinstance(dist, Categorical):
        raise TypeError(f"ppo_loss: dist must be a Categorical, got {type(dist).__name__}")
    logits: Array = dist.logits
    if isinstance(logits, np.ndarray):
        value, _, _, stats = _core.categorical_ppo_loss(
            logits,
            actions,
            old_logp,
            advantages,
            values,
            returns,
            clip_range,
            entropy_coef,
            value_coef,
            normalize_advantages,
        )
        return value, dict(zip(STATS, stats.tolist(), strict=True))

    if not hasattr(logits, "detach"):
        raise TypeError(
            f"ppo_loss: logits must be a NumPy array or a torch tensor, got {type(logits).__name__}"
        )
    from ppo_fast.torch_ops import categorical_ppo_loss

    loss, tensor_stats = categorical_ppo_loss(
        logits,
        values,
        actions,
        old_logp,
        advantages,
        returns,
        clip_range,
        entropy_coef,
        value_coef,
        normalize_advantages,
    )
    return loss, dict(zip(STATS, tensor_stats.unbind(), strict=True))
