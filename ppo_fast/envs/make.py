"""make_vec and make_stepper: an id in, a batch of environments out."""

import difflib
import importlib
import operator
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv

from ppo_fast.envs.native import NativeVectorEnv
from ppo_fast.envs.specs import NATIVE_SPECS, native_spec
from ppo_fast.envs.stepping import SingleEnvStepper, Stepper, VectorEnvStepper

BACKENDS = ("native", "gymnasium")


def make_vec(
    env_id: str,
    num_envs: int = 1,
    *,
    backend: str | None = None,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    device: str = "cpu",
    **env_kwargs: Any,
) -> VectorEnv[Any, Any, Any]:
    """Make a batch of environments, native where there is a native one.

    Parameters
    ----------
    env_id
        A native id (`"CartPole-v1"`, also as `"ppo_fast/CartPole-v1"`) or any Gymnasium id.
    num_envs
        Number of environments.
    backend
        `"native"`, `"gymnasium"` (its `SyncVectorEnv`), or None for native where possible.
    num_threads
        Threads that share a step of native environments; None chooses by the work of a step.
    autoreset_mode
        Gymnasium's `AutoresetMode`.
    max_episode_steps
        Length at which episodes are truncated; None takes the environment's registered limit.
    device
        `"cpu"`.
    **env_kwargs
        Keywords of the environment.

    Returns
    -------
    gymnasium.vector.VectorEnv
        A `NativeVectorEnv` or a `SyncVectorEnv`.

    Raises
    ------
    ValueError
        For an unknown id (with near matches), backend or device, or a number below 1.
    """
    if not isinstance(env_id, str):
        raise TypeError(f"make_vec: env_id must be a string, got {type(env_id).__name__}")
    num_envs = _integer("num_envs", num_envs)
    num_threads = None if num_threads is None else _integer("num_threads", num_threads)
    if max_episode_steps is not None:
        max_episode_steps = _integer("max_episode_steps", max_episode_steps)
    if num_envs < 1:
        raise ValueError(f"make_vec: num_envs must be at least 1, got {num_envs}")
    if device != "cpu":
        raise ValueError(f"make_vec: device must be 'cpu' in this build, got {device!r}")
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"make_vec: backend must be one of {BACKENDS} or None, got {backend!r}")
    spec = native_spec(env_id)
    if backend == "native" and spec is None:
        known = ", ".join(NATIVE_SPECS)
        raise ValueError(f"make_vec: {env_id!r} is not native; native are: {known}")
    if spec is not None and backend != "gymnasium":
        limit = spec.max_episode_steps if max_episode_steps is None else max_episode_steps
        return NativeVectorEnv(
            spec.env_id,
            num_envs,
            num_threads=num_threads,
            autoreset_mode=autoreset_mode,
            max_episode_steps=limit,
            **env_kwargs,
        )
    require_known(env_id)
    if max_episode_steps is not None:
        env_kwargs["max_episode_steps"] = max_episode_steps
    return gymnasium.make_vec(
        original_id(env_id),
        num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode(autoreset_mode)},
        **env_kwargs,
    )


def _integer(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"make_vec: {name} must be an integer, got {value!r}") from None
    if number >= 2**31:
        raise ValueError(f"make_vec: {name} must be below 2**31, got {number}")
    return number


def make_stepper(env_id: str, num_envs: int, *, num_threads: int | None = None) -> Stepper:
    """The environments of a training run: native, a single Gymnasium one, or a Gymnasium batch."""
    if native_spec(env_id) is None and num_envs == 1:
        return SingleEnvStepper(make_single(env_id))
    try:
        env = make_vec(
            env_id, num_envs, num_threads=num_threads, autoreset_mode=AutoresetMode.SAME_STEP
        )
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"{env_id} cannot be made: {error}") from None
    return env if isinstance(env, NativeVectorEnv) else VectorEnvStepper(env)


def make_single(env_id: str, **env_kwargs: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make`; ValueError where it fails, e.g. for a missing dependency."""
    require_known(env_id)
    try:
        return gymnasium.make(env_id, **env_kwargs)
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"{env_id} cannot be made: {error}") from None


def original_id(env_id: str) -> str:
    """The id of Gymnasium's own environment behind a native id; other ids as they are."""
    spec = native_spec(env_id)
    return env_id if spec is None else spec.env_id


def reward_threshold(env_id: str) -> float | None:
    """Mean return at which an environment counts as solved, where it says so."""
    return gymnasium.spec(original_id(env_id).rpartition(":")[2]).reward_threshold


def require_known(env_id: str) -> None:
    """Refuse an id that neither we nor Gymnasium know, with the ids that look like it.

    In `module:id` the module is imported first, which registers its environments.
    """
    if native_spec(env_id) is not None:
        return
    module, _, name = env_id.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        gymnasium.spec(name)
    except (gymnasium.error.Error, ImportError) as error:
        known = {*gymnasium.registry, *NATIVE_SPECS}
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else str(error)
        raise ValueError(f"unknown environment {env_id!r}; {hint}") from None
