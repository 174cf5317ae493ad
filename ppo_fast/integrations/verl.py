"""GAE for verl: `compute_gae_advantage_return`, computed by `ppo_fast.token_gae`.

    ppo_fast.integrations.patch("verl")

in the driver process before the trainer runs. (`register_adv_est` is no way in: "gae" cannot be
registered again, and estimators of other names are given no values.)
"""

import torch
from torch import Tensor

from ppo_fast.advantage import token_gae
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target
from ppo_fast.integrations.whitening import whiten


@torch.no_grad()
def compute_gae_advantage_return(
    token_level_rewards: Tensor,
    values: Tensor,
    response_mask: Tensor,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Whitened advantages, and returns from the advantages before whitening.

    Tokens outside the mask are skipped: the ones around them are neighbours. verl gives them the
    advantage of the token that follows; here they get advantage 0 and the value as return.

    Parameters
    ----------
    token_level_rewards, values
        [B, L], floating-point.
    response_mask
        [B, L], 0 and 1: tokens that count.
    gamma, lam
        In [0, 1].

    Returns
    -------
    tuple[Tensor, Tensor]
        Advantages, less their mean over their standard deviation, and returns; [B, L].

    Raises
    ------
    ValueError
        For a wrong shape, tensors on several devices, a factor outside [0, 1] or a mask with fewer
        than two tokens.
    """
    mask = response_mask != 0
    advantages, returns = token_gae(
        token_level_rewards, values, mask=mask, gamma=float(gamma), gae_lambda=float(lam)
    )
    return whiten(advantages, mask), returns


def targets() -> list[Target]:
    """What `patch("verl")` replaces: the function that its trainers look up at each call."""
    core_algos = load("verl.trainer.ppo.core_algos", "verl")
    return [Target(core_algos, "compute_gae_advantage_return", compute_gae_advantage_return)]
