"""Environment steps per second: ours, Gymnasium's, EnvPool's.

Run: python benchmarks/bench_envs.py
Options are those of `ppo-fast bench envs`; --out is results/envs unless given.
"""

import sys
from pathlib import Path

from ppo_fast.cli import main

if __name__ == "__main__":
    out = str(Path(__file__).parent / "results" / "envs")
    sys.exit(main(["bench", "envs", "--out", out, *sys.argv[1:]]))
