"""PoolVectorEnv: Gymnasium's VectorEnv over a package that steps a batch and resets any part of it.

ALE and EnvPool are such packages. Both reset an ended environment on the step after (NEXT_STEP);
SAME_STEP and DISABLED are made from their partial resets, which go on with the same random streams,
so all three modes see the same episodes.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ppo_fast.envs.arguments import action_array, require_mask_only, reset_mask, seed_list

_SEED_BITS = 31  # what the packages' seeds hold without a sign


class PoolVectorEnv(VectorEnv[NDArray[Any], NDArray[Any], NDArray[Any]], ABC):
    """A batch of environments of another package, with Gymnasium's contract.

    Rewards are float64, flags bool, infos carry masks, and arrays that `step` and `reset` return
    are the caller's. The package must reset ended environments on the next step by itself.

    Parameters
    ----------
    num_envs
        Number of environments, N below.
    observation_space, action_space
        Spaces of one environment: Box or Discrete.
    autoreset_mode
        Gymnasium's `AutoresetMode`: NEXT_STEP, SAME_STEP or DISABLED.

    Raises
    ------
    ValueError
        For other spaces.
    """

    def __init__(
        self,
        num_envs: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        autoreset_mode: AutoresetMode | str,
    ) -> None:
        for kind, space in (("observations", observation_space), ("actions", action_space)):
            if not isinstance(space, (Box, Discrete)):
                raise ValueError(f"make_vec: {kind} must be Box or Discrete, got {space}")
        self.num_envs = num_envs
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode(autoreset_mode)}
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._seeds: list[int] | None = None
        self._obs: NDArray[Any] | None = None  # of the last call; None before the first
        self._over = np.zeros(num_envs, np.bool_)

    @abstractmethod
    def _reset_rows(
        self, rows: NDArray[np.intp], seeds: list[int | None]
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset these environments; their observations and infos [len(rows), ...].

        The first call covers all environments and gives a seed to each.
        """

    @abstractmethod
    def _step_all(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Step all environments; new arrays [N, ...], and infos [N, ...] without masks."""

    @abstractmethod
    def _close_pool(self) -> None:
        """Release the package's environments."""

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed that each environment was last started from."""
        return tuple(self._known_seeds())

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start new episodes.

        Parameters
        ----------
        seed
            None goes on with each environment's random stream (seeded by the operating system the
            first time); an int s seeds environment i with s + i; a list gives one seed (or None)
            each. Seeds of 2**31 and above are hashed to 31 bits.
        options
            `reset_mask`: bool array [N] of the environments to reset; the others keep their state.

        Returns
        -------
        tuple
            Observations [N, ...] and infos of the environments that were reset.
        """
        self._require_open()
        mask = reset_mask(options, self.num_envs)
        require_mask_only(options)
        if mask is None:
            mask = np.ones(self.num_envs, np.bool_)
        if self._obs is None and not mask.all():
            raise ResetNeeded("the first reset must cover all environments")
        seeds = [None if s is None else _fold(s) for s in seed_list(seed, self.num_envs)]
        if self._obs is None:
            seeds = [k if s is None else s for s, k in zip(seeds, self._known_seeds(), strict=True)]
        rows = np.flatnonzero(mask)
        first_obs, first_infos = self._reset_rows(rows, [seeds[i] for i in rows])
        known = self._known_seeds()
        for i in rows:
            known[i] = known[i] if (s := seeds[i]) is None else s
        if self._obs is None:
            self._obs = np.empty(self.observation_space.shape or (), self.observation_space.dtype)
        self._obs[rows] = first_obs
        self._over[rows] = False
        return self._obs.copy(), _spread(first_infos, rows, self.num_envs)

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Step all environments.

        Parameters
        ----------
        actions
            One per environment, [N, ...].

        Returns
        -------
        tuple
            Observations [N, ...], rewards float64 [N], terminated and truncated bool [N], infos.
            In SAME_STEP an ended episode adds `final_obs`, `final_info` and their masks.
        """
        self._require_open()
        if self._obs is None:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")
        assert isinstance(self.single_action_space, (Box, Discrete))
        actions = action_array(actions, self.single_action_space, self.num_envs)
        mode = self.metadata["autoreset_mode"]
        if mode is AutoresetMode.DISABLED and self._over.any():
            raise ValueError(
                f"step: the episode of environment {self._over.argmax()} is over; "
                "reset it with options={'reset_mask': terminated | truncated}"
            )
        obs, rewards, terminated, truncated, values = self._step_all(actions)
        obs = obs.astype(self.observation_space.dtype, copy=False)
        self._over = terminated | truncated
        infos = _spread(values, np.arange(self.num_envs), self.num_envs)
        if mode is AutoresetMode.SAME_STEP and self._over.any():
            rows = np.flatnonzero(self._over)
            finals = np.full(self.num_envs, None, dtype=object)
            for i in rows:
                finals[i] = obs[i].copy()
            final_info = _spread(_take(values, rows), rows, self.num_envs)
            obs[rows], first_infos = self._reset_rows(rows, [None] * len(rows))
            _put(infos, rows, first_infos)
            infos |= {"final_obs": finals, "_final_obs": self._over.copy()}
            infos |= {"final_info": final_info, "_final_info": self._over.copy()}
        np.copyto(self._obs, obs)
        return obs, rewards.astype(np.float64), terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Release the package's environments."""
        self._close_pool()

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environments are closed")

    def _known_seeds(self) -> list[int]:
        if self._seeds is None:
            self._seeds = [secrets.randbits(_SEED_BITS) for _ in range(self.num_envs)]
        return self._seeds


def without(infos: dict[str, Any], bookkeeping: Collection[str]) -> dict[str, Any]:
    """Infos less those that the package keeps for itself."""
    return {key: value for key, value in infos.items() if key not in bookkeeping}


def allowed_keywords(
    backend: str, given: dict[str, Any], refused: dict[str, str]
) -> dict[str, Any]:
    """Keywords without those that would break the contract, which may only be None or False."""
    for name, reason in refused.items():
        if given.get(name) is not None and given[name] is not False:
            raise ValueError(f"make_vec: backend {backend!r} does not take {name!r}: {reason}")
    return {name: value for name, value in given.items() if name not in refused}


def _fold(seed: int) -> int:
    """The seed itself where the packages can hold it, else a hash of it."""
    if seed < 2**_SEED_BITS:
        return seed
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> (32 - _SEED_BITS))


def _spread(values: dict[str, Any], rows: NDArray[np.intp], num_envs: int) -> dict[str, Any]:
    """Infos of these rows as Gymnasium has them: zeros elsewhere, a mask beside each."""
    mask = np.zeros(num_envs, np.bool_)
    mask[rows] = True
    infos: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            infos[key] = _spread(value, rows, num_envs)
        else:
            infos[key] = np.zeros((num_envs, *value.shape[1:]), value.dtype)
            infos[key][rows] = value
        infos[f"_{key}"] = mask.copy()
    return infos


def _take(values: dict[str, Any], rows: NDArray[np.intp]) -> dict[str, Any]:
    return {k: _take(v, rows) if isinstance(v, dict) else v[rows] for k, v in values.items()}


def _put(infos: dict[str, Any], rows: NDArray[np.intp], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _put(infos[key], rows, value)
        else:
            infos[key][rows] = value
