"""Advantages for PufferLib 3: `compute_puff_advantage`, computed by `ppo_fast.vtrace`.

    ppo_fast.integrations.patch("pufferlib")

PufferLib stores reward and done one step late: those of the step from t to t + 1 stand at t + 1. So
T columns hold T - 1 steps, and the last column is 0. Truncation does not exist.

PufferLib has two formulas. This is that of 3.0 and of the vectorised CUDA kernels after it,
delta = rho (r + gamma V' - V). The other kernels of 4.0 have rho r + gamma V' - V, which is the
same where the ratio is 1.
"""

import torch
from torch import Tensor

from ppo_fast.advantage import vtrace
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target


def compute_puff_advantage(
    values: Tensor,
    rewards: Tensor,
    terminals: Tensor,
    ratio: Tensor,
    advantages: Tensor,
    gamma: float,
    gae_lambda: float,
    vtrace_rho_clip: float,
    vtrace_c_clip: float,
) -> Tensor:
    """Write advantages, V-trace's vs - V, into `advantages`, and return it.

    Parameters
    ----------
    values
        [B, T], float32: V of each observation.
    rewards, terminals
        [B, T], float32: of the step that led to the observation.
    ratio
        [B, T], float32: probability of the action now over that when it was taken.
    advantages
        [B, T], float32: output.
    gamma, gae_lambda
        In [0, 1].
    vtrace_rho_clip, vtrace_c_clip
        Limits of the ratio, positive.

    Returns
    -------
    Tensor
        `advantages`.

    Raises
    ------
    ValueError
        For a wrong shape, tensors on several devices or a factor outside [0, 1].
    """
    # Values of 0 make vs the trace itself: adding V and taking it off again would cost digits.
    advantages[:, :-1] = vtrace(
        rewards[:, 1:] - values[:, :-1],
        torch.zeros_like(values[:, :-1]),
        log_rhos=ratio[:, :-1].log(),
        gamma=gamma,
        gae_lambda=gae_lambda,
        rho_clip=vtrace_rho_clip,
        c_clip=vtrace_c_clip,
        next_values=values[:, 1:],
        terminated=terminals[:, 1:],
        time_axis=1,
    ).vs
    advantages[:, -1:] = 0
    return advantages


def targets() -> list[Target]:
    """What `patch("pufferlib")` replaces: the function that the trainer calls."""
    pufferl = load("pufferlib.pufferl", "pufferlib")
    return [Target(pufferl, "compute_puff_advantage", compute_puff_advantage)]
