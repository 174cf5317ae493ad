"""The torch engine on a GPU: rollouts and epochs are CUDA graphs, and an update waits once.

Where environments are on the CPU, every step waits for its actions, which are a graph.

What a graph reads stays where it is: parameters, gradient, Adam's moments, the rollout, the order
of the samples, and every number that changes from update to update (learning rate, coefficients of
the loss, the step at which actions are drawn). Whoever replaces one of them calls `_link`.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_fast import cuda
from ppo_fast.actions import ActionLayout
from ppo_fast.arrays import put
from ppo_fast.config import TrainConfig
from ppo_fast.cuda_graphs import Graphs
from ppo_fast.cuda_rollout import CudaRollout
from ppo_fast.envs.cuda import CudaVectorEnv
from ppo_fast.envs.stepping import Stepper
from ppo_fast.learners import EpochResult, GradientStep, Loss, PolicyChange
from ppo_fast.learners.encoder_trial import words_of
from ppo_fast.learners.torch import (
    TorchLearner,
    policy_change_of,
    require_finite_loss,
    require_finite_norm,
)
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS

_MISSING = {
    "reinforce": "reinforce plays episodes to their ends, which would have to be waited for at "
    "every step",
    "trpo": "trpo decides about each step of its line search, which would have to be waited for",
}
# Statistics of a minibatch that must be finite.
_LOSSES = (STATS.index("policy_loss"), STATS.index("value_loss"))


def why_not_cuda(config: TrainConfig) -> str | None:
    """Why this cannot be trained on a GPU, and what to do; None if it can."""
    if config.engine == "native":
        return "the native engine is the CPU's; choose engine auto, or device cpu"
    reason = _MISSING.get(config.algorithm)
    return None if reason is None else f"{reason}; choose device cpu"


class CudaLearner(TorchLearner):
    """See `ppo_fast.learners.Learner`; observations, actions and rollouts are tensors."""

    def __init__(self, config: TrainConfig, observations: ObsLayout, layout: ActionLayout) -> None:
        cuda.kernels(f"device={config.device!r}")
        place = cuda.place(config.device)
        super().__init__(config, observations, layout, place=place)
        self._place = place
        self._layout = layout
        self._bounds = layout.bounds(place)
        self._graphs = Graphs(place)
        self._draws = torch.zeros((), dtype=torch.int64, device=place)
        # What `act` has in every step: a row of a rollout, where graphs know it.
        row = CudaRollout(1, config.num_envs, (observations.size,), layout, place)
        self._row_obs, self._row_actions, self._row_logp = row.obs[0], row.actions[0], row.logp[0]
        self._rate = config.learning_rate
        self._device_rate = torch.full((), self._rate, dtype=torch.float32, device=place)
        self._coefficients: dict[str, Tensor] = {}
        # Of the epochs since `keep_old_policy`: STATS and the norm of the gradient, [minibatches].
        self._rows: list[Tensor] = []
        self._epoch_key: tuple[Any, ...] = ()
        self._order = torch.empty(0, dtype=torch.int64, device=place)
        self._epoch_rows = torch.empty(0, dtype=torch.float64, device=place)
        # No news: `Graphs` takes the first steps without a graph.
        self._optimizer._warned_capturable_if_run_uncaptured = True
        self._link()
        if config.encoder is not None:
            self._require_capturable(config.encoder)

    def _require_capturable(self, encoder: str) -> None:
        """Refuse an encoder that no graph can have, while there is no run yet."""
        try:
            for _ in range(2):  # as it is, and captured
                self._graphs.run("trial", None, partial(self._pass, self._row_obs))
        except Exception as error:
            first: BaseException = error
            while first.__context__ is not None:  # the end of a capture fails as well
                first = first.__context__
            raise ValueError(
                f"encoder {encoder!r} cannot be captured in a CUDA graph: {words_of(first)}; let "
                "forward look at no number on the device and have its tensors as buffers or "
                "parameters, or choose device cpu"
            ) from error
        self._graphs.forget()
        assert self._flat.grad is not None
        self._flat.grad.zero_()

    def _pass(self, obs: Tensor) -> None:
        """Forward and backward."""
        outputs, values = self.model.outputs(obs)
        self._differentiate(outputs.sum() + values.sum())

    def play(self, rollout: Rollout, stepper: Stepper, *, first_step: int) -> bool:
        if not isinstance(stepper, CudaVectorEnv):
            return False
        self._draws.fill_(first_step)
        key = (id(rollout), stepper.addresses)
        self._graphs.run("play", key, partial(self._play, rollout, stepper))
        return True

    @torch.no_grad()
    def _play(self, rollout: Rollout, stepper: Stepper) -> None:
        for t in range(rollout.num_steps):
            super().act(rollout.obs[t], rollout.actions[t], rollout.logp[t], step=self._draws)
            stepper.step_into(
                self._layout.to_env(rollout.actions[t], self._bounds),
                rollout.obs[t + 1],
                rollout.rewards[t],
                rollout.terminated[t],
                rollout.truncated[t],
                rollout.final_obs[t],
            )
            self._draws.add_(1)

    def act(
        self,
        obs: Tensor,
        actions: Tensor,
        logp: Tensor,
        *,
        step: int,
        deterministic: bool = False,
    ) -> None:
        self._draws.fill_(step)
        self._row_obs.copy_(obs)
        self._graphs.run("act", deterministic, partial(self._act_on_row, deterministic))
        actions.copy_(self._row_actions)
        logp.copy_(self._row_logp)

    @torch.no_grad()
    def _act_on_row(self, deterministic: bool) -> None:
        super().act(
            self._row_obs,
            self._row_actions,
            self._row_logp,
            step=self._draws,
            deterministic=deterministic,
        )

    def values(self, obs: Tensor) -> Tensor:
        return self._values(obs)

    def keep_old_policy(self, rollout: Rollout) -> None:
        super().keep_old_policy(rollout)
        self._rows = []

    def epoch(
        self,
        rollout: Rollout,
        order: NDArray[np.int64],
        loss: Loss,
        step: GradientStep,
    ) -> EpochResult:
        orders = np.atleast_2d(order)
        settings = self._settings(loss)
        self._rate = step.learning_rate
        self._device_rate.fill_(self._rate)
        self._make_room(rollout, orders.shape[1], settings, step)
        stop_on = STATS.index(step.stop_on)
        learn = partial(self._learn, rollout, loss, settings, step)
        results = []
        stopped = False
        for one in orders:
            self._order.copy_(put(one, self._place))
            self._graphs.run("epoch", self._epoch_key, learn)
            rows = self._epoch_rows.clone()
            self._rows.append(rows)
            results.append(rows[:, :-1])
            stopped = step.stop_kl is not None and rows[:, stop_on].max().item() > step.stop_kl
            if stopped:
                break
        return EpochResult(torch.cat(results), stopped)

    def _learn(
        self, rollout: Rollout, loss: Loss, settings: dict[str, Any], step: GradientStep
    ) -> None:
        """The gradient steps of an epoch, in the order that was put into `_order`."""
        minibatches = self._minibatches(rollout, self._order, loss, settings, step)
        for row, (total, stats) in zip(self._epoch_rows, minibatches, strict=True):
            norm = self._differentiate(total)
            row[:-1].copy_(stats)
            row[-1].copy_(norm)
            self._take_step(norm, step.max_grad_norm)

    def policy_change(self, rollout: Rollout) -> PolicyChange:
        numbers = self._change(rollout).unbind()
        return policy_change_of(dict(zip(STATS, numbers, strict=True)))

    def read(self, numbers: dict[str, Any]) -> dict[str, float]:
        rows = torch.cat(self._rows)
        must_be_finite = torch.stack([*(rows[:, column] for column in _LOSSES), rows[:, -1]])
        asked = [torch.isfinite(must_be_finite).all(), *numbers.values()]
        is_finite, *values = torch.stack([x.double() for x in asked]).tolist()
        if not is_finite:
            for *stats, norm in rows.tolist():
                require_finite_loss(np.array(stats))
                require_finite_norm(norm)
        return dict(zip(numbers, values, strict=True))

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = on_cpu(super().state())
        # As the other engines have it.
        state["optimizer"]["param_groups"][0].update(lr=self._rate, capturable=False)
        return state

    def close(self) -> None:
        self._graphs.forget()  # and their memory

    def _link(self) -> None:
        """Let Adam be one that can be captured, and capture anew: its tensors are others."""
        state = self._optimizer.state[self._flat]
        if not state:  # torch makes it at the first step, which would be too late
            state["step"] = torch.zeros((), device=self._place)
            state["exp_avg"] = torch.zeros_like(self._flat)
            state["exp_avg_sq"] = torch.zeros_like(self._flat)
        group = self._optimizer.param_groups[0]
        if group["lr"] is not self._device_rate:
            self._rate = float(group["lr"])
            self._device_rate.fill_(self._rate)
        group.update(lr=self._device_rate, capturable=True)
        self._graphs.forget()

    def _settings(self, loss: Loss) -> dict[str, Any]:
        """Those of the loss, with coefficients on the device, where a graph sees the next ones."""
        settings = loss.settings()
        for name, value in settings.items():
            # Without a weight, a part of the loss is left out: that is another graph.
            if value and isinstance(value, (int, float)) and not isinstance(value, bool):
                if name not in self._coefficients:
                    zero = torch.zeros((), dtype=torch.float64, device=self._place)
                    self._coefficients[name] = zero
                settings[name] = self._coefficients[name].fill_(value)
        return settings

    def _make_room(
        self, rollout: Rollout, size: int, settings: dict[str, Any], step: GradientStep
    ) -> None:
        """Let `_order` and `_epoch_rows` be those of an epoch of so many samples."""
        fixed = tuple((k, isinstance(x, Tensor) or x) for k, x in settings.items())
        key = (id(rollout), size, step.minibatch_size, step.max_grad_norm, fixed)
        if key == self._epoch_key:
            return
        self._epoch_key = key
        self._order = self._order.new_empty(size)
        minibatches = -(-size // step.minibatch_size)
        self._epoch_rows = self._epoch_rows.new_empty((minibatches, len(STATS) + 1))


def on_cpu(content: Any) -> Any:
    """Nested dicts and lists with their tensors on the CPU."""
    if isinstance(content, Tensor):
        return content.cpu()
    if isinstance(content, dict):
        return {name: on_cpu(x) for name, x in content.items()}
    if isinstance(content, list):
        return [on_cpu(x) for x in content]
    return content
