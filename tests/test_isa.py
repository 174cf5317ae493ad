"""Every instruction set gives the same bits: one process per set, as it is chosen at the start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ppo_fast

ISAS = ["generic", "avx2", "avx512"]


def run(isa, *arguments):
    # With glibc, memory that nobody has written holds other numbers in each of them.
    unwritten = {"MALLOC_PERTURB_": str(1 + len(isa))}
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PPO_FAST_ISA": isa} | unwritten,
        capture_output=True,
        text=True,
    )


def digests(isa):
    """Digests by kernel, of all files of digests."""
    result = {}
    for name in ("advantage", "distribution", "env"):
        done = run(isa, Path(__file__).with_name(f"{name}_digests.py"))
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
    assert {"cartpole", "gae_float32", "loss_float32", "sample", "token_gae_float64"} <= set(
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
