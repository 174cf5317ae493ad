"""Times of the kernels on a GPU, after answers were compared with the CPU's.

Run: python benchmarks/bench_cuda.py; benchmarks/gpu_check.sh builds and tests before.
"""

import argparse
from pathlib import Path

from ppo_fast.bench.cuda import bench_cuda

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="time per entry")
    parser.add_argument("--checks", type=Path, help="a file of lines to stand above the table")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "cuda",
        help="where to write .json and .md",
    )
    options = parser.parse_args()
    checks = options.checks.read_text(encoding="utf-8").splitlines() if options.checks else ()
    bench_cuda(seconds=options.seconds, checks=checks, out=options.out)
