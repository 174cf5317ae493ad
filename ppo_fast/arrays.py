"""Arrays of training: NumPy's on the CPU, torch's on a device, and formulas for both."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast.extras import require

# A NumPy array, or a torch tensor on a device.
Array = Any
# A torch device, or None for NumPy.
Place = Any


def in_torch_words(error: Exception) -> str:
    """The text of an error about tensors that crossed as arrays: how to cast is for tensors."""
    return re.sub(r"\.astype\((?:np\.)?(\w+)\)", r".to(torch.\1)", str(error))


def library(array: Array) -> Any:
    """numpy or torch, for the functions that both have under one name."""
    return np if isinstance(array, (np.ndarray, np.generic)) else require("torch")


def put(array: NDArray[Any], place: Place) -> Array:
    """The array itself, or its copy on a device: None waits for nothing.

    A copy to a GPU goes through pinned memory and is made when its stream comes to it.
    """
    if place is None:
        return array
    torch = require("torch")
    if place.type != "cuda":
        return torch.tensor(array, device=place)
    return torch.from_numpy(array).pin_memory().to(place, non_blocking=True)


def cast(array: Array, dtype: Any) -> Array:
    """The array with the dtype of that name; itself if it has it."""
    if isinstance(array, (np.ndarray, np.generic)):
        return array.astype(dtype, copy=False)
    return array.to(getattr(require("torch"), np.dtype(dtype).name))
