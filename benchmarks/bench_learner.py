"""Time of gradient steps and rollouts of small networks: our engines, torch, stable-baselines3.

Run: python benchmarks/bench_learner.py
Options are those of `ppo-fast bench learner`; --out is results/learner unless given.
"""

import sys
from pathlib import Path

from ppo_fast.cli import main

if __name__ == "__main__":
    out = str(Path(__file__).parent / "results" / "learner")
    sys.exit(main(["bench", "learner", "--out", out, *sys.argv[1:]]))
