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

# What `ppo-fast bench` measures, which calls each with its options and has their defaults.
BENCHMARKS: dict[str, Callable[..., object]] = {
    "advantage": bench_advantage,
    "envs": bench_envs,
    "surrogate": bench_surrogate,
    "learner": bench_learner,
    "train": bench_train,
}

__all__ = [
    "BENCHMARKS",
    "bench_advantage",
    "bench_envs",
    "bench_learner",
    "bench_surrogate",
    "bench_train",
]
