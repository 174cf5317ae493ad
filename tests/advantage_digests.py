"""Prints threads, instruction set, and a line `function_dtype digest` for each advantage function.

The data takes every way through the kernels: wide and narrow, time-major and batch-major, short and
scanned, on one thread and many. usage: advantage_digests.py [number of processors]
"""

import os
import sys

import numpy as np
from advantage_cases import FORMS, RETURNS_FORMS, as_call, as_tuple, random_case
from digests import report

# For one vector register, for all threads (from 2^18 elements on), for the scan along time.
SIZES = [(1, 1), (3, 2), (20, 7), (9, 1025), (300, 1000), (70, 64), (5000, 3), (140_000, 2)]
LAYOUTS = ["contiguous", "batch_major_contiguous", "every_other_step"]


def calls(dtype, forms):
    for k, size in enumerate(SIZES):
        for layout in LAYOUTS:
            for form in forms[k % 9 :: 9]:
                case = random_case(k, *size, dtype, form, ends=0.02, lambda_per_env=k % 2 == 0)
                yield as_call(case, "TN", [layout])


def gae(dtype):
    for call in calls(dtype, FORMS):
        yield ppo_fast.gae(**call)


def lambda_returns(dtype):
    for call in calls(dtype, FORMS[:10]):
        yield ppo_fast.lambda_returns(**call)


def discounted_returns(dtype):
    for call in calls(dtype, RETURNS_FORMS):
        del call["values"], call["gae_lambda"]
        yield ppo_fast.discounted_returns(**call)


def vtrace(dtype):
    rng = np.random.default_rng(1)
    for call in calls(dtype, FORMS[5:15]):
        log_rhos = rng.normal(0, 0.5, call["rewards"].shape).astype(dtype)
        yield ppo_fast.vtrace(**call, log_rhos=log_rhos, rho_clip=1.5)


def token_gae(dtype):
    rng = np.random.default_rng(2)
    factors = {"gamma": 0.999, "gae_lambda": 0.99}
    for length, num_sequences in SIZES:
        shape = (num_sequences, length)
        rewards, values = rng.normal(size=(2, *shape)).astype(dtype)
        mask = rng.random(shape) < 0.9
        for masked in ("skip", "decay"):
            yield ppo_fast.token_gae(rewards, values, mask=mask, masked=masked, **factors)
    lengths = [0, 5, 70_000, 4095, 4096, 0, 300, 64, 200_000]
    starts = np.cumsum([0, *lengths])
    rewards, values = rng.normal(size=(2, starts[-1])).astype(dtype)
    mask = rng.random(starts[-1]) < 0.9
    yield ppo_fast.token_gae(rewards, values, mask=mask, cu_seqlens=starts, **factors)


if __name__ == "__main__":
    if len(sys.argv) > 1:  # before the library starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
    import ppo_fast

    info = ppo_fast.build_info()
    print("threads", info["threads"])
    print("isa", info["isa"])
    for function in (gae, lambda_returns, discounted_returns, vtrace, token_gae):
        for dtype in (np.float32, np.float64):
            arrays = (x for result in function(dtype) for x in as_tuple(result))
            report(f"{function.__name__}_{np.dtype(dtype)}", arrays)
