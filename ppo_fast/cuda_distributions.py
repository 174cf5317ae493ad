"""The distributions of torch tensors on a CUDA device (csrc/distributions/cuda.cu).

As the functions of `_core` of these names. They run on the current stream, wait for nothing and
allocate no more than results and scratch memory by torch's allocator. Numbers on the device are not
looked at: parameters that are no distribution and actions out of range make NaN of the sample's
results.
"""

from typing import Any

from torch import Tensor

from ppo_fast import cuda
from ppo_fast.distributions.base import Parameters
from ppo_fast.torch_memory import note_written


def sample(
    dist: Parameters,
    noise: Any,
    seed: int,
    first_id: int,
    step: Any,
    deterministic: bool,
    results: tuple[Any, ...],
) -> None:
    """Draw into `results`: actions, logp, and entropies or None.

    `step` may be an int64 tensor of one number, which is read when the kernel runs.
    """
    _run("sample", dist, noise, seed, first_id, step, deterministic, results)
    note_written(*results)


def evaluate(dist: Parameters, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies [B]."""
    results = (_column(dist), _column(dist))
    _run("evaluate", dist, actions, results)
    return results


def evaluate_backward(dist: Parameters, *tensors: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of the parameters, of actions and of the gradients of both results."""
    results = _like_parameters(dist)
    _run("evaluate_backward", dist, *tensors, results)
    return results


def kl(old: Parameters, new: Parameters) -> Tensor:
    """KL(old || new) [B]."""
    result = _column(new)
    _run("kl", old, _plain(new), result)
    return result


def kl_backward(old: Parameters, new: Parameters, weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of the parameters of `new`."""
    results = _like_parameters(new)
    _run("kl_backward", old, _plain(new), weight, results)
    return results


def _run(function: str, dist: Parameters, *arguments: Any) -> None:
    kernels = cuda.kernels(f"{function}: parameters on a CUDA device")
    getattr(kernels, function)(_plain(dist), *arguments)


def _plain(dist: Parameters) -> tuple[Any, ...]:
    nvec = None if dist.nvec is None else tuple(int(n) for n in dist.nvec)
    return (dist.family, dist.first, dist.second, dist.mask, nvec)


def _column(dist: Parameters) -> Tensor:
    first: Tensor = dist.first
    return first.new_empty(first.shape[:1])


def _like_parameters(dist: Parameters) -> tuple[Tensor, Tensor | None]:
    second = None if dist.second is None else dist.second.new_empty(dist.second.shape)
    return dist.first.new_empty(dist.first.shape), second
