"""The distributions and losses for torch: operators `torch.ops.ppo_fast.*` and their autograd.

Tensors cross into C++ without copies. Gradients of losses are computed in the forward pass and saved,
so the operators need no autograd formula; the `autograd.Function` outside hands them on.

In eager mode plain CPU tensors go straight to the kernels: the operators exist for `torch.compile`,
`torch.export` and fake tensors, and a trip through torch's dispatcher takes as long as a small batch.
"""

from typing import Any

import torch
from torch import Tensor, from_numpy
from torch.autograd.function import once_differentiable
from torch.compiler import is_compiling

from ppo_fast import _core
from ppo_fast.distributions.base import Parameters

_PLAIN = frozenset({Tensor, torch.nn.Parameter, type(None)})
_GIVEN = -1  # the family of a policy that is known by its log-probabilities

_SETTINGS = (
    "str objective, float? clip_range, float? clip_range_high, float? dual_clip, "
    "float? clip_range_values, float kl_coef, float kl_hinge, float kl_hinge_from, "
    "float entropy_coef, float value_coef, bool normalize_advantages"
)


def loss(
    function: str,
    policy: Any,
    actions: Any,
    old: Any,
    old_logp: Any,
    advantages: Any,
    kl: Any,
    values: Any,
    returns: Any,
    old_values: Any,
    weights: Any,
    mask: Any,
    *settings: Any,
) -> tuple[Tensor, Tensor]:
    """`_core.loss` with gradients: the loss, and its statistics [len(STATS)]."""
    given = not isinstance(policy, Parameters)
    dist = Parameters(_GIVEN, policy) if given else policy
    old = old or Parameters(dist.family, None, None, None)
    tensors = (
        dist.first,
        dist.second,
        values,
        kl,
        dist.mask,
        actions,
        old.first,
        old.second,
        old.mask,
        old_logp,
        advantages,
        returns,
        old_values,
        weights,
        mask,
    )
    nvec = None if dist.nvec is None else list(dist.nvec)
    require_tensors(function, _loss_names(dist.family), tensors)
    result: tuple[Tensor, Tensor] = _Loss.apply(*tensors, function, dist.family, nvec, *settings)  # type: ignore[no-untyped-call]
    return result


def _loss_names(family: int) -> tuple[str, ...]:
    first = {_GIVEN: "logp", 0: "logits", 1: "logits"}.get(family, "mean")
    return (
        first,
        "log_std",
        "values",
        "kl",
        "mask",
        "actions",
        f"old_dist.{first}",
        "old_dist.log_std",
        "old_dist.mask",
        "old_logp",
        "advantages",
        "returns",
        "old_values",
        "weights",
        "mask",
    )


def _loss_kernel(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    arrays = [None if x is None else x.detach().numpy() for x in arguments[:15]]
    first, second, values, kl, dist_mask, actions, old_first, old_second, old_mask = arrays[:9]
    old_logp, advantages, returns, old_values, weights, mask = arrays[9:]
    function, family, nvec, *settings = arguments[15:]
    nvec = None if nvec is None else tuple(nvec)
    policy = first if family == _GIVEN else (family, first, second, dist_mask, nvec)
    old = None if old_first is None else (family, old_first, old_second, old_mask, nvec)
    value, *gradients, row = _core.loss(
        function,
        policy,
        actions,
        old,
        old_logp,
        advantages,
        kl,
        values,
        returns,
        old_values,
        weights,
        mask,
        *settings,
    )
    dtype = arguments[0].dtype
    return (
        torch.tensor(value, dtype=dtype),
        *(torch.empty(0, dtype=dtype) if x is None else from_numpy(x) for x in gradients),
        from_numpy(row),
    )


def _loss_fake(
    first: Tensor, second: Tensor | None, values: Tensor | None, kl: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        first.new_empty(()),
        *(first.new_empty((0,) if x is None else x.shape) for x in (first, second, values, kl)),
        first.new_empty(len(_core.LOSS_STATS), dtype=torch.float64),
    )


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        run = _loss_kernel if is_eager(arguments[:15]) else torch.ops.ppo_fast.loss
        value, *gradients, row = run(*arguments)
        ctx.save_for_backward(*gradients)
        ctx.number = len(arguments)
        ctx.mark_non_differentiable(row)
        return value, row

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad
        gradients = [x * outer if wanted[k] else None for k, x in enumerate(ctx.saved_tensors)]
        return (*gradients, *([None] * (ctx.number - len(gradients))))


def evaluate(dist: Parameters, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies [B], with gradients to the parameters."""
    tensors = (dist.first, dist.second, dist.mask, actions)
    require_tensors("evaluate", (*_names(dist), "mask", "actions"), tensors)
    nvec = None if dist.nvec is None else list(dist.nvec)
    result: tuple[Tensor, Tensor] = _Evaluate.apply(*tensors, dist.family, nvec)  # type: ignore[no-untyped-call]
    return result


def _evaluate_kernel(
    first: Tensor,
    second: Tensor | None,
    mask: Tensor | None,
    actions: Tensor,
    family: int,
    nvec: list[int] | None,
) -> tuple[Tensor, Tensor]:
    logp, entropy = _core.evaluate(_dist(family, first, second, mask, nvec), _numpy(actions))
    return from_numpy(logp), from_numpy(entropy)


def _evaluate_backward_kernel(
    first: Tensor,
    second: Tensor | None,
    mask: Tensor | None,
    actions: Tensor,
    logp_gradient: Tensor,
    entropy_gradient: Tensor,
    family: int,
    nvec: list[int] | None,
) -> tuple[Tensor, Tensor]:
    gradients = _core.evaluate_backward(
        _dist(family, first, second, mask, nvec),
        _numpy(actions),
        _numpy(logp_gradient),
        _numpy(entropy_gradient),
    )
    return _both(first, *gradients)


class _Evaluate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        tensors, ctx.form = arguments[:4], arguments[4:]
        ctx.save_for_backward(*tensors)
        run = _evaluate_kernel if is_eager(tensors) else torch.ops.ppo_fast.evaluate
        logp, entropy = run(*arguments)
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logp: Tensor, entropy: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        eager = is_eager((*tensors, logp, entropy))
        run = _evaluate_backward_kernel if eager else torch.ops.ppo_fast.evaluate_backward
        first, second = run(*tensors, logp, entropy, *ctx.form)
        return first, None if tensors[1] is None else second, None, None, None, None


def kl(old: Parameters, new: Parameters) -> Tensor:
    """KL(old || new) [B], with gradients to the parameters of `new`."""
    tensors = (new.first, new.second, new.mask, old.first, old.second, old.mask)
    new_names = [f"other.{name}" for name in (*_names(new), "mask")]
    require_tensors("kl", (*new_names, *_names(old), "mask"), tensors)
    nvec = None if new.nvec is None else list(new.nvec)
    old_nvec = None if old.nvec is None else list(old.nvec)
    result: Tensor = _Kl.apply(*tensors, new.family, nvec, old_nvec)  # type: ignore[no-untyped-call]
    return result


def _kl_kernel(
    first: Tensor,
    second: Tensor | None,
    mask: Tensor | None,
    old_first: Tensor,
    old_second: Tensor | None,
    old_mask: Tensor | None,
    family: int,
    nvec: list[int] | None,
    old_nvec: list[int] | None,
) -> Tensor:
    return from_numpy(
        _core.kl(
            _dist(family, old_first, old_second, old_mask, old_nvec),
            _dist(family, first, second, mask, nvec),
        )
    )


def _kl_backward_kernel(
    first: Tensor,
    second: Tensor | None,
    mask: Tensor | None,
    old_first: Tensor,
    old_second: Tensor | None,
    old_mask: Tensor | None,
    gradient: Tensor,
    family: int,
    nvec: list[int] | None,
    old_nvec: list[int] | None,
) -> tuple[Tensor, Tensor]:
    gradients = _core.kl_backward(
        _dist(family, old_first, old_second, old_mask, old_nvec),
        _dist(family, first, second, mask, nvec),
        _numpy(gradient),
    )
    return _both(first, *gradients)


class _Kl(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        tensors, ctx.form = arguments[:6], arguments[6:]
        ctx.save_for_backward(*tensors)
        run = _kl_kernel if is_eager(tensors) else torch.ops.ppo_fast.kl
        result: Tensor = run(*arguments)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        eager = is_eager((*tensors, gradient))
        run = _kl_backward_kernel if eager else torch.ops.ppo_fast.kl_backward
        first, second = run(*tensors, gradient, *ctx.form)
        return first, None if tensors[1] is None else second, *([None] * 7)


def _numpy(x: Tensor) -> Any:
    return x.detach().numpy()


def _dist(
    family: int, first: Tensor, second: Tensor | None, mask: Tensor | None, nvec: list[int] | None
) -> Parameters:
    return Parameters(
        family,
        _numpy(first),
        None if second is None else _numpy(second),
        None if mask is None else _numpy(mask),
        None if nvec is None else tuple(nvec),
    )


def _both(like: Tensor, first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Gradients as an operator returns them: an empty one for a parameter that is not there."""
    return from_numpy(first), like.new_empty(0) if second is None else from_numpy(second)


def _names(dist: Parameters) -> tuple[str, str]:
    return ("mean" if dist.family >= 2 else "logits"), "log_std"


def is_eager(tensors: tuple[Any, ...]) -> bool:
    return not is_compiling() and all(type(x) in _PLAIN for x in tensors)


def require_tensors(function: str, names: tuple[str, ...], tensors: tuple[Any, ...]) -> None:
    """Refuse what the kernels could only complain about in NumPy's words."""
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{function}: {names[0]} must be float32 or float64, got {_name(dtype)}; "
            f"cast with {names[0]}.float()"
        )
    discrete = names[0].endswith("logits")
    for name, tensor in zip(names, tensors, strict=True):
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{function}: {name} must be a torch tensor like {names[0]}, "
                f"got {type(tensor).__name__}"
            )
        if name == "actions" and discrete:
            if tensor.dtype != torch.int64:
                raise TypeError(
                    f"{function}: actions must be int64, got {_name(tensor.dtype)}; "
                    "cast with actions.long()"
                )
        elif name.endswith("mask"):
            if tensor.dtype != torch.bool:
                raise TypeError(
                    f"{function}: {name} must be bool, got {_name(tensor.dtype)}; "
                    f"cast with {name}.bool()"
                )
        elif tensor.dtype != dtype:
            raise TypeError(
                f"{function}: {name} must be {_name(dtype)} like {names[0]}, "
                f"got {_name(tensor.dtype)}; cast with {name}.to({names[0]}.dtype)"
            )
        if tensor.device.type != "cpu":
            raise ValueError(
                f"{function}: {name} must be on the CPU, got {tensor.device}; pass {name}.cpu()"
            )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _define(name: str, schema: str, kernel: Any, fake: Any) -> None:
    torch.library.define(f"ppo_fast::{name}", schema)
    torch.library.impl(f"ppo_fast::{name}", "CPU")(kernel)
    torch.library.register_fake(f"ppo_fast::{name}")(fake)


_define(
    "loss",
    "(Tensor first, Tensor? second, Tensor? values, Tensor? kl, Tensor? dist_mask, "
    "Tensor? actions, Tensor? old_first, Tensor? old_second, Tensor? old_mask, Tensor? old_logp, "
    "Tensor advantages, Tensor? returns, Tensor? old_values, Tensor? weights, Tensor? mask, "
    f"str function, int family, int[]? nvec, {_SETTINGS}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _loss_kernel,
    _loss_fake,
)
_define(
    "evaluate",
    "(Tensor first, Tensor? second, Tensor? mask, Tensor actions, int family, int[]? nvec) "
    "-> (Tensor, Tensor)",
    _evaluate_kernel,
    lambda first, *_: (first.new_empty(first.shape[0]), first.new_empty(first.shape[0])),
)
_define(
    "evaluate_backward",
    "(Tensor first, Tensor? second, Tensor? mask, Tensor actions, Tensor logp_gradient, "
    "Tensor entropy_gradient, int family, int[]? nvec) -> (Tensor, Tensor)",
    _evaluate_backward_kernel,
    lambda first, second, *_: (
        first.new_empty(first.shape),
        first.new_empty((0,) if second is None else second.shape),
    ),
)
_define(
    "kl",
    "(Tensor first, Tensor? second, Tensor? mask, Tensor old_first, Tensor? old_second, "
    "Tensor? old_mask, int family, int[]? nvec, int[]? old_nvec) -> Tensor",
    _kl_kernel,
    lambda first, *_: first.new_empty(first.shape[0]),
)
_define(
    "kl_backward",
    "(Tensor first, Tensor? second, Tensor? mask, Tensor old_first, Tensor? old_second, "
    "Tensor? old_mask, Tensor gradient, int family, int[]? nvec, int[]? old_nvec) "
    "-> (Tensor, Tensor)",
    _kl_backward_kernel,
    lambda first, second, *_: (
        first.new_empty(first.shape),
        first.new_empty((0,) if second is None else second.shape),
    ),
)
