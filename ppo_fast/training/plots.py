"""learning_curve.png: the return of a run over its steps."""

from pathlib import Path

from ppo_fast.config import TrainConfig
from ppo_fast.envs.make import reward_threshold
from ppo_fast.extras import require
from ppo_fast.training.metrics import Row, columns


def plot_learning_curve(path: Path, config: TrainConfig, rows: list[Row]) -> None:
    """Draw the mean return of the last 100 episodes against environment steps."""
    # An own figure and the Agg canvas: a caller's pyplot state and backend stay as they are.
    figure_module = require("matplotlib.figure")
    data = columns(rows)
    figure = figure_module.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    if data:
        axes.plot(data["steps"], data["mean_return"], label="mean return of the last 100 episodes")
    threshold = reward_threshold(config.env_id)
    if threshold is not None:
        axes.axhline(threshold, color="grey", linestyle="--", linewidth=1, label="solved")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return")
    axes.set_title(f"{config.env_id}, {config.algorithm}, seed {config.seed}")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
