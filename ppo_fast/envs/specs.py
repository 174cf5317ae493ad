"""What Python knows of each native environment: its spaces, time limit and solved score."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

NAMESPACE = "ppo_fast"


@dataclass(frozen=True)
class NativeSpec:
    """One native environment.

    Attributes:
        env_id: Id of the Gymnasium original whose results it equals bit for bit.
        max_episode_steps: Time limit that `make_vec` applies by default.
        reward_threshold: Mean return at which the environment counts as solved.
        observation_space: Makes the space of one environment's observation.
        action_space: Makes the space of one environment's action.
    """

    env_id: str
    max_episode_steps: int
    reward_threshold: float | None
    observation_space: Callable[[], spaces.Box]
    action_space: Callable[[], spaces.Discrete]


def _cartpole_observation_space() -> spaces.Box:
    # Twice the limits of an episode, so that the observation that ends one is inside as well.
    theta_limit = 12 * 2 * math.pi / 360
    high = np.array([2.4 * 2, np.inf, theta_limit * 2, np.inf], dtype=np.float32)
    return spaces.Box(-high, high, dtype=np.float32)


NATIVE_SPECS: dict[str, NativeSpec] = {
    spec.env_id: spec
    for spec in (
        NativeSpec(
            env_id="CartPole-v1",
            max_episode_steps=500,
            reward_threshold=475.0,
            observation_space=_cartpole_observation_space,
            action_space=lambda: spaces.Discrete(2),
        ),
    )
}


def native_spec(env_id: str) -> NativeSpec | None:
    """The native environment behind an id: `CartPole-v1`, `ppo_fast/CartPole-v1`, or the latter
    with its module in front.
    """
    return NATIVE_SPECS.get(env_id.removeprefix("ppo_fast.envs:").removeprefix(f"{NAMESPACE}/"))


def register() -> None:
    """Register the native environments with Gymnasium; a second call changes nothing."""
    for spec in NATIVE_SPECS.values():
        env_id = f"{NAMESPACE}/{spec.env_id}"
        if env_id not in gymnasium.registry:
            kwargs: dict[str, Any] = {"env_id": spec.env_id}
            gymnasium.register(
                id=env_id,
                vector_entry_point="ppo_fast.envs.native:NativeVectorEnv",
                max_episode_steps=spec.max_episode_steps,
                reward_threshold=spec.reward_threshold,
                kwargs=kwargs,
            )
