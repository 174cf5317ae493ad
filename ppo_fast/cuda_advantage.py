"""The advantage kernels for torch tensors on a CUDA device (csrc/advantage/cuda.cu).

They run on the current stream, wait for nothing and allocate no more than the results and, where
time is cut into parts, some scratch memory by torch's allocator: a call can be captured in a CUDA
graph. Numbers on the device are not looked at: a `gae_lambda` outside [0, 1] goes unnoticed there,
and so do `cu_seqlens` that fall or end elsewhere, which give wrong numbers but touch no memory of
others.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppo_fast import cuda
from ppo_fast.advantage import require_moments, valid_rows_of
from ppo_fast.foreign import PARAMETERS

_REFUSED = {name: f"{name}: {names[0]} on a CUDA device" for name, names in PARAMETERS.items()}
# Arguments that may be one number, where the kernels read one per environment from device memory.
_PER_ENV = frozenset({"last_values", "last_done"})


def call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Call a function of `ppo_fast.advantage`, its arguments being tensors and numbers."""
    if function == "normalize":
        return _normalize(*arguments)
    if function == "valid_rows":
        terminated, truncated, prev_done, time_axis = arguments
        first_flags = torch.as_tensor(prev_done, device=terminated.device)
        return valid_rows_of(torch, terminated, truncated, first_flags, time_axis)
    kernels = cuda.kernels(_REFUSED[function])
    return kernels.advantage(function, _converted(function, arguments))


def _converted(function: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments as the kernels take them: a number per environment is read on the device."""
    first = arguments[0]
    given = dict(zip(PARAMETERS[function], arguments, strict=True))
    for name in _PER_ENV & given.keys():
        number = given[name]
        if isinstance(number, np.generic):
            number = number.item()
        if isinstance(number, (bool, int, float)):
            dtype = torch.bool if isinstance(number, bool) else first.dtype
            given[name] = first.new_full((1,), number, dtype=dtype)
    return tuple(given.values())


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
