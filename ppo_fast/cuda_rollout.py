"""CudaRollout: a rollout whose arrays are tensors on a device, and which waits for nothing but
environments on the CPU.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_fast.actions import ActionLayout
from ppo_fast.cuda_graphs import Span
from ppo_fast.envs.stepping import Stepper
from ppo_fast.rollout import Actor, Critic, NotFinite, Rollout


class CudaRollout(Rollout):
    """See `Rollout`. The tensors stay where they are, so that CUDA graphs know them."""

    known_later = True

    def __init__(
        self,
        num_steps: int,
        num_envs: int,
        obs_shape: tuple[int, ...],
        layout: ActionLayout,
        place: torch.device,
    ) -> None:
        self._place = place
        super().__init__(num_steps, num_envs, obs_shape, layout)
        # As the environments gave them, whatever becomes of `rewards`.
        self._given_rewards = torch.zeros_like(self.rewards)
        self._is_finite: Tensor | None = None
        self._span = Span(place)

    def collect(self, stepper: Stepper, actor: Actor, *, first_step: int) -> None:
        """As `Rollout.collect`; with environments on the device, only put on its stream here."""
        with self._span:
            super().collect(stepper, actor, first_step=first_step)
        self._given_rewards.copy_(self.rewards)
        given = (self.obs, self.rewards, self.final_obs)
        self._is_finite = torch.stack([torch.isfinite(x).all() for x in given]).all()

    def times(self, collecting: float, whole: float) -> dict[str, float]:
        """As `Rollout.times`, after the update. Environments on the device are not told apart."""
        return super().times(min(self._span.seconds(), whole), whole)

    def find_not_finite(self) -> NotFinite | None:
        """As `Rollout.find_not_finite`; waits for the rollout."""
        if self._is_finite is None or self._is_finite.item():
            return None
        on_cpu = Rollout(self.num_steps, self.num_envs, self._obs_shape, self._layout)
        on_cpu.rewards[:] = self._on_cpu(self._given_rewards)
        for name in ("obs", "final_obs", "terminated", "truncated"):
            getattr(on_cpu, name)[:] = self._on_cpu(getattr(self, name))
        return on_cpu.find_not_finite()

    def estimate_values(self, critic: Critic, cut: Tensor | None = None) -> None:
        """As `Rollout.estimate_values`; final_values everywhere, as how many would be asked back.

        Where nothing was cut they are those of old observations, and are not looked at.
        """
        self._estimate(critic, self.obs, self.values)
        if cut is not None:
            self._estimate(critic, self.final_obs, self.final_values)

    def _estimate(self, critic: Critic, obs: Tensor, values: Tensor) -> None:
        values.copy_(critic.values(obs.reshape(-1, *self._obs_shape)).view_as(values))

    def _on_cpu(self, array: Tensor) -> NDArray[Any]:
        here: NDArray[Any] = array.cpu().numpy()
        return here

    def _zeros(self, shape: tuple[int, ...], dtype: Any) -> Tensor:
        name = np.dtype(dtype).name
        return torch.zeros(shape, dtype=getattr(torch, name), device=self._place)
