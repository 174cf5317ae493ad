"""make_vec and make_stepper: an id in, a batch of environments out."""

import importlib
import inspect
import operator
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from ppo_fast import cuda
from ppo_fast.envs.ale import AleVectorEnv
from ppo_fast.envs.arguments import did_you_mean
from ppo_fast.envs.envpool import EnvPoolVectorEnv
from ppo_fast.envs.native import NativeVectorEnv
from ppo_fast.envs.specs import NAMESPACE, NATIVE_SPECS, native_spec
from ppo_fast.envs.stepping import FlatStepper, SingleEnvStepper, Stepper, VectorEnvStepper
from ppo_fast.extras import require
from ppo_fast.observations import ObsLayout

BACKENDS = ("native", "gymnasium", "ale", "envpool")
VECTORIZATIONS = ("sync", "async")
_POOLS = {"ale": AleVectorEnv, "envpool": EnvPoolVectorEnv}


def make_vec(
    env_id: str,
    num_envs: int = 1,
    *,
    backend: str | None = None,
    vectorization: str | None = None,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    episode_stats: bool = False,
    device: str = "cpu",
    **env_kwargs: Any,
) -> VectorEnv[Any, Any, Any]:
    """Make a batch of environments, native where there is a native one.

    Parameters
    ----------
    env_id
        A native id (`"CartPole-v1"`, also as `"ppo_fast/CartPole-v1"`) or any id of the backend.
    num_envs
        Number of environments.
    backend
        `"native"`, `"gymnasium"`, `"ale"` (ale-py's C++ batch of Atari games) or `"envpool"`. None
        is native where the id is, else gymnasium, whatever else is installed: `"ALE/Pong-v5"` is
        then Gymnasium's raw game, one Python object per environment.
    vectorization
        Of backend gymnasium: `"sync"` for `SyncVectorEnv`, the default, or `"async"` for
        `AsyncVectorEnv`, a process per environment.
    num_threads
        Threads that share a step; None chooses by the work of a step (native) or takes one per
        processor (ale, envpool). Gymnasium has none.
    autoreset_mode
        Gymnasium's `AutoresetMode`.
    max_episode_steps
        Length at which episodes are truncated; None takes the environment's registered limit.
    episode_stats
        Whether infos carry the return, length and time of episodes that ended, as Gymnasium's
        `RecordEpisodeStatistics` gives them: counted in C++, or by that wrapper.
    device
        `"cpu"`; or `"cuda"` (or `"cuda:1"`), where `step` takes and gives torch tensors: native
        environments only.
    **env_kwargs
        Keywords of the environment.

    Returns
    -------
    gymnasium.vector.VectorEnv
        A `NativeVectorEnv`, `CudaVectorEnv`, `SyncVectorEnv`, `AsyncVectorEnv`, `AleVectorEnv` or
        `EnvPoolVectorEnv`, in that wrapper where it takes one.

    Raises
    ------
    ValueError
        For an unknown id (with near matches), backend or device, a number below 1, or a keyword
        that the backend cannot honour.
    RuntimeError
        If nothing can run on a GPU here, with the reason.
    ModuleNotFoundError
        If the backend's package is not installed, with the command that installs it.
    """
    if not isinstance(env_id, str):
        raise TypeError(f"make_vec: env_id must be a string, got {type(env_id).__name__}")
    num_envs = _integer("num_envs", num_envs)
    num_threads = None if num_threads is None else _integer("num_threads", num_threads)
    if max_episode_steps is not None:
        max_episode_steps = _integer("max_episode_steps", max_episode_steps)
    if num_envs < 1:
        raise ValueError(f"make_vec: num_envs must be at least 1, got {num_envs}")
    on_gpu = cuda.is_named(device)
    if device != "cpu" and not on_gpu:
        raise ValueError(f"make_vec: device must be 'cpu' or 'cuda', got {device!r}")
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"make_vec: backend must be one of {BACKENDS} or None, got {backend!r}")
    spec = native_spec(env_id, device)
    if backend is None:
        backend = "gymnasium" if spec is None else "native"
    if vectorization is not None:
        _check_vectorization(vectorization, backend)
    if on_gpu and backend != "native":
        raise ValueError(
            f"make_vec: device {device!r} is for native environments, which {env_id!r} is not"
            if spec is None
            else f"make_vec: device {device!r} is for backend 'native', got {backend!r}"
        )
    if backend in _POOLS:
        for name, value in (("num_threads", num_threads), ("max_episode_steps", max_episode_steps)):
            if value is not None and value < 1:
                raise ValueError(f"make_vec: {name} must be at least 1, got {value}")
        pool = _POOLS[backend](
            original_id(env_id),
            num_envs,
            num_threads=num_threads,
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            **env_kwargs,
        )
        return RecordEpisodeStatistics(pool) if episode_stats else pool
    if backend == "native":
        if spec is None:
            known = ", ".join(NATIVE_SPECS)
            raise ValueError(f"make_vec: {env_id!r} is not native; native are: {known}")
        keywords = env_kwargs | {
            "autoreset_mode": autoreset_mode,
            "episode_stats": episode_stats,
            "max_episode_steps": spec.max_episode_steps
            if max_episode_steps is None
            else max_episode_steps,
        }
        if on_gpu:
            return _on_gpu(spec.env_id, num_envs, device, num_threads, keywords)
        return NativeVectorEnv(spec.env_id, num_envs, num_threads=num_threads, **keywords)
    if num_threads is not None:
        raise ValueError(
            f"make_vec: Gymnasium's environments have no threads, got num_threads={num_threads}; "
            "leave it out or pass vectorization='async'"
        )
    require_known(env_id)
    if max_episode_steps is not None:
        env_kwargs["max_episode_steps"] = max_episode_steps
    env = gymnasium.make_vec(
        original_id(env_id),
        num_envs,
        vectorization_mode=vectorization or "sync",
        vector_kwargs={"autoreset_mode": AutoresetMode(autoreset_mode)},
        **env_kwargs,
    )
    return RecordEpisodeStatistics(env) if episode_stats else env


def _on_gpu(
    env_id: str, num_envs: int, device: str, num_threads: int | None, keywords: dict[str, Any]
) -> VectorEnv[Any, Any, Any]:
    if num_threads is not None:
        raise ValueError(
            f"make_vec: num_threads is for environments on the CPU, got {num_threads}; leave it out"
        )
    from ppo_fast.envs.cuda import CudaVectorEnv  # which needs torch

    return CudaVectorEnv(env_id, num_envs, device=device, **keywords)


def _integer(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"make_vec: {name} must be an integer, got {value!r}") from None
    if number >= 2**31:
        raise ValueError(f"make_vec: {name} must be below 2**31, got {number}")
    return number


def _check_vectorization(vectorization: str, backend: str) -> None:
    if vectorization not in VECTORIZATIONS:
        raise ValueError(
            f"make_vec: vectorization must be one of {VECTORIZATIONS} or None, "
            f"got {vectorization!r}"
        )
    if backend != "gymnasium":
        raise ValueError(
            f"make_vec: vectorization is for backend='gymnasium', got {vectorization!r} with "
            f"backend {backend!r}; leave it out or pass backend='gymnasium'"
        )


def make_stepper(
    env_id: str,
    num_envs: int,
    *,
    num_threads: int | None = None,
    vectorization: str = "sync",
    device: str = "cpu",
    **env_kwargs: Any,
) -> Stepper:
    """The environments of a training run: native, a single Gymnasium one, or a batch of those.

    Their observations are rows of numbers, whatever space the environment gives them in. For a GPU
    they are tensors there: of native environments on it (`CudaVectorEnv`), which no threads share,
    or of others on the CPU (`PinnedStepper`): Gymnasium's, and native ones that observe no rows of
    float32.
    """
    spec = native_spec(env_id)
    if spec is not None and vectorization != "sync":
        raise ValueError(
            f"vectorization={vectorization} is for Gymnasium's environments; {env_id} is native, "
            "and has threads: leave it out"
        )
    on_gpu = cuda.is_named(device)
    if on_gpu:
        cuda.kernels(f"device={device!r}")
        if spec is not None and _are_rows(spec.observation_space()):
            return _stepper_on_gpu(env_id, num_envs, device, env_kwargs)
    is_native = spec is not None
    stepper = _stepper_on_cpu(env_id, num_envs, is_native, num_threads, vectorization, env_kwargs)
    if not on_gpu:
        return stepper
    from ppo_fast.envs.pinned import PinnedStepper  # which needs torch

    size = ObsLayout.of(env_id, stepper.single_observation_space).size
    return PinnedStepper(stepper, size, cuda.place(device))


def _stepper_on_cpu(
    env_id: str,
    num_envs: int,
    is_native: bool,
    num_threads: int | None,
    vectorization: str,
    env_kwargs: dict[str, Any],
) -> Stepper:
    if not is_native and num_envs == 1 and vectorization == "sync":
        return SingleEnvStepper(make_single(env_id, **env_kwargs))
    options: dict[str, Any] = {"num_threads": num_threads}
    if not is_native:
        options = {"vectorization": vectorization}
        if vectorization == "async":
            options["wrappers"] = [partial(_deaf_to_the_terminal, os.getpid())]
    with _making(env_id, env_kwargs):
        env = make_vec(
            env_id, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **options, **env_kwargs
        )
    if not isinstance(env, NativeVectorEnv):
        return VectorEnvStepper(env)
    return env if _are_rows(env.single_observation_space) else FlatStepper(env)


def _are_rows(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are what networks take, so that nothing has to be copied."""
    return space.dtype == np.float32 and len(space.shape or ()) == 1


def _deaf_to_the_terminal(trainer: int, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment itself; its process, if it has one, leaves Ctrl-C to the one that trains."""
    if os.getpid() != trainer:
        for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
            signal.signal(number, signal.SIG_IGN)
    return env


def _stepper_on_gpu(env_id: str, num_envs: int, device: str, env_kwargs: dict[str, Any]) -> Stepper:
    mode = AutoresetMode.SAME_STEP
    with _making(env_id, env_kwargs):
        env: Any = make_vec(env_id, num_envs, autoreset_mode=mode, device=device, **env_kwargs)
    stepper: Stepper = env
    return stepper


def make_single(env_id: str, **env_kwargs: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make`; ValueError where it fails, e.g. for a missing dependency."""
    require_known(env_id)
    with _making(env_id, env_kwargs):
        return gymnasium.make(env_id, **env_kwargs)


@contextmanager
def _making(env_id: str, env_kwargs: dict[str, Any]) -> Iterator[None]:
    """ValueError where an environment cannot be made, of the keywords that were given, too."""
    of_keywords = (TypeError, ValueError, LookupError, AssertionError) if env_kwargs else ()
    try:
        yield
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"{env_id} cannot be made: {error}") from None
    except of_keywords as error:
        words = f"{type(error).__name__}: {error}"
        raise ValueError(f"{env_id} cannot be made with {env_kwargs}: {words}") from error


def make_original(
    env_id: str, *, render_mode: str | None = None, **env_kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """The environment of an id that `original_id` gave, with keywords that training takes.

    What our native ones take as keywords are attributes of Gymnasium's, for the most part.
    """
    spec = native_spec(env_id)
    given = env_kwargs if render_mode is None else {**env_kwargs, "render_mode": render_mode}
    if spec is None or spec.original is None:
        return make_single(env_id, **given)
    entry_point = gymnasium.spec(env_id).entry_point
    assert isinstance(entry_point, str)
    own = inspect.signature(load_env_creator(entry_point)).parameters
    keywords = {"max_episode_steps", *own}
    env = make_single(env_id, **{name: x for name, x in given.items() if name in keywords})
    for name in given.keys() - keywords:
        setattr(env.unwrapped, name, given[name])
    return env


def original_id(env_id: str) -> str:
    """The id to give to `gymnasium.make`: that of Gymnasium's own environment behind a native id,
    of the single-environment form of a user's native one, and other ids as they are.
    """
    spec = native_spec(env_id)
    if spec is None:
        return env_id
    return f"{NAMESPACE}/{spec.env_id}" if spec.original is None else spec.env_id


def reward_threshold(env_id: str) -> float | None:
    """Mean return at which an environment counts as solved, where it says so."""
    return gymnasium.spec(original_id(env_id).rpartition(":")[2]).reward_threshold


def require_known(env_id: str) -> None:
    """Refuse an id that neither we nor Gymnasium know, with the ids that look like it.

    In `module:id` the module is imported first, which registers its environments; ids that start
    with `ALE/` need no module.
    """
    if native_spec(env_id) is not None:
        return
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        elif name.startswith("ALE/"):
            require("ale_py", "ale")
        gymnasium.spec(name)
    except (gymnasium.error.Error, ImportError) as error:
        known = {*gymnasium.registry, *NATIVE_SPECS}
        hint = did_you_mean(name, known, str(error))
        raise ValueError(f"unknown environment {env_id!r}; {hint}") from None
