"""GAE for TRL's PPOTrainer: the lines inside its `train`, computed by `ppo_fast.gae`."""

import torch
from torch import Tensor

from ppo_fast.advantage import gae
from ppo_fast.integrations.whitening import whiten

HOW = (
    "PPOTrainer.train (TRL before 1.13, which has no PPO) computes advantages in line: replace "
    "step 6 in a copy of it by a call of ppo_fast.integrations.trl.compute_gae"
)


@torch.no_grad()
def compute_gae(
    rewards: Tensor, values: Tensor, padding_mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Whitened advantages, and returns from the advantages before whitening.

    Every token counts in the recursion, padding as well: TRL has set the values there to 0. Nothing
    follows the last one. Advantages are whitened over the tokens that are not padding.

    Parameters
    ----------
    rewards, values
        [B, L], floating-point.
    padding_mask
        [B, L], bool: True where a row has ended. Unlike other masks, it tells what does not count.
    gamma, lam
        In [0, 1].

    Returns
    -------
    tuple[Tensor, Tensor]
        Advantages, 0 at padding, and returns; [B, L].

    Raises
    ------
    ValueError
        For a wrong shape, tensors on several devices, a factor outside [0, 1] or fewer than two
        tokens that are not padding.
    """
    advantages, returns = gae(
        rewards,
        values,
        gamma=gamma,
        gae_lambda=lam,
        last_values=torch.zeros_like(rewards[:, 0]),
        terminated=torch.zeros_like(rewards, dtype=torch.bool),
        time_axis=1,
    )
    return whiten(advantages, padding_mask == 0), returns
