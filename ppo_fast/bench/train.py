"""Training throughput on CartPole-v1 with rl-zoo's hyperparameters: whole runs, side by side."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ppo_fast.bench.timing import table
from ppo_fast.config import TrainConfig

if TYPE_CHECKING:
    from ppo_fast.training import TrainResult


@dataclass(frozen=True)
class TrainedRun:
    """One run: steps per second of training alone, and the return it reached."""

    steps_per_second: float
    eval_mean_return: float


# Trains with a seed and a number of torch threads.
Trainer = Callable[[int, int], TrainedRun]

TOTAL_STEPS = 100_000
THREADS = (1, 2)


def rl_zoo_config(seed: int, torch_threads: int, total_steps: int = TOTAL_STEPS) -> TrainConfig:
    """rl-baselines3-zoo's PPO hyperparameters for CartPole-v1."""
    return TrainConfig(
        env_id="CartPole-v1",
        seed=seed,
        total_steps=total_steps,
        num_envs=8,
        num_steps=32,
        num_epochs=20,
        minibatch_size=256,
        learning_rate=1e-3,
        anneal_lr=True,
        gamma=0.98,
        gae_lambda=0.8,
        clip_range=0.2,
        anneal_clip_range=True,
        entropy_coef=0.0,
        value_coef=0.5,
        max_grad_norm=0.5,
        torch_threads=torch_threads,
    )


def train_ours(seed: int, torch_threads: int) -> TrainedRun:
    """A whole run of ours in a folder that is thrown away."""
    result = _train_and_forget(rl_zoo_config(seed, torch_threads))
    assert result.evaluation is not None
    rate = float(result.metrics["steps_per_second"][-1])
    return TrainedRun(rate, result.evaluation.mean_return)


def _train_and_forget(config: TrainConfig) -> "TrainResult":
    from ppo_fast.training import train

    with tempfile.TemporaryDirectory() as folder:
        return train(replace(config, out=Path(folder) / "run"))


def bench_train(
    *, peers: Mapping[str, Trainer] | None = None, rounds: int = 1
) -> dict[str, list[TrainedRun]]:
    """Print and return whole runs of each contender, taking turns.

    The first seed is 1; every round has the next one. Each contender is judged by the better of its
    thread counts.
    """
    trainers: dict[str, Trainer] = {"ppo_fast": train_ours, **(peers or {})}
    results: dict[str, list[TrainedRun]] = {}
    for seed in range(1, rounds + 1):
        for threads in THREADS:
            for name, trainer in trainers.items():
                key = f"{name}, {threads} torch thread{'s' if threads > 1 else ''}"
                results.setdefault(key, []).append(trainer(seed, threads))
    best = {
        name: max(_median(runs) for key, runs in results.items() if key.startswith(f"{name},"))
        for name in trainers
    }
    rows = [
        [key, f"{_median(runs):,.0f}", ", ".join(f"{r.eval_mean_return:.0f}" for r in runs)]
        for key, runs in results.items()
    ]
    title = f"CartPole-v1, rl-zoo's hyperparameters, {TOTAL_STEPS:,} steps"
    print(table(title, ["", "steps/s", "greedy return"], rows))
    for name in best:
        if name != "ppo_fast":
            print(f"ppo_fast / {name}, best threads each: {best['ppo_fast'] / best[name]:.2f}x")
    bench_preset()
    return results


def bench_preset(seeds: Sequence[int] = (1, 2, 3, 4, 5)) -> None:
    """Print what `ppo-fast train CartPole-v1` reaches, seed by seed."""
    rows = []
    for seed in seeds:
        result = _train_and_forget(TrainConfig.preset("CartPole-v1", seed=seed))
        assert result.evaluation is not None
        rows.append(
            [
                str(seed),
                f"{result.metrics['steps'][-1]:,.0f}",
                f"{result.metrics['seconds'][-1]:.1f}",
                f"{result.evaluation.mean_return:.1f}",
            ]
        )
    print(table("CartPole-v1, preset", ["seed", "steps", "seconds", "greedy return"], rows))


def _median(runs: list[TrainedRun]) -> float:
    rates = sorted(run.steps_per_second for run in runs)
    return rates[len(rates) // 2]
