"""Time of gradient steps and rollouts of small networks: our engines, torch, stable-baselines3.

Run: python benchmarks/bench_learner.py
In short: python benchmarks/bench_learner.py --seconds 0.1 --batches 256 --sizes 64 --no-compile
"""

import argparse
from pathlib import Path

from ppo_fast.bench.learner import BATCHES, MINIBATCHES, SIZES, bench_learner

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time per entry")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES, help="samples")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="environments")
    parser.add_argument(
        "--minibatches", type=int, default=MINIBATCHES, help="in a call, of which each is a step"
    )
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "learner",
        help="where to write .json and .png",
    )
    options = parser.parse_args()
    bench_learner(
        seconds=options.seconds,
        batches=options.batches,
        sizes=options.sizes,
        minibatches=options.minibatches,
        compiled=not options.no_compile,
        out=options.out,
    )
