"""Advantages and returns in one call: ours and the peers' that are installed.

Run: python benchmarks/bench_advantage.py
Options are those of `ppo-fast bench advantage`; --out is results/advantage unless given.
"""

import sys
from pathlib import Path

from ppo_fast.cli import main

if __name__ == "__main__":
    out = str(Path(__file__).parent / "results" / "advantage")
    sys.exit(main(["bench", "advantage", "--out", out, *sys.argv[1:]]))
