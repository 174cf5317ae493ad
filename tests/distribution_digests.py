"""Prints `isa` and the instruction set in use, then a line `kernel digest` for each kernel of the
distributions and the losses. Run by test_isa.py, once for each instruction set."""

import numpy as np
from digests import report

import ppo_fast
from ppo_fast import _core

rng = np.random.default_rng(0)


def families(size, dims, dtype):
    """Each family's tuple for _core, and actions for it."""
    first = 2 * rng.normal(size=(size, dims)).astype(dtype)
    log_std = rng.normal(size=(size, dims)).astype(dtype)
    mask = rng.random((size, dims)) < 0.7
    mask[:, 0] = True
    choices = rng.integers(0, dims, size)
    bits = rng.integers(0, 2, (size, dims))
    u = rng.normal(size=(size, dims)).astype(dtype)
    yield (0, first, None, None, None), choices
    yield (0, first, None, mask, None), choices
    yield (0, first, None, None, (1,) * dims), np.zeros((size, dims), np.int64)
    yield (1, first, None, None, None), bits
    for family in (2, 3):
        yield (family, first, log_std[0], None, None), u
        yield (family, first, log_std, None, None), u


def evaluations(dtype):
    for size, dims in [(1, 2), (31, 1), (100, 18)]:
        columns = rng.normal(size=(2, size)).astype(dtype)
        for dist, actions in families(size, dims, dtype):
            old = (dist[0], (dist[1] + dtype(0.1)), *dist[2:])
            yield from _core.evaluate(dist, actions)
            yield _core.kl(old, dist)
            gradients = _core.evaluate_backward(dist, actions, *columns)
            yield from [x for x in gradients if x is not None]
            gradients = _core.kl_backward(old, dist, columns[0])
            yield from [x for x in gradients if x is not None]


def losses(dtype):
    for size in (1, 15, 32, 33, 256):
        for dims in (1, 2, 3, 18):
            columns = rng.normal(size=(5, size)).astype(dtype)
            weights = np.abs(rng.normal(size=size)).astype(dtype)
            mask = rng.random(size) < 0.7
            mask[0] = True
            for dist, actions in families(size, dims, dtype):
                old = (dist[0], (dist[1] + dtype(0.1)), *dist[2:])
                for objective in ("policy_gradient", "clipped"):
                    for settings in [
                        (None, None, None, (0.2, None, None, None, 0.0, 0.0), False),
                        (old, weights, mask, (0.2, 0.3, 2.0, 0.1, 0.5, 1.0), True),
                    ]:
                        old_dist, w, m, (low, high, dual, c, kl, hinge), normalize = settings
                        if objective == "policy_gradient":
                            low = high = dual = None
                        family, first, second, dist_mask, nvec = dist
                        _, *of_old = old_dist or (None,) * 5
                        yield from _core.loss(
                            "loss",
                            (family, nvec, of_old[3]),
                            (
                                *(first, second, columns[2], None, dist_mask, actions),
                                *of_old[:3],
                                *(columns[0], columns[1], columns[3], columns[4], w, m),
                            ),
                            (objective, low, high, dual, c, kl, hinge, 0.01, 0.01, 0.5, normalize),
                        )


def samples():
    for dtype in (np.float32, np.float64):
        for size, dims in [(1, 2), (33, 3), (1000, 18)]:
            for dist, actions in families(size, dims, dtype):
                for greedy in (False, True):
                    for latent in (None, rng.normal(size=(size, 3)).astype(dtype)):
                        noise = latent
                        if latent is not None:
                            if dist[0] != 2:
                                continue
                            noise = (latent, rng.normal(size=(3, dims)).astype(dtype), 2)
                        out = np.empty_like(actions)
                        logp, entropy = np.empty((2, size), dtype)
                        _core.sample(dist, noise, 1, 2, 3, greedy, out, logp, entropy)
                        yield from (out, logp, entropy)


print("isa", ppo_fast.build_info()["isa"])
for dtype in (np.float32, np.float64):
    report(f"evaluate_{np.dtype(dtype)}", evaluations(dtype))
    report(f"loss_{np.dtype(dtype)}", losses(dtype))
report("sample", samples())
