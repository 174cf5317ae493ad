"""lambda_returns, discounted_returns, vtrace, normalize and valid_rows."""

import warnings

import numpy as np
import pytest
from advantage_cases import (
    FLAG_DTYPES,
    FORMS,
    LAYOUTS,
    PLAIN,
    RETURNS_FORMS,
    SHAPES,
    Form,
    as_call,
    as_flags,
    assert_close,
    assert_only_filled,
    assert_same_bits,
    copied,
    laid_out,
    poisoned,
    random_case,
    shaped,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ppo_fast
from ppo_fast import reference

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
NEVER, MIDDLE, LAST = [0, 0, 0], [0, 1, 0], [0, 0, 1]


def arrays(options):
    """Options of a call of float64, lists as arrays."""
    return {k: np.array(x, float) if isinstance(x, list) else x for k, x in options.items()}


def calls(forms):
    """Strategy: a form, the arguments of `random_case`, a shape, layouts."""
    return given(
        seed=st.integers(0, 2**32 - 1),
        num_steps=st.integers(0, 20) | st.integers(60, 140),
        num_envs=st.integers(0, 70),
        form=st.sampled_from(forms),
        dtype=st.sampled_from([np.float32, np.float64]),
        flag_dtype=st.sampled_from(FLAG_DTYPES),
        shape=st.sampled_from(SHAPES),
        layouts=st.lists(st.sampled_from(LAYOUTS), min_size=12, max_size=12),
        exact=st.booleans(),
    )


def outs(number, num_steps, num_envs, dtype, shape, layouts):
    size = (num_steps, num_envs)
    return tuple(shaped(poisoned(size, dtype, x), shape) for x in layouts[:number])


# lambda_returns


def test_lambda_returns_worked_by_hand():
    # gamma = lambda = 1/2; t = 1 is terminated.
    #   t = 2: delta = 3 + 4/2 - 2 = 3     R = 3 + 2 = 5
    #   t = 1: delta = 2 + 0   - 4 = -2    R = -2 + 4 = 2
    #   t = 0: delta = 1 + 4/2 - 2 = 1     R = (1 - 2/4) + 2 = 2.5
    call = arrays({"rewards": [1, 2, 3], "values": [2, 4, 2], "terminated": MIDDLE})
    for function in (ppo_fast.lambda_returns, reference.lambda_returns):
        returns = function(**call, last_values=np.full(1, 4.0), gamma=0.5, gae_lambda=0.5)
        assert returns.tolist() == [2.5, 2, 5]


@DTYPES
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
def test_lambda_returns_are_those_of_gae(form, layout, dtype):
    case = random_case(1, 140, 40, dtype, form, np.uint8, lambda_per_env=True)
    call = as_call(case, "TN", [layout])
    assert_same_bits(ppo_fast.lambda_returns(**call), ppo_fast.gae(**call).returns)
    out = poisoned((140, 40), dtype, "padded")
    assert ppo_fast.lambda_returns(**call, out=out) is out
    assert_same_bits(out, reference.lambda_returns(**case))
    assert_only_filled(out)


# discounted_returns. gamma = 1/2, rewards 1 2 4 and 8 after the last step:
#   t = 2: 4 + 8/2 = 8;  t = 1: 2 + 8/2 = 6;  t = 0: 1 + 6/2 = 4
RETURNS_BY_HAND = [
    ({"terminated": NEVER}, [4, 6, 8]),
    ({"terminated": MIDDLE}, [2, 2, 8]),
    ({"terminated": LAST}, [3, 4, 4]),
    ({"episode_starts": [1, 0, 1], "last_done": [0]}, [2, 2, 8]),
    ({"episode_starts": [1, 0, 0], "last_done": [1]}, [3, 4, 4]),
    # t = 1: 2 + 6/2 = 5;  t = 0: 1 + 5/2
    ({"terminated": NEVER, "truncated": MIDDLE, "final_values": [9, 6, 9]}, [3.5, 5, 8]),
    ({"terminated": MIDDLE, "truncated": MIDDLE, "final_values": [9, 9, 9]}, [2, 2, 8]),
    ({"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "terminate"}, [2, 2, 8]),
    # Row 1 does not count: nothing follows row 0.
    ({"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "drop"}, [1, 0, 8]),
    ({"terminated": MIDDLE, "prev_done": LAST}, [2, 2, 0]),
]


@pytest.mark.parametrize("function", [ppo_fast.discounted_returns, reference.discounted_returns])
@pytest.mark.parametrize(("options", "expected"), RETURNS_BY_HAND)
def test_discounted_returns_worked_by_hand(function, options, expected):
    call = arrays({"rewards": [1, 2, 4], "last_values": [8], **options})
    assert function(**call, gamma=0.5).tolist() == expected


def test_discounted_returns_of_one_environment():
    call = arrays({"rewards": [1, 2, 4], "episode_starts": NEVER})
    for last_values in (8, 8.0):
        returns = ppo_fast.discounted_returns(
            **call, gamma=0.5, last_values=last_values, last_done=False
        )
        assert returns.tolist() == [4, 6, 8]


@settings(deadline=None, max_examples=200)
@calls(RETURNS_FORMS)
def test_discounted_returns_equal_reference(
    seed, num_steps, num_envs, form, dtype, flag_dtype, shape, layouts, exact
):
    num_envs = 1 if shape == "T" else num_envs
    case = random_case(seed, num_steps, num_envs, dtype, form, flag_dtype)
    del case["values"], case["gae_lambda"]
    call = as_call(case, shape, layouts)
    before = copied(call)
    (out,) = outs(1, num_steps, num_envs, dtype, shape, layouts)
    returns = ppo_fast.discounted_returns(**call, exact=exact)
    assert_same_bits(returns, reference.discounted_returns(**call))
    assert ppo_fast.discounted_returns(**call, exact=exact, out=out) is out
    assert_same_bits(out, returns)
    assert_only_filled(out)
    assert copied(call) == before


@DTYPES
def test_discounted_returns_are_gae_with_lambda_one(dtype):
    case = random_case(2, 60, 20, dtype) | {"gamma": 0.99, "gae_lambda": 1.0}
    _, expected = ppo_fast.gae(**case)
    del case["values"], case["gae_lambda"]
    assert_close(ppo_fast.discounted_returns(**case), expected)


# vtrace. gamma = 1/2, lambda = 1; rewards 1 2 3, values 2 4 2, and 4 after the last step;
# rho = 1/2 2 1. Clipped at 1, rho is 1/2 1 1:
#   delta:      t = 2: 3 + 4/2 - 2 = 3   t = 1: 2 + 2/2 - 4 = -1   t = 0: (1 + 4/2 - 2)/2 = 1/2
#   vs - V:     t = 2: 3                 t = 1: -1 + 3/2 = 1/2     t = 0: 1/2 + (1/2)/4 = 5/8
#   vs:         t = 2: 5                 t = 1: 9/2                t = 0: 21/8
#   advantage:  t = 2: 3 + 4/2 - 2 = 3   t = 1: 2 + 5/2 - 4 = 1/2  t = 0: (1 + 4.5/2 - 2)/2 = 5/8
INF = float("inf")
VTRACE_BY_HAND = {
    "clipped at 1": ({"terminated": NEVER}, [2.625, 4.5, 5], [0.625, 0.5, 3]),
    # t = 1: delta = -2, vs - V = -2 + 3/2 = -1/2;  t = 0: vs - V = 1/2 - (1/2)/4 = 3/8
    # t = 0: advantage = (1 + 3.5/2 - 2)/2
    "rho_clip": ({"terminated": NEVER, "rho_clip": 2}, [2.375, 3.5, 5], [0.375, 0.5, 3]),
    # t = 1: vs - V = -1 + 2 * 3/2 = 2;  t = 0: vs - V = 1/2 + 2/4 = 1, A = (1 + 6/2 - 2)/2
    "c_clip": ({"terminated": NEVER, "c_clip": 2}, [3, 6, 5], [1, 0.5, 3]),
    # t = 1: advantage = 2 (1/2)
    "pg_rho_clip": ({"terminated": NEVER, "pg_rho_clip": 2}, [2.625, 4.5, 5], [0.625, 1, 3]),
    # t = 1: vs - V = -2 + 2 * 3/2 = 1, A = 2 (1/2); t = 0: vs - V = 1/2 + 1/4, A = (1 + 5/2 - 2)/2
    "no limits": (
        {"terminated": NEVER, "rho_clip": INF, "c_clip": INF, "pg_rho_clip": INF},
        [2.75, 5, 5],
        [0.75, 1, 3],
    ),
    # Limits below 1 scale: delta = 1/2 -1/2 3/2; vs - V = 1/2 + (1/4)/4, -1/2 + 3/4, 3/2 (c = 1).
    # A: t = 2: 3; t = 1: 2 + 3.5/2 - 4 = -1/4; t = 0: (1 + 4.25/2 - 2)/2
    "low rho_clip": (
        {"terminated": NEVER, "rho_clip": 0.5},
        [2.5625, 4.25, 3.5],
        [0.5625, -0.25, 3],
    ),
    # lambda = 1/2: vs - V: t = 1: -1 + 3/4 = -1/4; t = 0: 1/2 - (1/4)/8 = 15/32
    # A: t = 1: 2 + 5/2 - 4 = 1/2; t = 0: (1 + 3.75/2 - 2)/2
    "lambda": ({"terminated": NEVER, "gae_lambda": 0.5}, [2.46875, 3.75, 5], [0.4375, 0.5, 3]),
    # t = 1: delta = -2 = vs - V, A = 2 + 0 - 4; t = 0: vs - V = 1/2 - 2/4 = 0, A = (1 + 2/2 - 2)/2
    "terminated": ({"terminated": MIDDLE}, [2, 2, 5], [0, -2, 3]),
    "the next step starts an episode": (
        {"episode_starts": [1, 0, 1], "last_done": [0]},
        [2, 2, 5],
        [0, -2, 3],
    ),
    # t = 1: delta = 2 + 6/2 - 4 = 1 = A: V of the last observation follows, not the next episode.
    # t = 0: vs - V = 1/2 + 1/4, A = (1 + 5/2 - 2)/2
    "truncated": (
        {"terminated": NEVER, "truncated": MIDDLE, "final_values": [9, 6, 9]},
        [2.75, 5, 5],
        [0.75, 1, 3],
    ),
    # t = 1: delta = 2 + 4/2 - 4 = 0 = A; t = 0: vs - V = 1/2, A = (1 + 4/2 - 2)/2
    "current value": (
        {"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "current_value"},
        [2.5, 4, 5],
        [0.5, 0, 3],
    ),
    "terminate": (
        {"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "terminate"},
        [2, 2, 5],
        [0, -2, 3],
    ),
    "drop": (
        {"terminated": NEVER, "truncated": MIDDLE, "on_truncation": "drop"},
        [2.5, 4, 5],
        [0.5, 0, 3],
    ),
    # Row 2 is a reset and shows what the truncated row 1 led to: t = 1: delta = A = 2 + 2/2 - 4.
    # t = 0: vs - V = 1/2 - 1/4, A = (1 + 3/2 - 2)/2
    "a row that is a reset": (
        {"terminated": NEVER, "truncated": MIDDLE, "prev_done": LAST},
        [2.25, 3, 2],
        [0.25, -1, 0],
    ),
    # t = 1 goes on: delta = 2 + 8/2 - 4 = 2, vs - V = 2 + 3/2, A = 2 + 5/2 - 4; t = 0: delta =
    # (1 + 6/2 - 2)/2 = 1, vs - V = 1 + 3.5/4, A = (1 + 7.5/2 - 2)/2
    "next values": (
        {"next_values": [6, 8, 4], "terminated": NEVER},
        [3.875, 7.5, 5],
        [1.375, 0.5, 3],
    ),
}


def vtrace_by_hand(options):
    rhos = np.array([0.5, 2, 1])
    call = {"rewards": [1, 2, 3], "values": [2, 4, 2], "gamma": 0.5, "log_rhos": np.log(rhos)}
    if "next_values" not in options:
        call["last_values"] = [4]
    return arrays(call | options)


@pytest.mark.parametrize("function", [ppo_fast.vtrace, reference.vtrace])
@pytest.mark.parametrize(
    ("options", "vs", "pg_advantages"), VTRACE_BY_HAND.values(), ids=list(VTRACE_BY_HAND)
)
def test_vtrace_worked_by_hand(function, options, vs, pg_advantages):
    result = function(**vtrace_by_hand(options))
    np.testing.assert_allclose(result[0], vs, rtol=0, atol=1e-14)
    np.testing.assert_allclose(result[1], pg_advantages, rtol=0, atol=1e-14)


def with_rhos(case, scale=0.5):
    rng = np.random.default_rng(7)
    shape = case["rewards"].shape
    return case | {"log_rhos": rng.normal(0, scale, shape).astype(case["rewards"].dtype)}


@settings(deadline=None, max_examples=300)
@calls(FORMS)
@example(0, 0, 3, PLAIN, np.float32, bool, "TN", LAYOUTS[:1] * 12, False)
@example(1, 3, 0, PLAIN, np.float64, bool, "NT", LAYOUTS[:1] * 12, False)
def test_vtrace_equals_reference(
    seed, num_steps, num_envs, form, dtype, flag_dtype, shape, layouts, exact
):
    num_envs = 1 if shape == "T" else num_envs
    case = random_case(
        seed, num_steps, num_envs, dtype, form, flag_dtype, lambda_per_env=seed % 2 == 0
    )
    call = as_call(with_rhos(case), shape, layouts)
    rng = np.random.default_rng(seed)
    for clip in ("rho_clip", "c_clip", "pg_rho_clip"):
        call[clip] = rng.choice([0.5, 1.0, 2.0, np.inf])
    before = copied(call)
    out = outs(2, num_steps, num_envs, dtype, shape, layouts)
    result = ppo_fast.vtrace(**call, exact=exact)
    # exp differs by 2 ulp from NumPy's.
    assert_close(result, reference.vtrace(**call), 1e-5 if dtype == np.float32 else 1e-13)
    filled = ppo_fast.vtrace(**call, exact=exact, out=out)
    assert filled.vs is out[0]
    assert filled.pg_advantages is out[1]
    assert_same_bits(filled, result)
    for array in out:
        assert_only_filled(array)
    assert copied(call) == before


@DTYPES
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
def test_vtrace_on_policy_is_gae(form, layout, dtype):
    case = random_case(3, 140, 40, dtype, form)
    call = as_call(case | {"log_rhos": np.zeros((140, 40), dtype)}, "TN", [layout])
    assert_same_bits(ppo_fast.vtrace(**call).vs, ppo_fast.lambda_returns(**case))
    if form.bootstrap != "next_values":  # else V' may differ from V of the next row
        case["gae_lambda"] = call["gae_lambda"] = 1.0
        assert_close(ppo_fast.vtrace(**call).pg_advantages, ppo_fast.gae(**case).advantages)


def test_lambda_of_vtrace_is_one_by_default():
    case = with_rhos(random_case(4, 9, 33))
    del case["gae_lambda"]
    assert_same_bits(ppo_fast.vtrace(**case), ppo_fast.vtrace(**case, gae_lambda=1.0))


@DTYPES
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
@pytest.mark.parametrize("size", [(300, 1000), (5, 1025)])
def test_vtrace_in_blocks_and_threads(size, layout, dtype):
    call = as_call(with_rhos(random_case(5, *size, dtype)), "TN", [layout])
    expected = reference.vtrace(**call)
    assert_close(ppo_fast.vtrace(**call), expected, 1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("log_rho", [-200.0, -INF])
def test_vtrace_of_impossible_actions(log_rho):
    # rho = 0: the target is V itself, and nothing is learned from the action.
    case = with_rhos(random_case(6, 9, 33))
    case["log_rhos"][:] = log_rho
    vs, pg_advantages = ppo_fast.vtrace(**case)
    np.testing.assert_array_equal(vs, case["values"])
    assert not pg_advantages.any()


@pytest.mark.parametrize("log_rho", [200.0, INF])
def test_vtrace_of_very_likely_actions(log_rho):
    case = with_rhos(random_case(6, 9, 33))
    case["log_rhos"][:] = log_rho
    clipped = ppo_fast.vtrace(**case)
    case["log_rhos"][:] = 0
    assert_same_bits(clipped, ppo_fast.vtrace(**case))


@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_vtrace_does_not_see_the_next_episode(end, layout):
    case = with_rhos(random_case(8, 140, 40))
    case[end][65] = True
    expected = ppo_fast.vtrace(**case)
    for name in ("rewards", "values", "log_rhos", "final_values"):
        case[name][66:] = np.nan
    case["last_values"][:] = np.nan
    ours = ppo_fast.vtrace(**as_call(case, "TN", [layout]))
    assert_same_bits([x[:66] for x in ours], [x[:66] for x in expected])


def test_vtrace_does_not_see_rows_that_do_not_count():
    case = with_rhos(random_case(9, 70, 40, form=Form("next_values", "both", None, True)))
    expected = ppo_fast.vtrace(**case)
    for name in ("rewards", "next_values", "log_rhos"):
        case[name][case["prev_done"]] = np.nan
    assert_same_bits(ppo_fast.vtrace(**case), expected)


@pytest.mark.parametrize("function", ["lambda_returns", "discounted_returns", "vtrace"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", ["TN", "NT", "TN1", "NT1"])
def test_results_have_the_layout_of_the_rewards(function, shape, layout):
    case = random_case(10, 9, 33)
    if function == "vtrace":
        case = with_rhos(case)
    if function == "discounted_returns":
        del case["values"], case["gae_lambda"]
    call = as_call(case, shape, [layout, "contiguous", "batch_major_contiguous"])
    results = getattr(ppo_fast, function)(**call)
    for result in results if isinstance(results, tuple) else (results,):
        assert result.strides[:2] == np.empty_like(call["rewards"]).strides[:2]


# normalize


@DTYPES
@pytest.mark.parametrize("function", [ppo_fast.normalize, reference.normalize])
def test_normalize_worked_by_hand(function, dtype):
    # Mean 3; squares of the differences 4 0 4; variance 8/3, or 8/2 = 4 without one count.
    x = np.array([1, 3, 5], dtype)
    assert_same_bits(function(x, eps=0.0, ddof=1), np.array([-1, 0, 1], dtype))
    assert_same_bits(function(x, eps=2.0, ddof=1), np.array([-0.5, 0, 0.5], dtype))
    root = np.sqrt(3 / 2)
    np.testing.assert_allclose(function(x, eps=0.0, ddof=0), [-root, 0, root], rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("function", [ppo_fast.normalize, reference.normalize])
def test_normalize_counts_valid_items_only(function, dtype):
    x = np.array([[1, 100], [3, 5]], dtype)
    result = function(x, valid=np.array([[True, False], [True, True]]), eps=0.0, ddof=1)
    assert_same_bits(result, np.array([[-1, 0], [0, 1]], dtype))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 3e38])
def test_normalize_ignores_what_does_not_count(garbage):
    x = np.array([0.1, 0.2, garbage], np.float32)
    valid = np.array([1, 1, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = ppo_fast.normalize(x, valid=valid, eps=0.0, ddof=0)
    np.testing.assert_allclose(result, [-1, 1, 0], rtol=1e-6)


@pytest.mark.parametrize(("count", "ddof"), [(0, 0), (0, 1), (1, 1)])
def test_normalize_without_a_spread(count, ddof):
    # Too few items that count: these stay as they are, the others become 0.
    x = np.array([2, 3, 4], np.float32)
    result = ppo_fast.normalize(x, valid=np.arange(3) < count, eps=1e-8, ddof=ddof)
    assert_same_bits(result, np.array([2, 0, 0], np.float32) * (count > 0))
    assert_same_bits(ppo_fast.normalize(x[:count], eps=1e-8, ddof=ddof), x[:count])


def test_normalize_forms_moments_in_float64():
    # In float32 the mean of a million such numbers would be off by far more than their spread.
    x = (10_000 + np.random.default_rng(0).normal(size=1_000_000)).astype(np.float32)
    expected = x.astype(np.float64)
    expected = (expected - expected.mean()) / expected.std(ddof=1)
    np.testing.assert_allclose(ppo_fast.normalize(x, eps=0.0, ddof=1), expected, atol=1e-6)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    dtype=st.sampled_from([np.float32, np.float64]),
    valid_dtype=st.sampled_from([None, *FLAG_DTYPES]),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=2, max_size=2),
    eps=st.sampled_from([1e-8, 1e-5, 1.0]),
    ddof=st.sampled_from([0, 1]),
)
def test_normalize_equals_reference(seed, size, dtype, valid_dtype, layouts, eps, ddof):
    rng = np.random.default_rng(seed)
    x = laid_out(rng.normal(2, 3, size).astype(dtype), layouts[0])
    valid = None
    if valid_dtype is not None:
        valid = laid_out(as_flags(rng.random(size) < 0.7, valid_dtype, rng), layouts[1])
    before = x.tobytes()
    result = ppo_fast.normalize(x, valid=valid, eps=eps, ddof=ddof)
    # Sums of another order; with two items the spread may be as small as it likes.
    assert_close(result, reference.normalize(x, valid=valid, eps=eps, ddof=ddof), 1e-6)
    assert x.tobytes() == before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("with_valid", [False, True])
def test_normalize_keeps_the_layout(layout, with_valid):
    x = laid_out(np.random.default_rng(0).normal(size=(9, 33)), layout)
    result = ppo_fast.normalize(x, valid=x > 0 if with_valid else None, eps=1e-8, ddof=1)
    assert result.strides == np.empty_like(x).strides


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("valid_axes", [(0, 1, 2), (1, 2, 0)])
def test_normalize_of_any_order_of_axes(axes, valid_axes):
    rng = np.random.default_rng(3)
    x, garbage = rng.normal(size=(2, 4, 5, 9))
    valid = rng.random((4, 5, 9)) < 0.6
    x[~valid] = np.where(garbage[~valid] > 0, np.nan, np.inf)

    def permuted(array, order):  # in memory: the indices stay
        return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))

    result = ppo_fast.normalize(
        permuted(x, axes), valid=permuted(valid, valid_axes), eps=1e-8, ddof=1
    )
    counted = x[valid]
    expected = np.zeros_like(x)
    expected[valid] = (counted - counted.mean()) / (counted.std(ddof=1) + 1e-8)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
    assert result.strides == np.empty_like(permuted(x, axes)).strides


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1000])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_normalize_of_any_length(size, step):
    x = np.random.default_rng(4).normal(size=2 * size).astype(np.float32)[: step * size : step]
    x = x[:size]
    valid = np.arange(len(x)) % 3 != 1
    for flags in (None, valid, valid.astype(np.uint8) * 255, valid[::-1][::-1]):
        result = ppo_fast.normalize(x, valid=flags, eps=1e-8, ddof=0)
        expected = reference.normalize(x, valid=flags, eps=1e-8, ddof=0)
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-7)


def test_normalize_of_special_arrays():
    x = np.random.default_rng(5).normal(size=(3, 4))
    expected = ppo_fast.normalize(x, eps=1e-8, ddof=1)
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(x)
    assert np.array_equal(ppo_fast.normalize(matrix, eps=1e-8, ddof=1), expected)
    with pytest.raises(TypeError, match=r"^normalize: x must be a plain array, got MaskedArray"):
        ppo_fast.normalize(np.ma.masked_array(x, x > 0), eps=1e-8, ddof=1)
    flags = np.frombuffer(bytes(range(12)), bool).reshape(3, 4)  # True in bytes other than 1
    assert np.array_equal(
        ppo_fast.normalize(x, valid=flags, eps=1e-8, ddof=1),
        ppo_fast.normalize(x, valid=np.arange(12).reshape(3, 4) > 0, eps=1e-8, ddof=1),
    )
    single = ppo_fast.normalize(np.array(2.5), eps=1e-8, ddof=1)
    assert (single.shape, single) == ((), 2.5)


# valid_rows


def test_valid_rows_worked_by_hand():
    # Environment 0 ended before the first row; 1 terminates at t = 0, 2 is truncated at t = 1.
    valid = ppo_fast.valid_rows(
        terminated=np.array([[False, True, False], [False, False, False], [True, False, False]]),
        truncated=np.array([[False, False, False], [False, False, True], [False, False, False]]),
        prev_done=np.array([True, False, False]),
    )
    assert valid.dtype == bool
    assert valid.tolist() == [[False, True, True], [True, False, True], [True, True, False]]


@pytest.mark.parametrize("flag_dtype", FLAG_DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_truncated", [False, True])
def test_shapes_of_valid_rows(shape, flag_dtype, with_truncated):
    rng = np.random.default_rng(1)
    num_envs = 1 if shape == "T" else 5
    terminated, truncated = rng.random((2, 9, num_envs)) < 0.3
    prev_done = rng.random(num_envs) < 0.5
    done = terminated | truncated if with_truncated else terminated
    expected = ~np.concatenate([prev_done[None], done[:-1]])
    call = {"terminated": shaped(as_flags(terminated, flag_dtype, rng), shape)}
    if with_truncated:
        call["truncated"] = shaped(as_flags(truncated, flag_dtype, rng), shape)
    valid = ppo_fast.valid_rows(
        **call,
        prev_done=as_flags(prev_done, flag_dtype, rng),
        time_axis=int(shape.startswith("NT")),
    )
    assert_same_bits(valid, shaped(expected, shape))


def test_valid_rows_of_one_environment():
    terminated = np.array([False, True, False])
    for prev_done in (False, True):
        valid = ppo_fast.valid_rows(terminated=terminated, prev_done=prev_done)
        assert valid.tolist() == [not prev_done, True, False]


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_valid_rows_of_nothing(size):
    prev_done = np.zeros(size[1], bool)
    assert ppo_fast.valid_rows(terminated=np.zeros(size, bool), prev_done=prev_done).shape == size


@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
def test_valid_rows_keep_the_layout(layout):
    terminated = laid_out(np.zeros((9, 33), bool), layout)
    valid = ppo_fast.valid_rows(terminated=terminated, prev_done=np.zeros(33, bool))
    assert valid.strides == terminated.strides


@pytest.mark.parametrize("seed", range(5))
def test_valid_rows_are_the_prev_done_of_gae(seed):
    # What stands in the rows that valid_rows leaves out does not reach the others.
    case = random_case(seed, 30, 20, form=Form("last_values", "both", None, True))
    valid = ppo_fast.valid_rows(
        terminated=case["terminated"], truncated=case["truncated"], prev_done=np.zeros(20, bool)
    )
    case["prev_done"] = ~valid
    expected = ppo_fast.gae(**case)
    assert not expected.advantages[~valid].any()
    case["rewards"][~valid] = np.nan
    assert_same_bits(ppo_fast.gae(**case), expected)
