"""Training throughput with equal hyperparameters: ours, stable-baselines3, a CleanRL-style loop.

Run: python benchmarks/bench_train.py
Options are those of `ppo-fast bench train`; --seeds is 5 and --out results/train unless given.
"""

import sys
from pathlib import Path

from ppo_fast.cli import main

if __name__ == "__main__":
    out = str(Path(__file__).parent / "results" / "train")
    sys.exit(main(["bench", "train", "--seeds", "5", "--out", out, *sys.argv[1:]]))
