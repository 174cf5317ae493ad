"""Prints `isa` and the instruction set in use, then a line `environment digest`.

Run by test_isa.py, once for each instruction set.
"""

import numpy as np
from digests import report

import ppo_fast

rng = np.random.default_rng(0)


def steps():
    env = ppo_fast.make_vec("CartPole-v1", 200, num_threads=1)
    yield env.reset(seed=0)[0]
    for actions in rng.integers(0, 2, (300, 200)):
        yield from env.step(actions)[:4]


print("isa", ppo_fast.build_info()["isa"])
report("cartpole", steps())
