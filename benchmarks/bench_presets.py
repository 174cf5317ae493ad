"""What every preset reaches with seeds 1 to 5; writes results/presets.json and docs/results.md.

Run: python benchmarks/bench_presets.py
Options are those of `ppo-fast bench presets`, which prints only.
"""

import sys
from pathlib import Path

from ppo_fast.cli import main

if __name__ == "__main__":
    root = Path(__file__).parents[1]
    files = ["--out", str(root / "benchmarks" / "results" / "presets")]
    files += ["--document", str(root / "docs" / "results.md")]
    sys.exit(main(["bench", "presets", *files, *sys.argv[1:]]))
