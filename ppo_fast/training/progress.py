"""How a run shows itself: a bar in a terminal, a line every few seconds elsewhere, or nothing."""

import math
import sys
import time
from typing import Protocol

from ppo_fast.config import TrainConfig
from ppo_fast.extras import require
from ppo_fast.training.metrics import Row
from ppo_fast.training.output import say


class Display(Protocol):
    """Told of every update."""

    def update(self, row: Row) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def update(self, row: Row) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """A plain line every `seconds`."""

    def __init__(self, config: TrainConfig, seconds: float = 2.0) -> None:
        self._total = config.rounded_steps
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        self._last: Row | None = None
        self._score = math.nan

    def update(self, row: Row) -> None:
        self._last = row
        self._score = _last_score(row, self._score)
        if time.monotonic() >= self._next:
            self._show(row)

    def close(self) -> None:
        if self._last is not None:
            self._show(self._last)

    def _show(self, row: Row) -> None:
        self._last = None
        self._next = time.monotonic() + self._seconds
        say(f"{int(row['steps']):>9,} / {self._total:,} steps  {_figures(row, self._score)}")


class Bar:
    """A rich progress bar, and below it the figures of the last update."""

    def __init__(self, config: TrainConfig) -> None:
        progress = require("rich.progress")
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.TaskProgressColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
        )
        self._task = self._progress.add_task(config.env_id, total=config.rounded_steps)
        self._text = require("rich.text").Text()
        self._score = math.nan
        group = require("rich.console").Group(self._progress, self._text)
        self._live = require("rich.live").Live(group, refresh_per_second=5)
        self._live.start()

    def update(self, row: Row) -> None:
        self._progress.update(self._task, completed=row["steps"])
        self._score = _last_score(row, self._score)
        self._text.plain = _figures(row, self._score)

    def close(self) -> None:
        self._live.stop()


def make_display(config: TrainConfig, show: bool) -> Display:
    """The display that fits where standard output goes."""
    if not show:
        return Silent()
    if not sys.stdout.isatty():
        return Lines(config)
    return Bar(config)


def _last_score(row: Row, before: float) -> float:
    """What the last evaluation gave, of a run that has some; else NaN."""
    score = row.get("eval_return", math.nan)
    return before if math.isnan(score) else score


def _figures(row: Row, score: float) -> str:
    parts = [row[f"{name}_seconds"] for name in ("env", "policy", "update")]
    env, policy, update = (part / sum(parts) for part in parts)
    mean_return = row["mean_return"]
    shown = "-" if math.isnan(mean_return) else f"{mean_return:.1f}"
    evaluated = "" if math.isnan(score) else f"evaluated {score:.1f}  "
    return (
        f"return {shown}  {evaluated}{row['steps_per_second']:,.0f} steps/s  kl {row['kl']:.4f}  "
        f"samples worth {row['effective_sample_size']:.0%}  entropy {row['entropy']:.2f}  "
        f"ev {row['explained_variance']:.2f}  "
        f"time: env {env:.0%} policy {policy:.0%} update {update:.0%}"
    )
