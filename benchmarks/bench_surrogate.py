"""Time of the PPO loss, forward and backward: ours, plain torch, torch.compile.

Run: python benchmarks/bench_surrogate.py
Options are those of `ppo-fast bench surrogate`; --out is results/surrogate unless given.
"""

import sys
from pathlib import Path

from ppo_fast.cli import main

if __name__ == "__main__":
    out = str(Path(__file__).parent / "results" / "surrogate")
    sys.exit(main(["bench", "surrogate", "--out", out, *sys.argv[1:]]))
