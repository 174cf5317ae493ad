"""Every error of the advantage functions: a message that names the function and the argument."""

import numpy as np
import pytest

import ppo_fast

# 3 steps of 2 environments.
F32 = np.zeros((3, 2), np.float32)
F64 = np.zeros((3, 2))
INT = np.zeros((3, 2), int)
BOOL = np.zeros((3, 2), bool)
NESTED = [[0.0, 0.0]] * 3
READ_ONLY = np.zeros((3, 2), np.float32)
READ_ONLY.flags.writeable = False
NAN = float("nan")
NO_ARRAY = "must be a NumPy array, a torch tensor or another array with __dlpack__, got"

TRANSITIONS = ["gae", "lambda_returns", "discounted_returns", "vtrace"]
WITH_VALUES = ["gae", "lambda_returns", "vtrace"]
PAIRS = {
    "gae": "(advantages, returns)",
    "vtrace": "(vs, pg_advantages)",
    "token_gae": "(advantages, returns)",
}
NUMBERS = ["values", "log_rhos", "next_values", "final_values"]
FLAGS = ["terminated", "truncated", "episode_starts", "prev_done", "mask"]


def valid_call(function):
    call = {"rewards": F32, "values": F32, "gamma": 0.9, "gae_lambda": 0.9}
    if function == "token_gae":
        return call | {"mask": BOOL}
    if function == "vtrace":
        call["log_rhos"] = F32
    if function == "discounted_returns":
        del call["values"], call["gae_lambda"]
    ends = {"terminated": BOOL, "truncated": BOOL, "final_values": F32}
    return call | {"last_values": F32[0]} | ends


def call_with(function, name, value):
    """A call that is valid but for this argument."""
    call = valid_call(function)
    if name == "next_values":
        call |= {"last_values": None, "final_values": None}
    if name in ("episode_starts", "last_done"):
        call |= {"terminated": None, "truncated": None, "final_values": None}
        call |= {"episode_starts": BOOL, "last_done": BOOL[0]}
    if name == "prev_done":
        call["final_values"] = None
        if function == "discounted_returns":
            call["truncated"] = None
    if name == "cu_seqlens":
        call |= {key: x.ravel() for key, x in call.items() if isinstance(x, np.ndarray)}
    return call | {name: value}


def assert_fails(error, function, message, call):
    with pytest.raises(error) as caught:
        getattr(ppo_fast, function)(**call)
    assert str(caught.value).startswith(f"{function}: {message}")


def takes(function, name):
    """Whether the function has that array for each transition or token."""
    if function == "token_gae":
        return name in ("values", "mask")
    if name in ("mask", "log_rhos"):
        return (function, name) == ("vtrace", "log_rhos")
    return function != "discounted_returns" or name not in ("values", "next_values")


def each(names):
    """Parametrise over functions and those of the names that they take."""
    pairs = [(f, n) for f in [*TRANSITIONS, "token_gae"] for n in names if takes(f, n)]
    return pytest.mark.parametrize(("function", "name"), pairs)


def unaligned(array):
    """The same numbers at addresses that are no multiples of their size."""
    bytes_ = bytearray(array.nbytes + 1)
    copy = np.frombuffer(bytes_, array.dtype, array.size, offset=1).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("function", [*TRANSITIONS, "token_gae"])
def test_the_calls_that_are_made_wrong_are_right(function):
    getattr(ppo_fast, function)(**valid_call(function))
    for name, value in (("next_values", F32), ("last_done", BOOL[0]), ("prev_done", BOOL)):
        if function in WITH_VALUES:
            getattr(ppo_fast, function)(**call_with(function, name, value))


# Arrays


@pytest.mark.parametrize("function", [*TRANSITIONS, "token_gae"])
@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (NESTED, f"{NO_ARRAY} list; wrap it in np.asarray(...)"),
        (1.0, f"{NO_ARRAY} float; wrap it in np.asarray(...)"),
        (None, "is missing, got None"),
        (INT, "must be float32 or float64, got int64; cast with rewards.astype(np.float32)"),
        (F32.astype(np.float16), "must be float32 or float64, got float16"),
        (F32.astype(">f4"), "must be float32 or float64, got >f4"),
        (BOOL, "must be float32 or float64, got bool"),
    ],
)
def test_rewards_of_a_wrong_type(function, rewards, message):
    call = valid_call(function) | {"rewards": rewards}
    assert_fails(TypeError, function, f"rewards {message}", call)


@pytest.mark.parametrize("function", TRANSITIONS)
@pytest.mark.parametrize(
    ("rewards", "got"),
    [(F32[0, 0], "()"), (F32[None], "(1, 3, 2)"), (F32[..., None, None], "(3, 2, 1, 1)")],
)
def test_rewards_of_a_wrong_shape(function, rewards, got):
    message = (
        "rewards must have shape (T, N): time steps, environments; or (T,), or either with a last "
        f"axis of size 1; got {got}"
    )
    call = valid_call(function) | {"rewards": np.asarray(rewards)}
    assert_fails(ValueError, function, message, call)


@each(NUMBERS)
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (NESTED, "must be a NumPy array, got list; wrap it in np.asarray(...)"),
        (1.0, "must be a NumPy array, got float"),
        (INT, "must be float32 like rewards, got int64; cast with {}.astype(np.float32)"),
        (F64, "must be float32 like rewards, got float64; cast with {}.astype(np.float32)"),
        (F32.astype(">f4"), "must be float32 like rewards, got >f4"),
    ],
)
def test_numbers_of_a_wrong_type(function, name, array, message):
    call = call_with(function, name, array)
    assert_fails(TypeError, function, f"{name} {message.format(name)}", call)


@each(NUMBERS)
@pytest.mark.parametrize(
    ("array", "got"),
    [(F32.T, "(2, 3)"), (F32[:, 0], "(3,)"), (F32[:2], "(2, 2)"), (F32[..., None], "(3, 2, 1)")],
)
def test_numbers_of_a_wrong_shape(function, name, array, got):
    message = f"{name} must have shape (3, 2) like rewards, got {got}"
    assert_fails(ValueError, function, message, call_with(function, name, array))


@pytest.mark.parametrize(
    ("function", "name"),
    [(f, "values") for f in [*WITH_VALUES, "token_gae"]]
    + [("vtrace", "log_rhos"), ("token_gae", "mask")],
)
def test_arrays_that_are_missing(function, name):
    message = f"{name} is missing, got None"
    assert_fails(TypeError, function, message, call_with(function, name, None))


@each(FLAGS)
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (NESTED, "must be a NumPy array, got list; wrap it in np.asarray(...)"),
        (True, "must be a NumPy array, got bool"),
        (
            BOOL.astype(np.int16),
            "must be bool (or 0 and 1 in another type), got int16; cast it to b",
        ),
        (
            BOOL.astype(np.float16),
            "must be bool (or 0 and 1 in another type), got float16; cast it",
        ),
        (BOOL.astype(">f4"), "must be bool (or 0 and 1 in another type), got >f4; cast it to bool"),
        (
            BOOL.astype(object),
            "must be bool (or 0 and 1 in another type), got object; cast it to b",
        ),
    ],
)
def test_flags_of_a_wrong_type(function, name, array, message):
    call = call_with(function, name, array)
    assert_fails(TypeError, function, f"{name} {message}", call)


@each(FLAGS)
@pytest.mark.parametrize(
    ("array", "got"), [(BOOL.T, "(2, 3)"), (BOOL[0], "(2,)"), (np.zeros((4, 2), bool), "(4, 2)")]
)
def test_flags_of_a_wrong_shape(function, name, array, got):
    message = f"{name} must have shape (3, 2) like rewards, got {got}"
    assert_fails(ValueError, function, message, call_with(function, name, array))


@pytest.mark.parametrize("function", TRANSITIONS)
@pytest.mark.parametrize("name", ["last_values", "last_done"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([0.0, 0.0], TypeError, "must be a NumPy array, got list; wrap it in np.asarray(...)"),
        (F32[0].astype(np.float16), TypeError, "must be "),
        (F32[0, :1], ValueError, "must have shape (2,) (one per environment), got (1,)"),
        (F32[:2], ValueError, "must have shape (2,) (one per environment), got (2, 2)"),
        (F32[None, :1], ValueError, "must have shape (2,) (one per environment), got (1, 1, 2)"),
        (
            F32[:, 0],
            ValueError,
            "must have shape (2,) (one per environment), got (3,); "
            "that looks batch-major: pass time_axis=1",
        ),
        (
            F32[:, :1],
            ValueError,
            "must have shape (2,) (one per environment), got (3, 1); that looks batch-major",
        ),
    ],
)
def test_what_is_per_environment(function, name, value, error, message):
    assert_fails(error, function, f"{name} {message}", call_with(function, name, value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("last_values", INT[0], "must be float32 like rewards, got int64; cast with last_values."),
        (
            "last_values",
            F64[0],
            "must be float32 like rewards, got float64; cast with last_values.",
        ),
        ("last_values", "0", "must be a NumPy array, got str"),
        (
            "last_done",
            BOOL[0].astype(np.int16),
            "must be bool (or 0 and 1 in another type), got int16; cast it to bool",
        ),
        (
            "last_done",
            1,
            "must be an array of one flag per environment, or of one environment True",
        ),
    ],
)
def test_types_of_what_is_per_environment(name, value, message):
    assert_fails(TypeError, "gae", f"{name} {message}", call_with("gae", name, value))


def test_the_other_time_axis_is_suggested():
    call = {name: x.T for name, x in valid_call("gae").items() if isinstance(x, np.ndarray)}
    call |= {"gamma": 0.9, "gae_lambda": 0.9, "last_values": F32[:, 0]}
    ppo_fast.gae(**call)
    message = (
        "last_values must have shape (2,) (one per environment), got (3,); "
        "that looks time-major: pass time_axis=0"
    )
    assert_fails(ValueError, "gae", message, call | {"time_axis": 1})


def test_a_row_more_along_the_other_axis_is_named():
    call = valid_call("gae")
    wide = np.zeros((call["rewards"].shape[0], call["rewards"].shape[1] + 1), np.float32)
    message = "values must have shape {} like rewards, got {}; that looks batch-major: pass time_"
    shapes = call["rewards"].shape, wide.shape
    assert_fails(ValueError, "gae", message.format(*shapes), call | {"values": wide})
    with pytest.raises(ValueError, match=r"^gae: terminated must have shape [^;]*$"):
        ppo_fast.gae(**call | {"terminated": wide != 0})


@pytest.mark.parametrize("function", TRANSITIONS)
@pytest.mark.parametrize(
    ("name", "value"), [("last_values", 0.0), ("last_values", 0), ("last_done", True)]
)
def test_numbers_for_several_environments(function, name, value):
    message = (
        f"{name} must have shape (2,) (one per environment), got a number; "
        "a number is enough for one environment only"
    )
    assert_fails(ValueError, function, message, call_with(function, name, value))


ARRAYS = [
    "rewards",
    *NUMBERS,
    *FLAGS,
    "last_values",
    "last_done",
    "gae_lambda",
    "bootstrap",
    "cu_seqlens",
]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("how", ["address", "stride"])
def test_arrays_that_are_not_aligned(name, how):
    function = "token_gae" if name in ("mask", "bootstrap", "cu_seqlens") else "vtrace"
    array = F32
    if name in ("last_values", "last_done", "gae_lambda"):
        array = F32[0]
    if name == "bootstrap":
        array = F32[:, 0]
    if name == "cu_seqlens":
        array = np.array([0, 2, 6])
    if how == "address":
        array = unaligned(array)
    else:  # items and a byte between them
        items = np.zeros(array.shape, [("item", array.dtype), ("byte", np.uint8)])
        items["item"] = array
        array = items["item"]
    message = f"{name} is not aligned to its items; copy it with {name}.copy()"
    assert_fails(ValueError, function, message, call_with(function, name, array))
    getattr(ppo_fast, function)(**call_with(function, name, array.copy()))


# Numbers


@pytest.mark.parametrize(
    ("function", "name"),
    [(f, "gamma") for f in [*TRANSITIONS, "token_gae"]]
    + [(f, "gae_lambda") for f in [*WITH_VALUES, "token_gae"]],
)
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-0.1, ValueError, "must be in [0, 1], got -0.1"),
        (1.5, ValueError, "must be in [0, 1], got 1.5"),
        (2, ValueError, "must be in [0, 1], got 2"),
        (NAN, ValueError, "must be in [0, 1], got nan"),
        (float("inf"), ValueError, "must be in [0, 1], got inf"),
        ("1", TypeError, "must be a number, got str"),
        (None, TypeError, "must be a number, got NoneType"),
        (1j, TypeError, "must be a number, got complex"),
    ],
)
def test_factors(function, name, value, error, message):
    assert_fails(error, function, f"{name} {message}", call_with(function, name, value))


@pytest.mark.parametrize("function", [*WITH_VALUES, "token_gae"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("int", TypeError, "must be float32 or float64, got int64; cast with gae_lambda.astype("),
        ("short", ValueError, "must have shape ({size},) ({per}), got (1,)"),
        ("square", ValueError, "must have shape ({size},) ({per}), got (1, {size})"),
        ("range", ValueError, "must be in [0, 1], got 1.500000 at index 1"),
        ("nan", ValueError, "must be in [0, 1], got nan at index 1"),
    ],
)
def test_one_lambda_each(function, value, error, message):
    size, per = (3, "one per sequence") if function == "token_gae" else (2, "one per environment")
    lambdas = {
        "int": np.zeros(size, int),
        "short": np.zeros(1),
        "square": np.zeros((1, size)),
        "range": np.full(size, 0.5),
        "nan": np.full(size, 0.5, np.float32),
    }[value]
    if value in ("range", "nan"):
        lambdas[1] = {"range": 1.5, "nan": NAN}[value]
    message = "gae_lambda " + message.format(size=size, per=per)
    assert_fails(error, function, message, call_with(function, "gae_lambda", lambdas))


@pytest.mark.parametrize("name", ["rho_clip", "c_clip", "pg_rho_clip"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "must be positive (float('inf') for no limit), got 0"),
        (-1.0, ValueError, "must be positive (float('inf') for no limit), got -1.0"),
        (NAN, ValueError, "must be positive (float('inf') for no limit), got nan"),
        (None, TypeError, "must be a number, got NoneType"),
        ("1", TypeError, "must be a number, got str"),
    ],
)
def test_clips(name, value, error, message):
    assert_fails(error, "vtrace", f"{name} {message}", valid_call("vtrace") | {name: value})


@pytest.mark.parametrize("function", TRANSITIONS)
@pytest.mark.parametrize("time_axis", [-1, 2])
def test_time_axis(function, time_axis):
    message = f"time_axis must be 0 for [T, N] or 1 for [N, T], got {time_axis}"
    assert_fails(ValueError, function, message, valid_call(function) | {"time_axis": time_axis})


@pytest.mark.parametrize("function", TRANSITIONS)
@pytest.mark.parametrize("time_axis", [None, "0", 0.5])
def test_time_axis_of_a_wrong_type(function, time_axis):
    message = "time_axis must be"
    assert_fails(TypeError, function, message, valid_call(function) | {"time_axis": time_axis})


@pytest.mark.parametrize("function", [*TRANSITIONS, "token_gae"])
def test_exact_of_a_wrong_type(function):
    assert_fails(TypeError, function, "exact must be", valid_call(function) | {"exact": "yes"})


# Which arguments go together

NO_BOOTSTRAP = (
    "last_values is missing: say what follows the last step, by last_values [N], by next_values "
    "[T, N] or by values with T + 1 rows"
)
NO_FLAGS = (
    "terminated is missing: pass the flags of each transition (terminated, and truncated where "
    "episodes are cut), or episode_starts with last_done"
)
TWO_FORMS = (
    "terminated and truncated are flags of transition t, episode_starts and last_done are shifted "
    "by one; pass one form"
)
HALF_A_FORM = (
    " is missing: episode_starts [T, N] says which steps start an episode, last_done [N] whether "
    "the last step ended one"
)
NO_VALUE = (
    "truncated needs a value for the episodes that it cuts: final_values [T, N], V of their last "
    "observations, or "
)
EXTENDED = np.zeros((4, 2), np.float32)
NO_ENDS = {"terminated": None, "truncated": None, "final_values": None}
RULE = {"final_values": None, "on_truncation": "drop"}


def both_follow(one, other):
    return f"{one} and {other} both say what follows the last step; pass one of them"


def both_worth(one, other):
    return f"{one} and {other} both say what a truncated episode is worth; pass one of them"


@pytest.mark.parametrize("function", WITH_VALUES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"last_values": None}, NO_BOOTSTRAP),
        (
            {"next_values": F32, "final_values": None},
            both_follow("last_values", "next_values"),
        ),
        ({"values": EXTENDED}, both_follow("values with T + 1 rows", "last_values")),
        (
            {"values": EXTENDED, "last_values": None, "next_values": F32, "final_values": None},
            both_follow("values with T + 1 rows", "next_values"),
        ),
        (
            {"values": EXTENDED, "next_values": F32},
            both_follow("values with T + 1 rows", "next_values"),
        ),
        (
            {"last_values": None, "next_values": F32},
            both_worth("final_values", "next_values"),
        ),
        (
            {"last_values": None, "next_values": F32} | RULE,
            both_worth("on_truncation", "next_values"),
        ),
        (
            {"final_values": None},
            NO_VALUE
            + "next_values [T, N], or on_truncation='current_value' (V of the step itself), "
            "'terminate' (0) or 'drop' (no advantage)",
        ),
        ({"prev_done": BOOL}, both_worth("final_values", "prev_done")),
    ],
)
def test_arguments_of_functions_with_values(function, changes, message):
    assert_fails(ValueError, function, message, valid_call(function) | changes)


@pytest.mark.parametrize("function", TRANSITIONS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (NO_ENDS, NO_FLAGS),
        ({"episode_starts": BOOL, "last_done": BOOL[0]}, TWO_FORMS),
        ({"episode_starts": BOOL}, TWO_FORMS),
        (NO_ENDS | {"truncated": BOOL, "final_values": F32, "last_done": BOOL[0]}, TWO_FORMS),
        (NO_ENDS | {"episode_starts": BOOL}, "last_done" + HALF_A_FORM),
        (NO_ENDS | {"last_done": BOOL[0]}, "episode_starts" + HALF_A_FORM),
        (
            {"terminated": None},
            "terminated is missing: truncated says which episodes were cut, not which ended",
        ),
        ({"truncated": None}, "final_values has no use without truncated; pass both"),
        (RULE | {"truncated": None}, "on_truncation has no use without truncated; pass both"),
        ({"on_truncation": "drop"}, both_worth("final_values", "on_truncation")),
    ],
)
def test_arguments_of_functions_of_transitions(function, changes, message):
    assert_fails(ValueError, function, message, valid_call(function) | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"last_values": None},
            "last_values is missing: say what follows the last step, zeros if nothing does",
        ),
        (
            {"final_values": None},
            NO_VALUE + "on_truncation='terminate' (0) or 'drop' (no return)",
        ),
        (
            # Without values there is no V of the row that is a reset.
            {"final_values": None, "prev_done": BOOL},
            NO_VALUE + "on_truncation='terminate' (0) or 'drop' (no return)",
        ),
        (
            {"final_values": None, "on_truncation": "current_value"},
            "on_truncation must be 'terminate' or 'drop' where there are no values, "
            "got 'current_value'",
        ),
    ],
)
def test_arguments_of_discounted_returns(changes, message):
    function = "discounted_returns"
    assert_fails(ValueError, function, message, valid_call(function) | changes)


@pytest.mark.parametrize("function", TRANSITIONS)
@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (1, TypeError, "must be a string, got int"),
        (True, TypeError, "must be a string, got bool"),
        ("", ValueError, "must be 'current_value', 'terminate' or 'drop', got ''"),
        (
            "bootstrap",
            ValueError,
            "must be 'current_value', 'terminate' or 'drop', got 'bootstrap'",
        ),
    ],
)
def test_on_truncation(function, rule, error, message):
    call = valid_call(function) | {"final_values": None, "on_truncation": rule}
    assert_fails(error, function, f"on_truncation {message}", call)


# Results

WRONG_OUT = [
    (NESTED, TypeError, "must be a NumPy array, got list; wrap it in np.asarray(...)"),
    (F64, TypeError, "must be float32 like rewards, got float64"),
    (INT, TypeError, "must be float32 like rewards, got int64"),
    (F32.T, ValueError, "must have shape (3, 2) like rewards, got (2, 3)"),
    (F32[0], ValueError, "must have shape (3, 2) like rewards, got (2,)"),
    (EXTENDED, ValueError, "must have shape (3, 2) like rewards, got (4, 2)"),
    (READ_ONLY, ValueError, "must be writable, got a read-only array"),
    (unaligned(F32), ValueError, "is not aligned to its items"),
]


@pytest.mark.parametrize("function", PAIRS)
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize(
    ("array", "error", "message"),
    [*WRONG_OUT, (None, TypeError, "is missing, got None")],
)
def test_arrays_of_out(function, position, array, error, message):
    out = [F32.copy(), F32.copy()]
    out[position] = array
    call = valid_call(function) | {"out": tuple(out)}
    assert_fails(error, function, f"out[{position}] {message}", call)


@pytest.mark.parametrize("function", ["lambda_returns", "discounted_returns"])
@pytest.mark.parametrize(
    ("array", "error", "message"),
    [*WRONG_OUT, ((F32, F32), TypeError, "must be a NumPy array, got tu")],
)
def test_single_out(function, array, error, message):
    assert_fails(error, function, f"out {message}", valid_call(function) | {"out": array})


@pytest.mark.parametrize("function", PAIRS)
@pytest.mark.parametrize(
    ("out", "got"),
    [
        ([F32, F32], "got list"),
        (F32, "got ndarray"),
        ((F32,), "got one of 1"),
        ((), "got one of 0"),
        ((F32, F32, F32), "got one of 3"),
    ],
)
def test_out_that_is_no_pair(function, out, got):
    message = f"out must be a tuple {PAIRS[function]}, {got}"
    assert_fails(TypeError, function, message, valid_call(function) | {"out": out})


SHARED = "must not share memory with an input or the other output"


@pytest.mark.parametrize("function", PAIRS)
def test_outputs_share_no_memory(function):
    call = valid_call(function)
    both = F32.copy()
    assert_fails(ValueError, function, f"out[1] {SHARED}", call | {"out": (both, both)})
    rows = np.zeros((4, 2), np.float32)
    assert_fails(ValueError, function, f"out[1] {SHARED}", call | {"out": (rows[:3], rows[1:])})
    reversed_ = both[::-1, ::-1]
    assert_fails(ValueError, function, f"out[1] {SHARED}", call | {"out": (both, reversed_)})


@each(["rewards", *NUMBERS, *FLAGS])
def test_outputs_share_no_memory_with_inputs(function, name):
    # Flags as float32, so that an output can lie on them.
    array = F32.copy()
    call = call_with(function, name, array)
    if function in PAIRS:
        assert_fails(ValueError, function, f"out[0] {SHARED}", call | {"out": (array, F32.copy())})
        assert_fails(ValueError, function, f"out[1] {SHARED}", call | {"out": (F32.copy(), array)})
    else:
        assert_fails(ValueError, function, f"out {SHARED}", call | {"out": array})


@pytest.mark.parametrize(
    ("function", "name"),
    [("gae", "last_values"), ("gae", "last_done"), ("token_gae", "bootstrap")],
)
def test_outputs_share_no_memory_with_what_is_per_column(function, name):
    memory = np.zeros(6, np.float32)
    column = memory[1:4] if function == "token_gae" else memory[1:3]
    call = call_with(function, name, column)
    out = (F32.copy(), memory.reshape(3, 2))
    assert_fails(ValueError, function, f"out[1] {SHARED}", call | {"out": out})


def test_outputs_share_no_memory_with_values_of_one_row_more():
    rows = EXTENDED.copy()
    call = valid_call("gae") | {"values": rows, "last_values": None}
    for part in (rows[:3], rows[1:]):
        assert_fails(ValueError, "gae", f"out[0] {SHARED}", call | {"out": (part, F32.copy())})


# token_gae


@pytest.mark.parametrize("rewards", [F32[0], F32[None], F32[..., None]])
def test_tokens_of_a_wrong_shape(rewards):
    message = (
        "rewards must have shape (B, L): sequences, tokens; or (tokens,) with cu_seqlens, "
        f"got {rewards.shape}"
    )
    assert_fails(ValueError, "token_gae", message, valid_call("token_gae") | {"rewards": rewards})


def test_packed_tokens_of_a_wrong_shape():
    message = "rewards must have shape (tokens,) with cu_seqlens, got (3, 2)"
    call = valid_call("token_gae") | {"cu_seqlens": np.array([0, 6])}
    assert_fails(ValueError, "token_gae", message, call)


@pytest.mark.parametrize(("masked", "got"), [("skp", "'skp'"), (None, "None"), (1, "1")])
def test_masked(masked, got):
    message = f"masked must be 'skip' or 'decay', got {got}"
    assert_fails(ValueError, "token_gae", message, valid_call("token_gae") | {"masked": masked})


@pytest.mark.parametrize(
    ("bootstrap", "error", "message"),
    [
        (None, TypeError, "must be a number, got NoneType"),
        ([0.0] * 3, TypeError, "must be a number, got list"),
        ("0", TypeError, "must be a number, got str"),
        (F64[:, 0], TypeError, "must be float32 like rewards, got float64; cast with bootstrap."),
        (F32[0], ValueError, "must have shape (3,) (one per sequence), got (2,)"),
        (F32[:, :1], ValueError, "must have shape (3,) (one per sequence), got (3, 1)"),
    ],
)
def test_bootstrap(bootstrap, error, message):
    call = valid_call("token_gae") | {"bootstrap": bootstrap}
    assert_fails(error, "token_gae", f"bootstrap {message}", call)


@pytest.mark.parametrize(
    ("starts", "error", "message"),
    [
        ([0, 6], TypeError, "must be a NumPy array, got list; wrap it in np.asarray(...)"),
        (np.array([0.0, 6]), TypeError, "must be int32 or int64, got float64"),
        (np.array([0, 6], np.uint32), TypeError, "must be int32 or int64, got uint32"),
        (np.array([0, 6], np.int16), TypeError, "must be int32 or int64, got int16"),
        (np.array([0, 6], ">i4"), TypeError, "must be int32 or int64, got >i4"),
        (np.array([[0, 6]]), ValueError, "must have shape (B + 1,), got (1, 2)"),
        (np.array(6), ValueError, "must have shape (B + 1,), got ()"),
        (np.array([], int), ValueError, "must have shape (B + 1,), got (0,)"),
        (np.array([0, 4, 2, 6]), ValueError, "must not fall, but does at index 2"),
        (np.array([0, -1, 6]), ValueError, "must not fall, but does at index 1"),
        (
            np.array([1, 6], np.int32),
            ValueError,
            "must go from 0 to the number of tokens, 6, got 1 to 6",
        ),
        (np.array([0, 5]), ValueError, "must go from 0 to the number of tokens, 6, got 0 to 5"),
        (np.array([0, 7]), ValueError, "must go from 0 to the number of tokens, 6, got 0 to 7"),
        (np.array([0]), ValueError, "must go from 0 to the number of tokens, 6, got 0 to 0"),
    ],
)
def test_cu_seqlens(starts, error, message):
    call = call_with("token_gae", "cu_seqlens", starts)
    assert_fails(error, "token_gae", f"cu_seqlens {message}", call)


def test_one_number_per_packed_sequence():
    call = call_with("token_gae", "cu_seqlens", np.array([0, 2, 6]))
    for name, one in (("bootstrap", F32.ravel()), ("gae_lambda", F64.ravel())):
        message = f"{name} must have shape (2,) (one per sequence), got (6,)"
        assert_fails(ValueError, "token_gae", message, call | {name: one})


# normalize and valid_rows


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": [1.0, 2.0]}, TypeError, f"x {NO_ARRAY} list; wrap it in np.asarray(...)"),
        ({"x": INT}, TypeError, "x must be float32 or float64, got int64; cast with x.astype(np."),
        ({"x": F32.astype(np.float16)}, TypeError, "x must be float32 or float64, got float16"),
        ({"valid": NESTED}, TypeError, "valid must be a NumPy array like x, got list"),
        ({"valid": BOOL.T}, ValueError, "valid must have shape (3, 2) like x, got (2, 3)"),
        ({"eps": -1e-8}, ValueError, "eps must not be negative, got -1e-08"),
        ({"eps": NAN}, ValueError, "eps must not be negative, got nan"),
        ({"eps": "0"}, TypeError, "eps must be a number, got str"),
        ({"eps": None}, TypeError, "eps must be a number, got NoneType"),
        ({"ddof": 2}, ValueError, "ddof must be 0 or 1, got 2"),
        ({"ddof": None}, ValueError, "ddof must be 0 or 1, got None"),
    ],
)
def test_normalize(changes, error, message):
    call = {"x": F32, "valid": BOOL, "eps": 1e-8, "ddof": 1}
    ppo_fast.normalize(**call)
    assert_fails(error, "normalize", message, call | changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"terminated": NESTED},
            TypeError,
            f"terminated {NO_ARRAY} list; wrap it in np.asarray(...)",
        ),
        ({"truncated": NESTED}, TypeError, "truncated must be a NumPy array"),
        (
            {"truncated": BOOL.T},
            ValueError,
            "truncated must have shape (3, 2) like terminated, got",
        ),
        (
            {"prev_done": BOOL[:, 0]},
            ValueError,
            "prev_done must have one flag per environment (2), got shape (3,)",
        ),
        (
            {"prev_done": False},
            ValueError,
            "prev_done must have one flag per environment (2), got shape ()",
        ),
        (
            {"time_axis": 1},
            ValueError,
            "prev_done must have one flag per environment (3), got shape (2,)",
        ),
        ({"time_axis": 2}, ValueError, "time_axis must be 0 or 1, got 2"),
        ({"time_axis": None}, ValueError, "time_axis must be 0 or 1, got None"),
        ({"terminated": np.array(True)}, ValueError, "terminated must have shape"),
    ],
)
def test_valid_rows(changes, error, message):
    call = {"terminated": BOOL, "truncated": BOOL, "prev_done": BOOL[0]}
    ppo_fast.valid_rows(**call)
    if "terminated" in changes:
        call["truncated"] = None
    assert_fails(error, "valid_rows", message, call | changes)
