"""Benchmarks: the bodies behind `ppo-fast bench` and benchmarks/bench_*.py.

Each one checks the answers before it times, takes turns between the contenders of one run, and
reports medians with their ratio to ours. Absolute times mean something only beside the others of
their run.
"""

from collections.abc import Callable
from typing import Any

from ppo_fast.bench.envs import bench_envs
from ppo_fast.bench.train import bench_train

BENCHMARKS: dict[str, Callable[..., Any]] = {"envs": bench_envs, "train": bench_train}

__all__ = ["BENCHMARKS", "bench_envs", "bench_train"]
