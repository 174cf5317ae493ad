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
        self,
        config: TrainConfig,
        learner: Learner,
        obs_shape: tuple[int, ...],
        layout: ActionLayout,
    ) -> None:
        self.config = config
        self._learner = learner
        self._obs_shape = obs_shape
        self._layout = layout
        self._calls = 0

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._learner.state()
        return _again, (self.config, state, self._obs_shape, self._layout, self._calls)

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
        size = math.prod(self._obs_shape)
        forms = (self._obs_shape, (size,))
        single = given_obs.shape in forms
        if not single and not (given_obs.ndim > 0 and given_obs.shape[1:] in forms):
            known = " or ".join(f"{x} or {_text(('N', *x))}" for x in dict.fromkeys(forms))
            raise ValueError(f"predict: obs must have shape {known}, got {np.shape(obs)}")
        actions = self.choose(given_obs.reshape(-1, size), deterministic=deterministic)
        return actions[0] if single else actions

    def choose(self, rows: NDArray[np.float32], *, deterministic: bool) -> NDArray[Any]:
        """`predict` for flat observations [N, D]."""
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
        return given


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
    obs_shape = tuple(content.get("obs_shape", [content["obs_size"]]))
    return policy_of(config, content["learner"], obs_shape, layout)


def policy_of(
    config: TrainConfig, state: dict[str, Any], obs_shape: tuple[int, ...], layout: ActionLayout
) -> Policy:
    """The policy of a learner's state, on the CPU wherever it was trained."""
    learner = make_learner(replace(config, device="cpu"), math.prod(obs_shape), layout)
    learner.load_state(state)
    return Policy(config, learner, obs_shape, layout)


def _again(
    config: TrainConfig,
    state: dict[str, Any],
    obs_shape: tuple[int, ...],
    layout: ActionLayout,
    calls: int,
) -> Policy:
    """A policy that was pickled or copied."""
    policy = policy_of(config, state, obs_shape, layout)
    policy._calls = calls
    return policy


def box_shape(env_id: str, obs_space: gymnasium.Space[Any]) -> tuple[int, ...]:
    """The shape of an observation; ValueError for spaces that are not supported."""
    if not isinstance(obs_space, gymnasium.spaces.Box):
        raise ValueError(
            f"{env_id} has observations in {obs_space}; only boxes can be trained on so far: "
            "register it within gymnasium.wrappers.FlattenObservation (docs/envs.md)"
        )
    if 0 in obs_space.shape:
        raise ValueError(f"{env_id} has observations without features, {obs_space}")
    return tuple(map(int, obs_space.shape))


def _text(shape: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
