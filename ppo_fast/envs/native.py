"""NativeVectorEnv: a batch of C++ environments behind Gymnasium's VectorEnv."""

import math
import operator
import secrets
import time
import zlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ppo_fast import _core
from ppo_fast.envs.arguments import reset_mask, seed_list
from ppo_fast.envs.rendering import RENDER_MODES, Renderer, require_render_mode
from ppo_fast.envs.specs import NAMESPACE, native_spec

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
        `"rgb_array"`, or None for environments that are not rendered.
    episode_stats
        Whether infos carry the return, length and time of episodes that ended, in the form of
        Gymnasium's `RecordEpisodeStatistics`.
    **env_kwargs
        Keywords of the environment, e.g. `sutton_barto_reward=True`, and its other attributes.

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
        episode_stats: bool = False,
        **env_kwargs: Any,
    ) -> None:
        spec = native_spec(env_id)
        if spec is None:
            raise ValueError(f"make_vec: {env_id!r} is not a native environment")
        require_render_mode(spec, render_mode)
        mode = AutoresetMode(autoreset_mode)
        self.num_envs = operator.index(num_envs)
        self._native_spec = spec
        code = _AUTORESET_CODES[mode]
        self._engine = (num_threads, code, max_episode_steps, bool(episode_stats))
        self._native = _core.VectorEnv(spec.env_id, self.num_envs, *self._engine)
        for name, value in env_kwargs.items():
            if not self._native.set_param(name, value, -1, "make_vec"):
                known = ", ".join(spec.params) or "none"
                raise TypeError(f"make_vec: {spec.env_id} has no keyword {name!r}; it has: {known}")
        self.metadata = {
            "render_modes": [] if spec.original is None else list(RENDER_MODES),
            "autoreset_mode": mode,
        }
        self.render_mode = render_mode
        self.spec = gymnasium.registry.get(f"{NAMESPACE}/{spec.env_id}")
        self.single_observation_space = spec.observation_space()
        self.single_action_space = spec.action_space()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._renderer: Renderer | None = None
        if render_mode is not None:
            self._renderer = Renderer(spec)
            self.metadata["render_fps"] = self._renderer.render_fps
        self._seeds: list[int] | None = None
        self._has_generators = False
        self._was_reset = False
        self._starts: NDArray[np.float64] | None = None
        if episode_stats:
            self._starts = np.zeros(self.num_envs)
            self._pending = np.zeros(self.num_envs, np.bool_)

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or a copy goes on from: all of it, in the middle of an episode, too."""
        state = self.__dict__.copy()
        for name in ("_native", "_native_spec", "_renderer", "spec"):
            del state[name]
        params = {name: self.get_attr(name) for name in self._native_spec.params}
        return state | {"native": (self._native_spec.env_id, params, self._native.get_state())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        env_id, params, native_state = state.pop("native")
        spec = native_spec(env_id)
        if spec is None:
            raise ValueError(f"{env_id} is not known in this process; build its header here first")
        self.__dict__.update(state)
        self._native_spec = spec
        self._native = _core.VectorEnv(env_id, self.num_envs, *self._engine)
        for name, values in params.items():
            if len(set(values)) == 1:
                self._native.set_param(name, values[0], -1, "set_attr")
                continue
            for env, value in enumerate(values):
                self._native.set_param(name, value, env, "set_attr")
        self._native.set_state(native_state)
        self.spec = gymnasium.registry.get(f"{NAMESPACE}/{env_id}")
        self._renderer = None if self.render_mode is None else Renderer(spec)

    @property
    def num_threads(self) -> int:
        """Threads that share a step."""
        return self._native.num_threads

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed that each environment's generator was last started from; -1 where it was set."""
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
            Options of the environment, e.g. `low` and `high`, the range of the initial state.
            `reset_mask`: bool array [N] of the environments to reset; the others keep their state.
            The dict is left as it is.

        Returns
        -------
        tuple
            Observations [N, ...] and an empty info dict.
        """
        selected = reset_mask(options, self.num_envs)
        values = self._reset_options(options)
        if not (self._was_reset or selected is None or selected.all()):
            raise ResetNeeded("the first reset must cover all environments")
        seeds = self._seed_list(seed, selected)
        obs = self._native.reset(seeds, selected, values)
        self._was_reset = self._has_generators = True
        if self._starts is not None:
            restarted = slice(None) if selected is None else selected
            self._starts[restarted] = time.perf_counter()
            self._pending[restarted] = False
        return obs, {}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Step all environments.

        Parameters
        ----------
        actions
            Integers [N] for a Discrete action space, else floats [N, ...].

        Returns
        -------
        tuple
            Observations [N, ...], rewards float64 [N], terminated and truncated bool [N], infos.
            Infos are empty but for SAME_STEP, where an ended episode adds `final_obs`, `final_info`
            and their masks, and for `episode_stats`.

        Raises
        ------
        TypeError, ValueError
            For actions of a wrong type, shape or range. Nothing has moved then.
        RuntimeError
            If the environment threw; it must be reset.
        """
        self._require_reset()
        obs, rewards, terminated, truncated, final_obs, stats = self._native.step(actions)
        if final_obs is None and self._starts is None:
            return obs, rewards, terminated, truncated, {}
        ended = terminated | truncated
        infos = {} if final_obs is None else _final_infos(final_obs, ended)
        if self._starts is not None:
            self._add_episode_stats(infos, stats, ended)
        return obs, rewards, terminated, truncated, infos

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
            As `step` takes them.
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

    @property
    def native(self) -> _core.VectorEnv:
        """The engine, for kernels that step it themselves."""
        self._require_reset()
        return self._native

    def get_state(self) -> NDArray[np.uint8]:
        """States, generators and counters of all environments, as bytes [k]; see `set_state`.

        Attributes that `set_attr` changed are not in it.
        """
        return np.concatenate((self._mark(), self._native.get_state()))

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Go on from a state that `get_state` gave for as many environments of this kind.

        Raises
        ------
        ValueError
            If it is another's.
        TypeError
            If it is no uint8 array.
        """
        mark = self._mark()
        if isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.ndim == 1:
            if not np.array_equal(state[: mark.size], mark):
                raise ValueError(
                    f"set_state: state must be what get_state gave for {self.num_envs} "
                    f"environments of {self._native_spec.env_id}; this is another's"
                )
            state = state[mark.size :]
        self._native.set_state(state)
        self._was_reset = self._has_generators = True

    def _mark(self) -> NDArray[np.uint8]:
        """What states begin with: whose they are, which their size does not tell."""
        kind = zlib.crc32(self._native_spec.env_id.encode())
        return np.array([self.num_envs, kind], np.int64).view(np.uint8)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Each environment's generator as it stands: copies, so drawing from them changes nothing.

        `set_generator` puts one in place.
        """
        self._start_generators()
        return tuple(self._generator(i) for i in range(self.num_envs))

    def set_generator(self, env: int, generator: np.random.Generator) -> None:
        """Let environment `env` go on with a copy of a PCG64 generator."""
        self._start_generators()
        self._native.set_rng(env, _generator_words(generator.bit_generator))
        self._known_seeds()[env] = -1

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """One value per environment of a keyword, an attribute such as `gravity`, or `state`."""
        if name in self._native_spec.params:
            return tuple(self._native.get_param(name, i) for i in range(self.num_envs))
        if name == "state":
            return tuple(self._state_of(i) for i in range(self.num_envs))
        if name == "np_random":
            return self.np_random
        if name == "np_random_seed":
            return self.np_random_seed
        shared = {
            "spec": self.spec,
            "render_mode": self.render_mode,
            "metadata": self.metadata,
            "observation_space": self.single_observation_space,
            "action_space": self.single_action_space,
        }
        if name in shared:
            return (shared[name],) * self.num_envs
        known = ", ".join((*self._native_spec.params, "state", "np_random", *shared))
        raise AttributeError(
            f"{self._native_spec.env_id} has no attribute {name!r}; it has: {known}"
        )

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute: one value for all environments, or a list or tuple with one each."""
        if name not in self._native_spec.params:
            known = ", ".join(self._native_spec.params) or "none"
            raise AttributeError(
                f"{self._native_spec.env_id} has no attribute {name!r} to set; it has: {known}"
            )
        if not isinstance(values, (list, tuple)):
            self._native.set_param(name, values, -1, "set_attr")
            return
        if len(values) != self.num_envs:
            raise ValueError(
                f"set_attr: values must have one entry per environment ({self.num_envs}), "
                f"got {len(values)}"
            )
        for i, value in enumerate(values):
            self._native.set_param(name, value, i, "set_attr")

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """`get_attr`, and `call("render")`; native environments have no other methods."""
        if name == "render":
            return self.render() or (None,) * self.num_envs
        if args or kwargs:
            raise AttributeError(f"{self._native_spec.env_id} is native and has no method {name!r}")
        return self.get_attr(name)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One frame [height, width, 3] per environment; None without a render mode."""
        if self._renderer is None:
            return None
        self._require_reset()
        return tuple(self._frame(self._renderer, i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Release what rendering holds."""
        if self._renderer is not None:
            self._renderer.close()

    def _state_of(self, env: int) -> NDArray[Any]:
        """The fields of a state, without those that the original has elsewhere."""
        fields = self._native.state_of(env)
        original = self._native_spec.original
        elsewhere = () if original is None else original.drawn
        return np.array([value for name, value in fields.items() if name not in elsewhere])

    def _frame(self, renderer: Renderer, env: int) -> NDArray[np.uint8]:
        params = {name: self._native.get_param(name, env) for name in self._native_spec.params}
        return renderer.frame(self._native.state_of(env), params)

    def _generator(self, env: int) -> np.random.Generator:
        high, low, inc_high, inc_low, has_uint32, uinteger = self._native.get_rng(env)
        bits = np.random.PCG64(0)
        bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
            "has_uint32": has_uint32,
            "uinteger": uinteger,
        }
        return np.random.Generator(bits)

    def _start_generators(self) -> None:
        """Before the first reset generators have no state yet."""
        if not self._has_generators:
            for i, seed in enumerate(self._known_seeds()):
                self._native.set_rng(i, _generator_words(np.random.PCG64(seed)))
            self._has_generators = True

    def _add_episode_stats(
        self, infos: dict[str, Any], stats: Any, ended: NDArray[np.bool_]
    ) -> None:
        assert self._starts is not None
        now = time.perf_counter()
        self._starts[self._pending] = now
        if stats is not None:
            returns, lengths = stats
            times = np.where(ended, np.round(now - self._starts, 6), 0.0)
            infos["episode"] = {"r": returns, "l": lengths, "t": times}
            infos["_episode"] = ended.copy()
        if self.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP:
            self._starts[ended] = now
        else:
            self._pending = ended.copy()

    def _require_reset(self) -> None:
        if not self._was_reset:
            raise ResetNeeded("Cannot call env.step() before calling env.reset()")

    def _known_seeds(self) -> list[int]:
        if self._seeds is None:
            self._seeds = [secrets.randbits(128) for _ in range(self.num_envs)]
        return self._seeds

    def _seed_list(
        self, seed: int | Sequence[int | None] | None, selected: NDArray[np.bool_] | None
    ) -> list[int | None]:
        """One seed or None per environment; None means: go on with the generator."""
        if seed is None:
            # The first reset needs a seed; np_random_seed may have promised one already.
            return [None] * self.num_envs if self._has_generators else list(self._known_seeds())
        given = seed_list(seed, self.num_envs)
        known = self._known_seeds()
        self._seeds = [
            k if s is None or not (selected is None or selected[i]) else s
            for i, (s, k) in enumerate(zip(given, known, strict=True))
        ]
        return given if self._has_generators else list(self._seeds)

    def _reset_options(self, options: dict[str, Any] | None) -> dict[str, Any]:
        """The environment's own options; other names are ignored, as Gymnasium does."""
        values = dict(self._native_spec.default_options)
        for name, default in values.items():
            value = default if options is None else options.get(name, default)
            if isinstance(default, float):
                try:
                    value = float(value)
                except (TypeError, ValueError):
                    value = math.nan
                if math.isnan(value):
                    assert options is not None
                    raise ValueError(
                        f"reset: options[{name!r}] must be a number, got {options[name]!r}"
                    )
            values[name] = value
        if self._native_spec.original is not None:
            self._native_spec.original.check_options(values)
        return values


def _generator_words(bits: np.random.BitGenerator) -> list[int]:
    """The state of a PCG64 in the words of `_core`, as `get_rng` gives them."""
    state: Any = bits.state
    if state["bit_generator"] != "PCG64":
        raise ValueError(f"set_generator: generator must use PCG64, got {state['bit_generator']}")
    words = [part for name in ("state", "inc") for part in divmod(state["state"][name], 1 << 64)]
    return [*words, state["has_uint32"], state["uinteger"]]


def _final_infos(final_obs: NDArray[Any], ended: NDArray[np.bool_]) -> dict[str, Any]:
    """What SyncVectorEnv adds to infos in SAME_STEP mode for environments without own infos."""
    rows = np.full(len(ended), None, dtype=object)
    for i in np.flatnonzero(ended):
        rows[i] = final_obs[i].copy()
    return {"final_obs": rows, "_final_obs": ended, "final_info": {}, "_final_info": ended.copy()}
