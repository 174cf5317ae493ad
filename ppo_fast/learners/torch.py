"""The torch engine: an ActorCritic module, the fused loss, and Adam on one flat parameter."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_fast.config import TrainConfig
from ppo_fast.distributions import Categorical
from ppo_fast.learners import ClippedLoss, EpochResult, GradientStep
from ppo_fast.learners.networks import ActorCritic, flatten_parameters
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS, fused_loss

_POLICY_LOSS = STATS.index("policy_loss")
_VALUE_LOSS = STATS.index("value_loss")
_APPROX_KL = STATS.index("approx_kl")


class TorchLearner:
    """See `ppo_fast.learners.Learner`."""

    def __init__(self, config: TrainConfig, obs_size: int, num_actions: int) -> None:
        self.seed = config.seed
        self.model = ActorCritic(
            obs_size,
            num_actions,
            config.hidden_sizes,
            config.activation,
            torch.Generator().manual_seed(config.seed),
        )
        self._flat = flatten_parameters(self.model)
        self._optimizer = torch.optim.Adam(
            [self._flat], lr=config.learning_rate, eps=1e-5, fused=True
        )

    def act(
        self,
        obs: NDArray[np.float32],
        actions: NDArray[np.int64],
        logp: NDArray[np.float32],
        *,
        step: int,
        deterministic: bool = False,
    ) -> None:
        with torch.inference_mode():
            logits = self.model.logits(torch.from_numpy(obs))
        try:
            Categorical(logits).sample_into(
                actions, logp, seed=self.seed, step=step, deterministic=deterministic
            )
        except ValueError as error:
            raise FloatingPointError(str(error)) from None

    def values(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = self.model.values(torch.from_numpy(obs)).numpy()
        return result

    def epoch(
        self,
        rollout: Rollout,
        order: NDArray[np.int64],
        loss: ClippedLoss,
        step: GradientStep,
    ) -> EpochResult:
        samples = _shuffled(rollout, torch.from_numpy(order))
        rows = []
        for first in range(0, len(order), step.minibatch_size):
            batch = [x[first : first + step.minibatch_size] for x in samples]
            try:
                total, stats = self._loss(batch, loss)
            except ValueError as error:
                raise FloatingPointError(str(error)) from None
            row = stats.numpy()
            rows.append(row)
            if not np.isfinite(row[_POLICY_LOSS]) or not np.isfinite(row[_VALUE_LOSS]):
                raise FloatingPointError(
                    f"policy_loss {row[_POLICY_LOSS]}, value_loss {row[_VALUE_LOSS]}"
                )
            if step.stop_kl is not None and row[_APPROX_KL] > step.stop_kl:
                return EpochResult(np.stack(rows), stopped=True)
            self._descend(total, step)
        return EpochResult(np.stack(rows), stopped=False)

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            first_line = str(error).splitlines()[0]
            raise ValueError(f"the state is not of this network: {first_line}") from None

    def _loss(self, batch: list[Tensor], loss: ClippedLoss) -> tuple[Tensor, Tensor]:
        obs, actions, old_logp, advantages, returns = batch
        logits, values = self.model(obs)
        return fused_loss(
            Categorical(logits),
            actions,
            advantages,
            objective="clipped",
            old_logp=old_logp,
            values=values,
            returns=returns,
            clip_range=loss.clip_range,
            entropy_coef=loss.entropy_coef,
            value_coef=loss.value_coef,
            normalize_advantages=loss.normalize_advantages,
        )

    def _descend(self, total: Tensor, step: GradientStep) -> None:
        gradient = self._flat.grad
        assert gradient is not None  # made by flatten_parameters, never replaced
        gradient.zero_()
        total.backward()  # type: ignore[no-untyped-call]
        if step.max_grad_norm is not None:
            # torch.nn.utils.clip_grad_norm_, on one tensor.
            norm = torch.linalg.vector_norm(gradient)
            gradient.mul_(torch.clamp(step.max_grad_norm / (norm + 1e-6), max=1.0))
        self._optimizer.param_groups[0]["lr"] = step.learning_rate
        self._optimizer.step()


def _shuffled(rollout: Rollout, order: Tensor) -> list[Tensor]:
    """obs, actions, logp, advantages and returns of all samples, in the given order."""
    size = len(order)
    obs = rollout.obs[:-1]
    flat = (
        obs.reshape(size, *obs.shape[2:]),
        rollout.actions.reshape(size),
        rollout.logp.reshape(size),
        rollout.advantages.reshape(size),
        rollout.returns.reshape(size),
    )
    return [torch.from_numpy(x).index_select(0, order) for x in flat]
