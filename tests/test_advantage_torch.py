"""The advantage functions with torch tensors, eagerly."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from advantage_torch_cases import (  # noqa: E402
    ALL,
    CALLS,
    FEW,
    WITH_OUT,
    as_tuple,
    assert_same,
    is_float32,
    new_out,
    tensors_of,
)

import ppo_fast  # noqa: E402 - after the check for torch


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
            first = next(iter(call))
            message = (
                "or a CUDA device, got meta$"  # of which there is nothing to copy
                if k == first
                else rf"like {first}, got meta; pass {k}\.to\('cpu'\)$"
            )
            message = f"^{function.__name__}: {k} must be on .*{message}"
            with pytest.raises(ValueError, match=message):
                function(**call | {k: x.to("meta")})


def test_out_elsewhere():
    function, call, expected = tensors_of("gae-TN-contiguous")
    out = new_out(function, expected)
    with pytest.raises(ValueError, match=r"^gae: out\[1\] must be on cpu like rewards, got meta"):
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
    with pytest.raises(
        TypeError, match=r"^gae: out must be a torch tensor like rewards, got list$"
    ):
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
        ("terminated", torch.zeros(6, 5, dtype=torch.int16), TypeError, r"must be bool \(or 0"),
        ("terminated", torch.zeros(6, 5, dtype=torch.bfloat16), TypeError, r"must be bool \(or 0"),
        ("terminated", torch.zeros(6, 5, dtype=torch.float16), TypeError, r"must be bool \(or 0"),
        (
            "last_values",
            torch.zeros(6),
            ValueError,
            r"must have shape \(5,\) \(one per environment",
        ),
        ("gamma", 1.5, ValueError, r"must be in \[0, 1\], got 1\.5"),
        ("gae_lambda", torch.zeros(4), ValueError, r"must have shape \(5,\) \(one per environment"),
        ("gae_lambda", torch.zeros(5).int(), TypeError, "must be float32 or float64, got int32"),
    ],
)
@pytest.mark.parametrize("kind", [torch.Tensor, torch.nn.Parameter])
def test_errors_are_those_of_numpy(k, value, error, message, kind):
    # A parameter takes the way through the operators.
    function, call, _ = tensors_of("gae-TN-contiguous")
    call["rewards"] = call["rewards"].as_subclass(kind)
    with pytest.raises(error, match=f"^gae: {k} {message}"):
        function(**call | {k: value})


@pytest.mark.parametrize(
    ("k", "value", "message"),
    [
        ("gamma", None, "must be a number, got NoneType"),
        ("gae_lambda", None, "must be a number, got NoneType"),
        ("out", (torch.zeros(6, 5),), r"must be a tuple \(advantages, returns\)"),
        ("out", torch.zeros(6, 5), r"must be a tuple \(advantages, returns\)"),
    ],
)
def test_type_errors_are_those_of_numpy(k, value, message):
    function, call, _ = tensors_of("gae-TN-contiguous")
    with pytest.raises(TypeError, match=f"^gae: {k} {message}"):
        function(**call | {k: value})


def test_casts_are_named_in_words_of_torch():
    function, call, _ = tensors_of("gae-TN-contiguous")
    other = torch.float64 if call["rewards"].dtype == torch.float32 else torch.float32
    with pytest.raises(TypeError, match=r"cast with values\.to\(torch\.float(32|64)\)$"):
        function(**call | {"values": call["values"].to(other)})


def test_sparse_tensors():
    function, call, _ = tensors_of("gae-TN-contiguous")
    with pytest.raises(TypeError, match=r"^gae: rewards must be a dense tensor, got torch.sparse"):
        function(**call | {"rewards": call["rewards"].to_sparse()})


@pytest.mark.parametrize("name", ["gae-TN-contiguous", "lambda_returns-TN-contiguous"])
def test_autograd_knows_that_out_was_written(name):
    function, call, _ = tensors_of(name)
    out = function(**call)
    tensors = out if isinstance(out, tuple) else (out,)
    weight = torch.ones((), dtype=tensors[0].dtype, requires_grad=True)
    loss = (weight * tensors[0]).sum()
    function(**call, out=tuple(tensors) if isinstance(out, tuple) else out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_tensors_of_transforms():
    function, call, _ = tensors_of("gae-TN-contiguous")
    rest = {name: x for name, x in call.items() if name != "rewards"}
    with pytest.raises(
        RuntimeError, match=r"^gae: rewards is a tensor of torch\.func's grad, vmap"
    ):
        torch.vmap(lambda x: function(x, **rest)[0])(call["rewards"][None])


def test_tensors_with_the_negative_bit():
    function, call, _ = tensors_of("gae-TN-contiguous")
    negated = torch._neg_view(-call["values"])
    assert_same(function(**call | {"values": negated}), function(**call))


def test_numbers_of_numpy():
    function, call, expected = tensors_of("gae-TN-contiguous")
    for kind in (np.float32, np.float64):
        factors = {k: kind(call[k]) for k in ("gamma", "gae_lambda")}
        numbers = {k: float(x) for k, x in factors.items()}
        assert_same(function(**call | factors), function(**call | numbers))
    assert_same(function(**call | {"time_axis": np.int64(0)}), expected)
