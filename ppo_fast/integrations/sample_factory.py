"""GAE for Sample Factory: its `gae_advantages`, computed by `ppo_fast`.

    ppo_fast.integrations.patch("sample_factory")

where the environments and models are registered, at the top of the module: the learner runs in a
process of its own, which imports that module again. (With `--serial_mode=True` any place will do.)
"""

import math

import torch
from torch import Tensor

from ppo_fast.advantage import gae, vtrace
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target


def gae_advantages(
    rewards: Tensor, dones: Tensor, values: Tensor, valids: Tensor, gamma: float, lam: float
) -> Tensor:
    """Advantages of trajectories of which parts may be invalid.

    ::

        delta_t = valid_t (r_t - V_t) + (1 - done_t) gamma valid_{t+1} V_{t+1}
        A_t     = delta_t + (1 - done_t) c_t A_{t+1},   c_t = gamma lam if valid_t, 1 otherwise

    All ends are terminal: the learner has added gamma V_t to the reward of a step that timed out.
    On a CUDA device it is waited for once, to know whether all steps are valid.

    Parameters
    ----------
    rewards
        [B, T], float32.
    dones
        [B, T], flags of each step.
    values
        [B, T + 1], the last one belonging to the observation after the last step.
    valids
        [B, T + 1], flags.
    gamma, lam
        In [0, 1]. If one of them is 0, advantages of invalid steps, which nobody reads, are left
        without what Sample Factory would carry there.

    Returns
    -------
    Tensor
        [B, T].

    Raises
    ------
    ValueError
        For a wrong shape, tensors on several devices or a factor outside [0, 1].
    """
    if bool((valids != 0).all()):
        advantages: Tensor = gae(
            rewards, values, gamma=gamma, gae_lambda=lam, terminated=dones, time_axis=1
        ).advantages
        return advantages
    valid = (valids != 0).to(values.dtype)
    # V-trace is the recurrence with a coefficient of each step, gamma lam min(c_clip, rho_t), which
    # comes to 1 at invalid steps. Values of 0 make its vs the advantages.
    rho = -math.log(gamma * lam) if gamma * lam > 0 else 0.0
    carried: Tensor = vtrace(
        (rewards - values[:, :-1]) * valid[:, :-1],
        torch.zeros_like(rewards),
        log_rhos=rho * (1 - valid[:, :-1]),
        gamma=gamma,
        gae_lambda=lam,
        c_clip=math.inf,
        next_values=values[:, 1:] * valid[:, 1:],
        terminated=dones,
        time_axis=1,
    ).vs
    return carried


def targets() -> list[Target]:
    """What `patch("sample_factory")` replaces: the function where the learner looks it up."""
    learner = load("sample_factory.algo.learning.learner", "sample-factory")
    return [Target(learner, "gae_advantages", gae_advantages)]
