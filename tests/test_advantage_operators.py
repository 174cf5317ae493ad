"""The advantage functions as operators of torch, and compiled."""

import pytest
from advantage_cases import FORMS

torch = pytest.importorskip("torch")

from advantage_torch_cases import (  # noqa: E402
    ALL,
    FEW,
    WITH_OUT,
    as_tensor,
    as_tuple,
    assert_same,
    is_float32,
    new_out,
    operator_of,
    tensors_of,
    transitions,
)

import ppo_fast  # noqa: E402 - after the check for torch
import ppo_fast.torch_advantage  # noqa: E402 - defines the operators

# Operators


@ALL
def test_operators_give_the_same(name):
    operator, arguments = operator_of(name)
    _, _, expected = tensors_of(name)
    assert_same(operator(*arguments), expected)


@ALL
def test_fake_kernels_know_dtypes_shapes_and_layouts(name):
    operator, arguments = operator_of(name)
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@FEW
def test_operators_are_registered_well(name):
    operator, arguments = operator_of(name)
    torch.library.opcheck(operator, arguments)


def test_operators_of_shapes_alone():
    operator, arguments = operator_of("gae-TN-contiguous")
    on_meta = [x.to("meta") if isinstance(x, torch.Tensor) else x for x in arguments]
    for result in operator(*on_meta):
        assert result.is_meta
        assert result.shape == (6, 5)


# Compiled


@pytest.fixture
def compiled():
    """torch.compile, of which nothing is left after the test."""

    def compile_whole(function, **options):
        return torch.compile(function, fullgraph=True, **{"backend": "aot_eager"} | options)

    yield compile_whole
    torch.compiler.reset()


@FEW
def test_compiled_without_a_break(name, compiled):
    function, call, expected = tensors_of(name)
    results = compiled(lambda call: function(**call))(call)
    assert_same(results, expected)


@pytest.mark.parametrize("form", FORMS[::4], ids=str)
def test_every_form_compiles(form, compiled):
    call = {k: as_tensor(x) for k, x in transitions("gae", form).items()}
    expected = ppo_fast.gae(**call)
    assert_same(compiled(lambda call: ppo_fast.gae(**call))(call), expected)


def test_compiled_among_other_operations(compiled):
    function, call, _ = tensors_of("gae-TN-contiguous")

    def estimate(call):
        advantages, returns = function(**call | {"rewards": 2 * call["rewards"]})
        return ppo_fast.normalize(advantages, eps=1e-8, ddof=1), returns.t() + 1

    assert_same(compiled(estimate)(call), estimate(call))


@WITH_OUT
def test_compiled_with_out(name, compiled):
    function, call, expected = tensors_of(name)
    out = new_out(function, expected)
    results = compiled(lambda call, out: function(**call, out=out))(call, out)
    for given, result in zip(as_tuple(out), as_tuple(results), strict=True):
        assert result is given
    assert_same(results, expected)


@pytest.mark.parametrize(
    "name", ["gae-TN-contiguous", "gae-NT-contiguous", "vtrace-TN-contiguous", "token_gae-skip"]
)
def test_compiled_once_for_all_shapes(name, compiled):
    function, call, _ = tensors_of(name)
    estimate = compiled(lambda call: function(**call), dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for size in ((4, 5), (3, 4), (2, 3)):
            part = {k: x[: size[0], : size[1]] if is_matrix(x) else x for k, x in call.items()}
            if "last_values" in part:
                part["last_values"] = part["last_values"][: size[1 - call["time_axis"]]]
            part = {
                k: torch.tensor(x.tolist()) if torch.is_tensor(x) else x for k, x in part.items()
            }
            expected = function(**part)
            assert_same(estimate(part), expected)


def is_matrix(x):
    return torch.is_tensor(x) and x.ndim == 2


def test_compiled_under_no_grad(compiled):
    function, call, expected = tensors_of("gae-TN-contiguous")
    call["values"].requires_grad_()

    @torch.no_grad()
    def estimate(call):
        return function(**call)

    assert_same(compiled(estimate)(call), expected)


def test_compiled_in_half_precision(compiled):
    function, call, _ = tensors_of("gae-TN-contiguous")
    call = {k: x.bfloat16() if is_float32(x) else x for k, x in call.items()}
    assert_same(compiled(lambda call: function(**call))(call), function(**call))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_by_inductor(compiled):
    function, call, expected = tensors_of("gae-TN-contiguous")
    try:
        results = compiled(lambda call: function(**call), backend="inductor")(call)
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"no working compiler: {error}")
    assert_same(results, expected)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.zeros(7, 6, 5), r"must have shape \(6, 5\) like rewards"),
        (torch.zeros(6, 5, dtype=torch.float64), "must be float32 like rewards"),
    ],
)
def test_compiled_with_a_wrong_out(out, message, compiled):
    # Copying results into it would broadcast or cast them.
    function, call, _ = tensors_of("lambda_returns-TN-contiguous")
    with pytest.raises((TypeError, ValueError), match=f"^lambda_returns: out {message}"):
        function(**call, out=out)
    with pytest.raises(Exception, match=f"lambda_returns: out {message}"):
        compiled(lambda call: function(**call, out=out))(call)
