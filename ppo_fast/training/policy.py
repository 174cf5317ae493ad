"""Policy: a trained actor, ready to be asked for actions."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast.actions import ActionLayout
from ppo_fast.config import TrainConfig
from ppo_fast.learners import Learner, make_learner
from ppo_fast.observations import ObsLayout
from ppo_fast.training.checkpoint import BEST_NAME, FILE_NAME, load_checkpoint


class Policy:
    """Actions for observations, as a training run learned them.

    Attributes:
        config: The settings of the run.
        observations: How observations become rows of numbers.
    """

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        observations: ObsLayout,
        layout: ActionLayout,
    ) -> None:
        self.config = config
        self.observations = observations
        self._learner = learner
        self._layout = layout
        self._calls = 0

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._learner.state()
        return _again, (self.config, state, self.observations, self._layout, self._calls)

    def predict(self, obs: Any, *, deterministic: bool = True) -> NDArray[Any]:
        """Choose actions.

        Parameters
        ----------
        obs
            One observation, as the environment gives it, or a batch, as its VectorEnv does: arrays
            [N, ...], in the Dict or Tuple that the environment has. Boxes may be flat.
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
            If the observations are not of the environment's space, or not finite.
        FloatingPointError
            If the network gives no distribution for an observation: its training has diverged.
        """
        rows, is_single = self._rows("predict", obs)
        actions = self.choose(rows, deterministic=deterministic)
        return actions[0] if is_single else actions

    def values(self, obs: Any) -> NDArray[np.float32]:
        """What the critic expects of observations, as `predict` takes them: a number, or [N].

        After normalize_rewards in units of scaled rewards. ValueError as `predict`.
        """
        rows, is_single = self._rows("values", obs)
        _require_finite("values", rows)
        values: NDArray[np.float32] = self._learner.values(np.ascontiguousarray(rows))
        return values[0] if is_single else values

    def network(self) -> Any:
        """The networks as a torch module, to export or to learn on with elsewhere.

        A copy. It takes a tensor of rows [B, size], as `observations.read` makes them, and gives
        what the distribution of actions is made of [B, K] and the values [B]; see
        `ppo_fast.learners.networks.PolicyNetwork`.
        """
        return self._learner.network()

    def choose(self, rows: NDArray[np.float32], *, deterministic: bool) -> NDArray[Any]:
        """`predict` for flat observations [N, D]."""
        _require_finite("predict", rows)
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

    def _rows(self, function: str, obs: Any) -> tuple[NDArray[np.float32], bool]:
        try:
            return self.observations.read(obs)
        except ValueError as error:
            raise ValueError(f"{function}: {error}") from None


def _require_finite(function: str, rows: NDArray[np.float32]) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"{function}: obs must be finite, got {rows[row, column]} in row {row}, column {column}"
        )


def load(folder: str | os.PathLike[str], *, best: bool = False) -> Policy:
    """Load the policy of a training run.

    Parameters
    ----------
    folder
        The run's folder, e.g. `"runs/cartpole"`.
    best
        The policy that scored best while a run with `eval_every` went on, not the last one.

    Raises
    ------
    FileNotFoundError
        If the folder holds no checkpoint.
    ValueError
        If the checkpoint is truncated, damaged or not ours.
    """
    content = load_checkpoint(folder, BEST_NAME if best else FILE_NAME)
    config = TrainConfig.from_json(content["config"])
    layout = ActionLayout.from_json(content["actions"])
    observations = ObsLayout.from_json(content["observations"])
    return policy_of(config, content["learner"], observations, layout)


def policy_of(
    config: TrainConfig, state: dict[str, Any], observations: ObsLayout, layout: ActionLayout
) -> Policy:
    """The policy of a learner's state, on the CPU wherever it was trained."""
    learner = make_learner(replace(config, device="cpu"), observations, layout)
    learner.load_state(state)
    return Policy(config, learner, observations, layout)


def _again(
    config: TrainConfig,
    state: dict[str, Any],
    observations: ObsLayout,
    layout: ActionLayout,
    calls: int,
) -> Policy:
    """A policy that was pickled or copied."""
    policy = policy_of(config, state, observations, layout)
    policy._calls = calls
    return policy
