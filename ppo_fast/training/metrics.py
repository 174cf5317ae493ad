"""What a run measures: finished episodes, metrics.csv, TensorBoard events."""

import csv
import math
import os
from collections import deque
from copy import copy
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ppo_fast.arrays import Array, Place
from ppo_fast.rollout import Rollout
from ppo_fast.training.events import EventFile

# Columns that depend on the clock: two runs of one seed are equal in all others.
TIME_COLUMNS = (
    "seconds",
    "steps_per_second",
    "env_seconds",
    "policy_seconds",
    "update_seconds",
)

Row = dict[str, float]


class EpisodeTracker:
    """Returns and lengths of finished episodes, across rollouts.

    Attributes:
        count: Episodes so far.
        return_sum: Sum of their returns. `return_sum / count` is the mean return of the whole run;
            the difference quotient of two rows of metrics.csv, of the updates between them.
    """

    def __init__(self, num_envs: int, window: int = 100) -> None:
        self.count = 0
        self.return_sum = 0.0
        self._returns: deque[float] = deque(maxlen=window)
        self._lengths: deque[int] = deque(maxlen=window)
        self._open_return: Array
        self._open_length: Array
        self._open(np.zeros(num_envs), np.zeros(num_envs, np.int64))
        self._kept: tuple[Any, ...] = ()

    @property
    def mean_return(self) -> float:
        """Mean return of the last 100 episodes; NaN before the first has ended."""
        return fmean(self._returns) if self._returns else float("nan")

    @property
    def mean_length(self) -> float:
        """Mean length of the last 100 episodes; NaN before the first has ended."""
        return fmean(self._lengths) if self._lengths else float("nan")

    @property
    def is_full(self) -> bool:
        """Whether the window of the means holds its 100 episodes."""
        return len(self._returns) == self._returns.maxlen

    def add(self, rollout: Rollout) -> None:
        """Count the episodes that ended in a rollout, in the order in which they did."""
        done = rollout.terminated | rollout.truncated
        if rollout.valid is not None:
            done &= rollout.valid
        first = 0
        for t in np.flatnonzero(done.any(axis=1)).tolist():
            self._play(rollout.rewards[first : t + 1])
            first = t + 1
            ended = done[t]
            returns = self._open_return[ended].tolist()
            self._returns.extend(returns)
            self.return_sum += sum(returns)
            self._lengths.extend(self._open_length[ended].tolist())
            self.count += len(returns)
            self._open_return[ended] = 0
            self._open_length[ended] = 0
        self._play(rollout.rewards[first:])

    def _play(self, rewards: NDArray[np.float32]) -> None:
        """Add rewards [k, N] of steps within which no episode ended."""
        self._open_return += rewards.sum(axis=0, dtype=np.float64)
        self._open_length += len(rewards)

    def settle(self) -> None:
        """Wait for what `add` has counted, where it did not."""

    def keep(self) -> None:
        """Remember all this, for `undo`."""
        # `add` changes what it holds, but on a device, where it replaces it.
        kept = (self._returns, self._lengths, self._open_return, self._open_length)
        self._kept = (self.count, self.return_sum, *map(copy, kept))

    def undo(self) -> None:
        """Be as when `keep` was called."""
        self.count, self.return_sum, self._returns, self._lengths, *opened = self._kept
        self._open_return, self._open_length = opened

    def restart(self) -> None:
        """Forget the episodes that have not ended: the environments start new ones."""
        self._open_return[:] = 0
        self._open_length[:] = 0

    def state(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "return_sum": self.return_sum,
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "open_return": self._open_return.tolist(),
            "open_length": [int(length) for length in self._open_length.tolist()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self.return_sum = state["return_sum"]
        self._returns.extend(state["returns"])
        self._lengths.extend(state["lengths"])
        self._open(
            np.array(state["open_return"], np.float64), np.array(state["open_length"], np.int64)
        )

    def _open(self, returns: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
        """Go on from what episodes under way have brought so far."""
        self._open_return, self._open_length = returns, lengths


def make_episode_tracker(num_envs: int, place: Place) -> EpisodeTracker:
    """The tracker of rollouts at a place."""
    if place is None:
        return EpisodeTracker(num_envs)
    from ppo_fast.training.cuda_metrics import CudaEpisodeTracker  # which needs torch

    return CudaEpisodeTracker(num_envs, place)


class MetricsWriter:
    """A row per update into metrics.csv and TensorBoard."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        """Start with the rows of the run so far (none for a new one)."""
        self.rows: list[Row] = []
        # The rows of a resumed run are written anew; a crash leaves the old file or the new.
        path = folder / "metrics.csv"
        temporary = path.with_suffix(".tmp")
        self._file: TextIO = temporary.open("w", newline="")
        self._csv = csv.writer(self._file)
        self._events: EventFile | None = None
        for row in rows:
            self.add(row)
        self.flush()
        temporary.replace(path)
        self._events = EventFile(folder)
        if rows:
            self._events.restart_after(rows[-1])

    def add(self, row: Row) -> None:
        """Append a row; every row has the columns of the first."""
        names = (self.rows or [row])[0]
        if not self.rows:
            self._csv.writerow(names)
        elif row.keys() != names.keys():
            raise ValueError(f"a row has the columns {[*row]}, the first {[*names]}")
        self._csv.writerow([row[name] for name in names])
        self.rows.append(row)
        if self._events is not None:
            self._events.add(row)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if self._file.closed:
            return
        self.flush()
        self._file.close()
        if self._events is not None:
            self._events.close()


def read_metrics(folder: Path, updates: int | None = None) -> list[Row]:
    """The first `updates` rows of a run's metrics.csv; None for all, of a finished run.

    Times that an older version did not write are NaN.
    """
    path = folder / "metrics.csv"
    with path.open(newline="") as file:
        # A process that was killed may have left half a row behind these.
        rows = [
            {name: _number(value) for name, value in row.items()}
            for row in islice(csv.DictReader(file), updates)
        ]
    for row in rows:
        row.update({name: math.nan for name in TIME_COLUMNS if name not in row})
    if updates is not None and len(rows) < updates:
        raise ValueError(f"{path} has {len(rows)} rows but its checkpoint is of update {updates}")
    return rows


def _number(text: str) -> float:
    # Counts stay integers, so that the file of a resumed run is that of an uninterrupted one.
    return int(text) if text.isdecimal() else float(text)


def columns(rows: list[Row]) -> dict[str, NDArray[np.float64]]:
    """Rows as arrays by name, each [updates]."""
    if not rows:
        return {}
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
