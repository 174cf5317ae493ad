"""NativeEnv: one native environment behind Gymnasium's Env."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ppo_fast.envs.native import NativeVectorEnv


class NativeEnv(gymnasium.Env[NDArray[Any], Any]):
    """A single native environment; `gymnasium.make("ppo_fast/CartPole-v1")` makes one.

    A step costs what a step of a batch costs, a few microseconds, so training should use
    `make_vec`; this form is for evaluation, wrappers and checks.

    Parameters
    ----------
    env_id
        A native environment.
    render_mode
        `"rgb_array"` or None.
    **env_kwargs
        Keywords of the environment.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(self, env_id: str, render_mode: str | None = None, **env_kwargs: Any) -> None:
        self._batch = NativeVectorEnv(
            env_id,
            1,
            num_threads=1,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
            **env_kwargs,
        )
        self.metadata = {k: v for k, v in self._batch.metadata.items() if k != "autoreset_mode"}
        self.render_mode = render_mode
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode; see `NativeVectorEnv.reset`."""
        obs, infos = self._batch.reset(seed=seed, options=options)
        return obs[0], infos

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take one action of `action_space`."""
        obs, rewards, terminated, truncated, infos = self._batch.step(np.asarray(action)[None])
        return obs[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), infos

    def render(self) -> Any:
        """A frame [height, width, 3], or None without a render mode."""
        frames = self._batch.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Release what rendering holds."""
        self._batch.close()

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that resets draw from; a copy, until it is assigned."""
        return self._batch.np_random[0]

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._batch.set_generator(0, value)

    @property
    def np_random_seed(self) -> int:
        """The seed of that generator; -1 after it was assigned."""
        return self._batch.np_random_seed[0]

    @property
    def _np_random(self) -> np.random.Generator:  # type: ignore[override]
        return self.np_random

    @property
    def state(self) -> NDArray[np.float64]:
        """What the dynamics move; a copy, which cannot be set."""
        state: NDArray[np.float64] = self._batch.get_attr("state")[0]
        return state

    # Attributes of the environment, e.g. `gravity`, live in the batch.

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._batch.get_attr(name)[0]

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        try:
            self._batch.set_attr(name, [value])
        except AttributeError:
            super().__setattr__(name, value)
