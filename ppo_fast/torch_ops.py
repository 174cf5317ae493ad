"""The distributions and losses for torch: operators `torch.ops.ppo_fast.*` and their autograd.

Tensors cross into C++ without copies. Gradients of losses are computed in the forward pass and
saved, so the operators need no autograd formula; the `autograd.Function` outside hands them on.

In eager mode plain tensors go straight to the kernels: the operators exist for `torch.compile`,
`torch.export` and fake tensors, and a trip through torch's dispatcher takes as long as a small
batch.

Of tensors on a CUDA device the kernels run on the current stream, wait for nothing and allocate no
more than results and scratch memory by torch's allocator: a call can be captured in a CUDA graph.
Numbers on the device are not looked at: what the CPU refuses by value makes NaN of results there.
"""

from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, from_numpy, is_grad_enabled
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling

from ppo_fast import _core, cuda
from ppo_fast.distributions.base import Parameters
from ppo_fast.surrogate import GIVEN, LOSS_ARRAYS, LOSS_SETTINGS
from ppo_fast.torch_memory import require_memory, require_no_transform

_PLAIN = frozenset({Tensor, torch.nn.Parameter, type(None)})

# Names of the parameters of each family in errors.
_NAMES = {
    GIVEN: "logp",
    _core.Family.categorical.value: "logits",
    _core.Family.bernoulli.value: "logits",
    _core.Family.gaussian.value: "mean",
    _core.Family.squashed_gaussian.value: "mean",
}

# The first tensors of a loss have gradients.
_WITH_GRADIENT = 4
# Settings of a loss that are numbers, or tensors of one number.
_COEFFICIENTS = slice(1, -1)


def loss(
    function: str, form: tuple[Any, ...], tensors: tuple[Any, ...], settings: tuple[Any, ...]
) -> tuple[Tensor, Tensor]:
    """`_core.loss` with gradients: the loss, and its statistics [len(STATS)].

    `form` is (family, nvec, old_nvec); `tensors` are those of LOSS_ARRAYS, None where not given.
    """
    if is_grad_enabled():
        _require_constants(function, form[0], tensors, settings)
    if _is_eager(tensors):
        run = partial(_eager_loss, function, form, tensors, settings)
        look_closer = partial(_require_loss_tensors, function, form[0], tensors)
        return _eagerly(function, run, look_closer)  # type: ignore[no-any-return]
    _require_loss_tensors(function, form[0], tensors)
    _require_integers(function, form[1])
    # An operator's parameter is a number or a tensor: two of them for each coefficient.
    numbers = (0.0 if isinstance(x, Tensor) else x for x in settings)
    each = tuple(x if isinstance(x, Tensor) else None for x in settings[_COEFFICIENTS])
    for name, x in zip(LOSS_SETTINGS[_COEFFICIENTS], each, strict=True):
        if x is not None and x.is_meta:
            raise ValueError(f"{function}: {name} must be a number, got a tensor on meta")
    given = _distinct((*tensors, *each))
    count = len(tensors)
    result: tuple[Tensor, Tensor] = _Loss.apply(  # type: ignore[no-untyped-call]
        *given[:count], function, *form, *numbers, *given[count:]
    )
    return result


def _require_constants(
    function: str, family: int, tensors: tuple[Any, ...], settings: tuple[Any, ...]
) -> None:
    """Refuse to drop gradients: a loss has those of its first tensors."""
    given = (*tensors[_WITH_GRADIENT:], *settings[_COEFFICIENTS])
    for k, x in enumerate(given):
        if x is None or type(x) is float or not getattr(x, "requires_grad", False):
            continue
        names = (*LOSS_ARRAYS[_WITH_GRADIENT:], *LOSS_SETTINGS[_COEFFICIENTS])
        name = names[k].format(_NAMES[family])
        raise RuntimeError(
            f"{function}: {name} requires grad, but is a constant of the loss; pass {name}.detach()"
        )


def _eagerly(function: str, run: Callable[[], Any], look_closer: Callable[[], None]) -> Any:
    """What `run` gives; where kernels refuse, `look_closer` says what is wrong in torch's words."""
    try:
        return run()
    except (TypeError, RuntimeError) as error:
        problem = error
    look_closer()
    require_no_transform(function)
    raise problem


def _eager_loss(
    function: str, form: tuple[Any, ...], tensors: tuple[Any, ...], settings: tuple[Any, ...]
) -> tuple[Tensor, Tensor]:
    outputs = _run_loss(function, form, tensors, settings)
    leaves = [x for x in tensors[:_WITH_GRADIENT] if x is not None]
    return _attach(outputs, *leaves), outputs[1]


def _run_loss(
    function: str, form: tuple[Any, ...], tensors: tuple[Any, ...], settings: tuple[Any, ...]
) -> list[Tensor]:
    """The loss, its statistics, and the gradients of those tensors that have one.

    On a CUDA device coefficients may be float64 tensors of one number, which are read when the
    kernels run: a captured graph sees what they hold then.
    """
    if cuda.holds(tensors[0]):
        kernels = cuda.kernels(f"{function}: tensors on a CUDA device")
        results: list[Tensor] = kernels.loss(function, form, tensors, settings)
        return results
    return _tensors(_core.loss(function, form, _arrays(tensors), settings))


def _require_loss_tensors(function: str, family: int, tensors: tuple[Any, ...]) -> None:
    names = tuple(x.format(_NAMES[family]) for x in LOSS_ARRAYS)
    _require_tensors(function, names, tensors)


# Whether the backward pass that is under way may be followed by another one of the same graph.
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


class _Attach(torch.autograd.Function):
    """The loss as a function of the tensors that its gradients, already computed, belong to."""

    @staticmethod
    def forward(ctx: Any, outputs: list[Tensor], *_: Tensor) -> Tensor:
        value, _row, *gradients = outputs
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        if is_grad_enabled():  # create_graph
            return _scaled_once(ctx, outer)
        if cuda.holds(outer):  # to look at it would mean to wait
            return (None, *torch._foreach_mul(ctx.saved_tensors, outer))
        if outer.item() == 1.0 and not _keeps_graph():  # for which they have to stay as they are
            return (None, *ctx.saved_tensors)
        return _scaled(ctx, outer)


def _scaled(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
    return (None, *(x * outer for x in ctx.saved_tensors))


class _Final(torch.autograd.Function):
    """Gradients as they are, which have none of their own."""

    @staticmethod
    def forward(_: Any, _anchor: Tensor, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return gradients

    @staticmethod
    def backward(_: Any, *_outer: Tensor) -> NoReturn:
        raise RuntimeError(
            "ppo_fast: trying to differentiate twice what has first derivatives alone; "
            "write the loss in torch operations where you need second ones"
        )


def _only_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """As torch's once_differentiable, for which second derivatives are 0 if `outer` has none."""

    def once(ctx: Any, *outer: Tensor) -> Any:
        with torch.no_grad():
            gradients = backward(ctx, *outer)
        if not is_grad_enabled():
            return gradients
        anchor = torch.empty(0, requires_grad=True)
        return _Final.apply(anchor, *gradients)  # type: ignore[no-untyped-call]

    return once


_scaled_once: Callable[..., tuple[Tensor | None, ...]] = _only_once(_scaled)


def _apply_of(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """`apply` without the wrapper that serves functorch's transforms.

    Their tensors have no memory that could be read, and are refused.
    """
    apply: Callable[..., Any] = super(torch.autograd.Function, function).apply  # type: ignore[misc]
    return apply


_attach = _apply_of(_Attach)


class _Loss(torch.autograd.Function):
    """The operator with gradients, for graphs."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        value, *gradients, row = torch.ops.ppo_fast.loss(*arguments)
        ctx.save_for_backward(*gradients)
        ctx.given = tuple(x is not None for x in arguments[:_WITH_GRADIENT])
        ctx.rest = (None,) * (len(arguments) - _WITH_GRADIENT)
        ctx.mark_non_differentiable(row)
        return value, row

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.saved_tensors, ctx.given, strict=True)
        return (*(x * outer if given else None for x, given in pairs), *ctx.rest)


def _loss_kernel(*arguments: Any) -> tuple[Tensor, ...]:
    count = len(LOSS_ARRAYS)
    tensors, (function, *form) = arguments[:count], arguments[count : count + 4]
    settings = list(arguments[count + 4 :][: len(LOSS_SETTINGS)])
    each = arguments[count + 4 + len(settings) :]  # without those at the end that are None
    pairs = zip_longest(settings[_COEFFICIENTS], each)
    settings[_COEFFICIENTS] = [number if x is None else x for number, x in pairs]
    value, row, *gradients = _run_loss(function, tuple(form), tensors, tuple(settings))
    following = iter(gradients)
    leaves = tensors[:_WITH_GRADIENT]
    aligned = [value.new_empty(0) if x is None else next(following) for x in leaves]
    return value, *aligned, row


def _loss_fake(*arguments: Any) -> tuple[Tensor, ...]:
    first = arguments[0]
    return (
        first.new_empty(()),
        *(_like_or_empty(first, x) for x in arguments[:_WITH_GRADIENT]),
        first.new_empty(len(_core.LOSS_STATS), dtype=torch.float64),
    )


def require_parameters(function: str, dist: Parameters) -> None:
    """Refuse parameters that kernels do not take."""
    names = (_NAMES[dist.family], "log_std", "dist.mask")
    _require_tensors(function, names, (dist.first, dist.second, dist.mask))


def evaluate(dist: Parameters, actions: Any) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies [B], with gradients to the parameters."""
    family, first, second, mask, nvec = dist
    if isinstance(actions, np.ndarray):  # what `sample` gives on the CPU
        actions = from_numpy(actions)
    tensors = (first, second, mask, actions)
    names = (_NAMES[family], "log_std", "dist.mask", "actions")
    result: tuple[Tensor, Tensor]
    if _is_eager(tensors):
        run = partial(_apply_evaluate, *tensors, family, nvec)
        result = _eagerly("evaluate", run, partial(_require_tensors, "evaluate", names, tensors))
        return result
    _require_tensors("evaluate", names, tensors)
    _require_integers("evaluate", nvec)
    result = _Evaluate.apply(*tensors, family, nvec)  # type: ignore[no-untyped-call]
    return result


def _evaluate_backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
    tensors = (*ctx.saved_tensors, *outer)  # of logp and entropy
    eager = _is_eager(tensors)
    run = _evaluate_backward_kernel if eager else torch.ops.ppo_fast.evaluate_backward
    first, second = run(*tensors, *ctx.form)
    return first, None if tensors[1] is None else second, None, None, None, None


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(*arguments[:4])
        ctx.form = arguments[4:]
        run = _evaluate_kernel if _is_eager(arguments[:4]) else torch.ops.ppo_fast.evaluate
        logp, entropy = run(*arguments)
        return logp, entropy

    backward: Any = staticmethod(once_differentiable(_evaluate_backward))


class _EagerEvaluate(_Evaluate):
    backward: Any = staticmethod(_only_once(_evaluate_backward))


_apply_evaluate = _apply_of(_EagerEvaluate)


def _evaluate_kernel(*arguments: Any) -> tuple[Tensor, ...]:
    first, second, mask, actions, family, nvec = arguments
    results: tuple[Any, ...]
    if cuda.holds(first):
        dist = (family, first, second, mask, nvec)
        results = _gpu("evaluate").evaluate(dist, actions)
        return results
    first, second, mask, actions = _arrays(arguments[:4])
    results = _core.evaluate((family, first, second, mask, nvec), actions)
    return tuple(map(from_numpy, results))


def _evaluate_backward_kernel(*arguments: Any) -> tuple[Tensor, ...]:
    first, second, mask, *rest = arguments[:6]
    family, nvec = arguments[6:]
    if cuda.holds(first):
        dist = (family, first, second, mask, nvec)
        return _without_none(first, _gpu("evaluate").evaluate_backward(dist, *rest))
    first, second, mask, *rest = _arrays(arguments[:6])
    gradients = _core.evaluate_backward((family, first, second, mask, nvec), *rest)
    return tuple(_or_empty(arguments[0], x) for x in gradients)


def _gpu(function: str) -> Any:
    return cuda.kernels(f"{function}: parameters on a CUDA device")


def kl(old: Parameters, new: Parameters) -> Tensor:
    """KL(old || new) [B], with gradients to the parameters of `new`."""
    tensors = (new.first, new.second, new.mask, old.first, old.second, old.mask)
    name = _NAMES[new.family]
    names = (f"other.{name}", "other.log_std", "other.mask", name, "log_std", "dist.mask")
    form = (new.family, new.nvec, old.nvec)
    result: Tensor
    if _is_eager(tensors):
        run = partial(_apply_kl, *tensors, *form)
        result = _eagerly("kl", run, partial(_require_tensors, "kl", names, tensors))
        return result
    _require_tensors("kl", names, tensors)
    _require_integers("kl", new.nvec)
    if is_compiling():
        tensors = _distinct(tensors)
    result = _Kl.apply(*tensors, *form)  # type: ignore[no-untyped-call]
    return result


def _kl_backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
    tensors = (*ctx.saved_tensors, *outer)
    run = _kl_backward_kernel if _is_eager(tensors) else torch.ops.ppo_fast.kl_backward
    first, second = run(*tensors, *ctx.form)
    return first, None if tensors[1] is None else second, *([None] * 7)


class _Kl(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        ctx.save_for_backward(*arguments[:6])
        ctx.form = arguments[6:]
        run = _kl_kernel if _is_eager(arguments[:6]) else torch.ops.ppo_fast.kl
        result: Tensor = run(*arguments)
        return result

    backward: Any = staticmethod(once_differentiable(_kl_backward))


class _EagerKl(_Kl):
    backward: Any = staticmethod(_only_once(_kl_backward))


_apply_kl = _apply_of(_EagerKl)


def _kl_kernel(*arguments: Any) -> Tensor:
    tensors = arguments[:6]
    family, nvec, old_nvec = arguments[6:]
    on_gpu = cuda.holds(tensors[0])
    first, second, mask, *old = tensors if on_gpu else _arrays(tensors)
    before, now = (family, *old, old_nvec), (family, first, second, mask, nvec)
    result: Tensor = _gpu("kl").kl(before, now) if on_gpu else from_numpy(_core.kl(before, now))
    return result


def _kl_backward_kernel(*arguments: Any) -> tuple[Tensor, ...]:
    tensors = arguments[:7]
    family, nvec, old_nvec = arguments[7:]
    on_gpu = cuda.holds(tensors[0])
    first, second, mask, *old, gradient = tensors if on_gpu else _arrays(tensors)
    before, now = (family, *old, old_nvec), (family, first, second, mask, nvec)
    if on_gpu:
        return _without_none(first, _gpu("kl").kl_backward(before, now, gradient))
    gradients = _core.kl_backward(before, now, gradient)
    return tuple(_or_empty(arguments[0], x) for x in gradients)


def _backward_fake(first: Tensor, second: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    return first.new_empty(first.shape), _like_or_empty(first, second)


# An operator cannot return None: an empty tensor stands for a gradient that is not there.
def _or_empty(like: Tensor, array: Any) -> Tensor:
    return like.new_empty(0) if array is None else from_numpy(array)


def _without_none(like: Tensor, tensors: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    return tuple(like.new_empty(0) if x is None else x for x in tensors)


def _like_or_empty(like: Tensor, tensor: Tensor | None) -> Tensor:
    return like.new_empty((0,) if tensor is None else tensor.shape)


def _is_eager(tensors: tuple[Any, ...]) -> bool:
    return _PLAIN.issuperset(map(type, tensors)) and not is_compiling()


def _distinct(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """The tensors, each a different object: Dynamo takes none twice (the mask of both policies)."""
    result: list[Any] = []
    for x in tensors:
        is_repeated = x is not None and any(x is y for y in result)
        result.append(x.view_as(x) if is_repeated else x)
    return tuple(result)


def _arrays_by_method(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if x is None else x.detach().numpy() for x in tensors)


def _tensors_by_method(arrays: list[Any]) -> list[Tensor]:
    return [from_numpy(x) for x in arrays]


# Tensors as NumPy arrays that share their memory, and arrays of results as tensors.
_arrays: Callable[[tuple[Any, ...]], tuple[Any, ...]] = _arrays_by_method
_tensors: Callable[[list[Any]], list[Tensor]] = _tensors_by_method
if hasattr(Tensor, "__dlpack_c_exchange_api__"):
    _arrays = partial(_core.as_arrays, Tensor.__dlpack_c_exchange_api__)
    _tensors = partial(_core.as_tensors, Tensor.__dlpack_c_exchange_api__)


def _require_tensors(function: str, names: tuple[str, ...], tensors: tuple[Any, ...]) -> None:
    """Refuse what the kernels could only complain about in NumPy's words."""
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{function}: {names[0]} must be float32 or float64, got {_name(dtype)}; "
            f"cast with {names[0]}.float()"
        )
    device = tensors[0].device
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"{function}: {names[0]} must be on the CPU or a CUDA device, got {device}"
        )
    for name, tensor in zip(names, tensors, strict=True):
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{function}: {name} must be a torch tensor like {names[0]}, "
                f"got {type(tensor).__name__}"
            )
        require_memory(function, name, tensor)
        if not is_compiling() and tensor.is_neg():
            raise TypeError(
                f"{function}: {name} has its negative bit set; pass {name}.resolve_neg()"
            )
        if name == "actions" and names[0] == "logits":
            expected, like, cast = torch.int64, "", "long()"
        elif name.endswith("mask"):
            expected, like, cast = torch.bool, "", "bool()"
        else:
            expected, like, cast = dtype, f" like {names[0]}", f"to({names[0]}.dtype)"
        if tensor.dtype != expected:
            raise TypeError(
                f"{function}: {name} must be {_name(expected)}{like}, got {_name(tensor.dtype)}; "
                f"cast with {name}.{cast}"
            )
        if tensor.device != device:
            raise ValueError(
                f"{function}: {name} must be on {device}, got {tensor.device}; "
                f"pass {name}.to({str(device)!r})"
            )


def _require_integers(function: str, nvec: Any) -> None:
    """Refuse NumPy's integers where Dynamo makes tensors of them."""
    if nvec is None or not is_compiling():
        return
    if not all(type(n) is int for n in nvec):
        raise TypeError(
            f"{function}: within torch.compile nvec must be a tuple of Python's integers, "
            "made outside: tuple(nvec.tolist())"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _define(name: str, schema: str, kernel: Any, fake: Any) -> None:
    torch.library.define(f"ppo_fast::{name}", schema)
    torch.library.impl(f"ppo_fast::{name}", ("CPU", "CUDA"))(kernel)
    torch.library.register_fake(f"ppo_fast::{name}")(fake)


_DIST = "Tensor first, Tensor? second, Tensor? dist_mask"
_OLD = "old_first, Tensor? old_second, Tensor? old_mask"

_define(
    "loss",
    "(Tensor first, Tensor? second, Tensor? values, Tensor? kl, Tensor? dist_mask, "
    f"Tensor? actions, Tensor? {_OLD}, Tensor? old_logp, Tensor advantages, Tensor? returns, "
    "Tensor? old_values, Tensor? weights, Tensor? mask, str function, int family, int[]? nvec, "
    "int[]? old_nvec, str objective, float? clip_range, float? clip_range_high, float? dual_clip, "
    "float? clip_range_values, float kl_coef, float kl_hinge, float kl_hinge_from, "
    "float entropy_coef, float value_coef, bool normalize_advantages, "
    f"{', '.join(f'Tensor? {name}_each=None' for name in LOSS_SETTINGS[_COEFFICIENTS])}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _loss_kernel,
    _loss_fake,
)
_define(
    "evaluate",
    f"({_DIST}, Tensor actions, int family, int[]? nvec) -> (Tensor, Tensor)",
    _evaluate_kernel,
    lambda first, *_: (first.new_empty(first.shape[0]), first.new_empty(first.shape[0])),
)
_define(
    "evaluate_backward",
    f"({_DIST}, Tensor actions, Tensor logp_gradient, Tensor entropy_gradient, int family, "
    "int[]? nvec) -> (Tensor, Tensor)",
    _evaluate_backward_kernel,
    _backward_fake,
)
_define(
    "kl",
    f"({_DIST}, Tensor {_OLD}, int family, int[]? nvec, int[]? old_nvec) -> Tensor",
    _kl_kernel,
    lambda first, *_: first.new_empty(first.shape[0]),
)
_define(
    "kl_backward",
    f"({_DIST}, Tensor {_OLD}, Tensor gradient, int family, int[]? nvec, int[]? old_nvec) "
    "-> (Tensor, Tensor)",
    _kl_backward_kernel,
    _backward_fake,
)
