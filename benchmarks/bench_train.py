"""Training throughput with equal hyperparameters: ours, stable-baselines3, a CleanRL-style loop.

Run: python benchmarks/bench_train.py
For a claim: python benchmarks/bench_train.py --seeds 5
"""

import argparse
from pathlib import Path

from ppo_fast.bench.train import HALFCHEETAH_STEPS, TOTAL_STEPS, bench_train

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 1 on")
    parser.add_argument("--total-steps", type=int, default=TOTAL_STEPS, help="of CartPole")
    parser.add_argument(
        "--halfcheetah-steps", type=int, default=HALFCHEETAH_STEPS, help="0 leaves it out"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "train",
        help="where to write .json",
    )
    options = parser.parse_args()
    bench_train(
        seeds=options.seeds,
        total_steps=options.total_steps,
        halfcheetah_steps=options.halfcheetah_steps,
        out=options.out,
    )
