"""Rows of 4,096 steps and more, fewer than 32: they are computed in parallel along time.

Blocks of 1,024 steps are cut into 16 segments; threads take parts of 65,536 steps.
"""

import os
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from advantage_cases import (
    FLAG_DTYPES,
    FORMS,
    PLAIN,
    Form,
    arrays_of,
    as_call,
    as_tuple,
    assert_close,
    assert_only_filled,
    assert_same_bits,
    poisoned,
    random_case,
)

import ppo_fast
from ppo_fast import reference

TERMINATED = Form("last_values", "terminated", None, False)
MILLION = 1_000_000
# gamma and gae_lambda; their products are 1, 0, 0.94 and 0.9999.
FACTORS = [(1.0, 1.0), (0.99, 0.0), (0.99, 0.95), (0.9999, 1.0)]
# Around a segment, a block, a part.
CUTS = [4000, 4031, 4032, 1023, 1024, 65535, 65536, 131071, 131072, 131073]


def long_case(seed, num_steps, num_envs=1, factors=(0.99, 0.95), **options):
    gamma, gae_lambda = factors
    case = random_case(seed, num_steps, num_envs, **options)
    return case | {"gamma": gamma, "gae_lambda": gae_lambda}


def batch_major(case):
    return as_call(case, "NT", ["batch_major_contiguous"])


def plain_loop(case, dtype):
    """Advantages [T, N] of a case with last_values and terminated, one step after the other."""
    rewards, values, last = (case[k].astype(dtype) for k in ("rewards", "values", "last_values"))
    terminated = case["terminated"]
    # Factors as float32 has them: how far rounding in the loop goes, not how far in gamma.
    scalar = case["rewards"].dtype.type
    gamma, decay = (dtype(scalar(x)) for x in (case["gamma"], case["gamma"] * case["gae_lambda"]))
    after = np.where(terminated, dtype(0), np.append(values[1:], last[None], axis=0))
    delta = rewards + gamma * after - values
    coefficient = np.where(terminated, dtype(0), decay)
    advantages = np.empty_like(delta)
    for n in range(delta.shape[1]):
        steps = zip(delta[::-1, n], coefficient[::-1, n], strict=True)
        loop = accumulate(steps, lambda later, step: step[0] + step[1] * later, initial=dtype(0))
        advantages[::-1, n] = list(loop)[1:]
    return advantages


def largest_error(ours, truth):
    return np.abs(ours - truth).max()


def assert_as_good_as_the_loop(scanned, serial, truth):
    eps = np.finfo(scanned.dtype).eps
    allowed = 2 * largest_error(serial, truth) + eps * np.abs(truth).max()
    assert largest_error(scanned, truth) <= allowed


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("ends", [0, 1e-4, 0.1])
def test_a_million_steps(ends, factors):
    case = long_case(1, MILLION, factors=factors, form=TERMINATED, ends=ends)
    scanned = ppo_fast.gae(**case)
    serial = ppo_fast.gae(**case, exact=True)
    truth = plain_loop(case, np.float64)
    assert_as_good_as_the_loop(scanned.advantages, serial.advantages, truth)
    assert_as_good_as_the_loop(scanned.returns, serial.returns, truth + case["values"])


def test_a_million_steps_exactly():
    case = long_case(2, MILLION, form=TERMINATED, ends=1e-4)
    advantages = plain_loop(case, np.float32)
    assert_same_bits(ppo_fast.gae(**case, exact=True), (advantages, advantages + case["values"]))


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("num_steps", [5000, 70_000, 200_000])
def test_a_few_rows(num_steps, factors):
    case = long_case(3, num_steps, 3, factors, form=TERMINATED, ends=1e-3)
    scanned, _ = ppo_fast.gae(**batch_major(case))
    serial, _ = ppo_fast.gae(**batch_major(case), exact=True)
    assert_as_good_as_the_loop(scanned.T, serial.T, plain_loop(case, np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_steps", [5000, 70_000])
def test_exact_keeps_the_bits_of_the_loop(num_steps, dtype):
    case = long_case(4, num_steps, 3, dtype=dtype, form=PLAIN, ends=1e-2)
    call = batch_major(case)
    assert_same_bits(ppo_fast.gae(**call, exact=True), reference.gae(**call))


@pytest.mark.parametrize("factors", FACTORS)
def test_float64(factors):
    case = long_case(5, 200_000, 2, factors, dtype=np.float64, form=TERMINATED, ends=1e-4)
    scanned, _ = ppo_fast.gae(**batch_major(case))
    assert_close(scanned.T, plain_loop(case, np.float64), rtol=1e-12)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_every_form(form, num_envs):
    # Ends are rare enough that much is carried over segments, blocks and all.
    case = long_case(6, 5000, num_envs, (0.999, 0.999), form=form, ends=1e-3)
    call = batch_major(case)
    assert_close(ppo_fast.gae(**call), reference.gae(**call))
    assert_same_bits(ppo_fast.gae(**call, exact=True), reference.gae(**call))


@pytest.mark.parametrize("flag_dtype", FLAG_DTYPES)
def test_every_dtype_of_flags(flag_dtype):
    form = Form("last_values", "both", "drop", True)
    case = long_case(7, 5000, 3, form=form, flag_dtype=flag_dtype, ends=1e-2)
    call = batch_major(case)
    assert_close(ppo_fast.gae(**call), reference.gae(**call))


@pytest.mark.parametrize("shape", ["TN", "NT", "T", "TN1", "NT1"])
@pytest.mark.parametrize(
    "layout",
    ["contiguous", "every_other_step", "reversed", "batch_major_padded", "batch_major_reversed"],
)
def test_shapes_and_layouts(shape, layout):
    case = long_case(8, 5000, 1 if shape == "T" else 2, (0.999, 0.999), ends=1e-3)
    call = as_call(case, shape, [layout, "batch_major_every_other_step"])
    assert_close(ppo_fast.gae(**call), reference.gae(**call))


def test_lambda_per_environment():
    case = long_case(9, 70_000, 3, ends=1e-3) | {"gae_lambda": np.array([0.0, 0.5, 1.0])}
    call = batch_major(case)
    assert_close(ppo_fast.gae(**call), reference.gae(**call))
    for n in range(3):
        one = batch_major({k: x[..., n : n + 1] for k, x in arrays_of(case).items()})
        alone = ppo_fast.gae(**one, gamma=case["gamma"])
        assert_same_bits(alone, [x[n : n + 1] for x in ppo_fast.gae(**call)])


# Which rows are scanned: these agree with the loop to the bit, those need not.


@pytest.mark.parametrize(
    ("num_steps", "num_envs", "layout"),
    [
        (4095, 1, "contiguous"),
        (4095, 3, "batch_major_contiguous"),
        (4096, 32, "batch_major_contiguous"),
        (5000, 2, "contiguous"),  # not contiguous in time
    ],
)
def test_rows_that_keep_the_bits_of_the_loop(num_steps, num_envs, layout):
    case = long_case(10, num_steps, num_envs, ends=1e-3)
    call = as_call(case, "TN", [layout])
    assert_same_bits(ppo_fast.gae(**call), reference.gae(**call))


@pytest.mark.parametrize(("num_steps", "num_envs"), [(4096, 1), (4096, 31)])
def test_rows_that_are_scanned(num_steps, num_envs):
    # Else the other tests of this file would test nothing.
    call = batch_major(long_case(10, num_steps, num_envs, (0.999, 0.999), ends=1e-3))
    scanned, serial = ppo_fast.gae(**call), ppo_fast.gae(**call, exact=True)
    assert_close(scanned, serial)
    assert scanned.advantages.tobytes() != serial.advantages.tobytes()


# What does not count must not leak


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("end", ["terminated", "truncated", "episode_starts"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_follows_the_end_of_an_episode(cut, end, poison):
    form = Form("last_values", "episode_starts", None, False)
    case = long_case(11, 140_000, form=form if end == "episode_starts" else PLAIN, ends=0)
    case[end][cut + (end == "episode_starts")] = True
    expected = ppo_fast.gae(**case)
    case["last_values"][:] = poison
    for name in ("rewards", "values"):
        case[name][cut + 1 :] = poison
    ours = ppo_fast.gae(**case)
    assert_same_bits([x[: cut + 1] for x in ours], [x[: cut + 1] for x in expected])


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_rows_that_are_resets(num_envs, poison):
    form = Form("next_values", "both", None, True)
    case = long_case(12, 70_000, num_envs, form=form, ends=1e-3)
    expected = ppo_fast.gae(**batch_major(case))
    case["rewards"][case["prev_done"]] = poison
    case["next_values"][case["prev_done"] | case["terminated"]] = poison
    assert_same_bits(ppo_fast.gae(**batch_major(case)), expected)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_final_values_that_are_not_used(poison):
    case = long_case(13, 70_000, 3, ends=1e-3)
    expected = ppo_fast.gae(**batch_major(case))
    case["final_values"][~case["truncated"] | case["terminated"]] = poison
    assert_same_bits(ppo_fast.gae(**batch_major(case)), expected)


@pytest.mark.parametrize("num_steps", [5000, 1_100_000])
@pytest.mark.parametrize("layout", ["contiguous", "every_other_step", "reversed"])
def test_every_element_of_out_is_written_and_nothing_around_it(num_steps, layout):
    case = long_case(14, num_steps, ends=1e-3)
    expected = ppo_fast.gae(**case)
    # One element off what is aligned.
    out = [poisoned((num_steps + 1, 1), np.float32, layout)[1:] for _ in range(2)]
    assert_same_bits(ppo_fast.gae(**case, out=tuple(out)), expected)
    for array in out:
        assert_only_filled(array)


# Other functions take the same way


@pytest.mark.parametrize("function", ["lambda_returns", "discounted_returns", "vtrace"])
@pytest.mark.parametrize(("num_steps", "num_envs"), [(5000, 3), (70_000, 1)])
def test_other_functions(function, num_steps, num_envs):
    case = long_case(15, num_steps, num_envs, (0.999, 0.999), ends=1e-3)
    if function == "discounted_returns":
        del case["values"], case["gae_lambda"]
    if function == "vtrace":
        rng = np.random.default_rng(16)
        case["log_rhos"] = rng.normal(0, 0.1, (num_steps, num_envs)).astype(np.float32)
    call = batch_major(case)
    expected = as_tuple(getattr(reference, function)(**call))
    assert_close(getattr(ppo_fast, function)(**call), expected)
    serial = getattr(ppo_fast, function)(**call, exact=True)
    if function == "vtrace":  # exp differs by 2 ulp
        assert_close(serial, expected)
    else:
        assert_same_bits(serial, expected)


@pytest.mark.parametrize("cut", [4000, 65535, 65536])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_vtrace_does_not_see_the_next_episode(cut, poison):
    case = long_case(17, 140_000, form=TERMINATED, ends=0)
    rng = np.random.default_rng(18)
    case["log_rhos"] = rng.normal(0, 0.5, (140_000, 1)).astype(np.float32)
    case["terminated"][cut] = True
    expected = ppo_fast.vtrace(**case)
    for name in ("rewards", "values", "log_rhos"):
        case[name][cut + 1 :] = poison
    case["last_values"][:] = poison
    ours = ppo_fast.vtrace(**case)
    assert_same_bits([x[: cut + 1] for x in ours], [x[: cut + 1] for x in expected])


# Bits depend on nothing but the data


def digests(cpus):
    script = Path(__file__).with_name("advantage_digests.py")
    done = subprocess.run(
        [sys.executable, script, str(cpus)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    threads, *lines = done.stdout.splitlines()
    assert threads == f"threads {cpus}"
    return lines


def test_the_number_of_threads_changes_no_bit():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not pin processes")
    cpus = len(os.sched_getaffinity(0))
    if cpus == 1:
        pytest.skip("there is one processor only")
    one, all_of_them = digests(1), digests(cpus)
    assert len(one) == 1 + 10
    assert one == all_of_them
