"""Plots of returns over environment steps: of one run, and of the rungs of a ladder."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast.config import TrainConfig
from ppo_fast.envs.make import reward_threshold
from ppo_fast.extras import require
from ppo_fast.training.metrics import Row, columns

# Paul Tol's "muted" scheme: nine colours that differ for every kind of colour vision. Neighbours
# on a ladder differ in their dashes as well.
_COLOURS = (
    *("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE"),
    *("#882255", "#44AA99", "#999933", "#AA4499"),
)
_DASHES = ("-", "--", "-.")
_FEW = 10  # points of a curve


def plot_learning_curve(path: Path, config: TrainConfig, rows: list[Row]) -> None:
    """Draw the mean return of the last 100 episodes against environment steps."""
    # An own figure and the Agg canvas: a caller's pyplot state and backend stay as they are.
    figure_module = require("matplotlib.figure")
    data = columns(rows)
    figure = figure_module.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    if data:
        returns = data["mean_return"]
        few = np.count_nonzero(~np.isnan(returns)) < _FEW  # of which one alone is no line
        label = "mean return of the last 100 episodes"
        axes.plot(data["steps"], returns, marker="o" if few else "", label=label)
        if "eval_return" in data:
            axes.plot(data["steps"], data["eval_return"], "x", label="greedy, evaluated")
    _label(axes, config.env_id)
    axes.set_title(f"{config.env_id}, {config.algorithm}, seed {config.seed}")
    axes.legend(loc="best")
    figure.savefig(path, dpi=120)


def plot_ladder(path: Path, env_id: str, curves: Mapping[str, Sequence[list[Row]]]) -> None:
    """Draw a curve per title: the mean over its runs, and a band from the lowest to the highest.

    `curves` has the rows of each run, the titles in the order of the legend.
    """
    figure = require("matplotlib.figure").Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots()
    styles = zip(cycle(_COLOURS), cycle(_DASHES), strict=False)
    for (title, runs), (colour, dashes) in zip(curves.items(), styles, strict=False):
        steps, returns = _on_common_steps(runs)
        axes.plot(steps, returns.mean(axis=0), dashes, color=colour, linewidth=2, label=title)
        if len(runs) > 1:
            lowest, highest = returns.min(axis=0), returns.max(axis=0)
            axes.fill_between(steps, lowest, highest, color=colour, alpha=0.12, linewidth=0)
    _label(axes, env_id)
    counts = sorted({len(runs) for runs in curves.values()})
    seeds = "1 seed" if counts == [1] else f"{' or '.join(map(str, counts))} seeds"
    axes.set_title(
        f"{env_id}: mean return of the last 100 training episodes\n"
        f"mean of {seeds}, band from the lowest to the highest"
    )
    axes.margins(x=0.01)
    figure.legend(loc="outside right upper", handlelength=3)
    figure.savefig(path, dpi=120)


def _on_common_steps(runs: Sequence[list[Row]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps [k] and the return of each run there [runs, k], from where all runs have one."""
    data = [columns(rows) for rows in runs]
    steps = np.unique(np.concatenate([run["steps"] for run in data]))
    returns = np.empty((len(runs), len(steps)))
    for k, run in enumerate(data):
        known = ~np.isnan(run["mean_return"])
        known[-1] = True  # interp needs a point, be it NaN
        x, y = run["steps"][known], run["mean_return"][known]
        returns[k] = np.interp(steps, x, y, left=np.nan, right=np.nan)
    common = ~np.isnan(returns).any(axis=0)
    return steps[common], returns[:, common]


def _label(axes: Any, env_id: str) -> None:
    threshold = reward_threshold(env_id)
    if threshold is not None:
        axes.axhline(threshold, color="grey", linestyle="--", linewidth=1, label="solved")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return")
    axes.grid(alpha=0.3)
