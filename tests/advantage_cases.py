"""What the tests of the advantage functions share: cases, memory layouts, comparisons.

A case is a dict of keywords with all arrays [T, N]; `as_call` brings it into another shape and
memory layout.
"""

import itertools
from typing import NamedTuple

import numpy as np


class Form(NamedTuple):
    """One way to say what follows a step and where episodes end."""

    bootstrap: str  # last_values, next_values or last_row: values with T + 1 rows
    flags: str  # terminated, both (and truncated) or episode_starts
    truncation: str | None  # final_values or a value of on_truncation
    prev_done: bool

    def __str__(self):
        return "-".join(str(x) for x in self[:3] if x) + "-prev_done" * self.prev_done


def _forms():
    for bootstrap, prev_done in itertools.product(
        ["last_values", "next_values", "last_row"], [False, True]
    ):
        yield Form(bootstrap, "terminated", None, prev_done)
        yield Form(bootstrap, "episode_starts", None, prev_done)
        if bootstrap == "next_values" or prev_done:
            yield Form(bootstrap, "both", None, prev_done)
        if bootstrap != "next_values":
            for rule in ("current_value", "terminate", "drop"):
                yield Form(bootstrap, "both", rule, prev_done)
            if not prev_done:
                yield Form(bootstrap, "both", "final_values", False)


FORMS = list(_forms())
PLAIN = Form("last_values", "both", "final_values", False)
# discounted_returns has no values: nothing that is read off them.
RETURNS_FORMS = [
    form
    for form in FORMS
    if form.bootstrap == "last_values"
    and form.truncation != "current_value"
    and (form.flags != "both" or form.truncation)
]
# What stands for a flag that is set, by dtype. Anything but 0 does.
SET = {
    bool: [True],
    np.uint8: [1, 2, 255],
    np.int8: [1, -1, 127],
    np.int32: [1, -1, 256],
    np.int64: [1, -1, 2**32],
    np.float32: [1, 0.5, -3, 1e-45, np.nan],
    np.float64: [1, 0.5, -3, 5e-324, np.nan],
}
FLAG_DTYPES = list(SET)

TRANSITIONS = [
    "rewards",
    "values",
    "log_rhos",
    "next_values",
    "terminated",
    "truncated",
    "final_values",
    "episode_starts",
    "prev_done",
    "mask",
]
PER_ENV = ["last_values", "last_done", "gae_lambda", "bootstrap"]

_LAYOUTS = ["contiguous", "padded", "every_other_step", "every_other_column", "reversed"]
LAYOUTS = [*_LAYOUTS, *(f"batch_major_{layout}" for layout in _LAYOUTS)]
SHAPES = ["TN", "NT", "T", "TN1", "NT1"]


def as_flags(is_set, dtype, rng):
    """Flags of that dtype; numbers other than 0 and 1 among them."""
    zero = rng.choice(np.array([0.0, -0.0]).astype(dtype), is_set.shape)
    return np.where(is_set, rng.choice(np.array(SET[dtype], dtype), is_set.shape), zero)


def random_case(
    seed,
    num_steps,
    num_envs,
    dtype=np.float32,
    form=PLAIN,
    flag_dtype=bool,
    ends=0.2,
    lambda_per_env=False,
):
    """Keywords of `gae`; a share of `ends` of the transitions has each flag, some have both."""
    rng = np.random.default_rng(seed)
    shape = (num_steps, num_envs)

    def numbers(*shape):
        return rng.normal(size=shape).astype(dtype)

    def flags(*shape):
        return as_flags(rng.random(shape) < ends, flag_dtype, rng)

    case = {
        "rewards": numbers(*shape),
        "values": numbers(num_steps + (form.bootstrap == "last_row"), num_envs),
        "gamma": float(rng.choice([0.0, 0.9, 0.99, 1.0])),
        "gae_lambda": float(rng.choice([0.0, 0.5, 0.95, 1.0])),
    }
    if lambda_per_env:
        case["gae_lambda"] = rng.random(num_envs)
    if form.bootstrap == "last_values":
        case["last_values"] = numbers(num_envs)
    if form.bootstrap == "next_values":
        case["next_values"] = numbers(*shape)
    if form.flags == "episode_starts":
        case |= {"episode_starts": flags(*shape), "last_done": flags(num_envs)}
    else:
        case["terminated"] = flags(*shape)
    if form.flags == "both":
        case["truncated"] = flags(*shape)
    if form.truncation == "final_values":
        case["final_values"] = numbers(*shape)
    elif form.truncation:
        case["on_truncation"] = form.truncation
    if form.prev_done:
        case["prev_done"] = flags(*shape)
    return case


def poisoned(shape, dtype, layout="contiguous"):
    """An array of that memory layout, full of NaN (flags: set), as is all memory around it."""
    if layout.startswith("batch_major_"):
        return poisoned(shape[::-1], dtype, layout.removeprefix("batch_major_")).T
    steps, envs = shape
    poison = np.nan if np.dtype(dtype).kind == "f" else 1
    if layout == "contiguous":
        return np.full(shape, poison, dtype)
    memory = np.full((2 * steps + 1, 2 * envs + 1), poison, dtype)
    views = {
        "padded": memory[:steps, 1 : envs + 1],
        "every_other_step": memory[: 2 * steps : 2, :envs],
        "every_other_column": memory[:steps, : 2 * envs : 2],
        "reversed": memory[:steps, :envs][::-1, ::-1],
    }
    return views[layout]


def laid_out(array, layout):
    """The same numbers [T, N] or [N] in another memory layout."""
    rows = array if array.ndim == 2 else array[None]
    copy = poisoned(rows.shape, rows.dtype, layout)
    copy[...] = rows
    return copy if array.ndim == 2 else copy[0]


def shaped(array, shape):
    """A view of [T, N] as a caller may pass it."""
    if shape == "T":
        return array[:, 0]
    view = array.T if shape.startswith("NT") else array
    return view[..., None] if shape.endswith("1") else view


def as_call(case, shape="TN", layouts=("contiguous",)):
    """The case with its arrays in that shape and, one after the other, these layouts."""
    call = case | {"time_axis": int(shape.startswith("NT"))}
    next_layout = itertools.cycle(layouts)
    for name in TRANSITIONS:
        if name in case:
            call[name] = shaped(laid_out(case[name], next(next_layout)), shape)
    for name in PER_ENV:
        if isinstance(case.get(name), np.ndarray):
            call[name] = laid_out(case[name], next(next_layout))
    return call


def arrays_of(call):
    """Names and arrays among the keywords of a call."""
    return {name: x for name, x in call.items() if isinstance(x, np.ndarray)}


def copied(call):
    """Bytes of the inputs, to see that they are not written."""
    return {name: x.tobytes() for name, x in arrays_of(call).items()}


def as_tuple(result):
    return (result,) if isinstance(result, np.ndarray) else tuple(result)


def assert_same_bits(ours, expected):
    """Results, single or in a tuple, of the same dtype, shape and bits."""
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if a.tobytes() != b.tobytes():
            np.testing.assert_array_equal(a, b)
            raise AssertionError("equal numbers, but signs of zero or bits of NaN differ")


def assert_close(ours, expected, rtol=1e-5):
    """Results that differ by no more than rtol of the largest number, and 1 where all is small."""
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        scale = max(1.0, np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale)


def assert_only_filled(out):
    """Every item of an array made by `poisoned` was written, and nothing around it."""
    memory = out
    while memory.base is not None:
        memory = memory.base
    assert not np.isnan(out).any()
    assert np.isnan(memory).sum() == memory.size - out.size
