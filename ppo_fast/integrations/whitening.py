"""Whitening of token advantages, as the libraries do that descend from TRL."""

import torch
from torch import Tensor


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) over the tokens that count, var with Bessel's correction.

    On a CUDA device it is waited for, to know how many these are.

    Parameters
    ----------
    x
        Floating-point, any shape.
    mask
        bool like x: tokens that count. The others become 0.

    Raises
    ------
    ValueError
        If fewer than two tokens count: they have no variance.
    """
    counted = x[mask]
    if counted.numel() < 2:
        raise ValueError(f"whiten: mask must have at least 2 tokens set, got {counted.numel()}")
    variance, mean = torch.var_mean(counted)
    return torch.where(mask, (x - mean) * torch.rsqrt(variance + 1e-8), 0.0)
