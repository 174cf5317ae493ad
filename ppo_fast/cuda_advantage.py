"""The advantage kernels for torch tensors on a CUDA device (csrc/advantage/cuda.cu).

They run on the current stream, wait for nothing and allocate no more than the results and, where
time is cut into parts, some scratch memory by torch's allocator: a call can be captured in a CUDA
graph. Numbers on the device are not looked at: a `gae_lambda` outside [0, 1] goes unnoticed there,
and so do `cu_seqlens` that fall or end elsewhere, which give wrong numbers but touch no memory of
others.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ppo_fast import cuda
from ppo_fast.advantage import require_moments, valid_rows_of
from ppo_fast.foreign import PARAMETERS

# Arguments of one number per environment, for which the kernels must have device memory.
_PER_ENV = frozenset({"last_values", "bootstrap", "last_done"})


def call(
    function: str, arguments: tuple[Any, ...], new_out: Callable[[str, tuple[Any, ...]], Any]
) -> Any:
    """Call a function of `ppo_fast.advantage`, its arguments being checked tensors and numbers."""
    first = arguments[0]
    if function == "normalize":
        return _normalize(*arguments)
    if function == "valid_rows":
        terminated, truncated, prev_done, time_axis = arguments
        first_flags = torch.as_tensor(prev_done, device=first.device)
        return valid_rows_of(torch, terminated, truncated, first_flags, time_axis)
    kernels = cuda.kernels(f"{function}: {PARAMETERS[function][0]} on {first.device}")
    lambdas = None
    given: list[Any] = []
    for name, argument in zip(PARAMETERS[function], arguments, strict=True):
        if name == "gae_lambda" and isinstance(argument, Tensor):
            lambdas = argument.double().contiguous()
            argument = 0.0
        elif name in _PER_ENV and isinstance(argument, (bool, int, float)):
            dtype = torch.bool if isinstance(argument, bool) else first.dtype
            argument = torch.full((1,), argument, dtype=dtype, device=first.device)
            if name == "bootstrap":
                argument = argument.expand(_num_sequences(arguments))
        elif name == "cu_seqlens" and argument is not None and argument.dtype == torch.int32:
            argument = argument.long()
        elif name == "cu_seqlens" and argument is not None:
            argument = argument.contiguous()
        elif name == "out" and argument is None:
            argument = new_out(function, arguments)
        given.append(argument)
    scratch = partial(torch.empty, dtype=torch.int8, device=first.device)
    with cuda.current(first.device):
        kernels.advantage(
            Tensor.__dlpack_c_exchange_api__, function, tuple(given), scratch, lambdas
        )
    return given[-2]


def _num_sequences(arguments: tuple[Any, ...]) -> int:
    rewards, cu_seqlens = arguments[0], arguments[PARAMETERS["token_gae"].index("cu_seqlens")]
    if isinstance(cu_seqlens, Tensor) and cu_seqlens.ndim > 0:
        return len(cu_seqlens) - 1
    return len(rewards) if rewards.ndim > 0 else 1


def _normalize(x: Tensor, valid: Tensor | None, eps: float, ddof: int) -> Tensor:
    require_moments(x, valid, eps, ddof)
    counted = torch.ones_like(x, dtype=torch.bool) if valid is None else valid != 0
    count = counted.sum()
    # Select, never multiply: what does not count may be NaN.
    wide = torch.where(counted, x, 0).double()
    centred = torch.where(counted, wide - wide.sum() / count, 0)
    std = (centred.square().sum() / (count - ddof)).sqrt()
    chosen = torch.where(count > ddof, centred / (std + eps), wide)
    return torch.empty_like(x).copy_(chosen)
