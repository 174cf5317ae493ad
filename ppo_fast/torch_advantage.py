"""The advantage kernels for torch: `torch.ops.ppo_fast.gae` and its siblings, with fake kernels.

In eager mode plain tensors go straight to the kernels, without a copy: the operators exist for
`torch.compile`, `torch.export` and fake tensors, and a trip through torch's dispatcher takes as
long as a small rollout. What kernels on a CUDA device do not take as it is goes on in
cuda_advantage.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, from_numpy
from torch.compiler import is_compiling, is_dynamo_compiling

from ppo_fast import cuda
from ppo_fast.arrays import in_torch_words
from ppo_fast.cuda_advantage import call as call_on_gpu
from ppo_fast.foreign import FUNCTIONS, PARAMETERS
from ppo_fast.torch_memory import note_written, require_memory

_HALF = frozenset({torch.bfloat16, torch.float16})
_PLAIN_TYPES = frozenset({type(None), bool, int, float, str})
# Arguments that are a number or a tensor: two parameters of an operator.
_NUMBER_OR_TENSOR = frozenset({"gae_lambda", "bootstrap"})
_TENSORS = {
    "rewards": "Tensor",
    "values": "Tensor",
    "log_rhos": "Tensor",
    "mask": "Tensor",
    "last_values": "Tensor?",
    "next_values": "Tensor?",
    "terminated": "Tensor?",
    "truncated": "Tensor?",
    "final_values": "Tensor?",
    "episode_starts": "Tensor?",
    "last_done": "Tensor?",
    "prev_done": "Tensor?",
    "cu_seqlens": "Tensor?",
    "x": "Tensor",
    "valid": "Tensor?",
}
_PLAIN = {
    "gamma": "float",
    "rho_clip": "float",
    "c_clip": "float",
    "pg_rho_clip": "float",
    "eps": "float",
    "ddof": "int",
    "time_axis": "int",
    "exact": "bool",
    "on_truncation": "str?",
    "masked": "str",
}
_FLAGS = frozenset(
    {"terminated", "truncated", "episode_starts", "last_done", "prev_done", "mask", "valid"}
)
_NUMBERS_ONLY = frozenset(_PLAIN) - {"on_truncation", "masked"}
_NUMBERS = (frozenset(_TENSORS) | _NUMBER_OR_TENSOR) - _FLAGS - {"cu_seqlens"}
_PAIRS = frozenset({"gae", "vtrace", "token_gae"})


def _places(argument: str) -> dict[str, int]:
    """Where each function that has it has an argument."""
    return {name: names.index(argument) for name, names in PARAMETERS.items() if argument in names}


_OUT = _places("out")
_TIME_AXIS = _places("time_axis")


def call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Call a function of `ppo_fast.advantage` whose first argument is a tensor."""
    first = arguments[0]
    # Tracers other than Dynamo have tensor types of their own.
    plain = type(first) is Tensor and not is_dynamo_compiling()
    on_gpu = cuda.holds(first)
    if plain:
        try:
            if not on_gpu:
                return _eagerly(function, arguments, arguments)
            kernels, _ = cuda.usable()  # why not, `call_on_gpu` says
            if kernels is not None and function in _OUT:
                results = kernels.advantage(function, arguments)
                given = arguments[_OUT[function]]
                return results if given is None else _noted(function, arguments, results)
        except (TypeError, RuntimeError):  # to be converted, or a mistake: look closer
            pass
    if not on_gpu and first.device.type != "cpu":
        name = PARAMETERS[function][0]
        mend = "" if first.is_meta else f"; pass {name}.cpu()"
        raise ValueError(
            f"{function}: {name} must be on the CPU or a CUDA device, got {first.device}{mend}"
        )
    prepared = tuple(
        _prepare(function, name, argument, first.device)
        for name, argument in zip(PARAMETERS[function], arguments, strict=True)
    )
    if not plain:
        return _through_operator(function, prepared)
    detached = tuple(_detached(x) for x in prepared)
    if on_gpu:
        return _noted(function, arguments, call_on_gpu(function, detached))
    try:
        return _eagerly(function, detached, arguments)
    except TypeError as error:
        raise TypeError(in_torch_words(error)) from None


def _eagerly(function: str, arguments: tuple[Any, ...], given: tuple[Any, ...]) -> Any:
    converted: list[Any] = []
    for argument in arguments:
        kind = type(argument)
        if kind is Tensor:
            converted.append(argument.numpy())
        elif kind in _PLAIN_TYPES:
            converted.append(argument)
        elif kind is tuple and all(type(x) is Tensor for x in argument):  # out
            converted.append(tuple(x.numpy() for x in argument))
        else:
            raise TypeError(kind)
    results = FUNCTIONS[function](*converted)
    place = _OUT.get(function)
    if place is not None and given[place] is not None:
        return _noted(function, given, results)
    if isinstance(results, tuple):
        return from_numpy(results[0]), from_numpy(results[1])
    return from_numpy(results)


def _noted(function: str, arguments: tuple[Any, ...], results: Any) -> Any:
    """The results, or the tensors that were given for them, as ones that have changed."""
    out = arguments[_OUT[function]] if function in _OUT else None
    if out is None:
        return results
    note_written(*out) if isinstance(out, tuple) else note_written(out)
    return out


def _through_operator(function: str, prepared: tuple[Any, ...]) -> Any:
    out = None
    flat: list[Any] = []
    for name, argument in zip(PARAMETERS[function], prepared, strict=True):
        if name == "out":
            out = argument
        elif name in _NUMBER_OR_TENSOR:
            each = isinstance(argument, Tensor)
            flat += [0.0 if each else float(argument), argument if each else None]
        elif name in _TENSORS and isinstance(argument, (bool, int, float)):
            dtype = torch.bool if isinstance(argument, bool) else prepared[0].dtype
            flat.append(torch.full((1,), argument, dtype=dtype, device=prepared[0].device))
        else:
            flat.append(argument)
    results = getattr(torch.ops.ppo_fast, function)(*flat)
    if out is None:
        return results
    if not isinstance(results, tuple):
        return _write(function, "out", out, results)
    if not isinstance(out, tuple) or len(out) != 2:
        raise TypeError(f"{function}: out must be a tuple of two tensors")
    return tuple(
        _write(function, f"out[{k}]", to, result)
        for k, (to, result) in enumerate(zip(out, results, strict=True))
    )


def _write(function: str, name: str, out: Tensor, result: Tensor) -> Tensor:
    if out.dtype != result.dtype:
        raise TypeError(
            f"{function}: {name} must be {_name(result)} like rewards, got {_name(out)}"
        )
    if out.shape != result.shape:
        raise ValueError(
            f"{function}: {name} must have shape {tuple(result.shape)} like rewards, "
            f"got {tuple(out.shape)}"
        )
    return out.copy_(result)


def _prepare(function: str, name: str, argument: Any, device: torch.device) -> Any:
    """A checked argument; half precision becomes float32."""
    if isinstance(argument, Tensor):
        require_memory(function, name, argument)
        # torch's bit for a negation that is yet to be done; Dynamo cannot ask for it.
        if not is_compiling() and argument.is_neg():
            if name.startswith("out"):
                raise TypeError(
                    f"{function}: {name} must be a tensor of its own, not a negated view"
                )
            argument = argument.resolve_neg()
        if argument.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                f"{function}: {name} requires grad, but nothing is differentiated here; "
                f"pass {name}.detach() or call it under torch.no_grad()"
            )
        if argument.device != device:
            raise ValueError(
                f"{function}: {name} must be on {device} like {PARAMETERS[function][0]}, "
                f"got {argument.device}; pass {name}.to({str(device)!r})"
            )
        if name in _NUMBERS_ONLY:
            raise TypeError(f"{function}: {name} must be a number, got a tensor")
        if argument.dtype not in _HALF:
            if name in _NUMBERS and argument.dtype not in (torch.float32, torch.float64):
                raise TypeError(
                    f"{function}: {name} must be float32 or float64, got {_name(argument)}; "
                    f"cast with {name}.float()"
                )
            return argument
        if name.startswith("out"):
            raise TypeError(
                f"{function}: {name} must be float32 like rewards, got {_name(argument)}"
            )
        if name in _FLAGS:
            raise TypeError(
                f"{function}: {name} must be bool (or 0 and 1 in another type), "
                f"got {_name(argument)}; "
                "cast it to bool"
            )
        return argument.float()
    if argument is None and _TENSORS.get(name) == "Tensor":
        raise TypeError(f"{function}: {name} is missing, got None")
    if type(argument) in _PLAIN_TYPES:
        return argument
    if isinstance(argument, np.generic):
        return argument.item()
    if isinstance(argument, tuple) and name == "out":
        return tuple(_prepare(function, f"out[{k}]", x, device) for k, x in enumerate(argument))
    raise TypeError(
        f"{function}: {name} must be a torch tensor like {PARAMETERS[function][0]}, "
        f"got {type(argument).__name__}"
    )


def _name(tensor: Tensor) -> str:
    """Its dtype as NumPy names it."""
    return str(tensor.dtype).removeprefix("torch.")


def _detached(argument: Any) -> Any:
    if isinstance(argument, tuple):
        return tuple(_detached(x) for x in argument)
    return argument.detach() if isinstance(argument, Tensor) else argument


def _arguments(function: str, flat: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a function from those of its operator."""
    rest = iter(flat)
    arguments: list[Any] = []
    for name in PARAMETERS[function]:
        argument = None if name == "out" else next(rest)
        if name in _NUMBER_OR_TENSOR:
            each = next(rest)
            argument = argument if each is None else each
        arguments.append(_detached(argument))
    return tuple(arguments)


def _gpu_kernel(function: str) -> Callable[..., Any]:
    """The operator's body on a CUDA device."""
    return lambda *flat: call_on_gpu(function, _arguments(function, flat))


def _kernel(function: str) -> Callable[..., Any]:
    """The operator's body on the CPU: its arguments as those of the function of `_core`."""
    names = PARAMETERS[function]

    def kernel(*flat: Any) -> Any:
        arguments = (x.numpy() if isinstance(x, Tensor) else x for x in _arguments(function, flat))
        results = FUNCTIONS[function](*arguments)
        if isinstance(results, tuple):
            return tuple(from_numpy(x) for x in results)
        if "out" in names:
            return from_numpy(results)
        # normalize and valid_rows: in the layout that the fake kernel promises
        return _like_first(flat[0], results.dtype == bool).copy_(from_numpy(results))

    return kernel


def _fake(function: str) -> Callable[..., Any]:
    def fake(*flat: Any) -> Any:
        if function not in _OUT:
            return _like_first(flat[0], function == "valid_rows")
        # Sequences of tokens are rows.
        time_axis = (
            _arguments(function, flat)[_TIME_AXIS[function]] if function in _TIME_AXIS else 1
        )
        result = _empty_result(flat[0], time_axis)
        return (result, torch.empty_like(result)) if function in _PAIRS else result

    return fake


def _like_first(first: Tensor, flags: bool) -> Tensor:
    return torch.empty_like(first, dtype=torch.bool if flags else None)


def _empty_result(rewards: Tensor, time_axis: int) -> Tensor:
    """A tensor like the rewards, the same axis having its neighbours side by side."""
    strides = rewards.stride()
    if len(strides) > 1 and time_axis in (0, 1):
        stride_t, stride_n = strides[time_axis], strides[1 - time_axis]
        batch_major = bool(stride_t > 0) and bool(stride_t < stride_n)
        if batch_major == (time_axis == 0):
            shape = (rewards.shape[1], rewards.shape[0], *rewards.shape[2:])
            return rewards.new_empty(shape).transpose(0, 1)
    return torch.empty_like(rewards, memory_format=torch.contiguous_format)


def _schema(function: str) -> str:
    parameters = []
    for name in PARAMETERS[function]:
        if name in _NUMBER_OR_TENSOR:
            parameters += [f"float {name}", f"Tensor? {name}_each"]
        elif name != "out":
            parameters.append(f"{_TENSORS.get(name) or _PLAIN[name]} {name}")
    result = "(Tensor, Tensor)" if function in _PAIRS else "Tensor"
    return f"({', '.join(parameters)}) -> {result}"


for _function in PARAMETERS:
    torch.library.define(f"ppo_fast::{_function}", _schema(_function))
    torch.library.impl(f"ppo_fast::{_function}", "CPU")(_kernel(_function))
    torch.library.impl(f"ppo_fast::{_function}", "CUDA")(_gpu_kernel(_function))
    torch.library.register_fake(f"ppo_fast::{_function}")(_fake(_function))
