"""Benchmarks: the bodies behind `ppo-fast bench` and benchmarks/bench_*.py.

Each one checks the answers before it times, takes turns between the contenders of one run, and
reports medians with their ratio to ours. Absolute times mean something only beside the others of
their run.
"""

from collections.abc import Callable

from ppo_fast.bench.advantage import bench_advantage
from ppo_fast.bench.envs import bench_envs
from ppo_fast.bench.learner import bench_learner
from ppo_fast.bench.surrogate import bench_surrogate
from ppo_fast.bench.train import bench_train

# Called with the seconds to measure an entry; training measures whole runs.
BENCHMARKS: dict[str, Callable[[float], object]] = {
    "advantage": lambda seconds: bench_advantage(seconds=seconds),
    "envs": lambda seconds: bench_envs(seconds=seconds),
    "surrogate": lambda seconds: bench_surrogate(seconds=seconds),
    "learner": lambda seconds: bench_learner(seconds=seconds),
    "train": lambda _: bench_train(),
}

__all__ = [
    "BENCHMARKS",
    "bench_advantage",
    "bench_envs",
    "bench_learner",
    "bench_surrogate",
    "bench_train",
]
