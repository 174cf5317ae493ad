"""The advantage kernels for torch tensors on a CUDA device (csrc/advantage/cuda.cu).

They run on the current stream, wait for nothing and allocate no more than the results and, where
time is cut into parts, some scratch memory by torch's allocator: a call can be captured in a CUDA
graph. Numbers on the device are not looked at: a `gae_lambda` outside [0, 1] goes unnoticed there,
and so do `cu_seqlens` that fall or end elsewhere, which give wrong numbers but touch no memory of
others.
"""

from collections.abc import Callable
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppo_fast import cuda
from ppo_fast.advantage import require_moments, valid_rows_of
from ppo_fast.foreign import PARAMETERS

_EXCHANGE_API = getattr(Tensor, "__dlpack_c_exchange_api__", None)
_REFUSED = {name: f"{name}: {names[0]} on a CUDA device" for name, names in PARAMETERS.items()}
# Where arguments are that may be one number per environment, which kernels read from device memory.
_PER_ENV = {
    function: tuple(k for k, name in enumerate(names) if name in {"last_values", "last_done"})
    for function, names in PARAMETERS.items()
}
_GAE_LAMBDA = {
    function: names.index("gae_lambda")
    for function, names in PARAMETERS.items()
    if "gae_lambda" in names
}
_BOOTSTRAP = PARAMETERS["token_gae"].index("bootstrap")
_CU_SEQLENS = PARAMETERS["token_gae"].index("cu_seqlens")


def call(
    function: str, arguments: tuple[Any, ...], new_out: Callable[[str, tuple[Any, ...]], Any]
) -> Any:
    """Call a function of `ppo_fast.advantage`, its arguments being tensors and numbers."""
    first = arguments[0]
    if function == "normalize":
        return _normalize(*arguments)
    if function == "valid_rows":
        terminated, truncated, prev_done, time_axis = arguments
        first_flags = torch.as_tensor(prev_done, device=first.device)
        return valid_rows_of(torch, terminated, truncated, first_flags, time_axis)
    kernels = cuda.kernels(_REFUSED[function])
    lambdas = None
    if function in _GAE_LAMBDA:
        k = _GAE_LAMBDA[function]
        if isinstance(arguments[k], Tensor):
            lambdas = arguments[k].double().contiguous()
            arguments = _with(arguments, k, 0.0)
    for k in _PER_ENV[function]:
        if not isinstance(arguments[k], (Tensor, NoneType)):
            number = _plain(arguments[k])
            if isinstance(number, (bool, int, float)):
                arguments = _with(arguments, k, _on_device(number, first))
    if function == "token_gae":
        arguments = _with_sequences(arguments)
    return kernels.advantage(_EXCHANGE_API, function, arguments, lambdas, torch.empty_like, new_out)


def _with(arguments: tuple[Any, ...], k: int, argument: Any) -> tuple[Any, ...]:
    return (*arguments[:k], argument, *arguments[k + 1 :])


def _plain(x: Any) -> Any:
    """NumPy's numbers as Python's: kernels could not read the memory of the CPU that holds one."""
    return x.item() if isinstance(x, np.generic) else x


def _on_device(number: bool | float, first: Tensor) -> Tensor:
    dtype = torch.bool if isinstance(number, bool) else first.dtype
    return torch.full((1,), number, dtype=dtype, device=first.device)


def _with_sequences(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    given = list(arguments)
    cu_seqlens = given[_CU_SEQLENS]
    if isinstance(cu_seqlens, Tensor):
        is_narrow = cu_seqlens.dtype == torch.int32
        given[_CU_SEQLENS] = cu_seqlens.long() if is_narrow else cu_seqlens.contiguous()
    bootstrap = _plain(given[_BOOTSTRAP])
    if isinstance(bootstrap, (bool, int, float)):
        bootstrap = _on_device(float(bootstrap), given[0])[0]
    if isinstance(bootstrap, Tensor) and bootstrap.ndim == 0:
        bootstrap = bootstrap.reshape(1).expand(_num_sequences(given[0], cu_seqlens))
    given[_BOOTSTRAP] = bootstrap
    return tuple(given)


def _num_sequences(rewards: Tensor, cu_seqlens: Any) -> int:
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
