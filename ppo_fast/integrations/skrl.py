"""GAE for skrl: its `compute_gae`, computed by `ppo_fast.gae`.

    ppo_fast.integrations.patch("skrl")

serves all torch agents of the process: A2C, AMP, IPPO, MAPPO, PPO, RPO, TRPO and those with an RNN.
To rounding, the numbers are skrl's, which factors gamma out of the sum.
"""

import importlib

from torch import Tensor

from ppo_fast.advantage import gae
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target

# The modules of skrl 2 with a compute_gae of their own; 2.1 has new keywords in those without RNN.
_MODULES = (
    "agents.torch.a2c.a2c",
    "agents.torch.a2c.a2c_rnn",
    "agents.torch.amp.amp",
    "agents.torch.ppo.ppo",
    "agents.torch.ppo.ppo_rnn",
    "agents.torch.rpo.rpo",
    "agents.torch.rpo.rpo_rnn",
    "agents.torch.trpo.trpo",
    "agents.torch.trpo.trpo_rnn",
    "multi_agents.torch.ippo.ippo",
    "multi_agents.torch.mappo.mappo",
)


def compute_gae(
    *,
    rewards: Tensor,
    terminated: Tensor,
    values: Tensor,
    truncated: Tensor | None = None,
    last_values: Tensor | None = None,
    next_values: Tensor | None = None,
    discount_factor: float = 0.99,
    lambda_coefficient: float = 0.95,
    time_limit_bootstrap: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns and normalised advantages, in that order, with the keywords of skrl 2.0 and 2.1.

    Truncation is as in skrl: it ends an episode only with `time_limit_bootstrap`, and the agent has
    added the value of the next observation to the reward by then.

    Parameters
    ----------
    rewards, values
        [T, N, 1], float32 or float64.
    terminated, truncated
        [T, N, 1], bool: flags of each step. 2.0 and the RNN agents of 2.1 pass no `truncated`.
    last_values, next_values
        [N, 1]: V of the observation after the last step, as 2.1 and 2.0 call it.
    discount_factor, lambda_coefficient
        In [0, 1].
    time_limit_bootstrap
        Whether truncated episodes end.

    Returns
    -------
    tuple[Tensor, Tensor]
        Returns, and advantages less their mean, over their standard deviation + 1e-8.

    Raises
    ------
    TypeError
        For both or neither of `last_values` and `next_values`.
    ValueError
        For a wrong shape, tensors on several devices or a factor outside [0, 1].
    """
    if (last_values is None) == (next_values is None):
        raise TypeError(
            "compute_gae: pass one of last_values (skrl 2.1) and next_values (skrl 2.0)"
        )
    ends = terminated if not time_limit_bootstrap or truncated is None else terminated | truncated
    advantages, returns = gae(
        rewards,
        values,
        gamma=discount_factor,
        gae_lambda=lambda_coefficient,
        last_values=next_values if last_values is None else last_values,
        terminated=ends,
    )
    return returns, (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def targets() -> list[Target]:
    """What `patch("skrl")` replaces: `compute_gae` in each module that has one."""
    load("skrl.agents.torch.ppo.ppo", "skrl")
    found = []
    for name in _MODULES:
        try:
            found.append(importlib.import_module(f"skrl.{name}"))
        except ModuleNotFoundError as error:  # an agent that this version of skrl does not have
            if not f"skrl.{name}.".startswith(f"{error.name}."):
                raise
    return [Target(module, "compute_gae", compute_gae) for module in found]
