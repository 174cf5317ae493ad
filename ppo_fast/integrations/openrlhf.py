"""Advantages for OpenRLHF: its two methods, computed by `ppo_fast`.

    ppo_fast.integrations.patch("openrlhf")

in the process that makes the experience. Advantages are not normalised here: OpenRLHF does that
later, across all experience.
"""

from typing import Any

import torch
from torch import Tensor

from ppo_fast.advantage import discounted_returns, token_gae
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target


@torch.no_grad()
def get_advantages_and_returns(
    values: Tensor,
    rewards: Tensor,
    action_mask: Tensor | None,
    gamma: float,
    lambd: float,
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of `RemoteExperienceMaker.get_advantages_and_returns`.

    Tokens outside the mask have reward 0 and value 0, but the trace decays at each of them.
    OpenRLHF gives them what passes by; here they get advantage 0 and the value as return.

    Parameters
    ----------
    values, rewards
        [B, L], floating-point.
    action_mask
        [B, L], 0 and 1 or bool: tokens that count; None for all.
    gamma, lambd
        In [0, 1].

    Returns
    -------
    tuple[Tensor, Tensor]
        Advantages and returns [B, L].

    Raises
    ------
    ValueError
        For a wrong shape, tensors on several devices or a factor outside [0, 1].
    """
    everywhere = torch.ones_like(rewards, dtype=torch.bool)
    mask = everywhere if action_mask is None else action_mask != 0
    advantages, returns = token_gae(
        rewards, values, mask=mask, gamma=gamma, gae_lambda=lambd, masked="decay"
    )
    return advantages, returns


@torch.no_grad()
def get_cumulative_returns(rewards: Tensor, action_mask: Tensor | None, gamma: float) -> Tensor:
    """Returns of `RemoteExperienceMaker.get_cumulative_returns`: discounted sums of the rewards.

    Parameters
    ----------
    rewards
        [B, L], floating-point.
    action_mask
        [B, L], 0 and 1 or bool: tokens whose rewards count; None for all.
    gamma
        In [0, 1].

    Returns
    -------
    Tensor
        [B, L], in the dtype of the rewards.
    """
    if action_mask is not None:
        rewards = torch.where(action_mask != 0, rewards, 0.0)
    returns: Tensor = discounted_returns(
        rewards,
        gamma=gamma,
        last_values=torch.zeros_like(rewards[:, 0]),
        terminated=torch.zeros_like(rewards, dtype=torch.bool),
        time_axis=1,
    )
    return returns.to(rewards.dtype)


def _get_advantages_and_returns(
    self: Any,
    values: Tensor,
    rewards: Tensor,
    action_mask: Tensor | None,
    gamma: float,
    lambd: float,
) -> tuple[Tensor, Tensor]:
    return get_advantages_and_returns(values, rewards, action_mask, gamma, lambd)


def _get_cumulative_returns(
    self: Any, rewards: Tensor, action_mask: Tensor | None, gamma: float
) -> Tensor:
    return get_cumulative_returns(rewards, action_mask, gamma)


def targets() -> list[Target]:
    """What `patch("openrlhf")` replaces: two methods of its experience maker."""
    module = load("openrlhf.trainer.ppo_utils.experience_maker", "openrlhf")
    maker = module.RemoteExperienceMaker
    return [
        Target(maker, "get_advantages_and_returns", _get_advantages_and_returns),
        Target(maker, "get_cumulative_returns", _get_cumulative_returns),
    ]
