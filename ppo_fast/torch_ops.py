"""The kernels as torch operators: `torch.ops.ppo_fast.*` with fake kernels, and their autograd.

Tensors cross into C++ without copies. Gradients are computed in the forward pass and saved, so the
operators themselves need no autograd formula; the `autograd.Function` outside hands them on.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ppo_fast import _core
from ppo_fast.surrogate import STATS

torch.library.define(
    "ppo_fast::categorical_ppo_loss",
    "(Tensor logits, Tensor values, Tensor actions, Tensor old_logp, Tensor advantages, "
    "Tensor returns, float clip_range, float entropy_coef, float value_coef, "
    "bool normalize_advantages) -> (Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("ppo_fast::categorical_ppo_loss", "CPU")
def _categorical_ppo_loss(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    returns: Tensor,
    clip_range: float,
    entropy_coef: float,
    value_coef: float,
    normalize_advantages: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss, logits_gradient, values_gradient, stats = _core.categorical_ppo_loss(
        logits.detach().numpy(),
        actions.numpy(),
        old_logp.detach().numpy(),
        advantages.detach().numpy(),
        values.detach().numpy(),
        returns.detach().numpy(),
        clip_range,
        entropy_coef,
        value_coef,
        normalize_advantages,
    )
    return (
        torch.tensor(loss, dtype=logits.dtype),
        torch.from_numpy(logits_gradient),
        torch.from_numpy(values_gradient),
        torch.from_numpy(stats),
    )


@torch.library.register_fake("ppo_fast::categorical_ppo_loss")  # type: ignore[untyped-decorator]
def _categorical_ppo_loss_fake(
    logits: Tensor, values: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        logits.new_empty(()),
        torch.empty_like(logits, memory_format=torch.contiguous_format),
        torch.empty_like(values, memory_format=torch.contiguous_format),
        logits.new_empty(len(STATS), dtype=torch.float64),
    )


class _CategoricalPpoLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        loss, logits_gradient, values_gradient, stats = torch.ops.ppo_fast.categorical_ppo_loss(
            logits, values, *rest
        )
        ctx.save_for_backward(logits_gradient, values_gradient)
        ctx.mark_non_differentiable(stats)
        return loss, stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        logits_gradient, values_gradient = ctx.saved_tensors
        rest = (None,) * 8
        return logits_gradient * loss_gradient, values_gradient * loss_gradient, *rest


def categorical_ppo_loss(
    logits: Tensor,
    values: Tensor,
    actions: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    returns: Tensor,
    clip_range: float,
    entropy_coef: float,
    value_coef: float,
    normalize_advantages: bool,
) -> tuple[Tensor, Tensor]:
    """The loss with gradients to logits and values, and its statistics [len(STATS)]."""
    _require_tensors(
        {
            "logits": logits,
            "values": values,
            "old_logp": old_logp,
            "advantages": advantages,
            "returns": returns,
            "actions": actions,
        }
    )
    loss, stats = _CategoricalPpoLoss.apply(  # type: ignore[no-untyped-call]
        logits,
        values,
        actions,
        old_logp,
        advantages,
        returns,
        clip_range,
        entropy_coef,
        value_coef,
        normalize_advantages,
    )
    return loss, stats


def _require_tensors(arguments: dict[str, Tensor]) -> None:
    """Refuse what the operator could only complain about without naming the argument."""
    dtype = arguments["logits"].dtype
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"ppo_loss: logits must be float32 or float64, got {_name(dtype)}; "
            "cast with logits.float()"
        )
    for name, tensor in arguments.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"ppo_loss: {name} must be a torch tensor like logits, got {type(tensor).__name__}"
            )
        if name == "actions" and tensor.dtype != torch.int64:
            raise TypeError(
                f"ppo_loss: actions must be int64, got {_name(tensor.dtype)}; "
                "cast with actions.long()"
            )
        if name != "actions" and tensor.dtype != dtype:
            raise TypeError(
                f"ppo_loss: {name} must be {_name(dtype)} like logits, got {_name(tensor.dtype)}"
            )
        if tensor.device.type != "cpu":
            raise ValueError(f"ppo_loss: {name} must be on the CPU, got {tensor.device}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
