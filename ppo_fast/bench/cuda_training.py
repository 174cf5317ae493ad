"""Steps per second of whole training runs on a GPU, and of their environments alone.

A run is `ppo_fast.train` with all that belongs to it; its first updates, in which graphs are
captured, are left out.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ppo_fast.bench.timing import table
from ppo_fast.config import TrainConfig
from ppo_fast.envs.cuda import CudaVectorEnv
from ppo_fast.extras import require
from ppo_fast.training import train

ENV_ID = "CartPole-v1"
# [num_envs, num_steps]
SHAPES = ((4096, 32), (65536, 32))
_MINIBATCHES = 4
_EPOCHS = 4
_UPDATES = 13
_NOT_COUNTED = 3


@dataclass(frozen=True)
class TrainingResult:
    """Rates of one run."""

    num_envs: int
    num_steps: int
    steps_per_second: float
    """Environment steps of training, by the clock."""
    env_steps_per_second: float
    """Of the environments alone, with the same action every time."""
    rollout_share: float
    """Part of an update's time in which rollouts are played."""


def measure_training(
    seconds_of: Callable[[Callable[[], object]], float],
    *,
    device: str = "cuda",
    shapes: Sequence[tuple[int, int]] = SHAPES,
    updates: int = _UPDATES,
) -> list[TrainingResult]:
    """Train CartPole-v1 with ppo-clip, four epochs of four minibatches and two layers of 64.

    `seconds_of` says how long a device takes for what a call starts.
    """
    return [
        _measure(seconds_of, device, num_envs, num_steps, updates) for num_envs, num_steps in shapes
    ]


def _measure(
    seconds_of: Callable[[Callable[[], object]], float],
    device: str,
    num_envs: int,
    num_steps: int,
    updates: int,
) -> TrainingResult:
    samples = num_envs * num_steps
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            ENV_ID,
            device=device,
            num_envs=num_envs,
            num_steps=num_steps,
            num_epochs=_EPOCHS,
            minibatch_size=-(-samples // _MINIBATCHES),
            total_steps=updates * samples,
            eval_episodes=0,
            out=Path(folder) / "run",
        )
        metrics = train(config).metrics
    if not metrics["mean_length"][-1] > 0:
        raise AssertionError("no episode has ended in a run that is to be timed")
    first, last = _NOT_COUNTED - 1, updates - 1
    seconds = metrics["seconds"][last] - metrics["seconds"][first]
    rollouts = statistics.fmean(metrics["policy_seconds"][_NOT_COUNTED:])
    whole = rollouts + statistics.fmean(metrics["update_seconds"][_NOT_COUNTED:])
    return TrainingResult(
        num_envs=num_envs,
        num_steps=num_steps,
        steps_per_second=float((last - first) * samples / seconds),
        env_steps_per_second=num_envs / seconds_of(_env_step(num_envs, device)),
        rollout_share=rollouts / whole,
    )


def _env_step(num_envs: int, device: str) -> Any:
    torch = require("torch")
    env = CudaVectorEnv(ENV_ID, num_envs, device=device, autoreset_mode="SameStep")
    env.reset(seed=0)
    actions = torch.zeros(num_envs, dtype=torch.int64, device=env.device)
    return partial(env.step_into, actions, *env.step(actions)[:4])


def training_cells(results: Sequence[TrainingResult]) -> tuple[list[str], list[list[str]]]:
    """A table of the results."""
    header = ["training", "steps", "M steps/s", "envs alone, M steps/s", "rollouts"]
    rows = [
        [
            f"{ENV_ID}, {r.num_envs:,}",
            str(r.num_steps),
            f"{r.steps_per_second / 1e6:,.2f}",
            f"{r.env_steps_per_second / 1e6:,.0f}",
            f"{r.rollout_share:.0%}",
        ]
        for r in results
    ]
    return header, rows


def show_training(results: Sequence[TrainingResult]) -> None:
    """Print the table."""
    if results:
        print("\n" + table("", *training_cells(results)))
