"""Times of the kernels on a GPU, after answers were compared with the CPU's.

For benchmarks/gpu_check.sh, which builds and tests before, on machines without tyro.
usage: bench_cuda.py SECONDS CHECKS OUT; time per entry, a file of lines to stand above the table,
and where to write .json and .md
"""

import sys
from pathlib import Path

from ppo_fast.bench.cuda import CudaTimer, bench_cuda

if __name__ == "__main__":
    seconds, checks, out = sys.argv[1:]
    lines = Path(checks).read_text(encoding="utf-8").splitlines()
    bench_cuda(timer=CudaTimer(float(seconds)), checks=lines, out=Path(out))
