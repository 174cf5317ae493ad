"""The kernels for CUDA devices: whether this build and this machine have them, and why not."""

from functools import cache
from typing import Any, TypedDict


class CudaInfo(TypedDict):
    """The part of `ppo_fast.build_info` that tells of CUDA."""

    cuda: bool
    cuda_off: str
    cuda_toolkit: str
    cuda_architectures: str


@cache
def build_info() -> CudaInfo:
    """What was built, and why it cannot be used if it cannot."""
    from ppo_fast import _core

    info: CudaInfo = {"cuda": False, "cuda_off": "", "cuda_toolkit": "", "cuda_architectures": ""}
    reason = _core.build_info()["cuda_off"]
    if reason:
        info["cuda_off"] = f"ppo_fast was built without CUDA: {reason}"
        return info
    built = _extension()
    count, reason = built.devices()
    info["cuda"] = count > 0
    info["cuda_off"] = "" if count else f"there is no CUDA device to use: {reason}"
    info["cuda_toolkit"] = built.toolkit
    info["cuda_architectures"] = built.architectures
    return info


def _extension() -> Any:
    from ppo_fast import _cuda

    return _cuda


def kernels(what: str) -> Any:
    """The extension `_cuda`.

    Raises
    ------
    RuntimeError
        Where it cannot be used: says why. `what` is the argument that asks for it, e.g.
        `"make_vec: device='cuda'"`.
    """
    info = build_info()
    if not info["cuda"]:
        raise RuntimeError(f"{what} cannot be used here: {info['cuda_off']}")
    return _extension()


def holds(tensor: Any) -> bool:
    """Whether a torch tensor is in the memory of a CUDA device."""
    return bool(tensor.is_cuda)
