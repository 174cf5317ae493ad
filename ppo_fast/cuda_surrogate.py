"""The losses for torch tensors on a CUDA device (csrc/surrogate/cuda.cu).

They run on the current stream, wait for nothing and allocate no more than results and scratch
memory by torch's allocator: a call can be captured in a CUDA graph. Numbers on the device are not
looked at: what the CPU refuses by value (parameters that are no distribution, an action out of
range, a weight that is none, no sample that counts) makes NaN of the loss.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ppo_fast import cuda
from ppo_fast.surrogate import STATS


def loss(
    function: str,
    form: tuple[Any, ...],
    tensors: tuple[Any, ...],
    settings: tuple[Any, ...],
    with_gradient: tuple[Any, ...],
) -> list[Tensor]:
    """`_core.loss` of tensors: the loss, its statistics, and gradients of `with_gradient`.

    Coefficients among the settings may be float64 tensors of one number, which are read when the
    kernels run: a captured graph sees what they hold then.
    """
    first = tensors[0]
    kernels = cuda.kernels(f"{function}: tensors on a CUDA device")
    outputs = [first.new_empty(()), first.new_empty(len(STATS), dtype=torch.float64)]
    outputs += [_like(x) for x in with_gradient if x is not None]
    kernels.loss(function, form, tensors, settings, tuple(outputs))
    return outputs


# Contiguous; half of the time of `torch.empty` with a dtype and a device.
_like = partial(torch.empty_like, memory_format=torch.contiguous_format)
