"""Which torch tensors have memory that a kernel can read."""

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.compiler import is_compiling

# torch has no public names for these.
_is_wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", lambda _: False)
_transforms = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)


def require_memory(function: str, name: str, tensor: Tensor) -> None:
    """Refuse a tensor whose numbers do not lie in one piece of memory.

    Raises
    ------
    TypeError
        For a sparse or nested tensor.
    RuntimeError
        Within torch.func's grad, vmap and the like, which wrap tensors.
    """
    if tensor.is_nested:
        raise TypeError(f"{function}: {name} must be a dense tensor, got a nested one")
    if tensor.layout is not torch.strided:
        raise TypeError(
            f"{function}: {name} must be a dense tensor, got {tensor.layout}; "
            f"pass {name}.to_dense()"
        )
    if not is_compiling() and _is_wrapped(tensor):
        raise RuntimeError(
            f"{function}: {name} is a tensor of torch.func's grad, vmap or the like, {_BLIND}"
        )


def require_no_transform(function: str) -> None:
    """Refuse a call within torch.func's grad, vmap and the like, whatever its tensors."""
    if _transforms():
        raise RuntimeError(
            f"{function}: is called within torch.func's grad, vmap or the like, {_BLIND}"
        )


_BLIND = (
    "which cannot see through native code; use loss.backward() or torch.autograd.grad, and one "
    "call for all rows"
)


def note_written(*tensors: Tensor | None) -> None:
    """Let autograd know that a kernel wrote to tensors, which a graph may have kept for later."""
    for tensor in tensors:
        if tensor is not None:
            increment_version(tensor)
