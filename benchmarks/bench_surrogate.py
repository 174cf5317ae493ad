"""Time of the PPO loss, forward and backward: ours, plain torch, torch.compile.

Run: python benchmarks/bench_surrogate.py
In short: python benchmarks/bench_surrogate.py --seconds 0.1 --batches 256 --no-compile
"""

import argparse
from pathlib import Path

from ppo_fast.bench.surrogate import ACTIONS, BATCHES, DIMS, bench_surrogate

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time per entry")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="samples")
    parser.add_argument("--actions", type=int, nargs="*", default=ACTIONS, help="of categorical")
    parser.add_argument("--dims", type=int, nargs="*", default=DIMS, help="of Gaussian policies")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "surrogate",
        help="where to write .json and .png",
    )
    options = parser.parse_args()
    bench_surrogate(
        seconds=options.seconds,
        batches=options.batches,
        actions=options.actions,
        dims=options.dims,
        compiled=not options.no_compile,
        out=options.out,
    )
