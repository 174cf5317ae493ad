"""Facts about this build, as `ppo-fast info` prints them."""

from pathlib import Path
from typing import Any, TypedDict, cast

from ppo_fast.cuda import CudaInfo


class BuildInfo(CudaInfo):
    """What `build_info` returns.

    `isa` is the instruction set in use (PPO_FAST_ISA=generic|avx2|avx512 asks for a lower one),
    `best_isa` the best of build and processor, `threads` the processors this process may run on.
    `cuda` says whether kernels can run on a GPU here, `cuda_off` why not (empty if they can),
    `cuda_toolkit` and `cuda_architectures` what they were built with and for (empty if not built).
    """

    version: str
    compiler: str
    flags: str
    isa: str
    best_isa: str
    threads: int


class NativeEnvInfo(TypedDict):
    """What the table of a native environment says; see csrc/include/ppo_fast/env_table.h."""

    name: str
    max_episode_steps: int | None
    reward_threshold: float | None
    obs_shape: tuple[int, ...]
    obs_dtype: str
    obs_bounds: tuple[float, float]
    num_actions: int
    action_size: int
    action_bounds: tuple[float, float]
    params: tuple[str, ...]
    default_options: dict[str, Any]


def build_info() -> BuildInfo:
    """Version, compiler, flags, instruction set, CUDA and thread count of the native kernels."""
    from ppo_fast import _core, cuda

    return cast(BuildInfo, _core.build_info() | cuda.build_info())


def include_dir() -> Path:
    """The directory to compile with so that `#include <ppo_fast/env.h>` is found."""
    return _installed("include")


def cmake_dir() -> Path:
    """The directory for `-Dppo_fast_DIR=...`, so that CMake's `find_package(ppo_fast)` succeeds."""
    return _installed("share/cmake/ppo_fast")


def _installed(part: str) -> Path:
    from ppo_fast import _core

    return Path(_core.__file__).parent / part
