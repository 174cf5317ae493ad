"""Rollout: T steps of N environments, allocated once and written in place by every iteration."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ppo_fast.advantage import gae
from ppo_fast.envs.stepping import Stepper


class Actor(Protocol):
    """Chooses actions; part of a learner."""

    def act(
        self,
        obs: NDArray[np.float32],
        actions: NDArray[np.int64],
        logp: NDArray[np.float32],
        *,
        step: int,
        deterministic: bool = False,
    ) -> None:
        """Draw actions [N] for observations [N, ...], with their log-probabilities [N].

        `step` counts the draws of a run; `deterministic` takes the most probable actions instead.
        """
        ...


class Critic(Protocol):
    """Estimates values; part of a learner."""

    def values(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """V [k] of observations [k, ...]."""
        ...


class Rollout:
    """The data of one iteration, time first.

    =================  ===============  ==========================================================
    obs                [T + 1, N, D]    row t is what the agent saw at step t; row T opens the next
    actions, logp      [T, N]           what it did, and the log-probability of that
    rewards            [T, N]           float32
    terminated,        [T, N]           Gymnasium's flags of transition t
    truncated
    final_obs          [T, N, D]        last observation of an episode; only where one ended
    values             [T + 1, N]       V of obs
    final_values       [T, N]           V of final_obs; only where truncated
    advantages,        [T, N]           filled by `estimate_advantages`
    returns
    =================  ===============  ==========================================================
    """

    def __init__(self, num_steps: int, num_envs: int, obs_shape: tuple[int, ...]) -> None:
        shape = (num_steps, num_envs)
        self.num_steps = num_steps
        self.num_envs = num_envs
        self.obs = np.zeros((num_steps + 1, num_envs, *obs_shape), np.float32)
        self.actions = np.zeros(shape, np.int64)
        self.logp = np.zeros(shape, np.float32)
        self.rewards = np.zeros(shape, np.float32)
        self.terminated = np.zeros(shape, np.bool_)
        self.truncated = np.zeros(shape, np.bool_)
        self.final_obs = np.zeros((*shape, *obs_shape), np.float32)
        self.values = np.zeros((num_steps + 1, num_envs), np.float32)
        self.final_values = np.zeros(shape, np.float32)
        self.advantages = np.zeros(shape, np.float32)
        self.returns = np.zeros(shape, np.float32)

    def start(self, obs: NDArray[Any]) -> None:
        """Set the observations [N, ...] that the first `collect` starts from."""
        self.obs[-1] = obs

    def collect(self, stepper: Stepper, actor: Actor, *, first_step: int) -> None:
        """Play T steps from where the last call stopped.

        `first_step` counts the steps of each environment since the start of the run; actions are
        drawn at these counts.
        """
        self.obs[0] = self.obs[-1]
        for t in range(self.num_steps):
            actor.act(self.obs[t], self.actions[t], self.logp[t], step=first_step + t)
            stepper.step_into(
                self.actions[t],
                self.obs[t + 1],
                self.rewards[t],
                self.terminated[t],
                self.truncated[t],
                self.final_obs[t],
            )

    def estimate_advantages(self, critic: Critic, *, gamma: float, gae_lambda: float) -> None:
        """Fill values, advantages and returns; a truncated episode goes on as V(final_obs)."""
        cut = self.truncated & ~self.terminated
        flat = self.obs.reshape(-1, *self.obs.shape[2:])
        if cut.any():
            flat = np.concatenate([flat, self.final_obs[cut]])
        values = critic.values(flat)
        self.values[:] = values[: self.values.size].reshape(self.values.shape)
        self.final_values[cut] = values[self.values.size :]
        gae(
            self.rewards,
            self.values[:-1],
            gamma=gamma,
            gae_lambda=gae_lambda,
            last_values=self.values[-1],
            terminated=self.terminated,
            truncated=self.truncated,
            final_values=self.final_values,
            out=(self.advantages, self.returns),
        )
