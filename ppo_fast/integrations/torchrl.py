"""GAE for TorchRL: its `GAE` module and the functions behind it, computed by `ppo_fast.gae`.

    loss.make_value_estimator(FastGAE, gamma=0.99, lmbda=0.95, value_network=critic)

or `FastGAE(...)` wherever a script has `GAE(...)`; `ppo_fast.integrations.patch("torchrl")` serves
losses that make their estimator themselves.

TorchRL's arrays are [*batch, time, *feature]. `done` cuts the trace and `terminated` makes the next
value 0, so that a truncated step keeps it; every terminated step is done. What ppo_fast has no
kernel for goes on to TorchRL's own function: gradients, a gamma or lambda per step (n-step
returns), tensors of one axis or where no kernel reads them (docs/cuda.md), mixed or half precision,
flags that are not bool, `torch.compile`. float32 results are those of TorchRL's loop, bit for bit
if gamma and lmbda are both numbers or both float32 tensors. As tensors on a CUDA device these are
waited for, which the capture of a CUDA graph does not allow: it is TorchRL's own, too.
"""

# mypy: disallow_subclassing_any=False
# (TorchRL's classes are Any to mypy)

import functools
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torchrl.objectives.value import GAE, advantages
from torchrl.objectives.value.functional import generalized_advantage_estimate as _loop
from torchrl.objectives.value.functional import vec_generalized_advantage_estimate as _vectorized

from ppo_fast import cuda
from ppo_fast.advantage import gae
from ppo_fast.integrations.patching import Target


def generalized_advantage_estimate(
    gamma: float | Tensor,
    lmbda: float | Tensor,
    state_value: Tensor,
    next_state_value: Tensor,
    reward: Tensor,
    done: Tensor,
    terminated: Tensor | None = None,
    *,
    time_dim: int = -2,
) -> tuple[Tensor, Tensor]:
    """`torchrl.objectives.value.functional.generalized_advantage_estimate`: the loop over time.

    Parameters
    ----------
    gamma, lmbda
        In [0, 1]: a number or a tensor of one item; others are left to TorchRL.
    state_value, next_state_value, reward
        [*B, T, *F], float32 or float64: V before and after each step, and its reward.
    done, terminated
        [*B, T, *F], bool: whether the step ended an episode, and whether it did so for good; None
        for `done`.
    time_dim
        Where T is.

    Returns
    -------
    tuple[Tensor, Tensor]
        Advantage and value target, like the rewards.

    Raises
    ------
    RuntimeError
        For shapes that differ or lack `time_dim`.
    ValueError
        For a gamma or lambda outside [0, 1].
    """
    return _estimate(
        _loop, gamma, lmbda, state_value, next_state_value, reward, done, terminated, time_dim
    )


def vec_generalized_advantage_estimate(
    gamma: float | Tensor,
    lmbda: float | Tensor,
    state_value: Tensor,
    next_state_value: Tensor,
    reward: Tensor,
    done: Tensor,
    terminated: Tensor | None = None,
    *,
    time_dim: int = -2,
) -> tuple[Tensor, Tensor]:
    """`generalized_advantage_estimate` again, under the name of TorchRL's vectorized form.

    TorchRL's cuts its filter where the weights fall below 1e-7; this one is exact.
    """
    return _estimate(
        _vectorized, gamma, lmbda, state_value, next_state_value, reward, done, terminated, time_dim
    )


def _estimate(
    theirs: Callable[..., tuple[Tensor, Tensor]],
    gamma: float | Tensor,
    lmbda: float | Tensor,
    state_value: Tensor,
    next_state_value: Tensor,
    reward: Tensor,
    done: Tensor,
    terminated: Tensor | None,
    time_dim: int,
) -> tuple[Tensor, Tensor]:
    terminated = done if terminated is None else terminated
    numbers, flags = (reward, state_value, next_state_value), (done, terminated)
    axis = time_dim if time_dim >= 0 else time_dim + reward.ndim
    if not (0 <= axis < reward.ndim and _has_kernel(gamma, lmbda, numbers, flags)):
        arguments = (gamma, lmbda, state_value, next_state_value, reward, done, terminated)
        return theirs(*arguments, time_dim=time_dim)
    rewards, values, next_values, dones, terminations = (
        _time_first(array, axis) for array in numbers + flags
    )
    result = gae(
        rewards,
        values,
        gamma=float(gamma),
        gae_lambda=float(lmbda),
        next_values=next_values,
        terminated=terminations,
        truncated=dones,
        exact=True,
    )
    shape = reward.movedim(axis, 0).shape
    advantage, value_target = (array.reshape(shape).movedim(0, axis) for array in result)
    return advantage, value_target


def _has_kernel(
    gamma: float | Tensor,
    lmbda: float | Tensor,
    numbers: tuple[Tensor, ...],
    flags: tuple[Tensor, ...],
) -> bool:
    factors = tuple(factor for factor in (gamma, lmbda) if isinstance(factor, Tensor))
    first = numbers[0]
    return (
        not torch.compiler.is_compiling()
        and first.ndim > 1
        and all(factor.numel() == 1 for factor in factors)
        and not (any(cuda.holds(factor) for factor in factors) and cuda.is_captured())
        and cuda.can_read(first)
        and all(x.shape == first.shape and x.device == first.device for x in numbers + flags)
        and all(array.dtype == first.dtype for array in numbers)
        and first.dtype in (torch.float32, torch.float64)
        and all(flag.dtype == torch.bool for flag in flags)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in factors + numbers))
    )


def _time_first(array: Tensor, axis: int) -> Tensor:
    """[T, everything else], a view where strides allow one."""
    return array.movedim(axis, 0).flatten(1)


def _calling(method: Any, *functions: Any) -> Any:
    """A copy of a method that calls these functions in place of the globals of their names."""
    replaced = {function.__name__: function for function in functions}
    inner = getattr(method, "__wrapped__", None)  # by a decorator, which holds it in its closure
    names, closure = method.__globals__, method.__closure__ or ()
    if inner is None:
        names = {**names, **replaced}
        known = replaced.keys() <= set(method.__code__.co_names)
    else:
        inner_copy = _calling(inner, *functions)
        wrapped = [cell.cell_contents is inner for cell in closure]
        closure = tuple(
            CellType(inner_copy) if is_inner else cell
            for cell, is_inner in zip(closure, wrapped, strict=True)
        )
        known = any(wrapped)
    if not known:
        raise ImportError(
            f"FastGAE: ppo_fast does not know this version of TorchRL: {method.__qualname__} does "
            f"not call {' and '.join(replaced)}"
        )
    copy = FunctionType(method.__code__, names, method.__name__, method.__defaults__, closure)
    functools.update_wrapper(copy, method)
    copy.__kwdefaults__ = method.__kwdefaults__
    del vars(copy)["__wrapped__"]
    if inner is not None:
        vars(copy)["__wrapped__"] = inner_copy
    return copy


class FastGAE(GAE):
    """`torchrl.objectives.value.GAE`, with the recursion of this module.

    Takes what `GAE` takes, and does what it does: `average_gae`, `shifted`, `auto_reset_env`,
    `steps_to_next_obs` and the like are TorchRL's.
    """

    # TorchRL has no hook for the recursion alone: its methods call it by a global name.
    forward = _calling(
        GAE.forward, generalized_advantage_estimate, vec_generalized_advantage_estimate
    )
    value_estimate = _calling(GAE.value_estimate, vec_generalized_advantage_estimate)


def targets() -> list[Target]:
    """What `patch("torchrl")` replaces: both functions, where `GAE` and `MultiAgentGAE` look."""
    ours = (generalized_advantage_estimate, vec_generalized_advantage_estimate)
    return [Target(advantages, function.__name__, function) for function in ours]
