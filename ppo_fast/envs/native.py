"""NativeVectorEnv: a batch of C++ environments behind Gymnasium's VectorEnv."""

import operator
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ppo_fast import _core
from ppo_fast.envs.specs import native_spec

_AUTORESET_CODES = {
    AutoresetMode.NEXT_STEP: 0,
    AutoresetMode.SAME_STEP: 1,
    AutoresetMode.DISABLED: 2,
}


class NativeVectorEnv(VectorEnv[NDArray[Any], NDArray[Any], NDArray[Any]]):
    """A batch of native environments, equal bit for bit to Gymnasium's `SyncVectorEnv`.

    The equality (observations, rewards, flags, infos, for the same seeds and actions) holds on
    x86-64 with glibc and NumPy >= 2; elsewhere each single step agrees to 1e-9. Results depend
    neither on `num_threads` nor on the processor's instruction set. Arrays that `step` and
    `reset` return are never overwritten while anybody holds them.

    Parameters
    ----------
    env_id
        A native environment, e.g. `"CartPole-v1"`.
    num_envs
        Number of environments, N below.
    num_threads
        Threads that share a step; None chooses by the work of a step.
    autoreset_mode
        Gymnasium's `AutoresetMode`: NEXT_STEP, SAME_STEP or DISABLED.
    max_episode_steps
        Truncates episodes at this length; None for no limit.
    render_mode
        Accepted for `gymnasium.make_vec`; only None is supported.
    **env_kwargs
        Keywords of the original, e.g. `sutton_barto_reward=True`.

    Raises
    ------
    ValueError
        For an unknown id, a number below 1 or an unknown keyword value.
    TypeError
        For an unknown keyword or one of a wrong type.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        num_threads: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **env_kwargs: Any,
    ) -> None:
        spec = native_spec(env_id)
        if spec is None:
            raise ValueError(f"make_vec: {env_id!r} is not a native environment")
        if render_mode is not None:
            raise ValueError(
                f"make_vec: render_mode {render_mode!r} is not supported by native environments; "
                f"render with gymnasium.make({spec.env_id!r}, render_mode=...)"
            )
        mode = AutoresetMode(autoreset_mode)
        self.num_envs = operator.index(num_envs)
        self._native = _core.VectorEnv(
            spec.env_id, self.num_envs, num_threads, _AUTORESET_CODES[mode], max_episode_steps
        )
        info = _core.native_envs()[spec.env_id]
        for name, value in env_kwargs.items():
            if not self._native.set_param(name, value):
                known = ", ".join(info["params"])
                raise TypeError(f"make_vec: {spec.env_id} has no keyword {name!r}; it has: {known}")
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.single_observation_space = spec.observation_space()
        self.single_action_space = spec.action_space()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._default_bounds: tuple[float, float] = info["reset_bounds"]
        self._seeds: list[int] | None = None
        self._was_reset = False

    @property
    def num_threads(self) -> int:
        """Threads that share a step."""
        return self._native.num_threads

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed that each environment's generator was last started from."""
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
            None goes on with each environment's generator (seeded by the operating system the first
            time); an int s seeds environment i with s + i; a list gives one seed (or None) each.
        options
            `low` and `high`: range of the initial state. `reset_mask`: bool array [N] of the
            environments to reset; the others keep their state.

        Returns
        -------
        tuple
            Observations [N, ...] and an empty info dict.
        """
        if options is not None and not isinstance(options, dict):
            raise TypeError(f"reset: options must be a dict or None, got {options!r}")
        low, high = self._reset_bounds(options)
        selected = self._reset_mask(options)
        seeds = self._seed_list(seed)
        obs = self._native.reset(seeds, selected, low, high)
        self._was_reset = True
        return obs, {}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Step all environments.

        Parameters
        ----------
        actions
            Integers [N].

        Returns
        -------
        tuple
            Observations [N, ...], rewards float64 [N], terminated and truncated bool [N], infos.
            Infos are empty but for SAME_STEP, where an ended episode adds `final_obs`, `final_info`
            and their masks.
        """
        self._require_reset()
        obs, rewards, terminated, truncated, final_obs = self._native.step(actions)
        if final_obs is None:
            return obs, rewards, terminated, truncated, {}
        return obs, rewards, terminated, truncated, _final_infos(final_obs, terminated | truncated)

    def step_into(
        self,
        actions: Any,
        obs: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        truncated: NDArray[Any],
        final_obs: NDArray[Any] | None = None,
    ) -> int:
        """Step all environments and write the results into arrays of the caller, e.g. rollout rows.

        Parameters
        ----------
        actions
            Integers [N].
        obs
            [N, ...] of the observation dtype; rows may be strided.
        rewards
            [N], float32 or float64.
        terminated, truncated
            bool [N].
        final_obs
            Like obs; only rows of environments whose episode ended are written.

        Returns
        -------
        int
            How many episodes ended.
        """
        self._require_reset()
        return self._native.step_into(actions, obs, rewards, terminated, truncated, final_obs)

    def get_state(self) -> NDArray[np.uint8]:
        """Everything the future of the batch depends on, as bytes [k]; see `set_state`."""
        return self._native.get_state()

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Go on from a state that `get_state` gave for as many environments of this kind."""
        self._native.set_state(state)
        self._was_reset = True

    def _require_reset(self) -> None:
        if not self._was_reset:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")

    def _known_seeds(self) -> list[int]:
        if self._seeds is None:
            self._seeds = [secrets.randbits(128) for _ in range(self.num_envs)]
        return self._seeds

    def _seed_list(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """One seed or None per environment; None means: go on with the generator."""
        if seed is None:
            # The first reset needs a seed; np_random_seed may have promised one already.
            return [None] * self.num_envs if self._was_reset else list(self._known_seeds())
        if isinstance(seed, (int, np.integer)):
            given: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        elif isinstance(seed, (list, tuple, np.ndarray)):
            given = [None if s is None else operator.index(s) for s in seed]
        else:
            raise TypeError(
                f"reset: seed must be an integer, a list of integers or None, got {seed!r}"
            )
        if len(given) != self.num_envs:
            raise ValueError(
                f"reset: seed must have one entry per environment ({self.num_envs}), "
                f"got {len(given)}"
            )
        for s in given:
            if s is not None and s < 0:
                raise ValueError(f"reset: seed must not be negative, got {s}")
        known = self._known_seeds()
        self._seeds = [k if s is None else s for s, k in zip(given, known, strict=True)]
        return given if self._was_reset else list(self._seeds)

    def _reset_bounds(self, options: dict[str, Any] | None) -> tuple[float, float]:
        bounds = []
        for name, default in zip(("low", "high"), self._default_bounds, strict=True):
            value = default if options is None else options.get(name, default)
            try:
                bounds.append(float(value))
            except (TypeError, ValueError):
                raise ValueError(
                    f"reset: options[{name!r}] must be a number, got {value!r}"
                ) from None
        low, high = bounds
        if not low <= high:  # also refuses NaN
            raise ValueError(
                f"reset: options['low'] ({low}) must not exceed options['high'] ({high})"
            )
        return low, high

    def _reset_mask(self, options: dict[str, Any] | None) -> NDArray[np.bool_] | None:
        if options is None or "reset_mask" not in options:
            return None
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"reset: options['reset_mask'] must be a bool NumPy array, got {kind}")
        if mask.shape != (self.num_envs,):
            raise ValueError(
                f"reset: options['reset_mask'] must have shape ({self.num_envs},), got {mask.shape}"
            )
        if not mask.any():
            raise ValueError("reset: options['reset_mask'] selects no environment")
        if not self._was_reset and not mask.all():
            raise ResetNeeded("the first reset must cover all environments")
        return np.ascontiguousarray(mask)


def _final_infos(final_obs: NDArray[Any], ended: NDArray[np.bool_]) -> dict[str, Any]:
    """What SyncVectorEnv adds to infos in SAME_STEP mode for environments without own infos."""
    rows = np.full(len(ended), None, dtype=object)
    for i in np.flatnonzero(ended):
        rows[i] = final_obs[i].copy()
    return {"final_obs": rows, "_final_obs": ended, "final_info": {}, "_final_info": ended.copy()}
