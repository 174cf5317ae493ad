"""Rollout buffers for stable-baselines3: its own, with the advantages computed by `ppo_fast.gae`.

Pass a class to the algorithm,

    PPO("MlpPolicy", env, rollout_buffer_class=FastRolloutBuffer)

(`FastDictRolloutBuffer` for dictionary observations), or `ppo_fast.integrations.patch("sb3")` for
every rollout buffer of the process. Bits are those of stable-baselines3. Its buffers are NumPy
arrays, so this is the CPU's work wherever the networks are. Buffers for sb3-contrib are in
sb3_contrib.py.
"""

# mypy: disallow_subclassing_any=False
# (without stable-baselines3 its classes are Any to mypy)

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from torch import Tensor

from ppo_fast.advantage import gae
from ppo_fast.integrations.patching import Target


class FastAdvantages:
    """Mixin for rollout buffers: goes before the buffer among the bases of a class.

    Equal, bit for bit, to what stable-baselines3 computes in NumPy if all numbers are finite and
    `gamma` and `gae_lambda` Python floats (with NumPy scalars its loop runs in their dtype). Only
    the sign of a zero may differ: what follows the end of an episode is left out here, and there
    multiplied by 0. For the same reason a NaN does not spread over such an end.
    """

    rewards: NDArray[Any]
    values: NDArray[Any]
    episode_starts: NDArray[Any]
    advantages: NDArray[Any]
    returns: NDArray[Any]
    gamma: float
    gae_lambda: float

    def compute_returns_and_advantage(self, last_values: Tensor, dones: NDArray[np.bool_]) -> None:
        """Write `advantages` and `returns` [n_steps, n_envs], both float32, in place.

        Parameters
        ----------
        last_values
            [n_envs] or [n_envs, 1], on any device, from which it is copied to the CPU: V of the
            observation after the last step.
        dones
            [n_envs]: whether the last step ended an episode.

        Raises
        ------
        ValueError
            For a wrong shape, or `gamma` or `gae_lambda` outside [0, 1].
        """
        gae(
            self.rewards,
            self.values,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            last_values=last_values.cpu().numpy().reshape(-1),
            episode_starts=self.episode_starts,
            last_done=dones,
            out=(self.advantages, self.returns),
            exact=True,
        )


class FastRolloutBuffer(FastAdvantages, RolloutBuffer):
    """`rollout_buffer_class` of PPO, A2C and TRPO."""


class FastDictRolloutBuffer(FastAdvantages, DictRolloutBuffer):
    """`rollout_buffer_class` of PPO, A2C and TRPO for dictionary observations."""


def targets() -> list[Target]:
    """What `patch("sb3")` replaces: the one method that all rollout buffers inherit.

    Those of sb3-contrib are among them, and so is RecurrentPPO, which cannot be given a class.
    """
    name = "compute_returns_and_advantage"
    return [Target(RolloutBuffer, name, FastAdvantages.compute_returns_and_advantage)]
