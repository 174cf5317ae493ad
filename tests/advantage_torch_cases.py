"""Calls of the advantage functions with torch tensors, and what NumPy makes of the same numbers."""

import numpy as np
import pytest
from advantage_cases import FORMS, PLAIN, RETURNS_FORMS, Form, as_call, random_case

torch = pytest.importorskip("torch")

import ppo_fast  # noqa: E402 - after the check for torch
import ppo_fast.torch_advantage  # noqa: E402 - defines the operators


def transitions(function, form=PLAIN, shape="TN", layout="contiguous", **options):
    """Keywords of a function of transitions, 6 steps of 5 environments, as NumPy arrays."""
    num_envs = 1 if shape == "T" else 5
    case = random_case(1, 6, num_envs, form=form, **options)
    if function == "discounted_returns":
        del case["values"], case["gae_lambda"]
    if function == "vtrace":
        rng = np.random.default_rng(2)
        case["log_rhos"] = rng.normal(0, 0.5, (6, num_envs)).astype(case["rewards"].dtype)
        case["rho_clip"] = 1.5
    return as_call(case, shape, [layout])


def tokens(dtype=np.float32, packed=False, each=False, **options):
    rng = np.random.default_rng(3)
    case = {
        "rewards": rng.normal(size=(4, 7)).astype(dtype),
        "values": rng.normal(size=(4, 7)).astype(dtype),
        "mask": rng.random((4, 7)) < 0.7,
        "gamma": 0.9,
        "gae_lambda": 0.8,
    }
    if packed:
        case = {k: x.ravel() if isinstance(x, np.ndarray) else x for k, x in case.items()}
        case["cu_seqlens"] = np.array([0, 3, 3, 20, 28])
    if each:
        case |= {"gae_lambda": rng.random(4), "bootstrap": rng.normal(size=4).astype(dtype)}
    return case | options


def some_calls():
    """Function and keywords, by name: every function, form, shape and kind of argument."""
    for form in FORMS:
        yield f"gae-{form}", "gae", transitions("gae", form)
    for function in ("gae", "lambda_returns", "discounted_returns", "vtrace"):
        for shape in ("TN", "NT", "T", "TN1", "NT1"):
            for layout in ("contiguous", "batch_major_contiguous", "every_other_step"):
                yield (
                    f"{function}-{shape}-{layout}",
                    function,
                    transitions(function, shape=shape, layout=layout),
                )
        yield f"{function}-float64", function, transitions(function, dtype=np.float64)
        yield f"{function}-exact", function, transitions(function) | {"exact": True}
        starts = Form("last_values", "episode_starts", None, True)
        yield f"{function}-starts", function, transitions(function, starts, flag_dtype=np.float32)
        one = transitions(function, starts, "T") | {"last_values": 0.5, "last_done": True}
        yield f"{function}-one", function, one
        if function != "discounted_returns":
            each = transitions(function, lambda_per_env=True)
            yield f"{function}-lambda", function, each
    for form in RETURNS_FORMS:
        yield (
            f"discounted_returns-{form}",
            "discounted_returns",
            transitions("discounted_returns", form),
        )
    for packed in (False, True):
        for each in (False, True):
            for masked in ("skip", "decay"):
                name = f"token_gae-{masked}" + "-packed" * packed + "-each" * each
                yield name, "token_gae", tokens(packed=packed, each=each, masked=masked)
    columns = tokens()
    columns = {k: x.T.copy().T if isinstance(x, np.ndarray) else x for k, x in columns.items()}
    yield "token_gae-columns", "token_gae", columns
    yield "token_gae-float64", "token_gae", tokens(np.float64, each=True, exact=True)
    x = np.random.default_rng(4).normal(size=(6, 5)).astype(np.float32)
    done = {"terminated": x > 1, "truncated": x < -1, "prev_done": x[0] > 0}
    for layout in ("contiguous", "columns"):
        if layout == "columns":
            x = np.asfortranarray(x)
        yield f"normalize-{layout}", "normalize", {"x": x, "eps": 1e-8, "ddof": 1}
        yield (
            f"normalize-valid-{layout}",
            "normalize",
            {"x": x, "valid": x > 0, "eps": 0.0, "ddof": 0},
        )
        flags = {k: np.asarray(flag, order="AF"[layout == "columns"]) for k, flag in done.items()}
        yield f"valid_rows-{layout}", "valid_rows", flags
        flags |= {"prev_done": x[:, 0] > 0, "time_axis": 1}
        yield f"valid_rows-time_axis-{layout}", "valid_rows", flags
    one = {"terminated": x[:, 0] > 1, "prev_done": True}
    yield "valid_rows-one", "valid_rows", one


CALLS = {name: (function, call) for name, function, call in some_calls()}
ALL = pytest.mark.parametrize("name", CALLS)
FEW = pytest.mark.parametrize(
    "name",
    [
        "gae-last_values-both-final_values",
        "gae-NT-batch_major_contiguous",
        "gae-TN-batch_major_contiguous",
        "gae-lambda",
        "gae-one",
        "lambda_returns-starts",
        "discounted_returns-one",
        "vtrace-TN1-contiguous",
        "vtrace-lambda",
        "token_gae-skip",
        "token_gae-decay-packed-each",
        "normalize-valid-contiguous",
        "valid_rows-contiguous",
        "valid_rows-one",
    ],
)


WITH_OUT = pytest.mark.parametrize(
    "name",
    [
        "gae-TN-contiguous",
        "gae-NT-batch_major_contiguous",
        "lambda_returns-TN-contiguous",
        "discounted_returns-T-contiguous",
        "vtrace-TN1-contiguous",
        "token_gae-decay-packed-each",
    ],
)


def as_tensor(x):
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x


def tensors_of(name):
    """The function, its keywords as tensors, and the results of NumPy's in a tuple."""
    function, call = CALLS[name]
    function = getattr(ppo_fast, function)
    return function, {k: as_tensor(x) for k, x in call.items()}, as_tuple(function(**call))


def as_tuple(results):
    return tuple(results) if isinstance(results, tuple) else (results,)


def assert_same(results, expected):
    """Tensors of the same dtype, shape, layout and bits as these arrays or tensors."""
    for ours, other in zip(as_tuple(results), as_tuple(expected), strict=True):
        assert isinstance(ours, torch.Tensor)
        other = as_tensor(other)
        assert ours.dtype == other.dtype
        assert ours.device.type == "cpu"
        assert ours.shape == other.shape
        assert ours.stride() == other.stride()
        assert ours.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()


def is_float32(x):
    return isinstance(x, torch.Tensor) and x.dtype == torch.float32


def new_out(function, expected):
    out = tuple(torch.full_like(as_tensor(x), torch.nan) for x in expected)
    return out if function.__name__ in ("gae", "vtrace", "token_gae") else out[0]


def operator_of(name):
    """An operator and its arguments, in the order of its schema."""
    function, call = CALLS[name]
    operator = getattr(torch.ops.ppo_fast, function).default
    defaults = {
        "masked": "skip",
        "bootstrap": 0.0,
        "exact": False,
        "time_axis": 0,
        "rho_clip": 1.0,
        "c_clip": 1.0,
        "pg_rho_clip": 1.0,
    }
    call = defaults | {k: as_tensor(x) for k, x in call.items()}
    for k in ("last_values", "last_done", "prev_done"):
        if isinstance(call.get(k), (bool, float)):
            call[k] = torch.tensor([call[k]])
    arguments = []
    for argument in operator._schema.arguments:
        value = call.get(argument.name.removesuffix("_each"))
        if argument.name.endswith("_each"):
            value = value if isinstance(value, torch.Tensor) else None
        elif argument.type.kind() == "FloatType" and isinstance(value, torch.Tensor):
            value = 0.0
        arguments.append(value)
    return operator, arguments
