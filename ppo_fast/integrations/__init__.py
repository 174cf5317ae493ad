"""Fast advantages inside other libraries.

Each module of this package is named after a library and holds what that library can be given: a
class to pass in, or a function with the library's own argument order and conventions. `patch`
replaces a library's function in place, where it has no other hook. docs/advantage.md has a table of
what to write for which library.

Tensors stay where they are, on the CPU or a CUDA device, and results come out there. Those on a
CUDA device are a RuntimeError where the kernels for it cannot be used (docs/cuda.md), those on
others a ValueError; TorchRL's go on to its own code then. Where a library has NumPy arrays
(stable-baselines3, Tianshou, RLlib's value targets), the CPU computes.

Nothing here is imported, and no library touched, until it is asked for.
"""

import importlib
from typing import Any

from ppo_fast.integrations.patching import Patch, Target

LIBRARIES = (
    "nemo_rl",
    "openrlhf",
    "pufferlib",
    "rl_games",
    "rllib",
    "rsl_rl",
    "sample_factory",
    "sb3",
    "sb3_contrib",
    "skrl",
    "tianshou",
    "torchrl",
    "trl",
    "verl",
)

__all__ = ["LIBRARIES", "Patch", "Target", "patch"]


def patch(library: str) -> Patch:
    """Replace a library's advantage computation by ours, until `undo` of the result.

    Parameters
    ----------
    library
        One of `LIBRARIES` whose module has a function `targets`. The library must be installed.

    Returns
    -------
    Patch
        `print(patch)` tells what was replaced; `patch.undo()` puts it back; it is a context manager
        as well.

    Raises
    ------
    ValueError
        For an unknown library, one that has nothing to patch, or one that is patched already.
    ModuleNotFoundError
        If the library, or something that it needs, is not installed.
    AttributeError
        If the installed version of the library lacks what is to be replaced.
    """
    if library not in LIBRARIES:
        raise ValueError(f"patch: unknown library {library!r}; there are {', '.join(LIBRARIES)}")
    try:
        module = importlib.import_module(f"{__name__}.{library}")
        targets = module.targets() if hasattr(module, "targets") else None
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"patch: {library!r} needs what is not installed: {error}", name=error.name
        ) from error
    if targets is None:
        raise ValueError(f"patch: {library!r} has nothing to patch; {module.HOW}")
    return Patch(library, targets)


def __getattr__(name: str) -> Any:
    if name in LIBRARIES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
