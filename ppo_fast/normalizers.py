"""Running statistics of observations and returns: float64 moments, integer counts.

Of NumPy arrays or, with a `place`, of tensors on that device, which nothing here waits for.
"""

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast.arrays import Array, Place, cast, library, put
from ppo_fast.running_returns import running_returns

MOST = 10.0
_EPSILON = 1e-8


class RunningMoments:
    """Mean and variance of all values seen, merged batch by batch.

    T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979).

    Attributes:
        count: Values seen, a Python integer.
        mean, variance: float64, of the shape of one value. 0 and 1 before the first. `update`
            replaces them.
    """

    def __init__(self, shape: tuple[int, ...] = (), place: Place = None) -> None:
        self.count = 0
        self._place = place
        self.mean: Array = put(np.zeros(shape), place)
        self.variance: Array = put(np.ones(shape), place)

    def update(self, batch: Array) -> None:
        """Add values [k, ...]."""
        new = len(batch)
        if new == 0:
            return
        xp = library(batch)
        mean = xp.mean(batch, axis=0, dtype=xp.float64)
        variance = xp.mean((batch - mean) ** 2, axis=0)
        total = self.count + new
        difference = mean - self.mean
        squares = self.count * self.variance + new * variance
        squares += difference**2 * (self.count * new / total)
        self.mean = self.mean + difference * (new / total)
        self.variance = squares / total
        self.count = total

    def state(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "variance": self.variance.tolist(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        mean, variance = np.array(state["mean"]), np.array(state["variance"])
        shape = tuple(self.mean.shape)
        if mean.shape != shape or variance.shape != shape:
            raise ValueError(f"moments of shape {shape} cannot take {mean.shape}")
        self.count = int(state["count"])
        self.mean, self.variance = put(mean, self._place), put(variance, self._place)


class ObsNormalizer:
    """Observations of mean 0 and standard deviation 1, within -+10.

    The statistics stand still until `update`, so that all observations of a rollout, when acted on
    and when learned from, are seen alike. They stay where they are in memory, so that a CUDA graph
    of a call sees those of the last update.
    """

    def __init__(self, shape: tuple[int, ...], place: Place = None) -> None:
        self.moments = RunningMoments(shape, place)
        self._mean: Array = put(np.empty(shape), place)
        self._scale: Array = put(np.empty(shape), place)
        self._follow()

    def __call__(self, obs: Array) -> Array:
        mean, scale, most = self.terms()
        return cast(library(obs).clip((obs - mean) * scale, -most, most), "float32")

    def terms(self) -> tuple[Array, Array, float]:
        """mean, scale and most of clip((obs - mean) * scale, -most, most)."""
        return self._mean, self._scale, MOST

    def update(self, obs: Array) -> None:
        """Add observations [k, ...]."""
        self.moments.update(obs)
        self._follow()

    def state(self) -> dict[str, Any]:
        return self.moments.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.moments.load_state(state)
        self._follow()

    def _follow(self) -> None:
        """Let the terms be those of the moments."""
        variance = self.moments.variance
        self._mean[...] = self.moments.mean
        self._scale[...] = 1 / library(variance).sqrt(variance + _EPSILON)


class RewardScaler:
    """Rewards divided by the standard deviation of the discounted return so far, within -+10.

    The return runs forward, as an agent would have summed it: G_t = gamma (1 - done_{t-1}) G_{t-1}
    + r_t. Rewards keep their sign and their mean is not removed: that would change the task.
    """

    def __init__(self, num_envs: int, gamma: float, place: Place = None) -> None:
        self.moments = RunningMoments((), place)
        self._place = place
        self._gamma = gamma
        self._running: Array = put(np.zeros(num_envs), place)
        self.keep()

    def scale(self, rewards: Array, done: Array, valid: NDArray[np.bool_] | None) -> None:
        """Count rewards [T, N] of a rollout, then divide them in place."""
        xp = library(rewards)
        returns = running_returns(rewards, done, self._running, self._gamma)
        self._running = xp.where(done[-1], 0.0, returns[-1])
        self.moments.update(returns.reshape(-1) if valid is None else returns[valid])
        scaled = cast(rewards, "float64") / xp.sqrt(self.moments.variance + _EPSILON)
        rewards[:] = xp.clip(scaled, -MOST, MOST)

    def keep(self) -> None:
        """Remember the statistics, for `undo`."""
        self._kept = copy(self.moments), copy(self._running)

    def undo(self) -> None:
        """Be as when `keep` was called."""
        self.moments, self._running = self._kept

    def restart(self) -> None:
        """Forget the open episodes: the environments start new ones."""
        self._running[:] = 0.0

    def state(self) -> dict[str, Any]:
        return {"moments": self.moments.state(), "running": self._running.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.moments.load_state(state["moments"])
        self._running = put(np.array(state["running"], np.float64), self._place)
