"""Running statistics of observations and returns: float64 moments, int64 counts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 10.0
_EPSILON = 1e-8


class RunningMoments:
    """Mean and variance of all values seen, merged batch by batch.

    T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979).

    Attributes:
        count: Values seen, a Python integer.
        mean, variance: float64, of the shape of one value. 0 and 1 before the first.
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self.mean = np.zeros(shape)
        self.variance = np.ones(shape)

    def update(self, batch: NDArray[Any]) -> None:
        """Add values [k, ...]."""
        new = len(batch)
        if new == 0:
            return
        mean = batch.mean(axis=0, dtype=np.float64)
        variance = batch.var(axis=0, dtype=np.float64)
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
        if mean.shape != self.mean.shape or variance.shape != self.mean.shape:
            raise ValueError(f"moments of shape {self.mean.shape} cannot take {mean.shape}")
        self.count, self.mean, self.variance = int(state["count"]), mean, variance


class ObsNormalizer:
    """Observations of mean 0 and standard deviation 1, within -+10.

    The statistics stand still until `update`, so that all observations of a rollout, when acted on
    and when learned from, are seen alike.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.moments = RunningMoments(shape)

    def __call__(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, scale, most = self.terms()
        return np.clip((obs - mean) * scale, -most, most).astype(np.float32)

    def terms(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """mean, scale and most of clip((obs - mean) * scale, -most, most)."""
        return self.moments.mean, 1 / np.sqrt(self.moments.variance + _EPSILON), _MOST

    def update(self, obs: NDArray[np.float32]) -> None:
        """Add observations [k, ...]."""
        self.moments.update(obs)


class RewardScaler:
    """Rewards divided by the standard deviation of the discounted return so far, within -+10.

    The return runs forward, as an agent would have summed it: G_t = gamma (1 - done_{t-1}) G_{t-1}
    + r_t. Rewards keep their sign and their mean is not removed: that would change the task.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.moments = RunningMoments()
        self._gamma = gamma
        self._running = np.zeros(num_envs)

    def scale(
        self, rewards: NDArray[np.float32], done: NDArray[np.bool_], valid: NDArray[np.bool_] | None
    ) -> None:
        """Count rewards [T, N] of a rollout, then divide them in place."""
        returns = np.empty(rewards.shape)
        for t in range(len(rewards)):
            self._running = self._gamma * self._running + rewards[t]
            returns[t] = self._running
            self._running[done[t]] = 0.0
        self.moments.update(returns.reshape(-1) if valid is None else returns[valid])
        rewards /= np.sqrt(self.moments.variance + _EPSILON)
        np.clip(rewards, -_MOST, _MOST, out=rewards)

    def restart(self) -> None:
        """Forget the open episodes: the environments start new ones."""
        self._running[:] = 0.0

    def state(self) -> dict[str, Any]:
        return {"moments": self.moments.state(), "running": self._running.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.moments.load_state(state["moments"])
        self._running = np.array(state["running"], np.float64)
