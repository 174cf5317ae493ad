"""Environment steps per second: ours, Gymnasium's, EnvPool's.

Run: python benchmarks/bench_envs.py
In short: python benchmarks/bench_envs.py --seconds 0.1 --envs CartPole-v1 --sizes 1 64
"""

import argparse
from pathlib import Path

from ppo_fast.bench.envs import CARTPOLE, OTHERS, SIZES, bench_envs

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = (CARTPOLE, *OTHERS)
    parser.add_argument("--seconds", type=float, default=1.0, help="time per entry")
    parser.add_argument("--envs", nargs="+", default=known, choices=known, help="what to step")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help=f"batch sizes of {CARTPOLE}"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "envs",
        help="where to write .json and .png",
    )
    options = parser.parse_args()
    bench_envs(seconds=options.seconds, env_ids=options.envs, sizes=options.sizes, out=options.out)
