"""The native engine: the same module and Adam as the torch engine's, worked on by `csrc/learner`.

Parameters, gradient and the moments of Adam are torch's memory. Nothing is converted, so a
checkpoint, an evaluation or a run that goes on does not know which engine it came from.
"""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_fast import _core
from ppo_fast.actions import ActionLayout
from ppo_fast.config import TrainConfig
from ppo_fast.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)
from ppo_fast.envs import NativeVectorEnv
from ppo_fast.envs.stepping import Stepper
from ppo_fast.learners import EpochResult, GradientStep, Loss, PolicyChange
from ppo_fast.learners.divergence import as_divergence
from ppo_fast.learners.torch import TorchLearner, policy_change_of, require_finite_loss
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS, fused_loss, loss_settings

_POLICY, _VALUE = 0, 1
# What algorithms need that csrc/learner does not have.
_MISSING = {
    "reinforce": "reinforce learns a policy without its critic, or a critic alone",
    "trpo": "trpo needs products with the Fisher matrix",
}

Layer = tuple[int, int, int, int]


class EpochColumns(NamedTuple):
    """What `_core.Learner.epoch` learns from besides observations (csrc/learner/arguments.h)."""

    actions: NDArray[Any]
    logp: NDArray[np.float32]
    advantages: NDArray[np.float32]
    returns: NDArray[np.float32]
    old_values: NDArray[np.float32] | None
    old_first: NDArray[np.float32] | None
    old_log_std: NDArray[np.float32] | None


class EpochStep(NamedTuple):
    """How `_core.Learner.epoch` steps (csrc/learner/arguments.h); None is no limit."""

    minibatch_size: int
    learning_rate: float
    max_grad_norm: float | None
    stop_kl: float | None
    stop_on: int
    steps_taken: float
    threads: int


def why_not_native(config: TrainConfig) -> str | None:
    """Why the native engine cannot train this; None if it can."""
    if config.encoder is not None:
        return "encoders are modules of torch"
    return _MISSING.get(config.algorithm)


class NativeLearner(TorchLearner):
    """See `ppo_fast.learners.Learner`."""

    engine = "native"

    def __init__(self, config: TrainConfig, observations: ObsLayout, layout: ActionLayout) -> None:
        super().__init__(config, observations, layout)
        self._layout = layout
        self._threads = config.num_threads or _core.build_info()["threads"]
        self._squashed = config.continuous == "squashed"
        is_float = layout.kind == "continuous"
        log_std = getattr(self.model.actor, "log_std", None)
        is_noise = is_float and config.continuous == "gsde"
        # A log_std that all states share; None where there is none or each has its own.
        self._log_std: NDArray[np.float32] | None = None
        if log_std is not None and not is_noise:
            self._log_std = log_std.detach().numpy()
        kind = _core.LogStd.none
        if is_noise:
            kind = _core.LogStd.noise
        elif is_float:
            kind = _core.LogStd.output if log_std is None else _core.LogStd.parameter
        dims = self.model.actor.head.out_features // (2 if kind == _core.LogStd.output else 1)
        self._native = _core.Learner(
            parts=self._parts(),
            activation=_core.Activation[config.activation],
            family=self._family(),
            dims=dims,
            components=int(np.prod(layout.shape)),
            sizes=list(layout.sizes) if layout.kind == "multi_categorical" else [],
            log_std=kind,
            log_std_place=0 if log_std is None else self._place(log_std),
            first_log_std=config.log_std,
            sample_freq=config.noise_steps,
        )
        self._seen_obs: NDArray[np.float32] = np.empty((0, observations.size), np.float32)
        self._old_first: NDArray[np.float32] | None = None
        self._old_log_std: NDArray[np.float32] | None = None
        self._outputs = "mean and log_std" if is_float else "logits"
        self._link()

    def play(self, rollout: Rollout, stepper: Stepper, *, first_step: int) -> bool:
        space = stepper.single_action_space
        if not isinstance(stepper, NativeVectorEnv) or np.any(getattr(space, "start", 0)):
            return False
        bounds = None
        if isinstance(space, gymnasium.spaces.Box):
            low, high = (np.ravel(x).astype(np.float32) for x in (space.low, space.high))
            bounds = (low, high, self._squashed)
        scale = None if self._normalizer is None else self._normalizer.terms()
        arrays = (
            rollout.obs,
            rollout.actions,
            rollout.logp,
            rollout.rewards,
            rollout.terminated,
            rollout.truncated,
            rollout.final_obs,
        )
        rollout.env_seconds, row = self._native.collect(
            stepper.native, arrays, self.seed, first_step, bounds, scale, self._threads
        )
        self._require_distribution(row)
        return True

    def act(
        self,
        obs: NDArray[np.float32],
        actions: NDArray[Any],
        logp: NDArray[np.float32],
        *,
        step: int,
        deterministic: bool = False,
    ) -> None:
        seen = self._normal(obs)
        row = self._native.act(seen, actions, logp, self.seed, step, deterministic, self._threads)
        self._require_distribution(row)

    def values(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._native.values(self._normal(obs), self._threads)

    def keep_old_policy(self, rollout: Rollout) -> None:
        obs = rollout.obs[:-1]
        self._seen_obs = self._normal(obs.reshape(-1, *obs.shape[2:]))
        self._old_first, self._old_log_std = self._parameters()
        self._keep_before()

    def epoch(
        self,
        rollout: Rollout,
        order: NDArray[np.int64],
        loss: Loss,
        step: GradientStep,
    ) -> EpochResult:
        if not loss.has_critic:
            raise ValueError("the native engine has no loss without a critic")
        columns = EpochColumns(
            actions=rollout.actions,
            logp=_flat(rollout.logp),
            advantages=_flat(rollout.advantages),
            returns=_flat(rollout.returns),
            old_values=None if loss.clip_range_values is None else _flat(rollout.old_values),
            old_first=self._old_first if loss.uses_kl else None,
            old_log_std=self._old_log_std if loss.uses_kl else None,
        )
        native_step = EpochStep(
            minibatch_size=step.minibatch_size,
            learning_rate=step.learning_rate,
            max_grad_norm=step.max_grad_norm,
            stop_kl=step.stop_kl,
            stop_on=STATS.index(step.stop_on),
            steps_taken=float(self._steps_taken),
            threads=self._threads,
        )
        stats, steps, stopped, failure = self._native.epoch(
            self._seen_obs, order, columns, loss_settings(**loss.settings()), native_step
        )
        self._steps_taken += steps
        if failure == "loss":
            require_finite_loss(stats[-1])
        if failure == "gradient":
            assert self._flat.grad is not None
            # In float32, whose range the moments of Adam have.
            self._require_finite_gradient(self._flat.grad.square().sum().sqrt().item())
            raise FloatingPointError("the norm of the gradient is not finite")
        if failure == "action":
            raise ValueError("an action of the rollout is none of this policy's")
        if failure:
            raise FloatingPointError(f"the {self._outputs} of a sample make no distribution")
        return EpochResult(stats, stopped=stopped)

    def policy_change(self, rollout: Rollout) -> PolicyChange:
        new = self._distribution(*self._parameters())
        valid = rollout.valid
        with as_divergence():
            _, row = fused_loss(
                new,
                rollout.actions.reshape(-1, *rollout.actions.shape[2:]),
                _flat(rollout.advantages),
                objective="importance",
                old_logp=_flat(rollout.logp),
                old_dist=self._distribution(self._old_first, self._old_log_std),
                mask=None if valid is None else _flat(valid),
            )
        return policy_change_of(dict(zip(STATS, row.tolist(), strict=True)))

    def _parameters(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Those of the policy for the rollout's observations; a log_std for all as a copy."""
        first, log_std = self._native.policy(self._seen_obs, self._threads)
        if self._log_std is not None:
            log_std = self._log_std.copy()
        return first, log_std

    def _require_distribution(self, row: int) -> None:
        if row >= 0:
            raise FloatingPointError(
                f"the {self._outputs} of environment {row} make no distribution"
            )

    def _link(self) -> None:
        """Give the kernels the memory of the parameters and of Adam, as it is now."""
        state = self._optimizer.state[self._flat]
        if not state:  # torch makes it at the first step
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(self._flat)
            state["exp_avg_sq"] = torch.zeros_like(self._flat)
        # Of torch's memory: optimiser steps so far.
        self._steps_taken: NDArray[np.float32] = state["step"].numpy()
        gradient = self._flat.grad
        assert gradient is not None
        tensors = (self._flat.detach(), gradient, state["exp_avg"], state["exp_avg_sq"])
        self._native.link(*(x.numpy() for x in tensors))

    def _parts(self) -> list[tuple[int, list[Layer], list[tuple[Layer, int]]]]:
        model = self.model
        policy = (self._layer(model.actor.head), _POLICY)
        *hidden, last = [m for m in model.critic if isinstance(m, nn.Linear)]
        value = (self._layer(last), _VALUE)
        trunk = self._layers(model.trunk)
        if trunk:
            return [(trunk[0][0], trunk, [policy, value])]
        return [
            (self._inputs(), self._layers(model.actor.hidden), [policy]),
            (self._inputs(), [self._layer(m) for m in hidden], [value]),
        ]

    def _inputs(self) -> int:
        first = next(m for m in self.model.critic if isinstance(m, nn.Linear))
        return first.in_features

    def _layers(self, modules: nn.Sequential) -> list[Layer]:
        return [self._layer(m) for m in modules if isinstance(m, nn.Linear)]

    def _layer(self, linear: nn.Linear) -> Layer:
        weight, bias = self._place(linear.weight), self._place(linear.bias)
        return linear.in_features, linear.out_features, weight, bias

    def _place(self, parameter: Tensor) -> int:
        """Where a parameter starts in the flat one."""
        return (parameter.data_ptr() - self._flat.data_ptr()) // self._flat.element_size()

    def _normal(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(obs if self._normalizer is None else self._normalizer(obs))

    def _family(self) -> _core.Family:
        kind = self._layout.kind
        if kind == "continuous":
            return _core.Family.squashed_gaussian if self._squashed else _core.Family.gaussian
        return _core.Family.bernoulli if kind == "bernoulli" else _core.Family.categorical

    def _distribution(self, first: Any, log_std: Any) -> Distribution:
        kind = self._layout.kind
        if kind == "categorical":
            return Categorical(first)
        if kind == "multi_categorical":
            return MultiCategorical(first, self._layout.sizes)
        if kind == "bernoulli":
            return Bernoulli(first)
        return SquashedGaussian(first, log_std) if self._squashed else Gaussian(first, log_std)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """[T, N] as [T * N] of the same memory."""
    return array.reshape(-1)
