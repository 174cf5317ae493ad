"""One way to step for training: `Stepper`, and the adapters that give it to Gymnasium environments.

A stepper is in SAME_STEP autoreset: where an episode ends, `obs` already holds the first
observation of the next one and `final_obs` the last of the old one, which is what a truncated
value needs.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from ppo_fast.envs import saving

Spaces = gymnasium.spaces.Space[Any]


class Stepper(Protocol):
    """What the training loop needs of a batch of environments. NativeVectorEnv is one."""

    num_envs: int
    single_observation_space: Spaces
    single_action_space: Spaces

    def reset(self, *, seed: Sequence[int | None]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start all episodes; observations [N, ...]."""
        ...

    def step_into(
        self,
        actions: NDArray[Any],
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any],
    ) -> int:
        """Step all; returns how many episodes ended."""
        ...

    def get_state(self) -> NDArray[np.uint8] | None:
        """What `set_state` goes on from; None where an environment's state cannot be saved."""
        ...

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Be as when `get_state` was called, in new environments as well."""
        ...

    def close(self) -> None:
        """Release what the environments hold."""
        ...


class SingleEnvStepper:
    """One Gymnasium environment, stepped directly: no vector wrapper, no copies of infos."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self.num_envs = 1
        self.single_observation_space: Spaces = env.observation_space
        self.single_action_space: Spaces = env.action_space
        self._env = env

    def reset(self, *, seed: Sequence[int | None]) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, info = self._env.reset(seed=seed[0])
        return np.asarray(obs)[None], info

    def step_into(
        self,
        actions: NDArray[Any],
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any],
    ) -> int:
        new_obs, reward, is_terminated, is_truncated, _ = self._env.step(actions[0])
        ended = bool(is_terminated or is_truncated)
        if ended:
            final_obs[0] = new_obs
            new_obs, _ = self._env.reset()
        obs[0] = new_obs
        rewards[0] = reward
        terminated[0] = is_terminated
        truncated[0] = is_truncated
        return int(ended)

    def get_state(self) -> NDArray[np.uint8] | None:
        return saving.get_state([self._env])

    def set_state(self, state: NDArray[np.uint8]) -> None:
        self._env.reset()
        saving.set_state([self._env], state)

    def close(self) -> None:
        self._env.close()


class FlatStepper:
    """Another stepper, whose observations of any shape and type become float32 rows."""

    def __init__(self, stepper: Stepper) -> None:
        space = stepper.single_observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        self.num_envs = stepper.num_envs
        self.single_observation_space: Spaces = space
        self.single_action_space: Spaces = stepper.single_action_space
        self._stepper = stepper
        self._obs = np.zeros((self.num_envs, *space.shape), space.dtype)
        self._final_obs = np.zeros_like(self._obs)

    def _rows(self, obs: NDArray[Any]) -> NDArray[Any]:
        return obs.reshape(self.num_envs, -1)

    def reset(self, *, seed: Sequence[int | None]) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, infos = self._stepper.reset(seed=seed)
        return self._rows(obs).astype(np.float32), infos

    def step_into(
        self,
        actions: NDArray[Any],
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any],
    ) -> int:
        ended = self._stepper.step_into(
            actions, self._obs, rewards, terminated, truncated, self._final_obs
        )
        obs[:] = self._rows(self._obs)
        if ended:
            over = terminated | truncated
            final_obs[over] = self._rows(self._final_obs)[over]
        return ended

    def get_state(self) -> NDArray[np.uint8] | None:
        return self._stepper.get_state()

    def set_state(self, state: NDArray[np.uint8]) -> None:
        self._stepper.set_state(state)

    def close(self) -> None:
        self._stepper.close()


class VectorEnvStepper:
    """A Gymnasium VectorEnv in SAME_STEP mode."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self.num_envs = env.num_envs
        self.single_observation_space: Spaces = env.single_observation_space
        self.single_action_space: Spaces = env.single_action_space
        self._env = env

    def reset(self, *, seed: Sequence[int | None]) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, infos = self._env.reset(seed=list(seed))  # type: ignore[arg-type]
        return np.asarray(obs), infos

    def step_into(
        self,
        actions: NDArray[Any],
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any],
    ) -> int:
        obs[:], rewards[:], terminated[:], truncated[:], infos = self._env.step(actions)
        if "final_obs" not in infos:
            return 0
        ended = np.flatnonzero(infos["_final_obs"])
        for i in ended:
            final_obs[i] = infos["final_obs"][i]
        return len(ended)

    def get_state(self) -> NDArray[np.uint8] | None:
        return saving.get_state(self._env.envs) if isinstance(self._env, SyncVectorEnv) else None

    def set_state(self, state: NDArray[np.uint8]) -> None:
        assert isinstance(self._env, SyncVectorEnv)
        self._env.reset()
        saving.set_state(self._env.envs, state)

    def close(self) -> None:
        self._env.close()
