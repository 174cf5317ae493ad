"""What Python knows of each native environment: its spaces, time limit and solved score."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ppo_fast import _core
from ppo_fast.envs.originals import ORIGINALS, Original
from ppo_fast.info import NativeEnvInfo

NAMESPACE = "ppo_fast"


@dataclass(frozen=True)
class NativeSpec:
    """One native environment.

    Attributes
    ----------
    env_id
        Its id; for a built-in one that of the Gymnasium original whose results it equals bit for
        bit.
    max_episode_steps
        Time limit that `make_vec` applies by default; None for no limit.
    reward_threshold
        Mean return at which the environment counts as solved.
    observation_space
        Makes the space of one environment's observation.
    action_space
        Makes the space of one environment's action.
    params
        Its keywords, which are attributes as well.
    default_options
        What `reset(options=...)` may set, with the values it has otherwise.
    original
        Gymnasium's environment of this id, which draws its frames; None if there is none.
    """

    env_id: str
    max_episode_steps: int | None
    reward_threshold: float | None
    observation_space: Callable[[], spaces.Box]
    action_space: Callable[[], spaces.Discrete | spaces.Box]
    params: tuple[str, ...] = ()
    default_options: dict[str, Any] = field(default_factory=dict)
    original: Original | None = None


def _action_space(info: NativeEnvInfo) -> spaces.Discrete | spaces.Box:
    if info["num_actions"] > 0:
        return spaces.Discrete(info["num_actions"])
    low, high = info["action_bounds"]
    return spaces.Box(low, high, (info["action_size"],), np.float32)


def _observation_space(info: NativeEnvInfo, original: Original | None) -> spaces.Box:
    if original is not None:
        return original.observation_space()
    low, high = info["obs_bounds"]
    dtype: Any = np.dtype(info["obs_dtype"]).type
    return spaces.Box(low, high, info["obs_shape"], dtype)


def make_spec(info: NativeEnvInfo) -> NativeSpec:
    """The spec of an environment from what its table says."""
    env_id = info["name"]
    original = ORIGINALS.get(env_id)
    return NativeSpec(
        env_id=env_id,
        max_episode_steps=info["max_episode_steps"],
        reward_threshold=info["reward_threshold"],
        observation_space=lambda: _observation_space(info, original),
        action_space=lambda: _action_space(info),
        params=info["params"],
        default_options=info["default_options"],
        original=original,
    )


NATIVE_SPECS: dict[str, NativeSpec] = {
    name: make_spec(info) for name, info in _core.native_envs().items()
}


def is_header(env_id: str) -> bool:
    """Whether an id is the path of a header."""
    return env_id.endswith((".h", ".hpp"))


def native_spec(env_id: str, device: str = "cpu") -> NativeSpec | None:
    """The native environment behind an id: `CartPole-v1`, `ppo_fast/CartPole-v1`, the latter with
    its module in front, or the path of a header, which is built for the device.
    """
    if is_header(env_id):
        from ppo_fast.envs.building import build

        return build(env_id, device=device).spec
    return NATIVE_SPECS.get(env_id.removeprefix("ppo_fast.envs:").removeprefix(f"{NAMESPACE}/"))


def register() -> None:
    """Register the native environments with Gymnasium; a second call changes nothing."""
    for spec in NATIVE_SPECS.values():
        register_spec(spec)


def register_spec(spec: NativeSpec) -> None:
    """Register one native environment with Gymnasium as `ppo_fast/<id>`."""
    env_id = f"{NAMESPACE}/{spec.env_id}"
    gymnasium.registry.pop(env_id, None)  # without the warning of a second registration
    gymnasium.register(
        id=env_id,
        entry_point="ppo_fast.envs.single:NativeEnv",
        vector_entry_point="ppo_fast.envs.native:NativeVectorEnv",
        max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold,
        kwargs={"env_id": spec.env_id},
    )
