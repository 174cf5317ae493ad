"""GAE for rsl_rl 5: its `PPO`, with returns computed by `ppo_fast.lambda_returns`.

    {"algorithm": {"class_name": "ppo_fast.integrations.rsl_rl:FastPPO", ...}, ...}

in the configuration of a runner, or `ppo_fast.integrations.patch("rsl_rl")` for `PPO` itself and
for classes that inherit its `compute_returns`. What happens at time-outs is left as it is: rsl_rl
has added gamma V(s_t) to the reward of a step that timed out, and all ends are terminal to it after
that. Bits are those of rsl_rl's loop.
"""

# mypy: disallow_subclassing_any=False
# (rsl_rl's classes are Any to mypy)

from typing import Any

import numpy as np
from rsl_rl.algorithms import PPO

from ppo_fast.advantage import lambda_returns
from ppo_fast.integrations.patching import Target


class FastPPO(PPO):
    """`rsl_rl.algorithms.PPO`, with fast returns, computed on the device of the storage."""

    def compute_returns(self, obs: Any) -> None:
        """Write `storage.returns` and `storage.advantages`, [T, N, 1] float32, after a rollout.

        Parameters
        ----------
        obs
            TensorDict [N]: the observations after the last step.

        Raises
        ------
        ValueError
            For `gamma` or `lam` outside [0, 1].
        """
        hidden_state = self.critic.get_hidden_state()
        last_values = self.critic(obs).detach()
        self.critic.reset(hidden_state=hidden_state)  # the next rollout goes on from there
        storage = self.storage
        lambda_returns(
            storage.rewards,
            storage.values,
            # rsl_rl multiplies a float32 tensor by one factor after the other.
            gamma=float(np.float32(self.gamma)),
            gae_lambda=float(np.float32(self.lam)),
            last_values=last_values,
            terminated=storage.dones,
            out=storage.returns,
            exact=True,
        )
        advantages = storage.returns - storage.values
        if not self.normalize_advantage_per_mini_batch:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        storage.advantages = advantages


def targets() -> list[Target]:
    """What `patch("rsl_rl")` replaces: one method of PPO."""
    return [Target(PPO, "compute_returns", FastPPO.compute_returns)]
