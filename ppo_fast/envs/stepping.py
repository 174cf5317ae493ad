"""One way to step for training: `Stepper`, and the adapters that give it to Gymnasium environments.

The adapters make rows of float32 of what environments observe. A stepper is in SAME_STEP autoreset:
where an episode ends, `obs` already holds the first observation of the next one and `final_obs` the
last of the old one, which is what a truncated value needs.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from numpy.typing import NDArray

from ppo_fast.arrays import Array
from ppo_fast.envs import saving
from ppo_fast.envs.native import NativeVectorEnv
from ppo_fast.observations import ObsLayout

Spaces = gymnasium.spaces.Space[Any]


class Stepper(Protocol):
    """What the training loop needs of a batch of environments. A NativeVectorEnv is one, if its
    observations are rows of float32, and so is a CudaVectorEnv, of tensors.
    """

    num_envs: int
    single_observation_space: Spaces
    single_action_space: Spaces

    def reset(self, *, seed: Sequence[int | None]) -> tuple[Array, dict[str, Any]]:
        """Start all episodes; observations [N, size]."""
        ...

    def step_into(
        self,
        actions: Array,
        obs: Array,
        rewards: Array,
        terminated: Array,
        truncated: Array,
        final_obs: Array,
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
        self._observations = _layout(env, self.single_observation_space)

    def reset(self, *, seed: Sequence[int | None]) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, info = self._env.reset(seed=seed[0])
        return self._observations.row(obs), info

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
            final_obs[:] = self._observations.row(new_obs)
            new_obs, _ = self._env.reset()
        obs[:] = self._observations.row(new_obs)
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
    """A batch of native environments whose observations have other shapes and types."""

    def __init__(self, env: NativeVectorEnv) -> None:
        space = env.single_observation_space
        assert space.shape is not None
        self.num_envs = env.num_envs
        self.single_observation_space: Spaces = space
        self.single_action_space: Spaces = env.single_action_space
        self._env = env
        self._observations = _layout(env, self.single_observation_space)
        self._obs = np.zeros((self.num_envs, *space.shape), space.dtype)
        self._final_obs = np.zeros_like(self._obs)

    def _rows(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        return self._observations.rows(obs, self.num_envs)

    def reset(self, *, seed: Sequence[int | None]) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, infos = self._env.reset(seed=seed)
        return self._rows(obs), infos

    def step_into(
        self,
        actions: NDArray[Any],
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any],
    ) -> int:
        ended = self._env.step_into(
            actions, self._obs, rewards, terminated, truncated, self._final_obs
        )
        obs[:] = self._rows(self._obs)
        if ended:
            over = terminated | truncated
            final_obs[over] = self._rows(self._final_obs)[over]
        return ended

    def get_state(self) -> NDArray[np.uint8] | None:
        return self._env.get_state()

    def set_state(self, state: NDArray[np.uint8]) -> None:
        self._env.set_state(state)

    def close(self) -> None:
        self._env.close()


class VectorEnvStepper:
    """A Gymnasium VectorEnv in SAME_STEP mode."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self.num_envs = env.num_envs
        self.single_observation_space: Spaces = env.single_observation_space
        self.single_action_space: Spaces = env.single_action_space
        self._env = env
        self._observations = _layout(env, self.single_observation_space)

    def reset(self, *, seed: Sequence[int | None]) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, infos = self._env.reset(seed=list(seed))  # type: ignore[arg-type]
        return self._observations.rows(obs, self.num_envs), infos

    def step_into(
        self,
        actions: NDArray[Any],
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any],
    ) -> int:
        new_obs, rewards[:], terminated[:], truncated[:], infos = self._env.step(actions)
        obs[:] = self._observations.rows(new_obs, self.num_envs)
        if "final_obs" not in infos:
            return 0
        ended = np.flatnonzero(infos["_final_obs"])
        for i in ended:
            final_obs[i] = self._observations.row(infos["final_obs"][i])
        return len(ended)

    def get_state(self) -> NDArray[np.uint8] | None:
        return saving.get_state(self._env.envs) if isinstance(self._env, SyncVectorEnv) else None

    def set_state(self, state: NDArray[np.uint8]) -> None:
        assert isinstance(self._env, SyncVectorEnv)
        self._env.reset()
        saving.set_state(self._env.envs, state)

    def close(self) -> None:
        env = self._env
        if not isinstance(env, AsyncVectorEnv):
            env.close()
            return
        # A process that has died, or is at work, gives no answer that could be waited for.
        if env._state is AsyncState.DEFAULT:
            with suppress(EOFError, ConnectionError):
                env.close()
        for process in env.processes:
            process.kill()
            process.join()
        env.closed = True


def _layout(env: Any, space: Spaces) -> ObsLayout:
    return ObsLayout.of(env.spec.id if env.spec is not None else str(env), space)
