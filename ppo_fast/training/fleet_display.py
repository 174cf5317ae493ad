"""How many runs at once show themselves: bars in a terminal, lines elsewhere, or nothing."""

import math
import sys
import time
from typing import Any, Protocol

from ppo_fast.config import TrainConfig
from ppo_fast.extras import require
from ppo_fast.training.metrics import Row
from ppo_fast.training.output import say


class FleetDisplay(Protocol):
    """Told of every run by its name; `end` gets the last row, None where it is not known."""

    def start(self, name: str, config: TrainConfig) -> None: ...

    def update(self, name: str, row: Row) -> None: ...

    def end(self, name: str, row: Row | None, how: str, error: str) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def start(self, name: str, config: TrainConfig) -> None:
        pass

    def update(self, name: str, row: Row) -> None:
        pass

    def end(self, name: str, row: Row | None, how: str, error: str) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """A plain line per run every `seconds`, and one when it ends."""

    def __init__(self, total: int, finished: int, seconds: float = 5.0) -> None:
        self._total = total
        self._finished = finished
        self._seconds = seconds
        self._next: dict[str, float] = {}
        if finished:
            say(_kept(finished, total))

    def start(self, name: str, config: TrainConfig) -> None:
        self._next[name] = time.monotonic() + self._seconds

    def update(self, name: str, row: Row) -> None:
        if time.monotonic() >= self._next[name]:
            self._next[name] = time.monotonic() + self._seconds
            say(f"{name}: {_figures(row)}")

    def end(self, name: str, row: Row | None, how: str, error: str) -> None:
        self._finished += how == "finished"
        say(_ending(name, row, how, error, self._finished, self._total))

    def close(self) -> None:
        pass


class Bars:
    """A bar for all runs and one for each that is under way; what has ended is a line above."""

    def __init__(self, total: int, finished: int) -> None:
        progress = require("rich.progress")
        self._total = total
        self._finished = finished
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.TaskProgressColumn(),
            progress.TextColumn("{task.fields[figures]}"),
        )
        self._all = self._bars.add_task("all runs", total=total, completed=finished, figures="")
        self._tasks: dict[str, Any] = {}
        if finished:
            self._print(_kept(finished, total))
        self._bars.start()

    def start(self, name: str, config: TrainConfig) -> None:
        steps = config.rounded_steps
        self._tasks[name] = self._bars.add_task(name, total=steps, figures="")

    def update(self, name: str, row: Row) -> None:
        self._bars.update(self._tasks[name], completed=row["steps"], figures=_figures(row))

    def end(self, name: str, row: Row | None, how: str, error: str) -> None:
        self._finished += how == "finished"
        self._bars.remove_task(self._tasks.pop(name))
        self._bars.update(self._all, completed=self._finished)
        self._print(_ending(name, row, how, error, self._finished, self._total))

    def close(self) -> None:
        self._bars.stop()

    def _print(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False)


def make_fleet_display(show: bool, total: int, finished: int) -> FleetDisplay:
    """The display that fits where standard output goes, for runs of which some are finished."""
    if not show:
        return Silent()
    return (Bars if sys.stdout.isatty() else Lines)(total, finished)


def _kept(finished: int, total: int) -> str:
    return f"{finished} of {total} runs are finished already"


def _figures(row: Row) -> str:
    mean_return = row["mean_return"]
    shown = "-" if math.isnan(mean_return) else f"{mean_return:.1f}"
    return f"{int(row['steps']):,} steps, return {shown}"


def _ending(name: str, row: Row | None, how: str, error: str, finished: int, total: int) -> str:
    """The line of a run that has ended."""
    figures = "" if row is None else f"{_figures(row)}, "
    words = {
        "finished": f"finished ({finished} of {total})",
        "stopped": "stopped",
        "failed": f"failed: {error}",
    }
    return f"{name}: {figures}{words[how]}"
