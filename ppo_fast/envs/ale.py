"""AleVectorEnv: Atari games on ale-py's own C++ batch, with Gymnasium's contract."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ppo_fast.envs.arguments import did_you_mean
from ppo_fast.envs.pool import PoolVectorEnv, allowed_keywords, without
from ppo_fast.extras import require

_REFUSED = {
    "batch_size": "all environments step together",
    "life_loss_info": "it reports terminated in episodes that go on; use episodic_life=True",
    "render_mode": "render with gymnasium.make",
}
_BOOKKEEPING = ("env_id",)


class AleVectorEnv(PoolVectorEnv):
    """A batch of Atari games on ale-py's `AtariVectorEnv`, preprocessed as is usual for PPO.

    Observations are uint8 [4, 84, 84] unless keywords say otherwise. What the id says
    (`ALE/Pong-v5`: sticky actions of probability 0.25, 4 frames a step) holds as in
    `gymnasium.make`; everything else is the default of `AtariVectorEnv`: up to 30 no-ops at the
    start, FIRE pressed where the game knows it, rewards clipped to [-1, 1]. An episode is never
    both terminated and truncated.

    Parameters
    ----------
    env_id
        `"ALE/Pong-v5"` or `"Pong-v5"`.
    num_envs
        Number of environments.
    num_threads
        Threads that share a step; None for one per processor.
    autoreset_mode
        Gymnasium's `AutoresetMode`.
    max_episode_steps
        Truncates episodes at this many steps, those before the first observation not counted; None
        for the 108,000 frames of the id.
    **env_kwargs
        Keywords of `AtariVectorEnv`, e.g. `episodic_life=True` or `repeat_action_probability=0.0`.

    Raises
    ------
    ModuleNotFoundError
        If ale-py is not installed, with the command that installs it.
    ValueError
        For an unknown game (with near matches), or a keyword that would break the contract.
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
        original = require("ale_py", "ale").AtariVectorEnv
        settings = _registered(env_id) | allowed_keywords("ale", env_kwargs, _REFUSED)
        if max_episode_steps is not None:
            if "max_num_frames_per_episode" in env_kwargs:
                raise ValueError(
                    "make_vec: give max_episode_steps or max_num_frames_per_episode, not both"
                )
            settings["max_num_frames_per_episode"] = max_episode_steps * settings["frameskip"]

        class Games(original):  # type: ignore[misc, valid-type]
            metadata: dict[str, Any] = {}  # noqa: RUF012  # the original writes into VectorEnv's

        self._games: Any = Games(num_envs=num_envs, num_threads=num_threads or 0, **settings)
        super().__init__(
            num_envs,
            self._games.single_observation_space,
            self._games.single_action_space,
            autoreset_mode,
        )

    def _reset_rows(
        self, rows: NDArray[np.intp], seeds: list[int | None]
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        mask = np.zeros(self.num_envs, np.bool_)
        mask[rows] = True
        codes = np.array([-1 if s is None else s for s in seeds])  # -1: go on with the stream
        obs, infos = self._games.reset(seed=codes, options={"reset_mask": mask})
        return obs[rows], {key: value[rows] for key, value in without(infos, _BOOKKEEPING).items()}

    def _step_all(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        obs, rewards, terminated, truncated, infos = self._games.step(actions)
        return obs, rewards, terminated, truncated, without(infos, _BOOKKEEPING)

    def _close_pool(self) -> None:
        self._games = None


def _registered(env_id: str) -> dict[str, Any]:
    """Keywords that Gymnasium's registry has for a game's id, the game's name among them."""
    name = env_id.rpartition(":")[2].removeprefix("ALE/")
    spec = gymnasium.registry.get(f"ALE/{name}")
    if spec is None:
        games = [known for known in gymnasium.registry if known.startswith("ALE/")]
        hint = did_you_mean(f"ALE/{name}", games, "ids look like ALE/Pong-v5")
        raise ValueError(f"make_vec: backend 'ale' has no game {env_id!r}; {hint}")
    return dict(spec.kwargs)
