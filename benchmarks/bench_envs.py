"""CartPole-v1 steps per second: ours, Gymnasium's, EnvPool's.

Run: python benchmarks/bench_envs.py
"""

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium

from ppo_fast.bench.envs import SIZES, Maker, bench_envs


def envpool_maker() -> dict[str, Maker]:
    """EnvPool at one thread and at its default; nothing if it is not installed."""
    try:
        import envpool
    except ImportError:
        print("envpool is not installed and left out")
        return {}
    gymnasium.logger.min_level = gymnasium.logger.ERROR  # EnvPool's spaces are in float64

    def make(num_envs: int, **threads: int) -> Callable[[Any], object]:
        env = envpool.make_gymnasium("CartPole-v1", num_envs=num_envs, seed=0, **threads)
        env.reset()
        return env.step

    return {
        "envpool, 1 thread": lambda n: make(n, num_threads=1),
        "envpool": make,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="time per entry")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="batch sizes")
    options = parser.parse_args()
    bench_envs(seconds=options.seconds, sizes=options.sizes, peers=envpool_maker())
