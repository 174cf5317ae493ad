"""The advantage functions with arrays of other libraries, which cross by DLPack: JAX, for one."""

import numpy as np
import pytest
from advantage_cases import FORMS, as_call, as_tuple, random_case

import ppo_fast


def calls():
    """Function and keywords, as NumPy arrays, by name."""
    for form in FORMS:
        # JAX has no float64 unless it is switched on.
        yield f"gae-{form}", "gae", as_call(random_case(1, 6, 5, form=form))
    for shape in ("TN", "NT", "T", "TN1", "NT1"):
        case = random_case(2, 6, 1 if shape == "T" else 5)
        call = as_call(case, shape)
        yield f"gae-{shape}", "gae", call
        yield f"lambda_returns-{shape}", "lambda_returns", call
        log_rhos = np.random.default_rng(3).normal(0, 0.5, call["rewards"].shape)
        yield f"vtrace-{shape}", "vtrace", call | {"log_rhos": log_rhos.astype(np.float32)}
        del case["values"], case["gae_lambda"]
        yield f"discounted_returns-{shape}", "discounted_returns", as_call(case, shape)
    rng = np.random.default_rng(4)
    rewards, values = rng.normal(size=(2, 4, 7)).astype(np.float32)
    call = {"rewards": rewards, "values": values, "mask": rewards > -1, "gamma": 0.9}
    yield "token_gae", "token_gae", call | {"gae_lambda": 0.8, "masked": "decay"}
    each = {"gae_lambda": rng.random(4).astype(np.float32), "bootstrap": values[:, 0].copy()}
    yield "token_gae-each", "token_gae", call | each
    packed = {k: x.ravel() for k, x in call.items() if k != "gamma"} | {"gamma": 0.9}
    starts = np.array([0, 3, 3, 20, 28], np.int32)
    yield "token_gae-packed", "token_gae", packed | {"gae_lambda": 0.8, "cu_seqlens": starts}
    yield "normalize", "normalize", {"x": rewards, "eps": 1e-8, "ddof": 1}
    yield (
        "normalize-valid",
        "normalize",
        {"x": rewards, "valid": rewards > 0, "eps": 0.0, "ddof": 0},
    )
    done = {"terminated": rewards > 1, "truncated": rewards < -1}
    yield "valid_rows", "valid_rows", done | {"prev_done": rewards[0] > 0}
    yield "valid_rows-NT", "valid_rows", done | {"prev_done": rewards[:, 0] > 0, "time_axis": 1}
    for size in ((0, 5), (5, 0)):
        yield f"gae-{size}", "gae", random_case(5, *size)


CALLS = {name: (getattr(ppo_fast, function), call) for name, function, call in calls()}
ALL = pytest.mark.parametrize("name", CALLS)


class Unnamed:
    """An array as before the array API standard: it does not say which library it is of."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Other(Unnamed):
    """The least that an array must be."""

    def __array_namespace__(self):
        return OtherLibrary


class OtherLibrary:
    from_dlpack = staticmethod(lambda array: Other(np.from_dlpack(array)))


class Elsewhere(Other):
    def __dlpack__(self, **options):
        raise BufferError("it is on the Moon")


def of_kind(kind, call):
    return {k: kind(x) if isinstance(x, np.ndarray) else x for k, x in call.items()}


@ALL
def test_results_of_any_library(name):
    function, call = CALLS[name]
    results = function(**of_kind(Other, call))
    results = results if isinstance(results, tuple) else (results,)
    for ours, expected in zip(results, as_tuple(function(**call)), strict=True):
        assert type(ours) is Other
        assert ours.array.dtype == expected.dtype
        assert ours.array.shape == expected.shape
        assert ours.array.tobytes() == expected.tobytes()


def test_results_are_named():
    for name, kind, names in (
        ("gae-TN", ppo_fast.GAE, ("advantages", "returns")),
        ("vtrace-TN", ppo_fast.VTrace, ("vs", "pg_advantages")),
        ("token_gae", ppo_fast.GAE, ("advantages", "returns")),
    ):
        function, call = CALLS[name]
        results = function(**of_kind(Other, call))
        assert type(results) is kind
        assert results._fields == names


def test_out_is_filled_and_returned():
    function, call = CALLS["gae-TN"]
    expected = function(**call)
    out = tuple(Other(np.full_like(x, np.nan)) for x in expected)
    results = function(**of_kind(Other, call), out=out)
    for ours, given, other in zip(results, out, expected, strict=True):
        assert given.array.tobytes() == other.tobytes()
        assert np.shares_memory(ours.array, given.array)


@ALL
def test_arrays_among_others(name):
    function, call = CALLS[name]
    others = iter(of_kind(Other, call).items())
    next(others)
    for k, x in others:
        if isinstance(x, Other):
            message = (
                f"^{function.__name__}: {k} must be an array of OtherLibrary like .*, got ndarray$"
            )
            with pytest.raises(TypeError, match=message):
                function(**of_kind(Other, call) | {k: call[k]})


def test_lists_among_others():
    function, call = CALLS["gae-TN"]
    call = of_kind(Other, call)
    with pytest.raises(
        TypeError, match=r"^gae: values must be an array of OtherLibrary like .*, got list$"
    ):
        function(**call | {"values": [[0.0] * 5] * 6})
    with pytest.raises(
        TypeError, match=r"^gae: out must be an array of OtherLibrary like .*, got (list|ndarray)$"
    ):
        function(**call, out=[call["values"], call["values"]])


@pytest.mark.parametrize("k", ["rewards", "values", "last_values", "terminated"])
def test_arrays_that_are_not_on_the_cpu(k):
    function, call = CALLS["gae-TN"]
    others = of_kind(Other, call) | {k: Elsewhere(call[k])}
    message = f"^gae: {k} cannot be read on the CPU: it is on the Moon; NumPy must know"
    with pytest.raises(TypeError, match=message):
        function(**others)


def test_errors_are_those_of_numpy():
    function, call = CALLS["gae-TN"]
    with pytest.raises(ValueError, match=r"^gae: values must have shape \(6, 5\) like rewards"):
        function(**of_kind(Other, call | {"values": call["values"].T}))
    with pytest.raises(TypeError, match=r"^gae: values must be float32 like rewards, got float64"):
        function(**of_kind(Other, call | {"values": call["values"].astype(float)}))


def test_numbers_of_numpy():
    function, call = CALLS["gae-TN"]
    expected = function(**call | {"gamma": 0.5})
    results = function(**of_kind(Other, call) | {"gamma": np.float32(0.5)})
    assert results.advantages.array.tobytes() == expected.advantages.tobytes()


def test_arrays_that_do_not_name_their_library():
    function, call = CALLS["gae-TN"]
    with pytest.raises(TypeError, match=r"^gae: rewards"):
        function(**of_kind(Unnamed, call))


# JAX


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


@ALL
def test_jax(name, jax):
    function, call = CALLS[name]
    results = function(**of_kind(jax.numpy.asarray, call))
    results = results if isinstance(results, tuple) else (results,)
    for ours, expected in zip(results, as_tuple(function(**call)), strict=True):
        assert isinstance(ours, jax.Array)
        assert ours.dtype == expected.dtype
        assert ours.shape == expected.shape
        assert np.asarray(ours).tobytes() == expected.tobytes()


def test_jax_numbers(jax):
    function, call = CALLS["gae-T"]
    expected = function(**call | {"gamma": 0.5, "last_values": 2.0})
    arrays = of_kind(jax.numpy.asarray, call) | {"last_values": 2.0}
    for gamma in (0.5, jax.numpy.float32(0.5)):
        results = function(**arrays | {"gamma": gamma})
        assert np.asarray(results.advantages).tobytes() == expected.advantages.tobytes()


def test_jax_goes_on_with_the_results(jax):
    function, call = CALLS["gae-TN"]
    results = function(**of_kind(jax.numpy.asarray, call))
    doubled = jax.jit(lambda x: 2 * x)(results.advantages)
    np.testing.assert_array_equal(doubled, 2 * function(**call).advantages)


def test_jax_arrays_cannot_be_written(jax):
    function, call = CALLS["gae-TN"]
    call = of_kind(jax.numpy.asarray, call)
    out = (jax.numpy.zeros((6, 5)), jax.numpy.zeros((6, 5)))
    with pytest.raises(
        ValueError, match=r"^gae: out\[0\] must be writable, got a read-only array$"
    ):
        function(**call, out=out)


def test_numpy_and_jax(jax):
    function, call = CALLS["gae-TN"]
    arrays = of_kind(jax.numpy.asarray, call)
    with pytest.raises(
        TypeError, match=r"^gae: values must be an array of jax.numpy like rewards, got ndarray$"
    ):
        function(**arrays | {"values": call["values"]})
    with pytest.raises(TypeError, match=r"^gae: values must be a NumPy array, got ArrayImpl"):
        function(**call | {"values": arrays["values"]})


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_jax_in_half_precision(half, jax):
    function, call = CALLS["gae-TN"]
    call = of_kind(jax.numpy.asarray, call)
    message = r"^gae: rewards (must be float32 or float64, got float16|cannot be read on the CPU)"
    with pytest.raises(TypeError, match=message):
        function(**call | {"rewards": call["rewards"].astype(half)})


def test_jax_does_not_trace_it(jax):
    function, call = CALLS["gae-TN"]
    call = of_kind(jax.numpy.asarray, call)
    traced = jax.jit(lambda rewards: function(**call | {"rewards": rewards}).advantages)
    with pytest.raises(TypeError, match=r"^gae: rewards cannot be read on the CPU"):
        traced(call["rewards"])
