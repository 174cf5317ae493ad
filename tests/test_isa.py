"""Every instruction set gives the same bits: one process per set, as it is chosen at the start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ppo_fast

ISAS = ["generic", "avx2", "avx512"]

# Prints `isa` and the instruction set in use, then a line `kernel digest` for each kernel.
SCRIPT = """
import hashlib

import numpy as np

import ppo_fast
from ppo_fast import _core
from ppo_fast.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    SquashedGaussian,
    StateDependentNoise,
)

rng = np.random.default_rng(0)


def report(name, arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    print(name, digest.hexdigest())


def losses(dtype):
    for size in (1, 15, 16, 17, 256):
        for num_actions in (1, 2, 3, 18):
            logits = 3 * rng.normal(size=(size, num_actions)).astype(dtype)
            old = Categorical(logits + rng.normal(size=logits.shape).astype(dtype))
            yield from losses_of(Categorical(logits), old, rng.integers(0, num_actions, size))
            mean, old_mean, log_std, noise = rng.normal(size=(4, size, num_actions)).astype(dtype)
            for family in (Gaussian, SquashedGaussian):
                yield from losses_of(family(mean, log_std), family(old_mean, log_std), mean + noise)
            bits = rng.integers(0, 2, (size, num_actions))
            yield from losses_of(Bernoulli(mean), Bernoulli(old_mean), bits)


def losses_of(dist, old, actions):
    # Loss, gradients and statistics.
    dtype = dist._parameters().first.dtype
    old_logp, advantages, values, returns = rng.normal(size=(4, len(actions))).astype(dtype)
    for normalize in (False, True):
        loss, *rest = _core.loss(
            "ppo_loss",
            dist._parameters(),
            actions,
            old._parameters(),
            old_logp,
            advantages,
            None,
            values,
            returns,
            None,
            None,
            None,
            "clipped",
            0.2,
            None,
            None,
            None,
            0.5,
            2.0,
            0.01,
            0.01,
            0.5,
            normalize,
        )
        yield np.float64(loss)
        yield from (x for x in rest if x is not None)


def samples():
    for rows, num_actions in [(1, 2), (33, 3), (1000, 18)]:
        logits = 5 * rng.normal(size=(rows, num_actions)).astype(np.float32)
        latent = rng.normal(size=(rows, 5)).astype(np.float32)
        log_std = rng.normal(size=(5, num_actions)).astype(np.float32)
        for dist in (
            Categorical(logits),
            Bernoulli(logits),
            Gaussian(logits, logits / 5),
            SquashedGaussian(logits, logits / 5),
            StateDependentNoise(logits, latent, log_std),
        ):
            for deterministic in (False, True):
                yield from dist.sample(seed=1, step=3, first_id=2, deterministic=deterministic)


def steps():
    env = ppo_fast.make_vec("CartPole-v1", 200, num_threads=1)
    yield env.reset(seed=0)[0]
    for actions in rng.integers(0, 2, (300, 200)):
        yield from env.step(actions)[:4]


print("isa", ppo_fast.build_info()["isa"])
report("loss_float32", losses(np.float32))
report("loss_float64", losses(np.float64))
report("sample", samples())
report("cartpole", steps())
"""


def run(isa, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PPO_FAST_ISA": isa},
        capture_output=True,
        text=True,
    )


def digests(isa):
    """Digests by kernel, of the script above and of the advantage functions."""
    result = {}
    for arguments in (["-c", SCRIPT], [Path(__file__).with_name("advantage_digests.py")]):
        done = run(isa, *arguments)
        assert done.returncode == 0, done.stderr
        lines = dict(line.split() for line in done.stdout.splitlines())
        assert lines.pop("isa") == isa
        result |= lines
    return result


@pytest.fixture(scope="module")
def generic_digests():
    return digests("generic")


@pytest.mark.parametrize("isa", ISAS[1:])
def test_every_instruction_set_gives_the_same_bits(isa, generic_digests):
    best = ppo_fast.build_info()["best_isa"]
    if ISAS.index(isa) > ISAS.index(best):
        pytest.skip(f"{isa} is more than this build or processor has: {best}")
    assert {"cartpole", "loss_float32", "sample", "gae_float32", "token_gae_float64"} <= set(
        generic_digests
    )
    assert digests(isa) == generic_digests


@pytest.mark.parametrize(
    "call",
    [
        "ppo_fast.build_info()",
        "ppo_fast.gae(x, x, gamma=1.0, gae_lambda=1.0, last_values=x[0], terminated=x)",
        "ppo_fast.make_vec('CartPole-v1', 2)",
    ],
)
def test_unknown_instruction_set(call):
    done = run("nonsense", "-c", f"import numpy as np, ppo_fast; x = np.zeros((2, 2)); {call}")
    assert done.returncode != 0
    expected = "PPO_FAST_ISA must be generic, avx2 or avx512, got nonsense"
    assert done.stderr.splitlines()[-1] == f"ValueError: {expected}"


def test_empty_variable_means_the_best():
    done = run("", "-c", "import ppo_fast; print(ppo_fast.build_info()['isa'])")
    assert done.stdout.split() == [ppo_fast.build_info()["best_isa"]], done.stderr
