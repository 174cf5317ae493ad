"""CudaEpisodeTracker: finished episodes of a rollout on a device, counted there."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_fast.arrays import put
from ppo_fast.rollout import Rollout
from ppo_fast.running_returns import running_returns
from ppo_fast.training.metrics import EpisodeTracker


class CudaEpisodeTracker(EpisodeTracker):
    """See `EpisodeTracker`. `add` waits for nothing; what it counted is known after `settle`."""

    def __init__(self, num_envs: int, place: torch.device, window: int = 100) -> None:
        self._place = place
        self._window = window
        self._news: Tensor | None = None
        super().__init__(num_envs, window)

    def add(self, rollout: Rollout) -> None:
        """Count the episodes that ended in a rollout."""
        done = rollout.terminated | rollout.truncated
        lengths = running_returns(torch.ones_like(rollout.rewards), done, self._open_length, 1.0)
        returns = running_returns(rollout.rewards, done, self._open_return, 1.0)
        self._open_length = torch.where(done[-1], 0.0, lengths[-1])
        self._open_return = torch.where(done[-1], 0.0, returns[-1])
        # The last ones, as many as the window holds, the latest first; -1 where there are fewer.
        places = torch.arange(done.numel(), device=self._place)
        places = torch.where(done.reshape(-1), places, -1)
        last = places.topk(min(self._window, len(places))).values.clamp(min=0)
        total = torch.where(done, returns, 0.0).sum()
        columns = [x.reshape(-1).index_select(0, last) for x in (returns, lengths)]
        self._news = torch.cat([done.sum().double()[None], total[None], *columns])

    def settle(self) -> None:
        """Wait for what `add` has counted."""
        if self._news is None:
            return
        count, total, *columns = self._news.tolist()
        self._news = None
        ended = min(int(count), self._window)
        returns, lengths = columns[: len(columns) // 2], columns[len(columns) // 2 :]
        self.count += int(count)
        self.return_sum += total
        self._returns.extend(reversed(returns[:ended]))
        self._lengths.extend(int(length) for length in reversed(lengths[:ended]))

    def _open(self, returns: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
        # Lengths of up to 2^53 steps are exact.
        self._open_return = put(returns, self._place)
        self._open_length = put(lengths.astype(np.float64), self._place)
