"""Training throughput with one set of hyperparameters: whole runs, side by side.

CartPole-v1 with those of rl-zoo, and HalfCheetah-v5 through Gymnasium with stable-baselines3's
defaults, where most of the time is physics. Every contender is measured with one and with two
threads and judged by the better. The returns say that all of them learn.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ppo_fast.bench.report import write_report
from ppo_fast.bench.timing import table
from ppo_fast.config import TrainConfig
from ppo_fast.extras import require_train

if TYPE_CHECKING:
    from ppo_fast.training import TrainResult


@dataclass(frozen=True)
class TrainedRun:
    """One run: steps per second of training alone, and the return it reached."""

    steps_per_second: float
    eval_mean_return: float


# Trains as a config says, whose seed is set, with a number of threads.
Trainer = Callable[[TrainConfig, int], TrainedRun]

THREADS = (1, 2)
OURS = "ppo_fast"
TORCH_ENGINE = "ppo_fast, torch engine"
SB3 = "stable-baselines3"
CLEANRL = "CleanRL-style loop"
_PACKAGES = ("numpy", "torch", "gymnasium", "stable-baselines3", "mujoco")


def rl_zoo_config(seed: int, torch_threads: int, total_steps: int) -> TrainConfig:
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


def halfcheetah_config(total_steps: int) -> TrainConfig:
    """The defaults of stable-baselines3's PPO on HalfCheetah-v5, one environment."""
    return TrainConfig(
        env_id="HalfCheetah-v5",
        total_steps=total_steps,
        num_envs=1,
        num_steps=2048,
        num_epochs=10,
        minibatch_size=64,
        learning_rate=3e-4,
        anneal_lr=False,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        entropy_coef=0.0,
        value_coef=0.5,
        max_grad_norm=0.5,
        eval_episodes=10,
    )


def train_native(config: TrainConfig, threads: int) -> TrainedRun:
    """Ours, whose kernels have the threads."""
    return _train_ours(config, engine="native", num_threads=threads)


def train_torch_engine(config: TrainConfig, threads: int) -> TrainedRun:
    """Ours with torch's operators, which have the threads."""
    return _train_ours(config, engine="torch", torch_threads=threads)


def _train_ours(
    config: TrainConfig,
    *,
    engine: Literal["native", "torch"],
    num_threads: int | None = None,
    torch_threads: int = 1,
) -> TrainedRun:
    result = _train_and_forget(
        replace(config, engine=engine, num_threads=num_threads, torch_threads=torch_threads)
    )
    assert result.evaluation is not None
    rate = float(result.metrics["steps_per_second"][-1])
    return TrainedRun(rate, result.evaluation.mean_return)


def _train_and_forget(config: TrainConfig) -> "TrainResult":
    """A whole run in a folder that is thrown away."""
    from ppo_fast.training import train

    with tempfile.TemporaryDirectory() as folder:
        return train(replace(config, out=Path(folder) / "run"))


def train_sb3(config: TrainConfig, threads: int) -> TrainedRun:
    """stable-baselines3's PPO with the same hyperparameters."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    from ppo_fast.training.torch_threads import torch_threads

    def schedule(first: float, falls: bool) -> float | Callable[[float], float]:
        return (lambda left: left * first) if falls else first

    with torch_threads(threads):
        env = make_vec_env(config.env_id, n_envs=config.num_envs, seed=config.seed)
        model = PPO(
            "MlpPolicy",
            env,
            n_steps=config.num_steps,
            batch_size=config.minibatch_size,
            n_epochs=config.num_epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            ent_coef=config.entropy_coef,
            vf_coef=config.value_coef,
            max_grad_norm=math.inf if config.max_grad_norm is None else config.max_grad_norm,
            learning_rate=schedule(config.learning_rate, config.anneal_lr),
            clip_range=schedule(config.clip_range, config.anneal_clip_range),
            policy_kwargs={"net_arch": list(config.hidden_sizes)},
            seed=config.seed,
            device="cpu",
        )
        start = time.perf_counter()
        model.learn(config.total_steps)
        seconds = time.perf_counter() - start
        env.close()
        episodes = config.eval_episodes
        env = make_vec_env(config.env_id, n_envs=min(10, episodes), seed=1000)
        scores: Any = evaluate_policy(model, env, n_eval_episodes=episodes, deterministic=True)
        env.close()
    return TrainedRun(model.num_timesteps / seconds, float(scores[0]))


def train_cleanrl(config: TrainConfig, threads: int) -> TrainedRun:
    """The loop of `cleanrl_loop.py`."""
    from ppo_fast.bench.cleanrl_loop import greedy_return, train
    from ppo_fast.training.torch_threads import torch_threads

    with torch_threads(threads):
        rate, agent = train(config)
        score = greedy_return(agent, config.env_id, episodes=config.eval_episodes, seed=1000)
    return TrainedRun(rate, score)


@dataclass(frozen=True)
class TrainComparison:
    """Runs with the same hyperparameters.

    Attributes:
        config: What all of them share.
        seeds: One run of each, with every number of threads.
        runs: By contender and by threads, a run for each seed.
    """

    config: TrainConfig
    seeds: tuple[int, ...]
    runs: dict[str, dict[int, list[TrainedRun]]]

    def rate(self, name: str, threads: int) -> float:
        """Steps per second, the median over the seeds."""
        return statistics.median(run.steps_per_second for run in self.runs[name][threads])

    def best_threads(self, name: str) -> int:
        """The number of threads that a contender is faster with."""
        return max(self.runs[name], key=lambda threads: self.rate(name, threads))

    def ratio(self, name: str) -> float:
        """Our steps per second over a contender's, best threads each."""
        ours = self.rate(OURS, self.best_threads(OURS))
        return ours / self.rate(name, self.best_threads(name))

    def returns(self, name: str, threads: int) -> list[float]:
        """Greedy returns, by seed."""
        return [run.eval_mean_return for run in self.runs[name][threads]]


def bench_train(
    *,
    seeds: int,
    total_steps: int,
    halfcheetah_steps: int,
    preset_seeds: int,
    peers: Mapping[str, Trainer] | None = None,
    out: Path | None = None,
) -> list[TrainComparison]:
    """Print and return whole runs of each contender, taking turns.

    Seeds are 1 to `seeds`. `total_steps` are those of CartPole, and 0 of `halfcheetah_steps` leaves
    that out; `peers` are more contenders on CartPole. CartPole's preset follows, with seeds 1 to
    `preset_seeds`. `out` is a path without suffix: to write
    the results to as .json, with facts about the machine.
    """
    require_train()
    ours: dict[str, Trainer] = {OURS: train_native, TORCH_ENGINE: train_torch_engine}
    others: dict[str, Trainer] = {}
    if find_spec("stable_baselines3") is None:
        print("stable-baselines3 is not installed and left out")
    else:
        others[SB3] = train_sb3
    compare = partial(compare_trainers, seeds=tuple(range(1, seeds + 1)))
    cartpole = rl_zoo_config(1, 1, total_steps)
    results = [compare(cartpole, ours | others | {CLEANRL: train_cleanrl} | dict(peers or {}))]
    print(f"\n{comparison_text('rl-zoo', results[0])}", flush=True)
    if halfcheetah_steps > 0 and find_spec("mujoco") is None:
        print("\nmujoco is not installed and HalfCheetah-v5 left out")
    elif halfcheetah_steps > 0:
        results.append(compare(halfcheetah_config(halfcheetah_steps), ours | others))
        print(f"\n{comparison_text('stable-baselines3', results[-1])}", flush=True)
    records = [_record(result) for result in results]
    if preset_seeds > 0:
        print()
        records.append(bench_preset(range(1, preset_seeds + 1)))
    if out is not None:
        write_report(
            out,
            benchmark="train",
            unit="environment steps per second; mean return of greedy episodes; seconds",
            packages=_PACKAGES,
            results=records,
        )
    return results


def compare_trainers(
    config: TrainConfig, trainers: Mapping[str, Trainer], *, seeds: Sequence[int]
) -> TrainComparison:
    """Runs of all trainers, seed by seed, with each number of threads."""
    runs: dict[str, dict[int, list[TrainedRun]]] = {
        name: {threads: [] for threads in THREADS} for name in trainers
    }
    for seed in seeds:
        for threads in THREADS:
            for name, trainer in trainers.items():
                runs[name][threads].append(trainer(replace(config, seed=seed), threads))
    return TrainComparison(config, tuple(seeds), runs)


def comparison_text(whose: str, result: TrainComparison) -> str:
    """A table of rates and returns, and a line for each contender that is not ours.

    `whose` hyperparameters they are.
    """
    config = result.config
    rows = [
        [
            f"{name}, {threads} thread{'s' if threads > 1 else ''}",
            f"{result.rate(name, threads):,.0f}",
            ", ".join(f"{value:,.1f}" for value in result.returns(name, threads)),
            _mean_and_spread(result.returns(name, threads)),
        ]
        for name, by_threads in result.runs.items()
        for threads in by_threads
    ]
    title = f"{config.env_id}, {whose}'s hyperparameters, {config.rounded_steps:,} steps"
    lines = [table(title, ["", "steps/s", "greedy returns", "mean +- std"], rows)]
    ours = _mean_and_spread(result.returns(OURS, result.best_threads(OURS)))
    lines += [
        f"{OURS} / {name}, best threads each: {result.ratio(name):.2f}x; greedy return "
        f"{ours} and {_mean_and_spread(result.returns(name, result.best_threads(name)))}"
        for name in result.runs
        if name != OURS
    ]
    return "\n".join(lines)


def _mean_and_spread(returns: Sequence[float]) -> str:
    """Of several seeds; the value of a single one."""
    mean = f"{statistics.fmean(returns):,.1f}"
    return f"{mean} +- {statistics.stdev(returns):,.1f}" if len(returns) > 1 else mean


def _record(result: TrainComparison) -> dict[str, object]:
    config = result.config
    return {
        "env_id": config.env_id,
        "steps": config.rounded_steps,
        "seeds": list(result.seeds),
        "eval_episodes": config.eval_episodes,
        "contenders": {
            name: {
                "ours_over_it": result.ratio(name),
                "by_threads": {
                    str(threads): {
                        "steps_per_second": [run.steps_per_second for run in runs],
                        "returns": [run.eval_mean_return for run in runs],
                    }
                    for threads, runs in by_threads.items()
                },
            }
            for name, by_threads in result.runs.items()
        },
    }


def bench_preset(seeds: Sequence[int]) -> dict[str, object]:
    """Print and return what `ppo-fast train CartPole-v1` reaches, seed by seed.

    Seconds are those of training alone.
    """
    config = TrainConfig.preset("CartPole-v1")
    steps: list[int] = []
    seconds: list[float] = []
    returns: list[float] = []
    for seed in seeds:
        result = _train_and_forget(replace(config, seed=seed))
        assert result.evaluation is not None
        steps.append(int(result.metrics["steps"][-1]))
        seconds.append(float(result.metrics["seconds"][-1]))
        returns.append(result.evaluation.mean_return)
    rows = [
        [str(seed), f"{count:,}", f"{took:.2f}", f"{score:.1f}"]
        for seed, count, took, score in zip(seeds, steps, seconds, returns, strict=True)
    ]
    print(table("CartPole-v1, preset", ["seed", "steps", "seconds", "greedy return"], rows))
    print(f"median: {statistics.median(seconds):.2f} seconds")
    return {
        "env_id": config.env_id,
        "preset": config.algorithm,
        "seeds": list(seeds),
        "eval_episodes": config.eval_episodes,
        "steps": steps,
        "seconds": seconds,
        "returns": returns,
    }
