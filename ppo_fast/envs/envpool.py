"""EnvPoolVectorEnv: EnvPool's environments with Gymnasium's contract."""

import warnings
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ppo_fast.envs.arguments import did_you_mean
from ppo_fast.envs.pool import PoolVectorEnv, allowed_keywords, without
from ppo_fast.extras import require

_REFUSED = {
    "batch_size": "all environments step together",
    "seed": "seed with reset(seed=...)",
    "env_seed": "seed with reset(seed=...)",
    "render_mode": "render with gymnasium.make",
}
_BOOKKEEPING = ("env_id", "players", "elapsed_step")


class EnvPoolVectorEnv(PoolVectorEnv):
    """A batch of environments of EnvPool.

    EnvPool seeds when it is constructed, so `reset` with seeds constructs it anew; they must then
    be given for all environments or none. EnvPool never reports an episode as both terminated and
    truncated: one that terminates on its last allowed step counts as truncated only, where
    Gymnasium sets both. Its dynamics are close to Gymnasium's, not equal, and so are its spaces.

    Parameters
    ----------
    env_id
        An id of EnvPool, e.g. `"CartPole-v1"` or `"Pong-v5"`.
    num_envs
        Number of environments.
    num_threads
        Threads that share a step; None for one per processor.
    autoreset_mode
        Gymnasium's `AutoresetMode`.
    max_episode_steps
        Truncates episodes at this length; None takes the id's limit.
    **env_kwargs
        Keywords of `envpool.make`, e.g. `stack_num=4`.

    Raises
    ------
    ModuleNotFoundError
        If EnvPool is not installed, with the command that installs it.
    ValueError
        For an unknown id (with near matches), several players, observations or actions that are
        not one array, or a keyword that would break the contract.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        num_threads: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **env_kwargs: Any,
    ) -> None:
        self._envpool = require("envpool", "envpool")
        self._settings = allowed_keywords("envpool", env_kwargs, _REFUSED)
        self._settings |= {"num_envs": num_envs, "num_threads": num_threads or 0}
        if max_episode_steps is not None:
            self._settings["max_episode_steps"] = max_episode_steps
        known = self._envpool.list_all_envs()
        if env_id not in known:
            hint = did_you_mean(env_id, known, "see envpool.list_all_envs()")
            raise ValueError(f"make_vec: backend 'envpool' has no environment {env_id!r}; {hint}")
        self._env_id = env_id
        self._pool: Any = None  # constructed by the first reset, which knows the seeds
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its spaces round float64 bounds to float32
            spec = self._envpool.make_spec(env_id, **self._settings)
            spaces = spec.gymnasium_observation_space, spec.gymnasium_action_space
        if spec.config.max_num_players != 1:
            raise ValueError(f"make_vec: {env_id!r} has several players; use envpool.make")
        super().__init__(num_envs, *spaces, autoreset_mode)

    def _reset_rows(
        self, rows: NDArray[np.intp], seeds: list[int | None]
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        seeded = sum(s is not None for s in seeds)
        if seeded == self.num_envs:
            self._construct(seeds)
        elif seeded:
            raise ValueError(
                "reset: seed must be given for all environments or none, since EnvPool seeds when "
                f"it is constructed; got seeds for {seeded} of {self.num_envs}"
            )
        obs, infos = self._pool.reset(rows.astype(np.int32))
        return obs, without(infos, _BOOKKEEPING)

    def _step_all(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        obs, rewards, terminated, truncated, infos = self._pool.step(actions)
        return obs, rewards, terminated, truncated, without(infos, _BOOKKEEPING)

    def _construct(self, seeds: list[int | None]) -> None:
        self._close_pool()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pool = self._envpool.make_gymnasium(self._env_id, seed=seeds, **self._settings)
            _ = self._pool.observation_space  # made on first use, with the same warnings

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
