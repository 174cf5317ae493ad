"""Arrays of other libraries on their way into the advantage kernels and back.

torch tensors go through torch_advantage.py. Other arrays cross by DLPack, without a copy: on the
CPU (JAX, for one) as NumPy arrays, on a CUDA device (CuPy, JAX) as torch tensors.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ppo_fast import _core, advantage
from ppo_fast.extras import require

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gae": _core.gae,
    "lambda_returns": _core.lambda_returns,
    "discounted_returns": _core.discounted_returns,
    "vtrace": _core.vtrace,
    "token_gae": _core.token_gae,
    "normalize": advantage._normalize,
    "valid_rows": advantage._valid_rows,
}


# Who computes on what torch has, by its type, once one has come.
_of_type: dict[type, Callable[[str, tuple[Any, ...]], Any]] = {}
_DLPACK_CUDA = 2


def call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Call a function of `FUNCTIONS` whose first argument is not a NumPy array."""
    first = arguments[0]
    known = _of_type.get(type(first))
    if known is not None:
        return known(function, arguments)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(first, torch.Tensor):
        from ppo_fast.torch_advantage import call as call_torch

        _of_type[type(first)] = call_torch
        return call_torch(function, arguments)
    if first is None:
        raise TypeError(f"{function}: {PARAMETERS[function][0]} is missing, got None")
    if not hasattr(first, "__dlpack__"):
        raise TypeError(
            f"{function}: {PARAMETERS[function][0]} must be a NumPy array, a torch tensor or "
            f"another array with __dlpack__, got {type(first).__name__}; "
            "wrap it in np.asarray(...)"
        )
    return _through_dlpack(function, arguments)


def _through_dlpack(function: str, arguments: tuple[Any, ...]) -> Any:
    first = arguments[0]
    if not hasattr(first, "__array_namespace__"):
        raise TypeError(
            f"{function}: {PARAMETERS[function][0]} must be an array that names its library in "
            f"__array_namespace__, so that results can be given back in it; got "
            f"{type(first).__name__}; pass np.from_dlpack(...)"
        )
    on_gpu = _is_on_gpu(first)
    to_own = require("torch").from_dlpack if on_gpu else np.from_dlpack
    converted = tuple(
        tuple(_converted(to_own, function, f"out[{k}]", first, x) for k, x in enumerate(argument))
        if isinstance(argument, tuple)
        else _converted(to_own, function, name, first, argument)
        for name, argument in zip(PARAMETERS[function], arguments, strict=True)
    )
    called = FUNCTIONS[function]
    results = call(function, converted) if on_gpu else called(*converted)
    library = first.__array_namespace__()
    if isinstance(results, tuple):
        return tuple(library.from_dlpack(x) for x in results)
    return library.from_dlpack(results)


def _is_on_gpu(array: Any) -> bool:
    try:
        return bool(array.__dlpack_device__()[0] == _DLPACK_CUDA)
    except AttributeError:  # a tracer of JAX's
        return False


def _converted(
    to_own: Callable[[Any], Any], function: str, name: str, first: Any, argument: Any
) -> Any:
    if argument is None or isinstance(argument, (int, float, str, np.generic)):
        return argument
    if not isinstance(argument, type(first)):
        raise TypeError(
            f"{function}: {name} must be an array of {first.__array_namespace__().__name__} like "
            f"{PARAMETERS[function][0]}, got {type(argument).__name__}"
        )
    try:
        return to_own(argument)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{function}: {name} cannot be read on the CPU: {error}; NumPy must know its dtype, "
            "and it must not be traced (jit, grad, vmap)"
            if to_own is np.from_dlpack
            else f"{function}: {name} cannot be read by torch: {error}"
        ) from None


_TRANSITIONS = (
    "last_values",
    "next_values",
    "terminated",
    "truncated",
    "final_values",
    "on_truncation",
    "episode_starts",
    "last_done",
    "prev_done",
    "time_axis",
    "out",
    "exact",
)
# The arguments of each function of _core, in its order.
PARAMETERS = {
    "gae": ("rewards", "values", "gamma", "gae_lambda", *_TRANSITIONS),
    "lambda_returns": ("rewards", "values", "gamma", "gae_lambda", *_TRANSITIONS),
    "discounted_returns": (
        "rewards",
        "gamma",
        *(name for name in _TRANSITIONS if name != "next_values"),
    ),
    "vtrace": (
        "rewards",
        "values",
        "log_rhos",
        "gamma",
        "gae_lambda",
        "rho_clip",
        "c_clip",
        "pg_rho_clip",
        *_TRANSITIONS,
    ),
    "token_gae": (
        "rewards",
        "values",
        "mask",
        "gamma",
        "gae_lambda",
        "masked",
        "bootstrap",
        "cu_seqlens",
        "out",
        "exact",
    ),
    "normalize": ("x", "valid", "eps", "ddof"),
    "valid_rows": ("terminated", "truncated", "prev_done", "time_axis"),
}
