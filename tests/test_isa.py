"""Every instruction set gives the same bits: one process per set, as it is chosen at the start."""

import os
import subprocess
import sys

import pytest

import ppo_fast

ISAS = ["generic", "avx2", "avx512"]

# Prints the instruction set in use, then a line `kernel digest` for each kernel.
SCRIPT = """
import hashlib

import numpy as np

import ppo_fast
from ppo_fast import _core

rng = np.random.default_rng(0)


def report(name, arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    print(name, digest.hexdigest())


def advantages(dtype):
    for steps, envs in [(1, 1), (3, 2), (20, 7), (5, 64), (9, 1025), (300, 1000)]:
        shape = (steps, envs)
        rewards, values, final_values = rng.normal(size=(3, *shape)).astype(dtype)
        terminated, truncated = rng.random((2, *shape)) < 0.1
        last_values = rng.normal(size=envs).astype(dtype)
        flags = {"terminated": terminated, "truncated": truncated, "final_values": final_values}
        for ends in ({}, flags, {"terminated": terminated}):
            yield from ppo_fast.gae(
                rewards, values, gamma=0.99, gae_lambda=0.95, last_values=last_values, **ends
            )
        columns = np.asfortranarray(values)
        yield from ppo_fast.gae(rewards, columns, gamma=0.99, gae_lambda=0.95, **flags)


def losses(dtype):
    for size in (1, 15, 16, 17, 256):
        for num_actions in (1, 2, 3, 18):
            logits = 3 * rng.normal(size=(size, num_actions)).astype(dtype)
            columns = rng.normal(size=(4, size)).astype(dtype)
            actions = rng.integers(0, num_actions, size)
            for normalize in (False, True):
                loss, *rest = _core.categorical_ppo_loss(
                    logits, actions, *columns, 0.2, 0.01, 0.5, normalize
                )
                yield np.float64(loss)
                yield from rest


def samples():
    for rows, num_actions in [(1, 2), (33, 3), (1000, 18)]:
        logits = 5 * rng.normal(size=(rows, num_actions)).astype(np.float32)
        for greedy in (False, True):
            actions = np.empty(rows, np.int64)
            logp = np.empty(rows, np.float32)
            _core.categorical_sample(logits, 1, 2, 3, greedy, actions, logp)
            yield actions
            yield logp


def steps():
    env = ppo_fast.make_vec("CartPole-v1", 200, num_threads=1)
    yield env.reset(seed=0)[0]
    for actions in rng.integers(0, 2, (300, 200)):
        yield from env.step(actions)[:4]


print(ppo_fast.build_info()["isa"])
report("gae_float32", advantages(np.float32))
report("gae_float64", advantages(np.float64))
report("categorical_ppo_loss_float32", losses(np.float32))
report("categorical_ppo_loss_float64", losses(np.float64))
report("categorical_sample", samples())
report("cartpole", steps())
"""


def run(isa, script):
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PPO_FAST_ISA": isa},
        capture_output=True,
        text=True,
    )


def digests(isa):
    done = run(isa, SCRIPT)
    assert done.returncode == 0, done.stderr
    active, *lines = done.stdout.splitlines()
    assert active == isa
    return dict(line.split() for line in lines)


@pytest.fixture(scope="module")
def generic_digests():
    return digests("generic")


@pytest.mark.parametrize("isa", ISAS[1:])
def test_every_instruction_set_gives_the_same_bits(isa, generic_digests):
    best = ppo_fast.build_info()["best_isa"]
    if ISAS.index(isa) > ISAS.index(best):
        pytest.skip(f"{isa} is more than this build or processor has: {best}")
    assert len(generic_digests) == 6
    assert digests(isa) == generic_digests


@pytest.mark.parametrize(
    "call",
    [
        "ppo_fast.build_info()",
        "ppo_fast.gae(x, x, gamma=1.0, gae_lambda=1.0)",
        "ppo_fast.make_vec('CartPole-v1', 2)",
    ],
)
def test_unknown_instruction_set(call):
    done = run("nonsense", f"import numpy as np, ppo_fast; x = np.zeros((2, 2)); {call}")
    assert done.returncode != 0
    expected = "PPO_FAST_ISA must be generic, avx2 or avx512, got nonsense"
    assert done.stderr.splitlines()[-1] == f"ValueError: {expected}"


def test_empty_variable_means_the_best():
    done = run("", "import ppo_fast; print(ppo_fast.build_info()['isa'])")
    assert done.stdout.split() == [ppo_fast.build_info()["best_isa"]], done.stderr
