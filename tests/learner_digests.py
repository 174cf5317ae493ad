"""Prints `isa` and the instruction set in use, then a line `network digest` of gradients.

Every gradient is compared with autograd's, and with itself on other numbers of threads. Run by
test_learner_bits.py, once for each instruction set.
"""

import numpy as np
import torch
from algorithm_cases import box, discrete, layout_of
from digests import report
from gymnasium import spaces
from learner_cases import LOSSES, assert_same_gradients, prepared

import ppo_fast

SAMPLES = 390
# Layout, observations and settings: narrow and wide first layers and heads, every kind of log_std.
CASES = {
    "many-observations": (box(17), 376, {"log_std": -1.0}),
    "half-cheetah": (box(6), 17, {"activation": "relu"}),
    "shared-trunk": (discrete(9), 9, {"shared_trunk": True, "activation": "silu"}),
    "narrow": (discrete(8), 8, {"hidden_sizes": (7,), "activation": "elu"}),
    "flat": (discrete(4), 21, {"hidden_sizes": ()}),
    "several-choices": (layout_of(spaces.MultiDiscrete([3, 9, 2])), 11, {}),
    "noise-of-the-state": (box(3), 12, {"continuous": "gsde", "log_std": -1.5}),
    "deviation-of-the-state": (box(9), 12, {"state_dependent_std": True}),
}


def gradients(layout, obs_size, changes, threads):
    settings = {"num_steps": 13, "num_envs": SAMPLES // 13, "hidden_sizes": (40, 33)} | changes
    case = prepared(layout, obs_size, num_threads=threads, **settings)
    made = []
    for count in (1, 100, SAMPLES):
        order = np.random.default_rng(count).permutation(SAMPLES)[:count]
        assert_same_gradients(case, LOSSES["kl"], order)
        made += [p.grad.numpy().copy() for p in case.learner.model.parameters()]
    return made


torch.set_num_threads(1)
print("isa", ppo_fast.build_info()["isa"])
for name, network in CASES.items():
    one, *others = (gradients(*network, threads) for threads in (1, 2, 3))
    for other in others:
        for ours, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    report(name, one)
