"""Rollout: steps of N environments, allocated once and written in place by every iteration."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ppo_fast.actions import ActionLayout
from ppo_fast.advantage import gae
from ppo_fast.arrays import Array, Place
from ppo_fast.envs.stepping import Stepper

# Steps after which an episode counts as one that never ends.
_LONGEST_EPISODE = 1_000_000


class Actor(Protocol):
    """Chooses actions; part of a learner."""

    def act(
        self,
        obs: Array,
        actions: Array,
        logp: Array,
        *,
        step: int,
        deterministic: bool = False,
    ) -> None:
        """Draw actions [N, ...] for observations [N, ...], with their log-probabilities [N].

        `step` counts the draws of a run; `deterministic` takes the most probable actions instead.
        """
        ...

    def play(self, rollout: "Rollout", stepper: Stepper, *, first_step: int) -> bool:
        """Fill a rollout from its first observations on; False if it must be done step by step."""
        ...


class Critic(Protocol):
    """Estimates values; part of a learner."""

    def values(self, obs: Array) -> Array:
        """V [k] of observations [k, ...]."""
        ...


@dataclass(frozen=True)
class NotFinite:
    """A number from an environment that is NaN or infinite.

    Attributes:
        name: "observations" or "rewards".
        value: The number.
        samples: How many samples of the rollout there were when it came, its own included.
        env: The environment's index.
    """

    name: str
    value: float
    samples: int
    env: int


class Rollout:
    """The data of one iteration, time first: NumPy arrays (`cuda_rollout.py`: tensors on a device).

    =================  ===============  ==========================================================
    opening            [N, D]           what the next collection starts from
    obs                [T + 1, N, D]    row t is what the agent saw at step t; row T opens the next
    actions            [T, N, ...]      what it did, as the policy has it (`ppo_fast.actions`)
    logp               [T, N]           the log-probability of that
    rewards            [T, N]           float32
    terminated,        [T, N]           Gymnasium's flags of transition t
    truncated
    final_obs          [T, N, D]        last observation of an episode; only where one ended
    valid              [T, N] or None   what counts, where whole episodes were collected; None: all
    values             [T + 1, N]       V of obs
    old_values         [T, N]           V of obs before the update
    final_values       [T, N]           V of final_obs; only where truncated
    advantages,        [T, N]           filled by `estimate_advantages`, or by an algorithm
    returns
    env_seconds        a number         time spent in the environments by the last collection
    =================  ===============  ==========================================================

    Attributes:
        known_later: Whether `collect` returns before the steps are done, so that what is in the
            arrays should not be looked at before the update.
    """

    known_later = False

    obs: Array
    actions: Array
    logp: Array
    rewards: Array
    terminated: Array
    truncated: Array
    final_obs: Array
    values: Array
    old_values: Array
    final_values: Array
    advantages: Array
    returns: Array

    def __init__(
        self, num_steps: int, num_envs: int, obs_shape: tuple[int, ...], layout: ActionLayout
    ) -> None:
        self.num_envs = num_envs
        self._num_steps = num_steps
        self._obs_shape = obs_shape
        self._layout = layout
        self.opening = self._zeros((num_envs, *obs_shape), np.float32)
        self._room: dict[str, Array] = {}
        self.valid: NDArray[np.bool_] | None = None
        self.env_seconds = 0.0
        self._grow(num_steps)
        self._show(num_steps)

    @property
    def num_steps(self) -> int:
        """T of the last collection."""
        return len(self.rewards)

    @property
    def samples(self) -> NDArray[np.int64]:
        """Which of the T * N steps count, as indices into the flattened [T * N] arrays."""
        if self.valid is None:
            return np.arange(self.num_samples)
        return np.flatnonzero(self.valid)

    @property
    def num_samples(self) -> int:
        """How many of the T * N steps count."""
        if self.valid is None:
            return self.num_steps * self.num_envs
        return int(np.count_nonzero(self.valid))

    def start(self, obs: Array) -> None:
        """Set the observations [N, ...] that the first `collect` starts from."""
        self.opening[:] = obs

    def collect(self, stepper: Stepper, actor: Actor, *, first_step: int) -> None:
        """Play T steps from where the last call stopped.

        `first_step` counts the steps of each environment since the start of the run; actions are
        drawn at these counts.
        """
        self.obs[0] = self.opening
        self.env_seconds = 0.0
        if not actor.play(self, stepper, first_step=first_step):
            for t in range(self._num_steps):
                self._step(t, stepper, actor, first_step)
        self.opening[:] = self.obs[-1]

    def collect_episodes(self, stepper: Stepper, actor: Actor, *, first_step: int) -> None:
        """Play whole episodes, from a reset of all environments on.

        Each environment plays at least the T steps of a rollout and then to the end of the episode
        that it is in, so that long episodes are not left out more often than short ones. It waits
        for the slowest (its steps are not `valid`).

        Raises
        ------
        RuntimeError
            If an episode does not end within a million steps.
        """
        self.valid = None  # until it is known
        self._show(len(self._room["rewards"]) - 1)
        self.obs[0] = self.opening
        self.env_seconds = 0.0
        valid = []
        playing = np.ones(self.num_envs, np.bool_)
        t = 0
        while playing.any():
            if t == self._num_steps + _LONGEST_EPISODE:
                raise RuntimeError(
                    f"an episode did not end within {_LONGEST_EPISODE:,} steps; this algorithm "
                    "learns from whole episodes, so give the environment a limit of steps "
                    "(max_episode_steps)"
                )
            if t == self.num_steps:
                self._grow(2 * t)
                self._show(2 * t)
            self._step(t, stepper, actor, first_step)
            valid.append(playing.copy())
            if t + 1 >= self._num_steps:
                playing &= ~(self.terminated[t] | self.truncated[t])
            t += 1
        self._show(t)
        self.valid = np.stack(valid)
        self.opening[:] = self.obs[-1]

    def times(self, collecting: float, whole: float) -> dict[str, float]:
        """Where the seconds of an iteration went, of which the collection took the first."""
        return {
            "env_seconds": self.env_seconds,
            "policy_seconds": collecting - self.env_seconds,
            "update_seconds": whole - collecting,
        }

    def find_not_finite(self) -> NotFinite | None:
        """The first of the observations and rewards that count that is not finite, if any."""
        arrays = {"obs": self.obs, "rewards": self.rewards, "final_obs": self.final_obs}
        suspects = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        if not suspects:
            return None
        counts = np.ones_like(self.terminated) if self.valid is None else self.valid
        where = {
            # An observation counts if a step is taken on it; row T opens the next rollout.
            "obs": np.concatenate([counts, np.full((1, self.num_envs), self.valid is None)]),
            "rewards": counts,
            "final_obs": counts & self.truncated & ~self.terminated,
        }
        found = []
        for name in suspects:
            flat = arrays[name].reshape(*where[name].shape, -1)
            bad = ~np.isfinite(flat) & where[name][..., None]
            if bad.any():
                row, env, column = np.argwhere(bad)[0].tolist()
                steps = row if name == "obs" else row + 1  # row t of obs came from step t - 1
                found.append(
                    NotFinite(
                        "rewards" if name == "rewards" else "observations",
                        flat[row, env, column].item(),
                        int(np.count_nonzero(counts[:steps])),
                        env,
                    )
                )
        return min(found, key=lambda number: number.samples, default=None)

    def estimate_advantages(self, critic: Critic, *, gamma: float, gae_lambda: float) -> None:
        """Fill values, advantages and returns; a truncated episode goes on as V(final_obs)."""
        self.estimate_values(critic, self.truncated & ~self.terminated)
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

    def estimate_values(self, critic: Critic, cut: Array | None = None) -> None:
        """Fill values, and final_values where `cut`."""
        flat = self.obs.reshape(-1, *self._obs_shape)
        if cut is not None and cut.any():
            flat = np.concatenate([flat, self.final_obs[cut]])
        values = critic.values(flat)
        self.values[:] = values[: self.values.size].reshape(self.values.shape)
        if cut is not None:
            self.final_values[cut] = values[self.values.size :]

    def _step(self, t: int, stepper: Stepper, actor: Actor, first_step: int) -> None:
        actor.act(self.obs[t], self.actions[t], self.logp[t], step=first_step + t)
        actions = self._layout.to_env(self._on_cpu(self.actions[t]))
        start = perf_counter()
        stepper.step_into(
            actions,
            self.obs[t + 1],
            self.rewards[t],
            self.terminated[t],
            self.truncated[t],
            self.final_obs[t],
        )
        self.env_seconds += perf_counter() - start

    def _on_cpu(self, array: Array) -> NDArray[Any]:
        """The array itself; of a rollout on a device, its copy."""
        here: NDArray[Any] = array
        return here

    def _grow(self, num_steps: int) -> None:
        """Make room for that many steps; what is stored stays."""
        layout = self._layout
        for name, dtype, shape in (
            ("obs", np.float32, self._obs_shape),
            ("actions", layout.dtype, layout.shape),
            ("logp", np.float32, ()),
            ("rewards", np.float32, ()),
            ("terminated", np.bool_, ()),
            ("truncated", np.bool_, ()),
            ("final_obs", np.float32, self._obs_shape),
            ("values", np.float32, ()),
            ("old_values", np.float32, ()),
            ("final_values", np.float32, ()),
            ("advantages", np.float32, ()),
            ("returns", np.float32, ()),
        ):
            room = self._zeros((num_steps + 1, self.num_envs, *shape), dtype)
            old = self._room.get(name)
            if old is not None:
                room[: len(old)] = old
            self._room[name] = room

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.zeros(shape, dtype)

    def _show(self, num_steps: int) -> None:
        """Let the arrays be views of the first steps of the room."""
        for name, room in self._room.items():
            setattr(self, name, room[: num_steps + 1 if name in ("obs", "values") else num_steps])


def make_rollout(
    num_steps: int, num_envs: int, obs_shape: tuple[int, ...], layout: ActionLayout, place: Place
) -> Rollout:
    """A rollout of arrays at a place."""
    if place is None:
        return Rollout(num_steps, num_envs, obs_shape, layout)
    from ppo_fast.cuda_rollout import CudaRollout  # which needs torch

    return CudaRollout(num_steps, num_envs, obs_shape, layout, place)
