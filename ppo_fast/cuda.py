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


@cache
def usable() -> tuple[Any, str]:
    """The extension, or None and why it cannot be used."""
    info = build_info()
    if not info["cuda"]:
        return None, f"cannot be used here: {info['cuda_off']}"
    import torch

    if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        return None, f"needs torch 2.10 or later on a GPU, got {torch.__version__}"
    extension = _extension()
    use_torch(extension, "cuda")
    return extension, ""


def use_torch(extension: Any, kind: str) -> None:
    """Tell the extension of torch's tensors on a kind of device, before the first call."""
    import torch

    def empty(shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any, device: int) -> Any:
        return torch.empty_strided(shape, strides, dtype=dtype, device=torch.device(kind, device))

    # Torch's own shortcut for compiled code: two thirds of the instructions of empty_like.
    guards = getattr(getattr(torch._C, "_dynamo", None), "guards", None)
    empty_here = getattr(guards, f"_empty_strided_{kind}", None)
    dtypes = (torch.float32, torch.float64, torch.int64, torch.uint8)
    extension.use_tensors(torch.Tensor, empty, empty_here, dtypes)


def kernels(what: str) -> Any:
    """The extension `_cuda`.

    Raises
    ------
    RuntimeError
        Where it cannot be used: says why. `what` is the argument that asks for it, e.g.
        `"make_vec: device='cuda'"`.
    """
    extension, reason = usable()
    if extension is None:
        raise RuntimeError(f"{what} {reason}")
    return extension


def holds(tensor: Any) -> bool:
    """Whether a torch tensor is in the memory of a CUDA device."""
    on_gpu: bool = tensor.is_cuda
    return on_gpu


def can_read(tensor: Any) -> bool:
    """Whether a torch tensor is where kernels read it: on the CPU, or a CUDA device to be used."""
    return usable()[0] is not None if holds(tensor) else bool(tensor.is_cpu)


def is_captured() -> bool:
    """Whether work on the current stream goes into a CUDA graph, so that nobody can wait for it."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def is_named(device: Any) -> bool:
    """Whether an argument names a CUDA device: `"cuda"`, or `"cuda:1"`."""
    return isinstance(device, str) and device.partition(":")[0] == "cuda"


def place(device: str) -> Any:
    """The torch device of that name, with its number."""
    import torch

    found = torch.device(device)
    if found.type != "cuda":
        return found
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count <= (found.index or 0):
        raise RuntimeError(
            f"device={device!r} cannot be used here: torch {torch.__version__} finds "
            f"{count or 'no'} CUDA device{'' if count == 1 else 's'}"
        )
    return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)


def place_of(device: str) -> Any:
    """Where arrays of a run on a device live: `place`, or None for NumPy's on the CPU."""
    return place(device) if is_named(device) else None
