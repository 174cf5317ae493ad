"""PinnedStepper: environments on the CPU, whose observations are learned from on a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_fast.arrays import put
from ppo_fast.envs.stepping import Spaces, Stepper


class PinnedStepper:
    """A stepper of the CPU that takes actions as arrays and writes into tensors on a device.

    What the environments give goes through pinned memory, so nobody waits for the way there. The
    next step writes to that memory again: it must not be taken before the device has come as far,
    which holds for whoever has actions that were drawn from these observations.
    """

    def __init__(self, stepper: Stepper, size: int, place: torch.device) -> None:
        """`size`: numbers of a row of observations."""
        self.num_envs = stepper.num_envs
        self.single_observation_space: Spaces = stepper.single_observation_space
        self.single_action_space: Spaces = stepper.single_action_space
        self._stepper = stepper
        self._place = place
        self._obs, self._final_obs = self._pinned(size), self._pinned(size)
        self._rewards = self._pinned()
        self._terminated, self._truncated = (self._pinned(dtype=torch.bool) for _ in range(2))
        # Their memory, in the order of `step_into`.
        given = (self._obs, self._rewards, self._terminated, self._truncated, self._final_obs)
        self._arrays = [tensor.numpy() for tensor in given]

    def reset(self, *, seed: Sequence[int | None]) -> tuple[Tensor, dict[str, Any]]:
        obs, infos = self._stepper.reset(seed=seed)
        return put(np.ascontiguousarray(obs), self._place), infos

    def step_into(
        self,
        actions: NDArray[Any],
        obs: Tensor,
        rewards: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        final_obs: Tensor,
    ) -> int:
        ended = self._stepper.step_into(actions, *self._arrays)
        obs.copy_(self._obs, non_blocking=True)
        rewards.copy_(self._rewards, non_blocking=True)
        terminated.copy_(self._terminated, non_blocking=True)
        truncated.copy_(self._truncated, non_blocking=True)
        if ended:  # else no environment has a last observation
            final_obs.copy_(self._final_obs, non_blocking=True)
        return ended

    def get_state(self) -> NDArray[np.uint8] | None:
        return self._stepper.get_state()

    def set_state(self, state: NDArray[np.uint8]) -> None:
        self._stepper.set_state(state)

    def close(self) -> None:
        self._stepper.close()

    def _pinned(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        is_gpu = self._place.type == "cuda"
        return torch.zeros((self.num_envs, *shape), dtype=dtype, pin_memory=is_gpu)
