"""CudaVectorEnv: native environments on a GPU, which take and give tensors there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from gymnasium.vector import AutoresetMode

from ppo_fast import cuda
from ppo_fast.envs.native import _AUTORESET_CODES, NativeVectorEnv
from ppo_fast.extras import require

if TYPE_CHECKING:
    from torch import Tensor


class CudaVectorEnv(NativeVectorEnv):
    """A batch of native environments on a CUDA device: one thread an environment.

    As `NativeVectorEnv`, from the same header and with the same states, but `step` takes and gives
    torch tensors on the device, on torch's current stream, and waits for nothing. A step from the
    same state agrees with the CPU's to 1e-9. `reset` and everything else that looks at or changes
    states one by one (`get_attr`, `set_attr`, `np_random`, `render`, `get_state`, `set_state`) is
    done by the CPU on a copy, and waits.

    Discrete actions outside their range count as the nearest one: to refuse them would mean to
    wait for the device. There is no AutoresetMode.DISABLED, for the same reason.

    Parameters
    ----------
    env_id, num_envs, max_episode_steps, render_mode, episode_stats, **env_kwargs
        As `NativeVectorEnv` takes them.
    autoreset_mode
        NEXT_STEP or SAME_STEP.
    device
        `"cuda"`, or with a number, e.g. `"cuda:1"`.

    Raises
    ------
    RuntimeError
        If there is no such device, with the reason.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        device: str = "cuda",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        episode_stats: bool = False,
        **env_kwargs: Any,
    ) -> None:
        self._kernels = cuda.kernels(f"make_vec: device={device!r}")
        if AutoresetMode(autoreset_mode) == AutoresetMode.DISABLED:
            raise ValueError(
                "make_vec: autoreset_mode must be NEXT_STEP or SAME_STEP on a GPU, got DISABLED"
            )
        super().__init__(
            env_id,
            num_envs,
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
            **env_kwargs,
        )
        self._env = self._kernels.find_env(self._native_spec.env_id)
        if self._env is None:
            raise ValueError(
                f"make_vec: {env_id} was built for the CPU only; for a GPU, "
                f"ppo_fast.envs.build(header, device={device!r})"
            )
        self._torch = require("torch")
        self.device = self._torch.device(cuda.place(device))
        self._has_stats = bool(episode_stats)
        self._same_step = self.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        self._mode = _AUTORESET_CODES[self.metadata["autoreset_mode"]]
        self._limit = max_episode_steps or 0
        self._obs_shape = (self.num_envs, *(self.single_observation_space.shape or ()))
        self._obs_dtype = getattr(self._torch, str(self.single_observation_space.dtype))
        self._params = self._on_device(self._native.packed_params())
        self._tiles = self._on_device(self._native.get_state())

    def __getstate__(self) -> NoReturn:
        raise TypeError(
            "environments on a GPU cannot be pickled or copied; make others and give them the "
            "state: other.set_state(env.get_state())"
        )

    def reset(  # type: ignore[override]
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> "tuple[Tensor, dict[str, Any]]":
        """Start new episodes, as `NativeVectorEnv.reset` does; observations are on the device."""
        self._look()
        obs, infos = super().reset(seed=seed, options=options)
        self._give()
        return self._on_device(obs), infos

    def step(  # type: ignore[override]
        self, actions: "Tensor"
    ) -> "tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]":
        """Step all environments.

        Parameters
        ----------
        actions
            On the device: int64 or int32 [N] for a Discrete action space, else float32 [N, ...].

        Returns
        -------
        tuple
            Observations [N, ...], rewards float64 [N], terminated and truncated bool [N], infos.
            Under SAME_STEP infos hold `final_obs` [N, ...] with the mask `_final_obs` of the rows
            that count; with `episode_stats`, `episode` has returns `r` float64 and lengths `l`
            int64 [N], with the mask `_episode`.
        """
        torch, n = self._torch, self.num_envs
        obs = torch.empty(self._obs_shape, dtype=self._obs_dtype, device=self.device)
        rewards = torch.empty(n, dtype=torch.float64, device=self.device)
        terminated, truncated = torch.empty((2, n), dtype=torch.bool, device=self.device)
        final_obs = torch.empty_like(obs) if self._same_step else None
        returns = torch.empty_like(rewards) if self._has_stats else None
        lengths = torch.empty(n, dtype=torch.int64, device=self.device) if self._has_stats else None
        self._step(actions, obs, rewards, terminated, truncated, final_obs, returns, lengths)
        infos: dict[str, Any] = {}
        if final_obs is not None or returns is not None:
            ended = terminated | truncated
            if final_obs is not None:
                infos |= {"final_obs": final_obs, "_final_obs": ended}
            if returns is not None:
                infos |= {"episode": {"r": returns, "l": lengths}, "_episode": ended}
        return obs, rewards, terminated, truncated, infos

    def step_into(  # type: ignore[override]
        self,
        actions: "Tensor",
        obs: "Tensor",
        rewards: "Tensor",
        terminated: "Tensor",
        truncated: "Tensor",
        final_obs: "Tensor | None" = None,
    ) -> None:
        """Step all environments and write the results into tensors of the caller.

        As `step`, into contiguous tensors on the device; rewards may be float32. Allocates nothing,
        so that it can be captured in a CUDA graph.
        """
        from ppo_fast.torch_memory import note_written

        self._step(actions, obs, rewards, terminated, truncated, final_obs, None, None)
        note_written(obs, rewards, terminated, truncated, final_obs)

    def get_state(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """As `NativeVectorEnv.get_state`, which takes these bytes, too."""
        self._look()
        return super().get_state()

    def set_state(self, state: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Go on from a state that `get_state` of this class or `NativeVectorEnv` gave."""
        super().set_state(state)
        self._give()

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """As `NativeVectorEnv.np_random`."""
        self._look()
        generators = super().np_random
        self._give()  # before the first reset this has started them
        return generators

    def set_generator(self, env: int, generator: np.random.Generator) -> None:
        """As `NativeVectorEnv.set_generator`."""
        self._look()
        super().set_generator(env, generator)
        self._give()

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """As `NativeVectorEnv.get_attr`."""
        self._look()
        return super().get_attr(name)

    def set_attr(self, name: str, values: Any) -> None:
        """As `NativeVectorEnv.set_attr`, all or nothing.

        What a reset refuses is refused here, since the device cannot. The first list of values, one
        for each environment, takes new memory: a CUDA graph of `step_into` must then be captured
        anew.
        """
        before = list(self.get_attr(name)) if name in self._native_spec.params else None
        try:
            super().set_attr(name, values)
            self._try_a_reset()
        except Exception:
            if before is not None:
                super().set_attr(name, before)
            raise
        finally:
            self._give_params()

    def render(self) -> tuple[Any, ...] | None:
        """As `NativeVectorEnv.render`."""
        self._look()
        return super().render()

    @property
    def addresses(self) -> tuple[int, ...]:
        """Of the memory that `step_into` works on: with others, a CUDA graph is out of date."""
        return self._tiles.data_ptr(), self._params.data_ptr()

    @property
    def native(self) -> Any:
        """There is no engine on the CPU that steps these environments."""
        raise AttributeError("native: these environments are stepped on the device")

    def _step(self, actions: Any, *outputs: Any) -> None:
        self._require_reset()
        if not isinstance(actions, self._torch.Tensor):
            raise TypeError(
                f"step: actions must be a tensor on {self.device}, got {type(actions).__name__}"
            )
        for name, given in zip(
            ("actions", "obs", "rewards", "terminated", "truncated", "final_obs"),
            (actions, *outputs),
            strict=False,
        ):
            if given is not None and given.device != self.device:
                raise ValueError(f"step: {name} must be on {self.device}, got {given.device}")
        batch = (self._tiles, self._params, self.num_envs, self._mode, self._limit)
        self._kernels.step_env(self._env, batch, (actions, *outputs))

    def _try_a_reset(self) -> None:
        """On the CPU's copy, which is as before then; raises what the environment throws."""
        if not self._was_reset:
            return
        self._look()
        state = self._native.get_state()
        try:
            self._native.reset([None] * self.num_envs, None, self._reset_options(None))
        finally:
            self._native.set_state(state)

    def _give_params(self) -> None:
        """Let the device have the parameters; where they were, if they still fit."""
        params = self._on_device(self._native.packed_params())
        if params.shape == self._params.shape:
            self._params.copy_(params)
        else:
            self._params = params

    def _look(self) -> None:
        """Let the CPU's copy be what is on the device."""
        self._native.set_state(self._tiles.cpu().numpy())

    def _give(self) -> None:
        """Let what is on the device be the CPU's copy."""
        self._tiles.copy_(self._torch.from_numpy(self._native.get_state()))

    def _on_device(self, array: np.ndarray[Any, Any]) -> "Tensor":
        tensor: Tensor = self._torch.from_numpy(array).to(self.device, copy=True)
        return tensor
