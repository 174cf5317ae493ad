"""Policy: a trained actor, ready to be asked for actions."""

import math
import os
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from ppo_fast.actions import ActionLayout
from ppo_fast.config import TrainConfig
from ppo_fast.learners import Learner, make_learner
from ppo_fast.training.checkpoint import load_checkpoint


class Policy:
    """Actions for observations, as a training run learned them.

    Attributes:
        config: The settings of the run.
    """

    def __init__(
        self, config: TrainConfig, learner: Learner, obs_size: int, layout: ActionLayout
    ) -> None:
        self.config = config
        self._learner = learner
        self._obs_size = obs_size
        self._layout = layout
        self._calls = 0

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._learner.state()
        return _again, (self.config, state, self._obs_size, self._layout, self._calls)

    def predict(self, obs: Any, *, deterministic: bool = True) -> NDArray[Any]:
        """Choose actions.

        Parameters
        ----------
        obs
            One observation or a batch [N, ...], in the environment's shape or flat.
        deterministic
            Take the most probable action; else draw from the policy, reproducibly: the k-th call
            of a freshly loaded policy always draws the same.

        Returns
        -------
        numpy.ndarray
            As the environment takes them: [...] for one observation, else [N, ...].

        Raises
        ------
        ValueError
            If the observations are not of the environment's size, or not finite.
        FloatingPointError
            If the network gives no distribution for an observation: its training has diverged.
        """
        given_obs = np.asarray(obs, np.float32)
        shape, size = given_obs.shape, self._obs_size
        is_batch = len(shape) > 1 and math.prod(shape[1:]) == size
        single = not is_batch and len(shape) > 0 and math.prod(shape) == size
        if not (is_batch or single):
            raise ValueError(
                f"predict: obs must have shape ({size},) or (N, {size}), got {np.shape(obs)}"
            )
        rows = given_obs.reshape(-1, size)
        finite = np.isfinite(rows)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"predict: obs must be finite, got {rows[row, column]} in row {row}, column "
                f"{column}"
            )
        actions = np.empty((len(rows), *self._layout.shape), self._layout.dtype)
        logp = np.empty(len(rows), np.float32)
        self._learner.act(
            np.ascontiguousarray(rows),
            actions,
            logp,
            step=self._calls,
            deterministic=deterministic,
        )
        if not deterministic:
            self._calls += 1
        given: NDArray[Any] = self._layout.to_env(actions)
        return given[0] if single else given


def load(folder: str | os.PathLike[str]) -> Policy:
    """Load the policy of a training run.

    Parameters
    ----------
    folder
        The run's folder, e.g. `"runs/cartpole"`.

    Raises
    ------
    FileNotFoundError
        If the folder holds no checkpoint.
    ValueError
        If the checkpoint is truncated, damaged or not ours.
    """
    content = load_checkpoint(folder)
    config = TrainConfig.from_json(content["config"])
    layout = ActionLayout.from_json(content["actions"])
    return policy_of(config, content["learner"], content["obs_size"], layout)


def policy_of(
    config: TrainConfig, state: dict[str, Any], obs_size: int, layout: ActionLayout
) -> Policy:
    """The policy of a learner's state, on the CPU wherever it was trained."""
    learner = make_learner(replace(config, device="cpu"), obs_size, layout)
    learner.load_state(state)
    return Policy(config, learner, obs_size, layout)


def _again(
    config: TrainConfig, state: dict[str, Any], obs_size: int, layout: ActionLayout, calls: int
) -> Policy:
    """A policy that was pickled or copied."""
    policy = policy_of(config, state, obs_size, layout)
    policy._calls = calls
    return policy


def flat_size(env_id: str, obs_space: gymnasium.Space[Any]) -> int:
    """Numbers in an observation; ValueError for spaces that are not supported."""
    if not isinstance(obs_space, gymnasium.spaces.Box):
        raise ValueError(
            f"{env_id} has observations in {obs_space}; only boxes can be trained on so far: "
            "register it within gymnasium.wrappers.FlattenObservation (docs/envs.md)"
        )
    size = math.prod(obs_space.shape)
    if size == 0:
        raise ValueError(f"{env_id} has observations without features, {obs_space}")
    return size
