"""GAE and V-trace for RLlib's new API stack, computed by `ppo_fast`.

    ppo_fast.integrations.patch("rllib")

in each Learner process, e.g. in `build` of the class in `config.training(learner_class=...)`. PPO's
connector takes value targets from here, which are NumPy arrays and so the CPU's; IMPALA and APPO
take V-trace, of tensors where they are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ppo_fast.advantage import lambda_returns, vtrace
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target


def compute_value_targets_with_bootstrap(
    values: NDArray[Any],
    rewards: NDArray[Any],
    terminateds: NDArray[Any],
    bootstrap_value: float,
    gamma: float,
    lambda_: float,
) -> NDArray[Any]:
    """Value targets (lambda-returns) of one episode or a part of one.

    Parameters
    ----------
    values, rewards
        [T]: float32 or float64 values, and rewards, which are cast to the dtype of the values.
    terminateds
        [T], flags.
    bootstrap_value
        V of the observation after the last step; not read where that terminated.
    gamma, lambda_
        In [0, 1].

    Returns
    -------
    NDArray
        [T], in the dtype of the values.

    Raises
    ------
    ValueError
        For a wrong shape or a factor outside [0, 1].
    """
    targets: NDArray[Any] = lambda_returns(
        np.asarray(rewards, values.dtype),
        values,
        gamma=gamma,
        gae_lambda=lambda_,
        last_values=float(bootstrap_value),
        terminated=np.asarray(terminateds, bool),
    )
    return targets


def compute_value_targets_batched(
    values: NDArray[Any],
    rewards: NDArray[Any],
    terminateds: NDArray[Any],
    episode_lens: Sequence[int],
    bootstrap_values: Sequence[float] | NDArray[Any],
    gamma: float,
    lambda_: float,
) -> NDArray[Any]:
    """`compute_value_targets_with_bootstrap` of several episodes, one behind the other.

    Parameters
    ----------
    values, rewards, terminateds
        [sum of `episode_lens`], as for one episode.
    episode_lens
        Number of steps of each episode.
    bootstrap_values
        One for each episode.
    gamma, lambda_
        In [0, 1].

    Returns
    -------
    NDArray
        Like `values`.

    Raises
    ------
    ValueError
        For a wrong shape or a factor outside [0, 1].
    """
    lens = np.asarray(episode_lens, np.intp)
    lasts = (np.cumsum(lens) - 1)[lens > 0]
    ends = np.zeros(values.shape, bool)
    ends[lasts] = True
    bootstraps = np.zeros_like(values)
    bootstraps[lasts] = np.asarray(bootstrap_values, values.dtype)[lens > 0]
    targets: NDArray[Any] = lambda_returns(
        np.asarray(rewards, values.dtype),
        values,
        gamma=gamma,
        gae_lambda=lambda_,
        last_values=0.0,
        terminated=np.asarray(terminateds, bool),
        truncated=ends,
        final_values=bootstraps,
    )
    return targets


def vtrace_torch(
    *,
    target_action_log_probs: Tensor,
    behaviour_action_log_probs: Tensor,
    discounts: Tensor,
    rewards: Tensor,
    values: Tensor,
    bootstrap_values: Tensor,
    clip_rho_threshold: float | Tensor | None = 1.0,
    clip_pg_rho_threshold: float | Tensor | None = 1.0,
) -> tuple[Tensor, Tensor]:
    """V-trace targets and policy-gradient advantages; nothing is differentiated.

    On a CUDA device it is waited for, to know gamma.

    Parameters
    ----------
    target_action_log_probs, behaviour_action_log_probs, rewards, values
        [T, B], float32 or float64.
    discounts
        [T, B]: gamma, or 0 where an episode terminated.
    bootstrap_values
        [B]: V after the last step.
    clip_rho_threshold, clip_pg_rho_threshold
        Limits of the weights; None for none. Traces are cut at 1.

    Returns
    -------
    tuple[Tensor, Tensor]
        vs and pg_advantages, [T, B].

    Raises
    ------
    ValueError
        For discounts of several values besides 0, a wrong shape or tensors on several devices.
    """
    discounts = discounts.detach()
    gamma = float(discounts.max()) if discounts.numel() else 0.0
    terminated = discounts == 0
    if not bool((terminated | (discounts == gamma)).all()):
        raise ValueError("vtrace_torch: discounts must be 0 or one gamma, got several values")
    vs, pg_advantages = vtrace(
        rewards.detach(),
        values.detach(),
        log_rhos=(target_action_log_probs - behaviour_action_log_probs).detach(),
        gamma=gamma,
        rho_clip=_limit(clip_rho_threshold),
        pg_rho_clip=_limit(clip_pg_rho_threshold),
        last_values=bootstrap_values.detach(),
        terminated=terminated,
    )
    return vs, pg_advantages


def _limit(threshold: float | Tensor | None) -> float:
    return float("inf") if threshold is None else float(threshold)


def targets() -> list[Target]:
    """What `patch("rllib")` replaces: the functions where connector and learners look them up."""
    package = '"ray[rllib]"'
    connector = load("ray.rllib.connectors.learner.general_advantage_estimation", package)
    episode_wise = compute_value_targets_with_bootstrap
    # Versions differ in whether the connector goes through its episodes one by one or all at once.
    batched = compute_value_targets_batched
    used = batched if hasattr(connector, batched.__name__) else episode_wise
    learners = (
        "ray.rllib.algorithms.impala.torch.impala_torch_learner",
        "ray.rllib.algorithms.appo.torch.appo_torch_learner",
    )
    return [
        Target(connector, used.__name__, used),
        *(Target(load(name, package), "vtrace_torch", vtrace_torch) for name in learners),
    ]
