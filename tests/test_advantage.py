"""gae against numbers worked by hand, and against the plain NumPy loop, bit for bit.

Rows long enough to be computed in parallel along time are in test_advantage_scan.py.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from advantage_cases import (
    FLAG_DTYPES,
    FORMS,
    LAYOUTS,
    PLAIN,
    SHAPES,
    TRANSITIONS,
    Form,
    arrays_of,
    as_call,
    assert_close,
    assert_only_filled,
    assert_same_bits,
    copied,
    poisoned,
    random_case,
    shaped,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ppo_fast
from ppo_fast import reference

BOTH = pytest.mark.parametrize("function", [ppo_fast.gae, reference.gae])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
NEVER, MIDDLE, LAST = [0, 0, 0], [0, 1, 0], [0, 0, 1]

# One environment, gamma = gae_lambda = 1/2, so gamma * gae_lambda = 1/4.
# rewards 1 2 3, values 2 4 2, and the value after the last step is 4.
#
# Without an end:
#   t = 2: delta = 3 + 4/2 - 2 = 3     A = 3
#   t = 1: delta = 2 + 2/2 - 4 = -1    A = -1 + 3/4 = -1/4
#   t = 0: delta = 1 + 4/2 - 2 = 1     A = 1 - (1/4)/4 = 15/16
BY_HAND = {
    "nothing ends": ({"terminated": NEVER}, [0.9375, -0.25, 3]),
    # t = 1: delta = 2 + 0 - 4 = -2, A = -2; t = 0: A = 1 - 2/4.
    "terminated": ({"terminated": MIDDLE}, [0.5, -2, 3]),
    # t = 2: delta = 3 + 0 - 2 = 1, A = 1; t = 1: A = -1 + 1/4; t = 0: A = 1 - (3/4)/4.
    "terminated at the last step": ({"terminated": LAST}, [0.8125, -0.75, 1]),
    "the next step starts an episode": (
        {"episode_starts": [1, 0, 1], "last_done": [0]},
        [0.5, -2, 3],
    ),
    "the last step is done": ({"episode_starts": NEVER, "last_done": [1]}, [0.8125, -0.75, 1]),
    # t = 1: delta = 2 + 6/2 - 4 = 1, A = 1; t = 0: A = 1 + 1/4.
    "truncated with a final value": (
        {"terminated": NEVER, "truncated": MIDDLE, "final_values": [9, 6, 9]},
        [1.25, 1, 3],
    ),
    # t = 2: delta = 3 + 6/2 - 2 = 4, A = 4; t = 1: A = -1 + 4/4; t = 0: A = 1 + 0/4.
    "truncated at the last step": (
        {"terminated": NEVER, "truncated": LAST, "final_values": [9, 9, 6]},
        [1, 0, 4],
    ),
    "terminated wins over truncated": (
        {"terminated": MIDDLE, "truncated": MIDDLE, "final_values": [9, 9, 9]},
        [0.5, -2, 3],
    ),
    # t = 1: delta = 2 + 4/2 - 4 = 0, A = 0; t = 0: A = 1 + 0/4.
    "a truncated step's own value": (
        {"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "current_value"},
        [1, 0, 3],
    ),
    "truncated counts as terminated": (
        {"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "terminate"},
        [0.5, -2, 3],
    ),
    # t = 1: A = 0; t = 0: A = 1 + 0/4.
    "a truncated step does not count": (
        {"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "drop"},
        [1, 0, 3],
    ),
    "a terminated step is not dropped": (
        {"terminated": MIDDLE, "truncated": MIDDLE, "on_truncation": "drop"},
        [0.5, -2, 3],
    ),
    # The values after the steps differ from those of the next rows:
    # t = 1: delta = 2 + 8/2 - 4 = 2, A = 2; t = 0: delta = 1 + 6/2 - 2 = 2, A = 2 + 2/4.
    "next values": (
        {"next_values": [6, 8, 4], "terminated": NEVER, "truncated": MIDDLE},
        [2.5, 2, 3],
    ),
    # t = 1: delta = -2, A = -2; t = 0: delta = 2, A = 2 - 2/4.
    "next values of a terminated step": (
        {"next_values": [6, 8, 4], "terminated": MIDDLE},
        [1.5, -2, 3],
    ),
    # Row 2 is a reset: A = 0. Row 1 ended an episode, whose last observation row 2 shows:
    # t = 1: delta = 2 + 2/2 - 4 = -1, A = -1; t = 0: A = 1 - 1/4.
    "a row that is a reset": (
        {"terminated": NEVER, "truncated": MIDDLE, "prev_done": LAST},
        [0.75, -1, 0],
    ),
    # Row 1 is a reset: A = 0; t = 0: delta = 1 + 0 - 2 = -1.
    "a reset after a terminated step": (
        {"terminated": [1, 0, 0], "prev_done": MIDDLE},
        [-1, 0, 3],
    ),
}


def by_hand(options, dtype, flag_dtype=bool):
    flags = ("terminated", "truncated", "episode_starts", "last_done", "prev_done")
    call = {
        "rewards": np.array([1, 2, 3], dtype),
        "values": np.array([2, 4, 2], dtype),
        "gamma": 0.5,
        "gae_lambda": 0.5,
    }
    for name, option in options.items():
        if isinstance(option, str):
            call[name] = option
        else:
            call[name] = np.array(option, flag_dtype if name in flags else dtype)
    if "next_values" not in options:
        call["last_values"] = np.array([4], dtype)
    return call


@DTYPES
@BOTH
@pytest.mark.parametrize(("options", "advantages"), BY_HAND.values(), ids=list(BY_HAND))
def test_worked_by_hand(function, options, advantages, dtype):
    result = function(**by_hand(options, dtype))
    expected = np.array(advantages, dtype)
    assert_same_bits(result, (expected, expected + np.array([2, 4, 2], dtype)))


@BOTH
def test_two_environments_worked_by_hand(function):
    # Environment 0, lambda = 1 and gamma lambda = 1/2, terminates at t = 0:
    #   t = 1: delta = 3 + 6/2 - 2 = 4     A = 4
    #   t = 0: delta = 1 + 0   - 1 = 0     A = 0
    # Environment 1, lambda = 1/2 and gamma lambda = 1/4, goes on:
    #   t = 1: delta = 1 + 8/2 - 1 = 4     A = 4
    #   t = 0: delta = 2 + 1/2 - 2 = 1/2   A = 1/2 + 4/4 = 3/2
    values = np.array([[1.0, 2], [2, 1]])
    result = function(
        np.array([[1.0, 2], [3, 1]]),
        values,
        gamma=0.5,
        gae_lambda=np.array([1, 0.5]),
        last_values=np.array([6.0, 8]),
        terminated=np.array([[True, False], [False, False]]),
    )
    advantages = np.array([[0, 1.5], [4, 4]])
    assert_same_bits(result, (advantages, advantages + values))


@BOTH
def test_values_with_one_row_more(function):
    # "terminated" of the table, its last value being a fourth row of values.
    call = by_hand({"terminated": MIDDLE}, np.float32)
    call["values"] = np.append(call["values"], call.pop("last_values"))
    assert function(**call)[0].tolist() == [0.5, -2, 3]


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_one_environment(function, shape):
    # "truncated with a final value" of the table.
    options, advantages = BY_HAND["truncated with a final value"]
    call = by_hand(options, np.float32)
    for name in TRANSITIONS:
        if name in call:
            call[name] = shaped(call[name][:, None], shape)
    result = function(**call, time_axis=int(shape.startswith("NT")))
    expected = shaped(np.array(advantages, np.float32)[:, None], shape)
    assert_same_bits(result[0], expected)
    assert_same_bits(result[1], expected + call["values"])


@pytest.mark.parametrize("flag_dtype", FLAG_DTYPES)
def test_flags_of_any_dtype(flag_dtype):
    for options, advantages in BY_HAND.values():
        call = by_hand(options, np.float32, flag_dtype)
        assert ppo_fast.gae(**call).advantages.tolist() == advantages


@pytest.mark.parametrize("last_values", [4, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_for_one_environment(last_values, shape):
    call = by_hand({"episode_starts": NEVER}, np.float32)
    for name in ("rewards", "values", "episode_starts"):
        call[name] = shaped(call[name][:, None], shape)
    call |= {"last_values": last_values, "time_axis": int(shape.startswith("NT"))}
    for last_done, expected in ((False, [0.9375, -0.25, 3]), (True, [0.8125, -0.75, 1])):
        assert ppo_fast.gae(**call, last_done=last_done).advantages.ravel().tolist() == expected


@pytest.mark.parametrize("per_env", [(5,), (1, 5), (5, 1)])
@pytest.mark.parametrize("form", [PLAIN, Form("last_values", "episode_starts", None, False)])
def test_shapes_of_what_is_per_environment(form, per_env):
    case = random_case(2, 4, 5, form=form)
    expected = reference.gae(**case)
    for name in ("last_values", "last_done"):
        if name in case:
            case[name] = case[name].reshape(per_env)
    assert_same_bits(ppo_fast.gae(**case), expected)


@settings(deadline=None, max_examples=500)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_steps=st.integers(0, 20) | st.integers(60, 140),
    num_envs=st.integers(0, 70),
    form=st.sampled_from(FORMS),
    dtype=st.sampled_from([np.float32, np.float64]),
    flag_dtype=st.sampled_from(FLAG_DTYPES),
    shape=st.sampled_from(SHAPES),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=11, max_size=11),
    lambda_per_env=st.booleans(),
    with_out=st.booleans(),
    exact=st.booleans(),
)
@example(0, 1, 1, PLAIN, np.float32, bool, "T", LAYOUTS[:1] * 11, False, False, False)
@example(1, 1, 70, PLAIN, np.float32, np.uint8, "TN", LAYOUTS[:1] * 11, True, True, False)
@example(2, 20, 1, PLAIN, np.float64, bool, "NT1", LAYOUTS[5:6] * 11, False, True, True)
@example(3, 0, 7, PLAIN, np.float32, bool, "NT", LAYOUTS[5:6] * 11, True, True, False)
@example(4, 7, 0, PLAIN, np.float64, bool, "TN", LAYOUTS[5:6] * 11, True, True, False)
def test_bits_equal_reference(
    seed,
    num_steps,
    num_envs,
    form,
    dtype,
    flag_dtype,
    shape,
    layouts,
    lambda_per_env,
    with_out,
    exact,
):
    num_envs = 1 if shape == "T" else num_envs
    case = random_case(
        seed, num_steps, num_envs, dtype, form, flag_dtype, lambda_per_env=lambda_per_env
    )
    call = as_call(case, shape, layouts)
    expected = reference.gae(**call)
    before = copied(call)
    out = None
    if with_out:
        size = (num_steps, num_envs)
        out = tuple(shaped(poisoned(size, dtype, layout), shape) for layout in layouts[-2:])
    result = ppo_fast.gae(**call, out=out, exact=exact)
    assert_same_bits(result, expected)
    assert copied(call) == before
    if with_out:
        assert result.advantages is out[0]
        assert result.returns is out[1]
        for array in out:
            assert_only_filled(array)


@DTYPES
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("num_envs", [511, 1025])
@pytest.mark.parametrize("layout", ["contiguous", "every_other_column", "batch_major_contiguous"])
def test_bits_equal_reference_around_a_block(num_envs, form, dtype, layout):
    # The kernels go through the environments in blocks of 1024, threads in such of 512.
    case = random_case(num_envs, 5, num_envs, dtype, form, lambda_per_env=True)
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), reference.gae(**case))


@DTYPES
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
def test_bits_equal_reference_with_threads(dtype, form, layout):
    # 300,000 elements are shared by the threads of the pool (from 2^18 on).
    case = random_case(5, 300, 1000, dtype, form)
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), reference.gae(**case))


@DTYPES
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous", "padded", "reversed"])
@pytest.mark.parametrize("shift", [0, 1])
def test_results_too_large_for_the_caches(dtype, layout, shift):
    # From 2^20 elements on, at addresses that are a multiple of a cache line and not.
    shape = (1030, 1025)
    case = random_case(6, *shape, dtype)
    out = []
    for _ in range(2):
        memory = np.full(4 * (shape[0] + 1) * (shape[1] + 1) + shift, np.nan, dtype)[shift:]
        if layout == "batch_major_contiguous":
            view = memory[: shape[0] * shape[1]].reshape(shape[::-1]).T
        else:
            view = {
                "contiguous": memory[: shape[0] * shape[1]].reshape(shape),
                "padded": memory[: shape[0] * (shape[1] + 1)].reshape(shape[0], -1)[:, 1:],
                "reversed": memory[: shape[0] * shape[1]].reshape(shape)[::-1, ::-1],
            }[layout]
        out.append(view)
    input_layout = layout if layout.startswith("batch_major") else "contiguous"
    call = as_call(case, "TN", [input_layout])
    assert_same_bits(ppo_fast.gae(**call, out=tuple(out)), reference.gae(**case))
    for array in out:
        assert_only_filled(array)


def test_calls_from_several_threads():
    cases = [random_case(seed, 300, 1000) for seed in range(4)] * 3
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda case: ppo_fast.gae(**case), cases))
    for case, result in zip(cases[:4], results[:4], strict=True):
        assert_same_bits(result, reference.gae(**case))
    for first, again in zip(results[:8], results[4:], strict=True):
        assert_same_bits(again, first)


def test_broadcast_inputs():
    shape = (6, 40)
    case = {
        "rewards": np.broadcast_to(np.float32(1), shape),
        "values": np.broadcast_to(np.linspace(0, 1, 40, dtype=np.float32), shape),
        "last_values": np.broadcast_to(np.float32(2), 40),
        "terminated": np.broadcast_to(np.arange(6)[:, None] == 2, shape),
        "gamma": 0.9,
        "gae_lambda": np.broadcast_to(0.8, 40),
    }
    assert_same_bits(ppo_fast.gae(**case), reference.gae(**case))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_element_of_out_is_written_and_nothing_around_it(layout):
    case = random_case(6, 9, 33)
    out = tuple(poisoned((9, 33), np.float32, layout) for _ in range(2))
    result = ppo_fast.gae(**case, out=out)
    assert result.advantages is out[0]
    assert result.returns is out[1]
    assert_same_bits(result, reference.gae(**case))
    for array in out:
        assert_only_filled(array)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_read_only_inputs_are_not_written(form, layout):
    call = as_call(random_case(7, 9, 33, form=form, lambda_per_env=True), "TN", [layout])
    before = copied(call)
    for array in arrays_of(call).values():
        array.flags.writeable = False
    ppo_fast.gae(**call)
    assert copied(call) == before


def test_interleaved_outputs():
    case = random_case(16, 9, 33)
    pairs = np.full((9, 33, 2), np.nan, np.float32)
    result = ppo_fast.gae(**case, out=(pairs[..., 0], pairs[..., 1]))
    assert_same_bits(result, reference.gae(**case))


def test_inputs_and_outputs_interleaved_in_one_buffer():
    case = random_case(17, 9, 33)
    buffer = np.full((9, 33, 4), np.nan, np.float32)
    buffer[..., 0], buffer[..., 1] = case["rewards"], case["values"]
    call = case | {"rewards": buffer[..., 0], "values": buffer[..., 1]}
    result = ppo_fast.gae(**call, out=(buffer[..., 2], buffer[..., 3]))
    assert_same_bits(result, reference.gae(**case))


@pytest.mark.parametrize("shape", ["TN", "NT", "TN1", "NT1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_results_have_the_layout_of_the_rewards(shape, layout):
    case = random_case(18, 9, 33)
    call = as_call(case, shape, [layout, "contiguous", "batch_major_contiguous"])
    for result in ppo_fast.gae(**call):
        # NumPy's own idea of the same layout without gaps.
        assert result.strides[:2] == np.empty_like(call["rewards"]).strides[:2]
        assert result.base is None or result.base.size == result.size


def test_results_are_new_arrays():
    case = random_case(19, 9, 33)
    first, second = ppo_fast.gae(**case), ppo_fast.gae(**case)
    arrays = [*first, *second]
    for k, array in enumerate(arrays):
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in arrays[:k])


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_nothing(shape, form):
    for lambda_per_env in (False, True):
        case = random_case(20, *shape, form=form, lambda_per_env=lambda_per_env)
        for result in ppo_fast.gae(**case):
            assert result.shape == shape
            assert result.dtype == np.float32


# What else must hold


@DTYPES
def test_lambda_one_gives_returns_minus_values(dtype):
    case = random_case(9, 50, 30, dtype) | {"gamma": 0.99, "gae_lambda": 1.0}
    # The discounted return, with V of the last observation where an episode is cut.
    discounted = np.empty((50, 30))
    after = case["last_values"].astype(np.float64)
    for t in reversed(range(50)):
        after = np.where(case["truncated"][t], case["final_values"][t], after)
        after = np.where(case["terminated"][t], 0.0, after)
        after = discounted[t] = case["rewards"][t] + 0.99 * after
    advantages, returns = ppo_fast.gae(**case)
    assert_close(returns, discounted.astype(dtype))
    assert_close(advantages, (discounted - case["values"]).astype(dtype))


def test_lambda_zero_gives_one_step_errors():
    form = Form("last_values", "terminated", None, False)
    case = random_case(10, 8, 30, np.float64, form, ends=0) | {"gamma": 0.9, "gae_lambda": 0.0}
    after = np.concatenate([case["values"][1:], case["last_values"][None]])
    expected = case["rewards"] + 0.9 * after - case["values"]
    np.testing.assert_allclose(ppo_fast.gae(**case).advantages, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("flags", ["terminated", "episode_starts"])
def test_ways_to_say_what_follows(flags):
    case = random_case(21, 12, 30, form=Form("last_values", flags, None, False))
    expected = ppo_fast.gae(**case)
    extended = np.concatenate([case["values"], case["last_values"][None]])
    del case["last_values"]
    assert_same_bits(ppo_fast.gae(**case | {"values": extended}), expected)
    assert_same_bits(ppo_fast.gae(**case, next_values=extended[1:]), expected)


def test_ways_to_say_where_episodes_end():
    case = random_case(22, 12, 30, form=Form("last_values", "terminated", None, False))
    expected = ppo_fast.gae(**case)
    terminated = case.pop("terminated")
    starts = np.roll(terminated, 1, axis=0)
    shifted = {"episode_starts": starts, "last_done": terminated[-1]}
    assert_same_bits(ppo_fast.gae(**case, **shifted), expected)
    starts[0] = ~starts[0]  # whether the first step starts an episode says nothing about an end
    assert_same_bits(ppo_fast.gae(**case, **shifted), expected)


def test_ways_to_say_what_a_truncated_episode_is_worth():
    case = random_case(23, 12, 30)
    del case["final_values"]
    values, terminated, truncated = case["values"], case["terminated"], case["truncated"]
    assert_same_bits(
        ppo_fast.gae(**case, on_truncation="current_value"),
        ppo_fast.gae(**case, final_values=values),
    )
    assert_same_bits(
        ppo_fast.gae(**case, on_truncation="terminate"),
        ppo_fast.gae(**case | {"terminated": terminated | truncated, "truncated": None}),
    )
    dropped = ppo_fast.gae(**case, on_truncation="drop")
    assert not dropped.advantages[truncated & ~terminated].any()
    assert_same_bits(
        dropped,
        ppo_fast.gae(**case | {"truncated": None}, prev_done=truncated & ~terminated),
    )


@pytest.mark.parametrize("seed", range(5))
def test_next_step_and_same_step_resets_give_the_same(seed):
    # One environment. NEXT_STEP puts a reset behind each end: it shows the last observation,
    # whose value is final_values, and its reward means nothing.
    case = random_case(seed, 40, 1)
    same = ppo_fast.gae(**case)
    done = (case["terminated"] | case["truncated"])[:, 0]
    rows = np.repeat(np.arange(40), 1 + done)  # a row that ended an episode stands twice
    resets = np.append(False, rows[1:] == rows[:-1])
    call = case | {name: case[name][rows] for name in ("rewards", "values")}
    call["rewards"][resets] = np.nan
    call["values"][resets] = case["final_values"][done]
    del call["final_values"]
    for name in ("terminated", "truncated"):
        call[name] = case[name][rows] & ~resets[:, None]
    later = ppo_fast.gae(**call, prev_done=resets[:, None])
    assert_same_bits([x[~resets] for x in later], same)
    assert not later.advantages[resets].any()
    assert_same_bits(later.returns[resets], call["values"][resets])


@DTYPES
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
@pytest.mark.parametrize("cut", [1, 3, 16, 500, 1024, 1029])
def test_splitting_environments_changes_no_bit(cut, layout, dtype):
    case = random_case(11, 6, 1030, dtype, lambda_per_env=True)
    call = as_call(case, "TN", [layout])
    whole = ppo_fast.gae(**call)
    parts = []
    for columns in (slice(None, cut), slice(cut, None)):
        part = {name: array[..., columns] for name, array in arrays_of(call).items()}
        parts.append(ppo_fast.gae(**call | part))
    joined = (np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True))
    assert_same_bits(joined, whole)


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_splitting_time(cut):
    # What follows step t enters A_t as gamma V_{t+1} + gamma lambda A_{t+1}, unless t ends an
    # episode: a first part whose last_values are V + lambda A of the second one goes on exactly.
    case = random_case(12, 20, 30, np.float64) | {"gamma": 0.99, "gae_lambda": 0.95}
    whole = ppo_fast.gae(**case)
    steps = [name for name in TRANSITIONS if name in case]
    late = ppo_fast.gae(**case | {name: case[name][cut:] for name in steps})
    carried = case["values"][cut] + case["gae_lambda"] * late.advantages[0]
    early = ppo_fast.gae(
        **case | {name: case[name][:cut] for name in steps} | {"last_values": carried}
    )
    for first, second, both in zip(early, late, whole, strict=True):
        assert second.tobytes() == both[cut:].tobytes()
        np.testing.assert_allclose(first, both[:cut], rtol=0, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_change_no_bit(layout, dtype):
    case = random_case(24, 70, 40, dtype)
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), ppo_fast.gae(**case))


# What does not count must not leak


@pytest.fixture(params=["contiguous", "batch_major_contiguous"])
def layout(request):
    return request.param


@pytest.mark.parametrize("num_envs", [1, 40])
@pytest.mark.parametrize("flag_dtype", FLAG_DTYPES)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_final_values_that_are_not_used(num_envs, flag_dtype, poison, layout):
    case = random_case(13, 70, num_envs, flag_dtype=flag_dtype)
    expected = reference.gae(**case)
    # Where both flags are set, terminated wins and the final value is not used either.
    case["final_values"][(case["truncated"] == 0) | (case["terminated"] != 0)] = poison
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), expected)


@pytest.mark.parametrize("num_envs", [1, 40])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_next_values_of_terminated_steps(num_envs, poison, layout):
    case = random_case(13, 70, num_envs, form=Form("next_values", "both", None, False))
    expected = reference.gae(**case)
    case["next_values"][case["terminated"]] = poison
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), expected)


@pytest.mark.parametrize("num_envs", [1, 40])
@pytest.mark.parametrize("name", ["rewards", "next_values"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_rows_that_are_resets(num_envs, name, poison, layout):
    case = random_case(13, 70, num_envs, form=Form("next_values", "both", None, True))
    expected = reference.gae(**case)
    case[name][case["prev_done"]] = poison
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), expected)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_rewards_of_dropped_steps(poison, layout):
    case = random_case(13, 70, 40, form=Form("last_values", "both", "drop", False))
    expected = reference.gae(**case)
    case["rewards"][case["truncated"] & ~case["terminated"]] = poison
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), expected)


@pytest.mark.parametrize("end", ["terminated", "truncated", "both", "episode_starts"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_follows_the_end_of_an_episode(end, poison, layout):
    # All episodes end at t = 65, in the second tile. Whatever stands behind is another episode's.
    form = Form("last_values", "episode_starts", None, False)
    case = random_case(14, 140, 40, form=form if end == "episode_starts" else PLAIN)
    if end == "episode_starts":
        case["episode_starts"][66] = True
    else:
        case["terminated"][65] = end != "truncated"
        case["truncated"][65] = end != "terminated"
    expected = reference.gae(**case)
    case["last_values"][:] = poison
    for name in ("rewards", "values", "final_values"):
        if name in case:
            case[name][66:] = poison
    ours = ppo_fast.gae(**as_call(case, "TN", [layout]))
    assert_same_bits([x[:66] for x in ours], [x[:66] for x in expected])


@pytest.mark.parametrize("bootstrap", ["last_values", "last_row"])
def test_last_values_of_ended_episodes(bootstrap, layout):
    case = random_case(15, 70, 40, form=PLAIN._replace(bootstrap=bootstrap))
    expected = reference.gae(**case)
    last = case["last_values"] if bootstrap == "last_values" else case["values"][-1]
    last[case["terminated"][-1] | case["truncated"][-1]] = np.nan
    assert_same_bits(ppo_fast.gae(**as_call(case, "TN", [layout])), expected)


def test_nan_that_counts_is_not_hidden_and_stays_in_its_environment(layout):
    case = random_case(25, 9, 33, ends=0) | {"gamma": 0.9, "gae_lambda": 0.9}
    case["rewards"][5, 7] = np.nan
    for result in ppo_fast.gae(**as_call(case, "TN", [layout])):
        assert np.isnan(result[:6, 7]).all()
        assert np.isnan(result).sum() == 6


def test_without_torch_gymnasium_and_jax():
    script = """
import sys
for name in ("torch", "gymnasium", "jax"):
    sys.modules[name] = None
import numpy as np
import ppo_fast
ones = np.ones((2, 1), np.float32)
never = np.zeros((2, 1), bool)
advantages, returns = ppo_fast.gae(
    ones, ones, gamma=0.5, gae_lambda=1.0, last_values=0.0, terminated=never
)
# t = 1: delta = 1 + 0 - 1 = 0; t = 0: delta = 1 + 1/2 - 1 = 1/2.
assert advantages.tolist() == [[0.5], [0.0]], advantages
assert returns.tolist() == [[1.5], [1.0]], returns
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("num_steps", [1, 2, 3, 5])
@pytest.mark.parametrize("num_envs", [1, 3, 40])
@pytest.mark.parametrize("row", [0, 1, -1])
@pytest.mark.parametrize("time_axis", [0, 1])
def test_last_rows_that_are_rows_of_other_arrays(num_steps, num_envs, row, time_axis):
    # What stands behind the last step may lie in the same memory as what stands behind another.
    rng = np.random.default_rng(num_steps)
    shape = (num_steps, num_envs)
    rewards, values = rng.normal(size=(2, *shape)).astype(np.float32)
    starts = rng.random(shape) < 0.3
    row = min(row, num_steps - 1)
    ends = {"episode_starts": starts, "last_done": starts[row], "last_values": values[row]}
    apart = {name: array.copy() for name, array in ends.items()}
    factors = {"gamma": 0.9, "gae_lambda": 0.8}
    expected = reference.gae(rewards, values, **apart, **factors)
    if time_axis == 1:
        rewards, values, ends["episode_starts"] = rewards.T, values.T, starts.T
        expected = [x.T for x in expected]
    ours = ppo_fast.gae(rewards, values, **ends, **factors, time_axis=time_axis)
    assert_same_bits(ours, expected)
