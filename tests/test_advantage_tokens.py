"""token_gae against numbers worked by hand, and against the plain NumPy loop."""

from itertools import pairwise

import numpy as np
import pytest
from advantage_cases import (
    FLAG_DTYPES,
    LAYOUTS,
    as_flags,
    assert_close,
    assert_only_filled,
    assert_same_bits,
    copied,
    laid_out,
    poisoned,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ppo_fast
from ppo_fast import reference

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
MASKED = pytest.mark.parametrize("masked", ["skip", "decay"])

# One sequence, gamma = lambda = 1/2, so gamma lambda = 1/4; rewards and values of tokens that do
# not count are 9. Mask, rewards, values, bootstrap, A of "skip", A of "decay".
BY_HAND = {
    # t = 2: delta = 2 + 0 - 4 = -2 = A
    # t = 1: delta = 1 + 4/2 - 2 = 1, A = 1 - 2/4 = 1/2
    # t = 0: delta = 3 + 2/2 - 4 = 0, A = 0 + (1/2)/4
    "all count": ([1, 1, 1], [3, 1, 2], [4, 2, 4], 0, [0.125, 0.5, -2], [0.125, 0.5, -2]),
    # skip, t = 2: delta = -2 = A; t = 0: delta = 1 + 4/2 - 2 = 1, A = 1 - 2/4
    # decay, t = 2: A = -2; t = 1: delta = 0 + 4/2 - 0 = 2, A = 2 - 2/4 = 3/2;
    #        t = 0: delta = 1 + 0 - 2 = -1, A = -1 + (3/2)/4
    "a hole": ([1, 0, 1], [1, 9, 2], [2, 9, 4], 0, [0.5, 0, -2], [-0.625, 0, -2]),
    # decay: as before; what stands before the first token that counts changes nothing.
    "a prompt": ([0, 0, 1], [9, 9, 2], [9, 9, 4], 0, [0, 0, -2], [0, 0, -2]),
    # skip, t = 1: delta = 2 + 4/2 - 4 = 0 = A; t = 0: delta = 1 + 4/2 - 2 = 1, A = 1
    # decay, t = 2: delta = 4/2 = 2 = A; t = 1: delta = 2 + 0 - 4 = -2, A = -2 + 2/4 = -3/2;
    #        t = 0: delta = 1, A = 1 - (3/2)/4
    "padding": ([1, 1, 0], [1, 2, 9], [2, 4, 9], 4, [1, 0, 0], [0.625, -1.5, 0]),
    # skip, t = 2: delta = 2 + 4/2 - 4 = 0 = A
    "a bootstrap": ([0, 0, 1], [9, 9, 2], [9, 9, 4], 4, [0, 0, 0], [0, 0, 0]),
    "none counts": ([0, 0, 0], [9, 9, 9], [9, 9, 9], 4, [0, 0, 0], [0, 0, 0]),
}


@DTYPES
@pytest.mark.parametrize("function", [ppo_fast.token_gae, reference.token_gae])
@pytest.mark.parametrize(
    ("mask", "rewards", "values", "bootstrap", "skip", "decay"), BY_HAND.values(), ids=list(BY_HAND)
)
def test_worked_by_hand(function, mask, rewards, values, bootstrap, skip, decay, dtype):
    rewards, values = np.array([rewards], dtype), np.array([values], dtype)
    mask = np.array([mask], bool)
    for masked, advantages in (("skip", skip), ("decay", decay)):
        result = function(
            rewards,
            values,
            mask=mask,
            gamma=0.5,
            gae_lambda=0.5,
            masked=masked,
            bootstrap=bootstrap,
        )
        expected = np.array([advantages], dtype)
        assert_same_bits(result, (expected, expected + values))


@pytest.mark.parametrize("function", [ppo_fast.token_gae, reference.token_gae])
@pytest.mark.parametrize("starts_dtype", [np.int32, np.int64])
def test_packed_sequences_worked_by_hand(function, starts_dtype):
    # Sequences of 1, 0 and 2 tokens; gamma = 1/2, lambda per sequence, bootstraps 8, 9 and 2:
    #   sequence 0: delta = 1 + 8/2 - 3 = 2 = A
    #   sequence 2, gamma lambda = 1/2: t = 2: delta = 2 + 2/2 - 1 = 2 = A
    #                                   t = 1: delta = 4 + 1/2 - 2 = 5/2, A = 5/2 + 2/2
    values = np.array([3.0, 2, 1])
    result = function(
        np.array([1.0, 4, 2]),
        values,
        mask=np.ones(3, bool),
        gamma=0.5,
        gae_lambda=np.array([0, 0, 1.0]),
        bootstrap=np.array([8.0, 9, 2]),
        cu_seqlens=np.array([0, 1, 1, 3], starts_dtype),
    )
    advantages = np.array([2, 3.5, 2])
    assert_same_bits(result, (advantages, advantages + values))


def random_tokens(seed, num_sequences, length, dtype=np.float32, counted=0.7, mask_dtype=bool):
    rng = np.random.default_rng(seed)
    shape = (num_sequences, length)
    return {
        "rewards": rng.normal(size=shape).astype(dtype),
        "values": rng.normal(size=shape).astype(dtype),
        "mask": as_flags(rng.random(shape) < counted, mask_dtype, rng),
        "gamma": float(rng.choice([0.0, 0.9, 0.99, 1.0])),
        "gae_lambda": float(rng.choice([0.0, 0.5, 0.95, 1.0])),
    }


def random_packed(seed, lengths, dtype=np.float32, counted=0.7, mask_dtype=bool):
    case = random_tokens(seed, 1, sum(lengths), dtype, counted, mask_dtype)
    for name in ("rewards", "values", "mask"):
        case[name] = case[name][0]
    return case | {"cu_seqlens": np.cumsum([0, *lengths])}


def per_sequence(case, num_sequences):
    """The case with a lambda and a bootstrap for each sequence."""
    rng = np.random.default_rng(num_sequences)
    dtype = case["rewards"].dtype
    return case | {
        "gae_lambda": rng.random(num_sequences),
        "bootstrap": rng.normal(size=num_sequences).astype(dtype),
    }


def check(case, layouts, exact, masked):
    """Bits of the reference, with and without `out`, in these layouts; inputs are not written."""
    call = case | {"masked": masked}
    for name, layout in zip(("rewards", "values", "mask"), layouts, strict=False):
        call[name] = laid_out(case[name], layout)
    before = copied(call)
    result = ppo_fast.token_gae(**call, exact=exact)
    assert_same_bits(result, reference.token_gae(**case, masked=masked))
    rewards = case["rewards"]
    out = tuple(poisoned(np.atleast_2d(rewards).shape, rewards.dtype, x) for x in layouts[-2:])
    if rewards.ndim == 1:
        out = (out[0][0], out[1][0])
    filled = ppo_fast.token_gae(**call, exact=exact, out=out)
    assert filled.advantages is out[0]
    assert filled.returns is out[1]
    assert_same_bits(filled, result)
    for array in out:
        assert_only_filled(array)
    assert copied(call) == before


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_sequences=st.integers(0, 40),
    length=st.integers(0, 20) | st.integers(60, 140),
    dtype=st.sampled_from([np.float32, np.float64]),
    mask_dtype=st.sampled_from(FLAG_DTYPES),
    counted=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    masked=st.sampled_from(["skip", "decay"]),
    each=st.booleans(),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=5, max_size=5),
    exact=st.booleans(),
)
@example(0, 0, 5, np.float32, bool, 0.7, "skip", True, LAYOUTS[:1] * 5, False)
@example(1, 5, 0, np.float32, bool, 0.7, "decay", True, LAYOUTS[:1] * 5, False)
def test_bits_equal_reference(
    seed, num_sequences, length, dtype, mask_dtype, counted, masked, each, layouts, exact
):
    case = random_tokens(seed, num_sequences, length, dtype, counted, mask_dtype)
    check(per_sequence(case, num_sequences) if each else case, layouts, exact, masked)


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(0, 20) | st.integers(60, 140), max_size=40),
    dtype=st.sampled_from([np.float32, np.float64]),
    mask_dtype=st.sampled_from(FLAG_DTYPES),
    counted=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    masked=st.sampled_from(["skip", "decay"]),
    each=st.booleans(),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=5, max_size=5),
    exact=st.booleans(),
    starts_dtype=st.sampled_from([np.int32, np.int64]),
)
@example(0, [], np.float32, bool, 0.7, "skip", True, LAYOUTS[:1] * 5, False, np.int32)
@example(1, [0, 0], np.float32, bool, 0.7, "skip", True, LAYOUTS[:1] * 5, False, np.int64)
def test_bits_of_packed_sequences_equal_reference(
    seed, lengths, dtype, mask_dtype, counted, masked, each, layouts, exact, starts_dtype
):
    case = random_packed(seed, lengths, dtype, counted, mask_dtype)
    case["cu_seqlens"] = case["cu_seqlens"].astype(starts_dtype)
    check(per_sequence(case, len(lengths)) if each else case, layouts, exact, masked)


def test_all_tokens_counted_is_gae_without_ends():
    case = random_tokens(2, 20, 140, counted=1.0)
    result = ppo_fast.token_gae(**case)
    del case["mask"]
    never = np.zeros((20, 140), bool)
    last = np.zeros(20, np.float32)
    assert_same_bits(result, ppo_fast.gae(**case, last_values=last, terminated=never, time_axis=1))


def test_skipped_tokens_might_as_well_not_be_there():
    case = random_tokens(3, 1, 100)
    counts = case["mask"][0]
    alone = {name: case[name][:, counts] for name in ("rewards", "values", "mask")}
    result = ppo_fast.token_gae(**case)
    assert_same_bits([x[:, counts] for x in result], ppo_fast.token_gae(**case | alone))


def test_decayed_tokens_are_steps_without_reward_and_value():
    case = random_tokens(4, 20, 100)
    result = ppo_fast.token_gae(**case, masked="decay", bootstrap=2.0)
    counts = case["mask"]
    zeroed = {name: np.where(counts, case[name], 0) for name in ("rewards", "values")}
    every = ppo_fast.token_gae(**case | zeroed | {"mask": np.ones_like(counts)}, bootstrap=2.0)
    assert_same_bits(result.advantages[counts], every.advantages[counts])


@MASKED
@pytest.mark.parametrize("garbage", [np.nan, np.inf])
@pytest.mark.parametrize("length", [100, 5000])
def test_masked_tokens_do_not_leak(masked, garbage, length):
    case = random_tokens(5, 20, length)
    expected, _ = ppo_fast.token_gae(**case, masked=masked)
    case["rewards"][~case["mask"]] = garbage
    case["values"][~case["mask"]] = garbage
    advantages, returns = ppo_fast.token_gae(**case, masked=masked)
    assert_same_bits(advantages, expected)
    assert_same_bits(returns[case["mask"]], (expected + case["values"])[case["mask"]])
    np.testing.assert_array_equal(returns[~case["mask"]], garbage)


@MASKED
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_change_no_bit_and_are_kept(masked, layout):
    case = random_tokens(6, 33, 150)
    call = case | {name: laid_out(case[name], layout) for name in ("rewards", "values", "mask")}
    result = ppo_fast.token_gae(**call, masked=masked)
    assert_same_bits(result, ppo_fast.token_gae(**case, masked=masked))
    for array in result:
        assert array.strides == np.empty_like(call["rewards"]).strides


@MASKED
def test_number_and_array_for_all_sequences_are_the_same(masked):
    case = random_tokens(7, 20, 30) | {"gae_lambda": 0.9, "masked": masked}
    expected = ppo_fast.token_gae(**case, bootstrap=2)
    arrays = {"bootstrap": np.full(20, 2, np.float32), "gae_lambda": np.full(20, 0.9)}
    assert_same_bits(ppo_fast.token_gae(**case | arrays), expected)


def test_bootstrap_is_zero_and_masked_tokens_are_skipped_by_default():
    case = random_tokens(8, 20, 30)
    expected = ppo_fast.token_gae(**case, masked="skip", bootstrap=0.0)
    assert_same_bits(ppo_fast.token_gae(**case), expected)


@DTYPES
@MASKED
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
def test_bits_equal_reference_with_threads(layout, masked, dtype):
    # 300,000 tokens are shared by the threads of the pool (from 2^18 on).
    check(per_sequence(random_tokens(9, 2000, 150, dtype), 2000), [layout] * 5, False, masked)


def test_results_too_large_for_the_caches():
    # More than 2^20 tokens, at an address that is no multiple of a cache line.
    case = random_tokens(10, 7000, 151)
    memory = np.full((2, 7000 * 151 + 2), np.nan, np.float32)
    out = tuple(row[1:-1].reshape(7000, 151) for row in memory)
    assert_same_bits(ppo_fast.token_gae(**case, out=out), reference.token_gae(**case))
    assert np.isnan(memory).sum() == 4


# Long sequences, computed in parallel along time: [B, L] from 4,096 tokens on where they are fewer
# than 32, packed ones each for itself.

LENGTHS = [0, 5, 70_000, 4095, 0, 4096, 300, 5000]


def factors(case):
    """The case with factors under which much is carried over a block of 1,024 tokens."""
    return case | {"gamma": 0.999, "gae_lambda": 0.999}


@DTYPES
@MASKED
@pytest.mark.parametrize(("num_sequences", "length"), [(1, 70_000), (3, 5000)])
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_padded"])
def test_long_sequences(num_sequences, length, layout, masked, dtype):
    case = factors(random_tokens(11, num_sequences, length, dtype)) | {"masked": masked}
    expected = reference.token_gae(**case, bootstrap=2.0)
    call = case | {name: laid_out(case[name], layout) for name in ("rewards", "values", "mask")}
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    assert_close(ppo_fast.token_gae(**call, bootstrap=2.0), expected, rtol)
    assert_same_bits(ppo_fast.token_gae(**call, bootstrap=2.0, exact=True), expected)


@MASKED
@pytest.mark.parametrize("starts_dtype", [np.int32, np.int64])
def test_packed_sequences_of_all_lengths(masked, starts_dtype):
    case = per_sequence(random_packed(12, LENGTHS), len(LENGTHS)) | {"gamma": 0.999}
    case |= {"masked": masked, "cu_seqlens": case["cu_seqlens"].astype(starts_dtype)}
    expected = reference.token_gae(**case)
    out = tuple(poisoned((1, sum(LENGTHS)), np.float32, "every_other_column")[0] for _ in range(2))
    ours = ppo_fast.token_gae(**case, out=out)
    assert_close(ours, expected)
    assert_same_bits(ppo_fast.token_gae(**case, exact=True), expected)
    starts = case["cu_seqlens"]
    for array, other in zip(ours, expected, strict=True):
        assert_only_filled(array)
        for first, last in pairwise(starts):
            if last - first < 4096:
                assert_same_bits(array[first:last], other[first:last])


@MASKED
def test_packed_sequences_are_like_each_alone(masked):
    case = per_sequence(random_packed(13, LENGTHS), len(LENGTHS)) | {"masked": masked}
    together = ppo_fast.token_gae(**case)
    starts = case["cu_seqlens"]
    for b in range(len(LENGTHS)):
        own = slice(starts[b], starts[b + 1])
        one = {name: case[name][None, own] for name in ("rewards", "values", "mask")}
        one |= {name: case[name][b : b + 1] for name in ("gae_lambda", "bootstrap")}
        alone = ppo_fast.token_gae(**case | one | {"cu_seqlens": None})
        assert_same_bits([x[own] for x in together], [x[0] for x in alone])


@MASKED
@pytest.mark.parametrize(
    ("first", "last"), [(1000, 1100), (64, 66_000), (65_000, 139_990), (0, 139_999)]
)
def test_long_stretches_that_do_not_count(first, last, masked):
    # V of the token behind such a stretch lies in another block or part, or behind the end.
    case = factors(random_tokens(14, 1, 140_000, counted=1.0)) | {"masked": masked}
    case["mask"][:, first:last] = False
    expected = ppo_fast.token_gae(**case, bootstrap=2.0, exact=True)
    assert_close(ppo_fast.token_gae(**case, bootstrap=2.0), expected)


@MASKED
def test_a_long_sequence_of_which_nothing_counts(masked):
    case = random_tokens(15, 1, 140_000, counted=0.0)
    zeros = np.zeros_like(case["values"])
    result = ppo_fast.token_gae(**case, masked=masked, bootstrap=2.0)
    assert_same_bits(result, (zeros, case["values"]))


@pytest.mark.parametrize(
    ("length", "num_sequences", "scanned"),
    [(4095, 1, False), (4096, 1, True), (4096, 31, True), (4096, 32, False)],
)
def test_which_sequences_are_scanned(length, num_sequences, scanned):
    case = factors(random_tokens(16, num_sequences, length))
    ours, exact = ppo_fast.token_gae(**case), ppo_fast.token_gae(**case, exact=True)
    assert (ours.advantages.tobytes() != exact.advantages.tobytes()) == scanned
    assert_close(ours, exact)


def test_scan_is_as_good_as_the_loop():
    case = factors(random_tokens(17, 1, 70_000))
    wide = case | {name: case[name].astype(np.float64) for name in ("rewards", "values")}
    truth = ppo_fast.token_gae(**wide, exact=True).advantages
    scanned, serial = (ppo_fast.token_gae(**case, exact=x).advantages for x in (False, True))
    assert np.abs(scanned - truth).max() <= 2 * np.abs(serial - truth).max()
