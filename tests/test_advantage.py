"""gae against numbers worked by hand, and against the plain NumPy loop, bit for bit."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ppo_fast
from ppo_fast import reference

FLAGS = ["none", "terminated", "truncated", "both"]
LAYOUTS = [
    "contiguous",
    "batch_major",
    "padded",
    "every_other_step",
    "every_other_column",
    "reversed",
]
ARRAYS = ["rewards", "values", "last_values", "terminated", "truncated", "final_values"]


def random_case(seed, num_steps, num_envs, dtype=np.float32, flags="both", flag_dtype=bool):
    """Keywords of a call; in `both`, some transitions have both flags."""
    rng = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    case = {
        "rewards": rng.normal(size=shape).astype(dtype),
        "values": rng.normal(size=shape).astype(dtype),
        "gamma": rng.choice([0.0, 0.9, 0.99, 1.0]),
        "gae_lambda": rng.choice([0.0, 0.5, 0.95, 1.0]),
    }
    if rng.random() < 0.8:
        case["last_values"] = rng.normal(size=num_envs).astype(dtype)
    if flags in ("terminated", "both"):
        case["terminated"] = (rng.random(shape) < 0.2).astype(flag_dtype)
    if flags in ("truncated", "both"):
        case["truncated"] = (rng.random(shape) < 0.2).astype(flag_dtype)
        case["final_values"] = rng.normal(size=shape).astype(dtype)
    return case


def poisoned(shape, dtype, layout):
    """An array of that memory layout, full of NaN (flags: of True), as is all memory around it."""
    steps, envs = shape
    poison = np.nan if np.dtype(dtype).kind == "f" else 1
    if layout == "contiguous":
        return np.full(shape, poison, dtype)
    if layout == "batch_major":
        return np.full((envs, steps), poison, dtype).T
    memory = np.full((2 * steps + 1, 2 * envs + 1), poison, dtype)
    views = {
        "padded": memory[:steps, 1 : envs + 1],
        "every_other_step": memory[: 2 * steps : 2, :envs],
        "every_other_column": memory[:steps, : 2 * envs : 2],
        "reversed": memory[:steps, :envs][::-1, ::-1],
    }
    return views[layout]


def laid_out(array, layout):
    """The same numbers in another memory layout."""
    rows = array if array.ndim == 2 else array[None]
    copy = poisoned(rows.shape, rows.dtype, layout)
    copy[...] = rows
    return copy if array.ndim == 2 else copy[0]


def assert_same_bits(ours, expected):
    for name, a, b in zip(("advantages", "returns"), ours, expected, strict=True):
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
        assert a.tobytes() == b.tobytes(), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", [ppo_fast.gae, reference.gae])
def test_worked_by_hand(function, dtype):
    # gamma = gae_lambda = 1/2, so gamma * gae_lambda = 1/4.
    #
    # Environment 0 terminates at t = 1:
    #   t = 2: delta = 2 + 6/2 - 4 = 1     A = 1                     R = 1 + 4 = 5
    #   t = 1: delta = 3 + 0   - 2 = 1     A = 1                     R = 1 + 2 = 3
    #   t = 0: delta = 1 + 2/2 - 1 = 1     A = 1 + 1/4 = 1.25        R = 1.25 + 1 = 2.25
    # Environment 1 is truncated at t = 0, where its last observation is worth 6:
    #   t = 2: delta = 4 + 8/2 - 2 = 6     A = 6                     R = 6 + 2 = 8
    #   t = 1: delta = 1 + 2/2 - 4 = -2    A = -2 + 6/4 = -0.5       R = -0.5 + 4 = 3.5
    #   t = 0: delta = 2 + 6/2 - 2 = 3     A = 3                     R = 3 + 2 = 5
    advantages, returns = function(
        np.array([[1, 2], [3, 1], [2, 4]], dtype),
        np.array([[1, 2], [2, 4], [4, 2]], dtype),
        gamma=0.5,
        gae_lambda=0.5,
        last_values=np.array([6, 8], dtype),
        terminated=np.array([[False, False], [True, False], [False, False]]),
        truncated=np.array([[False, True], [False, False], [False, False]]),
        final_values=np.array([[9, 6], [9, 9], [9, 9]], dtype),
    )
    assert advantages.dtype == returns.dtype == dtype
    np.testing.assert_array_equal(advantages, [[1.25, 3], [1, -0.5], [1, 6]])
    np.testing.assert_array_equal(returns, [[2.25, 5], [3, 3.5], [5, 8]])


@pytest.mark.parametrize("function", [ppo_fast.gae, reference.gae])
def test_terminated_wins_over_truncated(function):
    # delta = 1 + 0 - 2 = -1, whatever the value of the last observation.
    advantages, returns = function(
        np.ones((1, 1)),
        np.full((1, 1), 2.0),
        gamma=0.5,
        gae_lambda=0.5,
        last_values=np.full(1, 7.0),
        terminated=np.ones((1, 1), bool),
        truncated=np.ones((1, 1), bool),
        final_values=np.full((1, 1), 5.0),
    )
    assert (advantages.item(), returns.item()) == (-1.0, 1.0)


def test_missing_last_values_are_zeros():
    case = random_case(3, 4, 5)
    case.pop("last_values", None)
    zeros = np.zeros(5, np.float32)
    assert_same_bits(ppo_fast.gae(**case), ppo_fast.gae(**case, last_values=zeros))


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_steps=st.integers(0, 20),
    num_envs=st.integers(0, 70),
    dtype=st.sampled_from([np.float32, np.float64]),
    flags=st.sampled_from(FLAGS),
    flag_dtype=st.sampled_from([bool, np.uint8]),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=8, max_size=8),
    with_out=st.booleans(),
)
@example(0, 1, 1, np.float32, "both", bool, LAYOUTS[:1] * 8, False)
@example(1, 1, 70, np.float32, "both", np.uint8, LAYOUTS[:1] * 8, True)
@example(2, 20, 1, np.float64, "both", bool, LAYOUTS[1:2] * 8, True)
@example(3, 0, 7, np.float32, "both", bool, LAYOUTS[1:2] * 8, True)
@example(4, 7, 0, np.float64, "both", bool, LAYOUTS[1:2] * 8, True)
def test_bits_equal_reference(
    seed, num_steps, num_envs, dtype, flags, flag_dtype, layouts, with_out
):
    case = random_case(seed, num_steps, num_envs, dtype, flags, flag_dtype)
    expected = reference.gae(**case)
    call = dict(case)
    for name, layout in zip(ARRAYS, layouts[:6], strict=True):
        if name in case:
            call[name] = laid_out(case[name], layout)
    if with_out:
        shape = (num_steps, num_envs)
        call["out"] = tuple(poisoned(shape, dtype, layout) for layout in layouts[6:])
    result = ppo_fast.gae(**call)
    assert_same_bits(result, expected)
    if with_out:
        assert result.advantages is call["out"][0]
        assert result.returns is call["out"][1]
    for name in ARRAYS:
        if name in case:
            assert call[name].tobytes() == case[name].tobytes(), f"{name} was written"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("num_envs", [1023, 1024, 1025, 2049])
@pytest.mark.parametrize("layout", ["contiguous", "every_other_column"])
def test_bits_equal_reference_around_a_block(num_envs, flags, dtype, layout):
    # The kernel goes through the environments in blocks of 1024.
    case = random_case(num_envs, 5, num_envs, dtype, flags)
    call = dict(case, rewards=laid_out(case["rewards"], layout))
    assert_same_bits(ppo_fast.gae(**call), reference.gae(**case))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flags", FLAGS)
def test_bits_equal_reference_with_threads(dtype, flags):
    # 300,000 elements are shared by the threads of the pool (from 2^18 on).
    case = random_case(5, 300, 1000, dtype, flags)
    assert_same_bits(ppo_fast.gae(**case), reference.gae(**case))


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
        "terminated": np.broadcast_to(np.arange(6)[:, None] == 2, shape),
    }
    ours = ppo_fast.gae(**case, gamma=0.9, gae_lambda=0.8)
    assert_same_bits(ours, reference.gae(**case, gamma=0.9, gae_lambda=0.8))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_element_of_out_is_written_and_nothing_around_it(layout):
    case = random_case(6, 9, 33)
    out = tuple(poisoned((9, 33), np.float32, layout) for _ in range(2))
    assert_same_bits(ppo_fast.gae(**case, out=out), reference.gae(**case))
    for array in out:
        memory = array if array.base is None else array.base
        assert np.isnan(memory).sum() == memory.size - array.size


@pytest.mark.parametrize("layout", LAYOUTS)
def test_read_only_inputs_are_not_written(layout):
    case = random_case(7, 9, 33)
    call = {key: laid_out(x, layout) if key in ARRAYS else x for key, x in case.items()}
    for name in ARRAYS:
        if name in call:
            call[name].flags.writeable = False
    ppo_fast.gae(**call)
    for name in ARRAYS:
        if name in call:
            assert call[name].tobytes() == case[name].tobytes()


def test_in_place():
    # Each element is read before it is written, so that a result may replace its own input.
    case = random_case(8, 9, 33)
    expected = reference.gae(**case)
    assert_same_bits(ppo_fast.gae(**case, out=(case["rewards"], case["values"])), expected)


def test_interleaved_outputs():
    case = random_case(16, 9, 33)
    pairs = np.full((9, 33, 2), np.nan, np.float32)
    assert_same_bits(
        ppo_fast.gae(**case, out=(pairs[..., 0], pairs[..., 1])), reference.gae(**case)
    )


def test_lambda_one_gives_returns_minus_values():
    case = random_case(9, 50, 30)
    case |= {"gamma": 0.99, "gae_lambda": 1.0, "last_values": np.ones(30, np.float32)}
    # The discounted return, with V of the last observation where an episode is cut.
    discounted = np.empty((50, 30))
    after = case["last_values"].astype(np.float64)
    for t in reversed(range(50)):
        after = np.where(case["truncated"][t], case["final_values"][t], after)
        after = np.where(case["terminated"][t], 0.0, after)
        after = discounted[t] = case["rewards"][t] + 0.99 * after
    advantages, returns = ppo_fast.gae(**case)
    np.testing.assert_allclose(returns, discounted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(advantages, discounted - case["values"], rtol=1e-5, atol=1e-5)


def test_lambda_zero_gives_one_step_errors():
    case = random_case(10, 8, 30, np.float64, "none")
    case |= {"gamma": 0.9, "gae_lambda": 0.0, "last_values": np.ones(30)}
    after = np.concatenate([case["values"][1:], np.ones((1, 30))])
    expected = case["rewards"] + 0.9 * after - case["values"]
    np.testing.assert_allclose(ppo_fast.gae(**case).advantages, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cut", [1, 3, 16, 500, 1024, 1029])
def test_splitting_environments_changes_no_bit(cut, dtype):
    case = random_case(11, 6, 1030, dtype)
    whole = ppo_fast.gae(**case)
    parts = []
    for columns in (slice(None, cut), slice(cut, None)):
        part = {key: x[..., columns] if key in ARRAYS else x for key, x in case.items()}
        parts.append(ppo_fast.gae(**part))
    joined = (np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True))
    assert_same_bits(joined, whole)


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_splitting_time(cut):
    # What follows step t enters A_t as gamma V_{t+1} + gamma lambda A_{t+1}, unless t ends an
    # episode: a first part whose last_values are V + lambda A of the second one goes on exactly.
    case = random_case(12, 20, 30, np.float64) | {"gamma": 0.99, "gae_lambda": 0.95}
    whole = ppo_fast.gae(**case)
    steps = [name for name in ARRAYS if name != "last_values"]
    late = ppo_fast.gae(**case | {name: case[name][cut:] for name in steps})
    carried = case["values"][cut] + case["gae_lambda"] * late.advantages[0]
    early = ppo_fast.gae(
        **case | {name: case[name][:cut] for name in steps} | {"last_values": carried}
    )
    for first, second, both in zip(early, late, whole, strict=True):
        assert second.tobytes() == both[cut:].tobytes()
        np.testing.assert_allclose(first, both[:cut], rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_envs", [1, 40])
@pytest.mark.parametrize("flag_dtype", [bool, np.uint8])
def test_nan_in_unused_final_values_does_not_leak(num_envs, flag_dtype):
    case = random_case(13, 12, num_envs, flag_dtype=flag_dtype)
    expected = reference.gae(**case)
    # Where both flags are set, terminated wins and the final value is not used either.
    unused = (case["truncated"] == 0) | (case["terminated"] != 0)
    for poison in (np.nan, np.inf):
        case["final_values"][unused] = poison
        assert_same_bits(ppo_fast.gae(**case), expected)


@pytest.mark.parametrize("end", ["terminated", "truncated", "both"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_nan_after_the_end_of_an_episode_does_not_leak(end, poison):
    # All episodes end at t = 4. Whatever stands behind is another episode's.
    case = random_case(14, 8, 40)
    case["terminated"][4] = end in ("terminated", "both")
    case["truncated"][4] = end in ("truncated", "both")
    expected = reference.gae(**case)
    case["last_values"] = np.full(40, poison, np.float32)
    for name in ("rewards", "values", "final_values"):
        case[name][5:] = poison
    ours = ppo_fast.gae(**case)
    assert_same_bits([x[:5] for x in ours], [x[:5] for x in expected])


def test_nan_in_last_values_of_ended_episodes_does_not_leak():
    case = random_case(15, 8, 40)
    done = case["terminated"][-1] | case["truncated"][-1]
    case["last_values"] = np.where(done, 0, 1).astype(np.float32)
    expected = reference.gae(**case)
    case["last_values"][done] = np.nan
    assert_same_bits(ppo_fast.gae(**case), expected)


def test_without_torch_and_gymnasium():
    script = """
import sys
sys.modules["torch"] = None
sys.modules["gymnasium"] = None
import numpy as np
import ppo_fast
ones = np.ones((2, 1), np.float32)
advantages, returns = ppo_fast.gae(ones, ones, gamma=0.5, gae_lambda=1.0)
# t = 1: delta = 1 + 0 - 1 = 0; t = 0: delta = 1 + 1/2 - 1 = 1/2.
assert advantages.tolist() == [[0.5], [0.0]], advantages
assert returns.tolist() == [[1.5], [1.0]], returns
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# A valid call of 3 steps of 2 environments, and what can be wrong with each argument.
F32 = np.zeros((3, 2), np.float32)
F64 = np.zeros((3, 2))
INT = np.zeros((3, 2), int)
BOOL = np.zeros((3, 2), bool)
NESTED = [[0.0, 0.0]] * 3
READ_ONLY = np.zeros((3, 2), np.float32)
READ_ONLY.flags.writeable = False
# Items of 5 bytes: the float32 among them are no multiple of 4 bytes apart.
UNALIGNED = np.zeros((3, 2), [("number", np.float32), ("flag", np.uint8)])["number"]


def valid_call():
    return {
        "rewards": F32,
        "values": F32,
        "gamma": 0.9,
        "gae_lambda": 0.9,
        "last_values": F32[0],
        "terminated": BOOL,
        "truncated": BOOL,
        "final_values": F32,
        "out": (F32.copy(), F32.copy()),
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rewards", NESTED, r"must be a NumPy array, got list; wrap it in np\.asarray\(\.\.\.\)"),
        ("rewards", 1.0, "must be a NumPy array, got float"),
        ("rewards", None, "must be a NumPy array, got NoneType"),
        ("rewards", INT, r"must be float32 or float64, got int64; cast with rewards\.astype\("),
        ("rewards", F32.astype(np.float16), "must be float32 or float64, got float16"),
        ("rewards", F32.astype(">f4"), "must be float32 or float64, got >f4"),
        ("values", NESTED, "must be a NumPy array, got list"),
        ("values", INT, "must be float32 or float64, got int64"),
        ("values", F64, r"must be float32 like rewards, got float64; cast with values\.astype\("),
        ("last_values", [0.0, 0.0], "must be a NumPy array, got list"),
        ("last_values", F64[0], "must be float32 like rewards, got float64"),
        ("terminated", NESTED, "must be a NumPy array, got list"),
        ("terminated", INT, r"must be bool, got int64; cast with terminated\.astype\(bool\)"),
        ("truncated", NESTED, "must be a NumPy array, got list"),
        ("truncated", F32, "must be bool, got float32"),
        ("final_values", NESTED, "must be a NumPy array, got list"),
        ("final_values", BOOL, "must be float32 or float64, got bool"),
        ("final_values", F64, "must be float32 like rewards, got float64"),
        ("out", [F32, F32], r"must be a tuple \(advantages, returns\), got list"),
        ("out", F32, "must be a tuple .*, got ndarray"),
        ("out", (F32,), r"must be a tuple \(advantages, returns\)"),
        ("out", (F32, F32, F32), r"must be a tuple \(advantages, returns\)"),
    ],
)
def test_type_errors(name, value, message):
    with pytest.raises(TypeError, match=f"^gae: {name} {message}"):
        ppo_fast.gae(**valid_call() | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rewards", F32[:, 0], r"must have shape \(T, N\): time steps, environments; got \(3,\)"),
        ("rewards", F32[None], r"must have shape \(T, N\).*; got \(1, 3, 2\)"),
        ("rewards", UNALIGNED, "is not aligned to its items"),
        ("gamma", -0.1, r"must be in \[0, 1\], got -0\.1"),
        ("gamma", 1.5, r"must be in \[0, 1\], got 1\.5"),
        ("gamma", np.nan, r"must be in \[0, 1\], got nan"),
        ("gae_lambda", -0.1, r"must be in \[0, 1\], got -0\.1"),
        ("gae_lambda", np.inf, r"must be in \[0, 1\], got inf"),
        ("gae_lambda", np.nan, r"must be in \[0, 1\], got nan"),
        ("values", F32.T, r"must have shape \(3, 2\) like rewards, got \(2, 3\)"),
        ("values", F32[0], r"must have shape \(3, 2\) like rewards, got \(2,\)"),
        ("values", UNALIGNED, "is not aligned to its items"),
        ("last_values", F32[:, 0], r"must have shape \(2,\) \(one per environment\), got \(3,\)"),
        ("last_values", F32[:1], r"must have shape \(2,\) \(one per environment\), got \(1, 2\)"),
        ("last_values", UNALIGNED[0], "is not aligned to its items"),
        ("terminated", BOOL[:2], r"must have shape \(3, 2\) like rewards, got \(2, 2\)"),
        ("truncated", BOOL[:, :1], r"must have shape \(3, 2\) like rewards, got \(3, 1\)"),
        ("final_values", F32[1:], r"must have shape \(3, 2\) like rewards, got \(2, 2\)"),
        ("final_values", UNALIGNED, "is not aligned to its items"),
        ("final_values", None, r"is needed with truncated: .* as a \[T, N\] array"),
    ],
)
def test_value_errors(name, value, message):
    with pytest.raises(ValueError, match=f"^gae: {name} {message}"):
        ppo_fast.gae(**valid_call() | {name: value})


def test_final_values_without_truncated():
    with pytest.raises(ValueError, match=r"^gae: final_values has no use without truncated"):
        ppo_fast.gae(**valid_call() | {"truncated": None})


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (None, TypeError, "must be a NumPy array, got NoneType"),
        (NESTED, TypeError, "must be a NumPy array, got list"),
        (F64, TypeError, "must be float32 like rewards, got float64"),
        (INT, TypeError, "must be float32 like rewards, got int64"),
        (F32.T, ValueError, r"must have shape \(3, 2\) like rewards, got \(2, 3\)"),
        (F32[0], ValueError, r"must have shape \(3, 2\) like rewards, got \(2,\)"),
        (READ_ONLY, ValueError, "must be writable, got a read-only array"),
        (UNALIGNED, ValueError, "is not aligned to its items"),
    ],
)
def test_errors_of_out(position, array, error, message):
    call = valid_call()
    out = list(call["out"])
    out[position] = array
    with pytest.raises(error, match=rf"^gae: out\[{position}\] {message}"):
        ppo_fast.gae(**call | {"out": tuple(out)})


def test_advice_for_unaligned_arrays_helps():
    numbers = np.frombuffer(bytes(25), np.float32, offset=1, count=6).reshape(3, 2)
    with pytest.raises(ValueError, match=r"copy it with rewards\.copy\(\)"):
        ppo_fast.gae(numbers, F32, gamma=0.9, gae_lambda=0.9)
    ppo_fast.gae(numbers.copy(), F32, gamma=0.9, gae_lambda=0.9)


def test_one_array_for_both_results_is_refused():
    both = F32.copy()
    with pytest.raises(ValueError, match=r"^gae: out"):
        ppo_fast.gae(F32, F32, gamma=0.9, gae_lambda=0.9, out=(both, both))
