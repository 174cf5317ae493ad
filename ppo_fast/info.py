"""Facts about this build, as `ppo-fast info` prints them."""

from typing import TypedDict


class BuildInfo(TypedDict):
    """What `build_info` returns.

    `isa` is the instruction set in use (PPO_FAST_ISA=generic|avx2|avx512 asks for a lower one),
    `best_isa` the best of build and processor, `threads` the processors this process may run on.
    """

    version: str
    compiler: str
    flags: str
    isa: str
    best_isa: str
    cuda: bool
    threads: int


class NativeEnvInfo(TypedDict):
    """What the native module knows of one of its environments.

    `params` are its keyword arguments, `reset_bounds` the default range of initial states.
    """

    obs_size: int
    obs_dtype: str
    num_actions: int
    reset_bounds: tuple[float, float]
    params: tuple[str, ...]


def build_info() -> BuildInfo:
    """Version, compiler, flags, instruction set, CUDA and thread count of the native kernels."""
    from ppo_fast import _core

    return _core.build_info()
