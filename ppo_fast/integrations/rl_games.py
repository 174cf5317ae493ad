"""GAE for rl_games: its agents' `discount_values`, computed by `ppo_fast.gae`.

    ppo_fast.integrations.patch("rl_games")

serves the agents that do not override that method. rl_games calls lambda tau, and has added
gamma V(s_t) to the reward of a step that timed out.
"""

from typing import Any

from torch import Tensor

from ppo_fast.advantage import gae
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target


def compute_gae(
    mb_rewards: Tensor,
    mb_values: Tensor,
    mb_dones: Tensor,
    last_values: Tensor,
    last_dones: Tensor,
    gamma: float,
    tau: float,
) -> Tensor:
    """Advantages; flags stand at the step after the end of an episode.

    Parameters
    ----------
    mb_rewards, mb_values
        [T, N, value_size], float32.
    mb_dones
        [T, N]: whether the step before ended an episode.
    last_values
        [N, value_size]: V of the observation after the last step.
    last_dones
        [N]: whether the last step ended an episode.
    gamma, tau
        Discount and lambda, in [0, 1].

    Returns
    -------
    Tensor
        [T, N, value_size].

    Raises
    ------
    ValueError
        For a wrong shape, tensors on several devices or a factor outside [0, 1].
    """
    shape = mb_rewards.shape
    advantages: Tensor = gae(
        mb_rewards.flatten(1),
        mb_values.flatten(1),
        gamma=gamma,
        gae_lambda=tau,
        last_values=last_values.flatten(),
        episode_starts=mb_dones.unsqueeze(-1).expand(shape).flatten(1),
        last_done=last_dones.unsqueeze(-1).expand(shape[1:]).flatten(),
    ).advantages
    return advantages.reshape(shape)


def _discount_values(
    self: Any,
    fdones: Tensor,
    last_extrinsic_values: Tensor,
    mb_fdones: Tensor,
    mb_extrinsic_values: Tensor,
    mb_rewards: Tensor,
) -> Tensor:
    return compute_gae(
        mb_rewards,
        mb_extrinsic_values,
        mb_fdones,
        last_extrinsic_values,
        fdones,
        self.gamma,
        self.tau,
    )


def targets() -> list[Target]:
    """What `patch("rl_games")` replaces: the method of the class that all its agents inherit."""
    common = load("rl_games.common.a2c_common", "rl-games")
    return [Target(common.A2CBase, "discount_values", _discount_values)]
