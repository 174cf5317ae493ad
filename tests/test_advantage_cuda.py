"""The advantage functions on a CUDA device, or on the CPU in its place (conftest.py: `device`)."""

import ctypes

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from advantage_cases import PLAIN, Form, as_call, random_case  # noqa: E402
from advantage_torch_cases import (  # noqa: E402
    ALL,
    CALLS,
    WITH_OUT,
    as_tensor,
    as_tuple,
    new_out,
    operator_of,
    tensors_of,
)

import ppo_fast  # noqa: E402 - after the check for torch
import ppo_fast.cuda  # noqa: E402
import ppo_fast.foreign  # noqa: E402
import ppo_fast.torch_advantage  # noqa: E402 - defines the operators


def on(device, x):
    if isinstance(x, tuple):
        return tuple(on(device, item) for item in x)
    x = as_tensor(x)
    return x.to(device) if isinstance(x, torch.Tensor) else x


def call_on(device, function, call):
    return getattr(ppo_fast, function)(**{k: on(device, x) for k, x in call.items()})


def assert_close(results, expected, tolerance=None):
    """Tensors of these shapes, layouts and dtypes; equal to what the parallel order allows."""
    for ours, other in zip(as_tuple(results), as_tuple(expected), strict=True):
        other = as_tensor(other).cpu()
        assert ours.dtype == other.dtype
        assert ours.shape == other.shape
        assert ours.stride() == other.stride() or ours.numel() == 0
        within = {torch.float32: 1e-5, torch.float64: 1e-12}.get(ours.dtype, 0)
        within = within if tolerance is None else tolerance
        torch.testing.assert_close(ours.cpu(), other, rtol=within, atol=within, equal_nan=True)


def assert_is_that_of_the_cpu(device, function, call, tolerance=None):
    expected = getattr(ppo_fast, function)(**call)
    assert_close(call_on(device, function, call), expected, tolerance)


# Results


@ALL
def test_results_are_those_of_the_cpu(name, device):
    function, call = CALLS[name]
    assert_is_that_of_the_cpu(device, function, call)


# Every flag and final values; and the form that has kernels of its own in float32.
FORMS_ON_GPU = {"gae": PLAIN, "gae-short": Form("last_values", "terminated", None, False)}


def assert_case_is_that_of_the_cpu(
    device, kind, num_steps, num_envs, layout="contiguous", dtype=np.float32, tolerance=None
):
    """`kind` is a form of gae, or vtrace."""
    form = FORMS_ON_GPU.get(kind, PLAIN)
    case = random_case(7, num_steps, num_envs, form=form, dtype=dtype)
    if kind == "vtrace":
        rng = np.random.default_rng(8)
        case["log_rhos"] = rng.normal(0, 0.5, (num_steps, num_envs)).astype(dtype)
    call = as_call(case, "TN", [layout])
    assert_is_that_of_the_cpu(device, "vtrace" if kind == "vtrace" else "gae", call, tolerance)


KINDS = pytest.mark.parametrize("kind", [*FORMS_ON_GPU, "vtrace"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous", "every_other_column"])
@pytest.mark.parametrize(("num_steps", "num_envs"), [(1, 1), (33, 1), (300, 3), (129, 40)])
@KINDS
def test_shapes_that_are_cut(kind, num_steps, num_envs, layout, dtype, device):
    assert_case_is_that_of_the_cpu(device, kind, num_steps, num_envs, layout, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
# More columns than a block has threads; rows have a warp each, which are 32 threads without a GPU.
@pytest.mark.parametrize(
    ("num_envs", "layout"),
    [(290, "contiguous"), (290, "every_other_column"), (70, "batch_major_contiguous")],
)
@KINDS
def test_few_steps_of_many(kind, num_envs, layout, dtype, device):
    assert_case_is_that_of_the_cpu(device, kind, 5, num_envs, layout, dtype)


# A warp has 8 steps of each of 8 runs of 4 columns in float32, 4 of each in gae of float64 and in
# vtrace; a block of 16 has 1,024 or 512.
@pytest.mark.parametrize("num_steps", [63, 64, 65, 127, 129, 256, 257, 500, 520, 1024, 1100])
@KINDS
def test_columns_in_tiles(kind, num_steps, device):
    assert_case_is_that_of_the_cpu(device, kind, num_steps, 33)


@pytest.mark.parametrize("num_steps", [63, 64, 65, 128, 129, 520])
def test_columns_of_doubles_in_tiles(num_steps, device):
    assert_case_is_that_of_the_cpu(device, "gae", num_steps, 33, dtype=np.float64)


# A warp has 4, 8, 16 or 32 columns, the more the more there are; of up to 768, those with more than
# four tiles are in several parts. From 1,057 groups on a warp is alone with its columns, and has
# the bits of the CPU.
@pytest.mark.parametrize(
    ("num_steps", "num_envs", "tolerance"),
    [
        (300, 256, None),
        (300, 257, None),
        (20, 2113, None),
        (20, 4225, None),
        (3, 33792, None),
        (3, 33793, 0),
        (4097, 4, None),
        (9000, 70, None),
    ],
)
@pytest.mark.parametrize("kind", FORMS_ON_GPU)
def test_columns_around_the_bounds(kind, num_steps, num_envs, tolerance, device):
    assert_case_is_that_of_the_cpu(device, kind, num_steps, num_envs, tolerance=tolerance)


# A lane has four steps of a row, which are read and written in one piece where they start on 16
# bytes. A warp has 128 at once, a block 2,048; of more than four times that there are parts.
@pytest.mark.parametrize("num_steps", [1, 3, 4, 5, 127, 128, 129, 256, 257, 640, 2049, 8193, 20000])
@KINDS
def test_rows_in_tiles(kind, num_steps, device):
    assert_case_is_that_of_the_cpu(device, kind, num_steps, 3, "batch_major_contiguous")


@pytest.mark.parametrize("kind", FORMS_ON_GPU)
def test_one_long_row(kind, device):
    assert_case_is_that_of_the_cpu(device, kind, 100_000, 1)


@pytest.mark.parametrize("num_steps", [3000, 9000])
def test_factors_near_1(num_steps, device):
    # What tiles and parts hand on is formed in double: products of float32 would be off by the same
    # amount in each.
    rng = np.random.default_rng(12)
    call = {
        "rewards": rng.normal(size=(num_steps, 2)).astype(np.float32) + np.float32(1),
        "values": np.zeros((num_steps, 2), np.float32),
        "last_values": np.full(2, 1e5, np.float32),
        "terminated": np.zeros((num_steps, 2), bool),
        "gamma": float(np.float32(0.99999)),
        "gae_lambda": 1.0,
    }
    wide = {
        k: x.astype(np.float64) if k in ("rewards", "values", "last_values") else x
        for k, x in call.items()
    }
    expected = torch.from_numpy(ppo_fast.gae(**wide).advantages)
    for time_axis in (0, 1):
        turned = {
            k: np.ascontiguousarray(x.T) if time_axis == 1 and getattr(x, "ndim", 0) == 2 else x
            for k, x in call.items()
        }
        ours = call_on(device, "gae", turned | {"time_axis": time_axis}).advantages.cpu()
        found = (ours.T if time_axis == 1 else ours).double()
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("layout", ["contiguous", "batch_major_contiguous"])
@pytest.mark.parametrize("function", ["gae", "lambda_returns"])
def test_exact_has_the_bits_of_the_cpu(function, layout, device):
    case = random_case(9, 300, 5, form=PLAIN)
    call = as_call(case, "TN", [layout]) | {"exact": True}
    assert_is_that_of_the_cpu(device, function, call, tolerance=0)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("masked", ["skip", "decay"])
# In one part, and in several.
@pytest.mark.parametrize("shape", [(700,), (3, 300), (9000,), (3, 9000)])
def test_long_sequences(shape, masked, exact, device):
    rng = np.random.default_rng(10)
    call = {
        "rewards": rng.normal(size=shape).astype(np.float32),
        "values": rng.normal(size=shape).astype(np.float32),
        # Runs of tokens that do not count, longer than what a lane and what a warp has at once.
        "mask": np.repeat(rng.random(np.prod(shape) // 50) < 0.4, 50).reshape(shape)
        & (rng.random(shape) < 0.9),
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "masked": masked,
        "bootstrap": 1.5,
        "exact": exact,
    }
    call["rewards"][~call["mask"]] = call["values"][~call["mask"]] = np.nan
    if len(shape) == 1:
        call["cu_seqlens"] = np.array([0, 0, 33, 34, 500, shape[0], shape[0]], np.int32)
    assert_is_that_of_the_cpu(device, "token_gae", call, tolerance=0 if exact else None)


def test_what_does_not_count_may_be_nan(device):
    case = random_case(11, 70, 4, form=PLAIN)
    call = as_call(case, "TN", ["contiguous"])
    call["final_values"] = np.where(call["truncated"], call["final_values"], np.nan)
    call["final_values"] = call["final_values"].astype(np.float32)
    results = call_on(device, "gae", call)
    assert all(x.isfinite().all() for x in results)
    assert_is_that_of_the_cpu(device, "gae", call)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gae-TN-contiguous", "vtrace-TN-contiguous", "token_gae-skip"])
def test_half_precision_gives_float32(name, half, device, monkeypatch):
    function, call, _ = tensors_of(name)
    halves = {
        k: x.to(half) if isinstance(x, torch.Tensor) and x.is_floating_point() else x
        for k, x in call.items()
    }
    with monkeypatch.context() as on_the_cpu:
        on_the_cpu.setattr(ppo_fast.cuda, "holds", lambda tensor: False)
        expected = function(**halves)
    assert_close(function(**{k: on(device, x) for k, x in halves.items()}), expected)


@WITH_OUT
def test_out_is_filled_and_returned(name, device):
    function, call, expected = tensors_of(name)
    out = on(device, new_out(function, expected))
    results = function(**{k: on(device, x) for k, x in call.items()}, out=out)
    assert all(ours is given for ours, given in zip(as_tuple(results), as_tuple(out), strict=True))
    assert_close(results, expected)


def test_a_number_where_there_may_be_one_per_environment(device):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 40, 1)).astype(np.float32)
    factors = {"gamma": 0.9, "gae_lambda": 0.8}
    done = {"episode_starts": rng.random((40, 1)) < 0.1, "last_done": np.bool_(True)}
    for number in (np.float32(0.5), np.float64(0.5), np.int64(1)):
        call = {"rewards": rewards, "values": values, "last_values": number, **factors, **done}
        assert_is_that_of_the_cpu(device, "gae", call)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [1, 2])
def test_gae_lambda_of_any_dtype_and_stride(dtype, stride, device):
    call = CALLS["gae-TN-contiguous"][1] | {"gae_lambda": np.linspace(0, 1, 5).astype(dtype)}
    expected = ppo_fast.gae(**call)
    call["gae_lambda"] = on(device, np.repeat(call["gae_lambda"], stride))[::stride]
    assert_close(call_on(device, "gae", call), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gae_lambda_as_a_tensor_of_one_number(dtype, device):
    call = plain_call(device)
    expected = ppo_fast.gae(**call | {"gae_lambda": 0.5})
    results = ppo_fast.gae(**call | {"gae_lambda": torch.tensor(0.5, dtype=dtype, device=device)})
    assert_close(results, expected)
    alone = {k: x[..., :1] if isinstance(x, torch.Tensor) else x for k, x in call.items()}
    strided = torch.full((1, 2), 0.5, dtype=dtype, device=device)[:, 0]
    of_one = tuple(x[:, :1].contiguous() for x in expected)
    assert_close(ppo_fast.gae(**alone | {"gae_lambda": strided}), of_one)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("stride", [1, 2])
def test_cu_seqlens_of_any_dtype_and_stride(dtype, stride, device):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 40)).astype(np.float32)
    call = {"rewards": rewards, "values": values, "mask": rng.random(40) < 0.8}
    call |= {"gamma": 0.9, "gae_lambda": 0.8, "cu_seqlens": np.array([0, 7, 7, 40], dtype)}
    expected = ppo_fast.token_gae(**call)
    call["cu_seqlens"] = on(device, np.repeat(call["cu_seqlens"], stride))[::stride]
    assert_close(call_on(device, "token_gae", call), expected)


@pytest.mark.parametrize("name", ["last_values", "last_done"])
def test_kernels_get_no_address_of_a_number(name, device):
    """Which would be the CPU's: the extension refuses it, and Python sends a tensor."""
    x = on(device, np.zeros((4, 1), np.float32))
    given = {"rewards": x, "values": x, "gamma": 0.9, "gae_lambda": 0.8}
    given |= {"last_values": x[0], "episode_starts": x != 0, "last_done": x[0] != 0}
    given |= {name: np.bool_(True) if name == "last_done" else np.float32(0.5)}
    with pytest.raises(TypeError, match=f"gae: {name} must be a tensor, got a number"):
        gae_of(ppo_fast.cuda.usable()[0], given)


@pytest.mark.parametrize("bootstrap", [0.5, np.float32(0.5), np.int64(1), torch.tensor(0.5)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_number_to_start_all_sequences_from(bootstrap, packed, device):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 40)).astype(np.float32)
    call = {"rewards": rewards, "values": values, "gamma": 0.9, "gae_lambda": 0.8}
    call["mask"] = rng.random((3, 40)) < 0.8
    if packed:
        call |= {k: call[k].reshape(-1) for k in ("rewards", "values", "mask")}
        call["cu_seqlens"] = np.array([0, 40, 80, 120])
    expected = ppo_fast.token_gae(**call, bootstrap=float(bootstrap))
    assert_close(call_on(device, "token_gae", call | {"bootstrap": bootstrap}), expected)


def test_nothing(device):
    for shape in ((0, 3), (3, 0)):
        call = {
            "rewards": np.zeros(shape, np.float32),
            "values": np.zeros(shape, np.float32),
            "last_values": np.zeros(shape[1], np.float32),
            "terminated": np.zeros(shape, bool),
            "gamma": 0.9,
            "gae_lambda": 0.9,
        }
        assert_is_that_of_the_cpu(device, "gae", call)


@ALL
def test_operators(name, device):
    # What torch.compile and torch.export run.
    operator, arguments = operator_of(name)
    if device == "cpu":  # torch would run its operator for the CPU
        operator = ppo_fast.torch_advantage._gpu_kernel(CALLS[name][0])
    _, _, expected = tensors_of(name)
    assert_close(operator(*(on(device, x) for x in arguments)), expected)


@pytest.mark.parametrize("name", ["gae-TN-contiguous", "token_gae-skip-packed", "valid_rows-one"])
def test_arrays_of_other_libraries(name, device, monkeypatch):
    # As CuPy's, which cross by DLPack and come back in their own library.
    if device != "cpu":
        pytest.skip("JAX's arrays are on the CPU")
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(ppo_fast.foreign, "_is_on_gpu", lambda array: True)
    function, call = CALLS[name]
    expected = getattr(ppo_fast, function)(**call)
    arrays = {k: jax.numpy.asarray(x) if isinstance(x, np.ndarray) else x for k, x in call.items()}
    for ours, other in zip(
        as_tuple(getattr(ppo_fast, function)(**arrays)), as_tuple(expected), strict=True
    ):
        assert isinstance(ours, jax.Array)
        np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5)


# Errors


def plain_call(device):
    return {k: on(device, x) for k, x in CALLS["gae-TN-contiguous"][1].items()}


@pytest.mark.parametrize(
    ("k", "value", "error", "message"),
    [
        ("values", torch.zeros(6, 4), ValueError, r"values must have shape \(6, 5\) like rewards"),
        ("values", torch.zeros(6, 5).double(), TypeError, "values must be float32 like rewards"),
        (
            "values",
            torch.zeros(6, 5).int(),
            TypeError,
            "values must be float32 or float64",
        ),
        ("values", np.zeros((6, 5)), TypeError, "values must be a torch tensor like rewards"),
        ("last_values", torch.zeros(4), ValueError, r"last_values must have shape \(5,\)"),
        ("last_values", 1.0, ValueError, r"last_values must have shape \(5,\)"),
        ("gae_lambda", torch.zeros(4), ValueError, r"gae_lambda must have shape \(5,\)"),
        ("gae_lambda", torch.zeros(5).int(), TypeError, "gae_lambda must be float32 or float64"),
        ("gamma", torch.tensor(0.9), TypeError, "gamma must be a number, got a tensor"),
        ("gamma", 1.5, ValueError, r"gamma must be in \[0, 1\]"),
        ("terminated", None, ValueError, "terminated is missing"),
        ("time_axis", 2, ValueError, "time_axis must be 0"),
    ],
)
def test_errors(k, value, error, message, device):
    call = plain_call(device) | {k: on(device, value) if k != "values" else value}
    if isinstance(call["values"], torch.Tensor):
        call["values"] = call["values"].to(device)
    with pytest.raises(error, match=f"^gae: {message}"):
        ppo_fast.gae(**call)


@pytest.mark.parametrize("name", ["rewards", "last_values", "gae_lambda"])
def test_tensors_that_require_grad(name, device):
    call = plain_call(device)
    call["gae_lambda"] = torch.full((5,), 0.9, device=device)
    expected = ppo_fast.gae(**call)
    call[name] = call[name].clone().requires_grad_()
    with pytest.raises(RuntimeError, match=f"^gae: {name} requires grad"):
        ppo_fast.gae(**call)
    with torch.no_grad():
        assert_close(ppo_fast.gae(**call), expected, tolerance=0)
        out = tuple(torch.zeros_like(x) for x in expected)
        results = ppo_fast.gae(**call, out=out)
    assert results.advantages is out[0]
    assert_close(results, expected, tolerance=0)


def test_tensors_elsewhere(device):
    call = plain_call(device)
    call["values"] = torch.zeros(6, 5, device="meta")
    with pytest.raises(
        ValueError, match=f"^gae: values must be on {device}.* like rewards, got meta"
    ):
        ppo_fast.gae(**call)


def test_a_negative_bit(device):
    call = plain_call(device)
    call["values"] = torch.complex(call["values"], call["values"]).conj().imag
    assert call["values"].is_neg()
    ours = ppo_fast.gae(**call)
    expected = ppo_fast.gae(**call | {"values": call["values"].resolve_neg()})
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    out = tuple(torch._neg_view(torch.zeros_like(x)) for x in ours)
    with pytest.raises(
        TypeError, match=r"out\[0\] must be a tensor of its own, not a negated view"
    ):
        ppo_fast.gae(**call | {"out": out})


@pytest.mark.parametrize("num_envs", [1, 5])
def test_out_that_is_gae_lambda(num_envs, device):
    x = torch.zeros(6, num_envs, dtype=torch.float64, device=device)
    out = (torch.full_like(x, 0.9), x.clone())
    call = {"rewards": x, "values": x, "last_values": x[0], "terminated": x != 0, "gamma": 0.9}
    gae_lambda = out[0][0] if num_envs > 1 else out[0][0, 0]
    with pytest.raises(ValueError, match=r"^gae: out\[0\] must not share memory"):
        ppo_fast.gae(**call, gae_lambda=gae_lambda, out=out)


def test_out_that_is_an_input(device):
    call = plain_call(device)
    with pytest.raises(ValueError, match=r"^gae: out\[0\] must not share memory"):
        ppo_fast.gae(**call, out=(call["rewards"], torch.zeros_like(call["rewards"])))


@pytest.mark.parametrize("cu_seqlens", [[0], [5, 3, 0], [0, 40], [-7, 2**40]])
def test_sequences_that_do_not_fit(cu_seqlens, device):
    # They are not looked at; whatever they say, no memory but the tokens' is touched.
    call = {k: on(device, x) for k, x in CALLS["token_gae-skip-packed"][1].items()}
    call["cu_seqlens"] = torch.tensor(cu_seqlens, device=device)
    if len(cu_seqlens) == 1:
        with pytest.raises(ValueError, match=r"^token_gae: cu_seqlens must go from 0 to"):
            ppo_fast.token_gae(**call)
    else:
        assert ppo_fast.token_gae(**call).advantages.shape == call["rewards"].shape


# Without a device


def test_why_there_is_none():
    info = ppo_fast.build_info()
    assert info["cuda"] == (info["cuda_off"] == "")
    assert bool(info["cuda_toolkit"]) == bool(info["cuda_architectures"])
    if info["cuda"]:
        pytest.skip("there is a device")
    with pytest.raises(RuntimeError, match=r"^gae: rewards on cuda:0 cannot be used here: "):
        ppo_fast.cuda.kernels("gae: rewards on cuda:0")


@pytest.fixture
def retold(emulated):
    """The emulated extension, which may be told of tensors in another way."""
    yield emulated
    ppo_fast.cuda.use_torch(emulated, "cpu")


def gae_of(module, call):
    given = {"time_axis": 0, "exact": False} | call
    return module.advantage("gae", tuple(map(given.get, ppo_fast.foreign.PARAMETERS["gae"])))


@pytest.mark.parametrize("leaf", [True, False])
def test_without_the_shortcuts_of_this_torch(leaf, retold, monkeypatch):
    """Memory by torch's public function, and `requires_grad` as an attribute that is not in C."""

    class Other(torch.Tensor):
        requires_grad = property(lambda self: torch.Tensor.requires_grad.__get__(self))

    call = plain_call("cpu")
    calls = (call, call | {"rewards": call["rewards"].T.contiguous().T})
    expected = [x for each in calls for x in gae_of(retold, each)]
    with monkeypatch.context() as patch:
        if leaf:
            patch.delattr(torch._C._dynamo.guards, "_empty_strided_cpu")
        else:
            patch.delattr(torch._C._dynamo, "guards")
        patch.setattr(torch, "Tensor", Other)
        ppo_fast.cuda.use_torch(retold, "cpu")
    results = [x for each in calls for x in gae_of(retold, each)]
    assert [x.stride() for x in results] == [x.stride() for x in expected]
    assert all(torch.equal(x, y) for x, y in zip(results, expected, strict=True))
    with pytest.raises(TypeError, match="requires grad"):
        gae_of(retold, call | {"values": call["values"].clone().requires_grad_()})


def test_a_device_that_is_not_the_current_one(retold):
    current = ctypes.c_int.in_dll(ctypes.CDLL(retold.__file__), "ppo_current_device")
    made = []

    def empty(shape, strides, dtype, device):
        made.append((device, current.value))
        return torch.empty_strided(shape, strides, dtype=dtype)

    call = plain_call("cpu")
    expected = gae_of(retold, call)
    dtypes = (torch.float32, torch.float64, torch.int64, torch.uint8)
    retold.use_tensors(torch.Tensor, empty, torch._C._dynamo.guards._empty_strided_cpu, dtypes)
    current.value = 1
    try:
        results = gae_of(retold, call)
        assert current.value == 1
        with pytest.raises(ValueError, match="gamma must be in"):
            gae_of(retold, call | {"gamma": 2.0})
        assert current.value == 1
    finally:
        current.value = 0
    assert made == [(0, 0)] * 2  # by the public function, that device being the current one
    assert all(torch.equal(x, y) for x, y in zip(results, expected, strict=True))


def test_what_is_no_tensor_is_refused(emulated):
    for first in (1.5, np.zeros(3)):
        with pytest.raises((TypeError, AttributeError)):
            emulated.advantage("gae", (first,) * 16)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (1, 3), (3, 1), (3, 0), (4, 3), (4, 3, 1), (4,)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("time_axis", [0, 1])
def test_results_have_the_layout_that_compilers_are_told(shape, transposed, time_axis, device):
    rewards = torch.ones(shape, device=device)
    if len(shape) > 1 and transposed:
        rewards = rewards.transpose(0, 1).contiguous().transpose(0, 1)
    axis = time_axis if len(shape) > 1 else 0
    columns = 1 if len(shape) == 1 else shape[1 - axis]
    results = ppo_fast.gae(
        rewards,
        rewards,
        gamma=0.9,
        gae_lambda=0.8,
        last_values=torch.ones(columns, device=device),
        terminated=rewards > 2,
        time_axis=time_axis,
    )
    expected = ppo_fast.torch_advantage._empty_result(rewards, time_axis)
    for x in results:
        assert (x.shape, x.stride(), x.dtype) == (rewards.shape, expected.stride(), rewards.dtype)


def test_a_device_that_cannot_be_used_is_named(device, monkeypatch):
    call = plain_call(device)
    monkeypatch.setattr(ppo_fast.cuda, "usable", lambda: (None, "cannot be used here: it is lent"))
    with pytest.raises(RuntimeError, match=r"^gae: rewards .* cannot be used here: it is lent$"):
        ppo_fast.gae(**call)
    assert ppo_fast.normalize(call["values"], eps=1e-8, ddof=0).mean().abs() < 1e-6
