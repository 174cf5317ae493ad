"""Environments of your own: one C++ header in, native vector environments out, on either device."""

import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from ppo_fast import _core, cuda
from ppo_fast.envs.specs import NATIVE_SPECS, NativeSpec, make_spec, register_spec
from ppo_fast.info import include_dir

_FLAGS = ("-std=c++20", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra")
# As the built-in environments (CMakeLists.txt): no rounding may depend on the instruction set.
_EXACT = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-tree-slp-vectorize")
_ISA_FLAGS = {
    "generic": (),
    "avx2": ("-mavx2", "-mfma", "-mbmi2"),
    "avx512": (
        *("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mbmi2"),
        "-mprefer-vector-width=512",
    ),
}
# What env_loop.h calls must be marked; nvcc by itself would only warn of it.
_CUDA_FLAGS = (
    *("-std=c++20", "-O3", "-shared", "-Xcompiler=-fPIC,-fvisibility=hidden"),
    *("--expt-relaxed-constexpr", "--fmad=false", "-forward-unknown-to-host-compiler"),
    "--Werror=cross-execution-space-call",
)
_CUDA_HINT = """
A GPU runs functions that are marked PPO_HD, e.g.
    PPO_HD static void reset(State& s, const Params& p, ppo::Rng& rng) { ... }"""


class BuildError(RuntimeError):
    """A header could not be compiled or loaded; the message holds what the compiler said."""


@dataclass(frozen=True)
class EnvMaker:
    """Makes batches of one environment: `maker(num_envs, **keywords)`."""

    spec: NativeSpec
    """Its id, spaces, limit and keywords."""
    library: Path
    """The shared library that it lives in."""
    device: str = "cpu"
    """Where its batches are, unless a keyword says otherwise."""

    def __call__(self, num_envs: int = 1, **keywords: Any) -> VectorEnv[Any, Any, Any]:
        """A batch of the environment; keywords as `make_vec` takes them."""
        from ppo_fast.envs.make import make_vec

        return make_vec(self.spec.env_id, num_envs, **({"device": self.device} | keywords))


def build(
    header: str | os.PathLike[str], *, device: str = "cpu", flags: tuple[str, ...] = ()
) -> EnvMaker:
    """Compile an environment with the system's compiler, load it and register its id.

    The library is cached: it is compiled again only when the header, a file that it includes, the
    flags or the compiler change. The compiler is that of the environment variable CXX, else c++,
    g++ or clang++; libraries are kept under PPO_FAST_CACHE, else in the user's cache directory.

    For a GPU a second library is made of the same header, by the nvcc of CUDACXX or of the path.
    Its functions must then be marked PPO_HD; env.h says more.

    Parameters
    ----------
    header
        A C++20 file that includes `<ppo_fast/env.h>` and ends with `PPO_FAST_ENV(Type, id, limit)`.
    device
        `"cpu"`; or `"cuda"` (or `"cuda:1"`): for both, with the GPU as the maker's default.
    flags
        More flags for the compilers.

    Returns
    -------
    EnvMaker
        Makes batches; `ppo_fast.make_vec(maker.spec.env_id, ...)` and `gymnasium.make_vec` know
        the id from now on, too.

    Raises
    ------
    FileNotFoundError
        If there is no such header.
    BuildError
        With the compiler's words, or if there is no compiler.
    ValueError
        For another device.
    RuntimeError
        If nothing can run on a GPU here, with the reason.
    """
    on_gpu = cuda.is_named(device)
    if device != "cpu" and not on_gpu:
        raise ValueError(f"build: device must be 'cpu' or 'cuda', got {device!r}")
    kernels = cuda.kernels(f"build: device={device!r}") if on_gpu else None
    path = Path(header).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"build: there is no header {header}")
    command = [*_compiler(), *_FLAGS, *_EXACT, *_ISA_FLAGS[_core.build_info()["isa"]]]
    command += ["-fdiagnostics-color=never", "-fmax-errors=1"]
    maker = load(_compile([*command, f"-I{include_dir()}", *flags, "-x", "c++"], path))
    if kernels is None:
        return maker
    command = [*_cuda_command(device), f"-I{include_dir()}", *flags]
    kernels.load_env(str(_compile(command, path)))
    return replace(maker, device=device)


def load(library: str | os.PathLike[str]) -> EnvMaker:
    """Load an environment that was compiled already, e.g. by your own CMake, and register its id.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    BuildError
        If it is no environment, or was built with headers of another version.
    """
    path = Path(library).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"load: there is no library {library}")
    try:
        info = _core.load_env(str(path))
    except RuntimeError as error:
        raise BuildError(f"load: {error}") from None
    spec = make_spec(info)
    NATIVE_SPECS[spec.env_id] = spec
    register_spec(spec)
    return EnvMaker(spec, path)


def _compile(command: list[str], path: Path) -> Path:
    """The library that the command makes of a file, from the cache if it is there."""
    library = _cache_dir() / f"{path.stem}-{_digest(command, path)}{_suffix()}"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            fresh = Path(folder) / library.name
            _run([*command, str(path), "-o", str(fresh)], path)
            os.replace(fresh, library)  # at once, so that no other process sees half of it
    return library


def _suffix() -> str:
    return ".dylib" if sys.platform == "darwin" else ".so"


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("PPO_FAST_CACHE") or Path(base) / "ppo_fast") / "envs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _compiler() -> list[str]:
    """The command of the compiler, which may bring arguments, as in CXX='ccache g++'."""
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["c++", "g++", "clang++"]:
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    raise BuildError(
        f"build: there is no C++ compiler ({f'CXX={wanted}' if wanted else 'c++, g++, clang++'}); "
        f"install GCC 11 or Clang 14, or later, or set CXX"
    )


def _cuda_command(device: str) -> list[str]:
    """The command that makes a library for a GPU of the kind of the device."""
    import torch

    command = shlex.split(os.environ.get("CUDACXX") or "nvcc")
    if shutil.which(command[0]) is None:
        raise BuildError(
            f"build: there is no {command[0]} for device={device!r}; install the CUDA toolkit and "
            f"put nvcc on the path, or set CUDACXX"
        )
    major, minor = torch.cuda.get_device_capability(cuda.place(device))
    return [*command, *_CUDA_FLAGS, f"-arch=sm_{major}{minor}", "-x", "cu"]


@functools.cache
def _version(*compiler: str) -> str:
    return subprocess.run([*compiler, "--version"], capture_output=True, text=True).stdout


def _digest(command: list[str], path: Path) -> str:
    """A name for what would be built: command, compiler, and every file that is included."""
    listing = _run([*command, "-M", str(path)], path)
    files = re.split(r"(?<!\\)\s+", listing.replace("\\\n", " ").partition(": ")[2].strip())
    digest = hashlib.sha256("\0".join([*command, _version(command[0])]).encode())
    for name in files:
        digest.update(Path(name.replace("\\ ", " ")).read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str], path: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        hint = _CUDA_HINT if "__host__ function" in done.stderr else ""
        raise BuildError(f"build: {path.name} does not compile:\n{done.stderr.strip()}{hint}")
    return done.stdout
