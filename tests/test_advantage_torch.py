"""The advantage functions with torch tensors: eagerly, as operators, and compiled."""

import numpy as np
import pytest
from advantage_cases import FORMS, PLAIN, RETURNS_FORMS, Form, as_call, random_case

torch = pytest.importorskip("torch")

import ppo_fast  # noqa: E402 - after the check for torch

KEPT = ("gamma", "gae_lambda", "time_axis", "on_truncation", "exact")


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


# Eagerly


@ALL
def test_results_are_those_of_numpy(name):
    function, call, expected = tensors_of(name)
    results = function(**call)
    assert_same(results, expected)
    assert type(results) is {
        "gae": ppo_fast.GAE,
        "token_gae": ppo_fast.GAE,
        "vtrace": ppo_fast.VTrace,
    }.get(function.__name__, torch.Tensor)


@ALL
def test_inputs_are_not_written(name):
    function, call, _ = tensors_of(name)
    before = {k: x.clone() for k, x in call.items() if isinstance(x, torch.Tensor)}
    function(**call)
    for k, x in before.items():
        assert torch.equal(call[k], x) or x.isnan().any()


@pytest.mark.parametrize("kind", [torch.nn.Parameter, torch.Tensor.detach])
def test_tensors_that_are_not_plain(kind):
    # A parameter is a tensor of another class, and takes the way through the operators.
    function, call, expected = tensors_of("gae-last_values-both-final_values")
    with torch.no_grad():
        assert_same(function(**call | {"rewards": kind(call["rewards"])}), expected)
        assert_same(function(**call | {"values": kind(call["values"])}), expected)


def test_a_tensor_that_shares_memory_with_numpy():
    function, call, expected = tensors_of("gae-last_values-both-final_values")
    strided = torch.zeros(12, 10)[::2, ::2]
    strided[...] = call["rewards"]
    results = function(**call | {"rewards": strided, "values": call["values"].t().contiguous().t()})
    assert_same(results, expected)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "name",
    [
        "gae-last_values-both-final_values",
        "lambda_returns-TN-contiguous",
        "vtrace-TN-contiguous",
        "token_gae-skip-each",
    ],
)
def test_half_precision_gives_float32(name, half):
    function, call, _ = tensors_of(name)
    halved = {k: x.to(half) if is_float32(x) else x for k, x in call.items()}
    widened = {k: x.float() if is_float32(call[k]) else x for k, x in halved.items()}
    results = function(**halved)
    assert as_tuple(results)[0].dtype == torch.float32
    assert_same(results, function(**widened))
    # Rewards decide: the others may have been kept in float32, and so may the results.
    assert_same(function(**widened | {"rewards": halved["rewards"]}), results)
    assert_same(function(**widened | {"values": halved["values"]}), results)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_normalized_in_float32(half):
    x = torch.arange(6.0).reshape(2, 3)
    expected = ppo_fast.normalize(x, eps=1e-8, ddof=1)
    assert_same(ppo_fast.normalize(x.to(half), eps=1e-8, ddof=1), expected)


def is_float32(x):
    return isinstance(x, torch.Tensor) and x.dtype == torch.float32


def new_out(function, expected):
    out = tuple(torch.full_like(as_tensor(x), torch.nan) for x in expected)
    return out if function.__name__ in ("gae", "vtrace", "token_gae") else out[0]


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


@WITH_OUT
def test_out_is_filled_and_returned(name):
    function, call, expected = tensors_of(name)
    out = new_out(function, expected)
    results = function(**call, out=out)
    for given, result in zip(as_tuple(out), as_tuple(results), strict=True):
        assert result is given
    assert_same(results, expected)


@WITH_OUT
def test_out_of_half_precision_is_refused(name):
    # It would have to be rounded to: results are float32.
    function, call, expected = tensors_of(name)
    out = new_out(function, expected)
    for dtype in (torch.bfloat16, torch.float16):
        half = tuple(x.to(dtype) for x in out) if isinstance(out, tuple) else out.to(dtype)
        place = r"out\[0\]" if isinstance(out, tuple) else "out"
        got = "bfloat16" if dtype == torch.bfloat16 else "float16"
        message = f"^{function.__name__}: {place} must be float32 like rewards, got {got}"
        with pytest.raises(TypeError, match=message):
            function(**call, out=half)


# Gradients, devices, types


@FEW
def test_tensors_that_require_grad(name):
    function, call, expected = tensors_of(name)
    for k, x in call.items():
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            with_grad = call | {k: x.clone().requires_grad_()}
            message = (
                f"^{function.__name__}: {k} requires grad, but nothing is differentiated here; "
                rf"pass {k}\.detach\(\) or call it under torch\.no_grad\(\)$"
            )
            with pytest.raises(RuntimeError, match=message):
                function(**with_grad)
            with torch.no_grad():
                assert_same(function(**with_grad), expected)
            with torch.inference_mode():
                assert_same(function(**with_grad), expected)
            results = function(**call | {k: with_grad[k].detach()})
            assert not any(result.requires_grad for result in as_tuple(results))


@WITH_OUT
def test_out_that_requires_grad(name):
    function, call, expected = tensors_of(name)
    out = new_out(function, expected)
    place = "out"
    if isinstance(out, tuple):
        out, place = (out[0], out[1].requires_grad_()), r"out\[1\]"
    else:
        out.requires_grad_()
    with pytest.raises(RuntimeError, match=f"^{function.__name__}: {place} requires grad"):
        function(**call, out=out)


@FEW
def test_tensors_elsewhere(name):
    function, call, _ = tensors_of(name)
    for k, x in call.items():
        if isinstance(x, torch.Tensor):
            message = (
                f"^{function.__name__}: {k} must be on the CPU, got meta; "
                rf"pass {k}\.cpu\(\)$"
            )
            with pytest.raises(ValueError, match=message):
                function(**call | {k: x.to("meta")})


def test_out_elsewhere():
    function, call, expected = tensors_of("gae-TN-contiguous")
    out = new_out(function, expected)
    with pytest.raises(ValueError, match=r"^gae: out\[1\] must be on the CPU, got meta"):
        function(**call, out=(out[0], out[1].to("meta")))


@FEW
def test_arrays_among_tensors(name):
    function, call, _ = tensors_of(name)
    arguments = iter(call.items())
    first, _ = next(arguments)
    for k, x in arguments:
        if isinstance(x, torch.Tensor):
            message = f"^{function.__name__}: {k} must be a torch tensor like {first}, got ndarray$"
            with pytest.raises(TypeError, match=message):
                function(**call | {k: x.numpy()})


@pytest.mark.parametrize("name", ["values", "last_values", "terminated", "final_values"])
def test_tensors_among_arrays(name):
    _, call = CALLS["gae-TN-contiguous"]
    with pytest.raises(TypeError, match=f"^gae: {name} must be a NumPy array, got Tensor"):
        ppo_fast.gae(**call | {name: torch.from_numpy(call[name])})


def test_arrays_as_out_of_tensors():
    function, call, expected = tensors_of("gae-TN-contiguous")
    first, second = new_out(function, expected)
    for k, out in enumerate([(first.numpy(), second), (first, second.numpy())]):
        message = rf"^gae: out\[{k}\] must be a torch tensor like rewards, got ndarray$"
        with pytest.raises(TypeError, match=message):
            function(**call, out=out)
    with pytest.raises(TypeError, match="^gae: out must be a torch tensor like rewards, got list$"):
        function(**call, out=[first, second])


@pytest.mark.parametrize(
    ("k", "value", "error", "message"),
    [
        ("values", torch.zeros(5, 6), ValueError, r"must have shape \(6, 5\) like rewards"),
        (
            "values",
            torch.zeros(6, 5, dtype=torch.float64),
            TypeError,
            "must be float32 like rewards",
        ),
        ("terminated", torch.zeros(6, 5, dtype=torch.int64), TypeError, r"must be bool \(or 0"),
        ("terminated", torch.zeros(6, 5, dtype=torch.bfloat16), TypeError, r"must be bool \(or 0"),
        ("terminated", torch.zeros(6, 5, dtype=torch.float16), TypeError, r"must be bool \(or 0"),
        (
            "last_values",
            torch.zeros(6),
            ValueError,
            r"must have shape \(5,\) \(one per environment",
        ),
        ("gamma", 1.5, ValueError, r"must be in \[0, 1\], got 1\.5"),
        ("gamma", None, TypeError, "must be a number, got NoneType"),
        ("gae_lambda", None, TypeError, "must be a number, got NoneType"),
        ("gae_lambda", torch.zeros(4), ValueError, r"must have shape \(5,\) \(one per environment"),
        ("out", (torch.zeros(6, 5),), TypeError, r"must be a tuple \(advantages, returns\)"),
    ],
)
@pytest.mark.parametrize("through_operator", [False, True])
def test_errors_are_those_of_numpy(k, value, error, message, through_operator):
    function, call, _ = tensors_of("gae-TN-contiguous")
    with torch.no_grad(), pytest.raises(error, match=f"^gae: {k} {message}"):
        if through_operator:
            call["rewards"] = torch.nn.Parameter(call["rewards"])
        function(**call | {k: value})


def test_numbers_of_numpy():
    function, call, expected = tensors_of("gae-TN-contiguous")
    for kind in (np.float32, np.float64):
        factors = {k: kind(call[k]) for k in ("gamma", "gae_lambda")}
        numbers = {k: float(x) for k, x in factors.items()}
        assert_same(function(**call | factors), function(**call | numbers))
    assert_same(function(**call | {"time_axis": np.int64(0)}), expected)


# Operators


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


@ALL
def test_operators_give_the_same(name):
    operator, arguments = operator_of(name)
    function, call, expected = tensors_of(name)
    assert_same(operator(*arguments), expected)


@ALL
def test_fake_kernels_know_dtypes_shapes_and_layouts(name):
    operator, arguments = operator_of(name)
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@FEW
def test_operators_are_registered_well(name):
    operator, arguments = operator_of(name)
    torch.library.opcheck(operator, arguments)


def test_operators_refuse_tensors_elsewhere():
    operator, arguments = operator_of("gae-TN-contiguous")
    assert operator(*(x.to("meta") if isinstance(x, torch.Tensor) else x for x in arguments))[
        0
    ].is_meta  # shapes alone are known there


# Compiled


@pytest.fixture(autouse=True)
def forget_compiled_functions():
    yield
    torch.compiler.reset()


def compiled(function, **options):
    return torch.compile(function, fullgraph=True, **{"backend": "aot_eager"} | options)


@FEW
def test_compiled_without_a_break(name):
    function, call, expected = tensors_of(name)
    results = compiled(lambda call: function(**call))(call)
    assert_same(results, expected)


@pytest.mark.parametrize("form", FORMS[::4], ids=str)
def test_every_form_compiles(form):
    call = {k: as_tensor(x) for k, x in transitions("gae", form).items()}
    expected = ppo_fast.gae(**call)
    assert_same(compiled(lambda call: ppo_fast.gae(**call))(call), expected)


def test_compiled_among_other_operations():
    function, call, _ = tensors_of("gae-TN-contiguous")

    def estimate(call):
        advantages, returns = function(**call | {"rewards": 2 * call["rewards"]})
        return ppo_fast.normalize(advantages, eps=1e-8, ddof=1), returns.t() + 1

    assert_same(compiled(estimate)(call), estimate(call))


@WITH_OUT
def test_compiled_with_out(name):
    function, call, expected = tensors_of(name)
    out = new_out(function, expected)
    results = compiled(lambda call, out: function(**call, out=out))(call, out)
    for given, result in zip(as_tuple(out), as_tuple(results), strict=True):
        assert result is given
    assert_same(results, expected)


@pytest.mark.parametrize("name", ["gae-TN-contiguous", "vtrace-TN-contiguous", "token_gae-skip"])
def test_compiled_once_for_all_shapes(name):
    function, call, _ = tensors_of(name)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    estimate = torch.compile(
        lambda call: function(**call), fullgraph=True, dynamic=True, backend=counter
    )
    for steps, envs in ((6, 5), (4, 3), (5, 2)):
        part = {
            k: (x[:steps, :envs] if x.ndim == 2 else x[:envs]).contiguous()
            if isinstance(x, torch.Tensor)
            else x
            for k, x in call.items()
        }
        assert_same(estimate(part), function(**part))
    assert counter.frame_count == 1


def test_compiled_under_no_grad():
    function, call, expected = tensors_of("gae-TN-contiguous")
    call["values"].requires_grad_()

    @torch.no_grad()
    def estimate(call):
        return function(**call)

    assert_same(compiled(estimate)(call), expected)


def test_compiled_in_half_precision():
    function, call, _ = tensors_of("gae-TN-contiguous")
    call = {k: x.bfloat16() if is_float32(x) else x for k, x in call.items()}
    assert_same(compiled(lambda call: function(**call))(call), function(**call))


def test_compiled_by_inductor():
    function, call, expected = tensors_of("gae-TN-contiguous")
    try:
        results = compiled(lambda call: function(**call), backend="inductor")(call)
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"no working compiler: {error}")
    assert_same(results, expected)


@pytest.mark.parametrize("shape", [(5, 6), (1, 5)])
def test_compiled_with_out_of_a_wrong_shape(shape):
    function, call, _ = tensors_of("gae-TN-contiguous")
    call["rewards"], call["values"] = call["rewards"][:1], call["values"][:1]
    for k in ("terminated", "truncated", "final_values"):
        call[k] = call[k][:1]
    out = (torch.zeros(6, 5), torch.zeros(6, 5))
    with pytest.raises(ValueError, match=r"^gae: out\[0\] must have shape \(1, 5\) like rewards"):
        function(**call, out=out)
    with pytest.raises(Exception, match=r"out\[0\] must have shape"):
        compiled(lambda call, out: function(**call, out=out))(call, out)
