"""The torch engine: an ActorCritic module, the fused loss, and Adam on one flat parameter."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppo_fast.actions import ActionLayout
from ppo_fast.arrays import Array
from ppo_fast.config import TrainConfig
from ppo_fast.distributions import Distribution
from ppo_fast.envs.stepping import Stepper
from ppo_fast.learners import EpochResult, GradientStep, Loss, PolicyChange
from ppo_fast.learners.divergence import as_divergence
from ppo_fast.learners.networks import ActorCritic, PolicyNetwork
from ppo_fast.learners.trust_region import TorchTrustRegion, marginal
from ppo_fast.normalizers import MOST, ObsNormalizer
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS, fused_loss

_POLICY_LOSS = STATS.index("policy_loss")
_VALUE_LOSS = STATS.index("value_loss")
# Numbers of observations, 64 MiB, that are gathered at once, and that networks take at once where
# no gradient is asked for.
_MOST_AT_ONCE = 2**24


class TorchLearner:
    """See `ppo_fast.learners.Learner`."""

    engine = "torch"

    def __init__(
        self,
        config: TrainConfig,
        observations: ObsLayout,
        layout: ActionLayout,
        why_torch: str | None = None,
        place: torch.device | None = None,
    ) -> None:
        self.why_torch = None if config.engine == "torch" else why_torch
        self.seed = config.seed
        seen = observations.normalized(MOST) if config.normalize_obs else observations
        self.model = ActorCritic(config, seen, layout, torch.Generator().manual_seed(config.seed))
        if place is not None:
            self.model.to(place)
        size = observations.size
        self._normalizer = ObsNormalizer((size,), place) if config.normalize_obs else None
        is_gsde = layout.kind == "continuous" and config.continuous == "gsde"
        self._noise: dict[str, Any] = {"sample_freq": config.noise_steps} if is_gsde else {}
        self._old: Distribution | None = None
        self._before: dict[str, Tensor] = {}
        self._flat = self.model.flatten()
        self._optimizer = torch.optim.Adam(
            [self._flat], lr=config.learning_rate, eps=1e-5, fused=True
        )

    def play(self, rollout: Rollout, stepper: Stepper, *, first_step: int) -> bool:
        return False

    def act(
        self,
        obs: Array,
        actions: Array,
        logp: Array,
        *,
        step: Any,
        deterministic: bool = False,
    ) -> None:
        with torch.no_grad():  # inference_mode would spoil what an encoder keeps for later
            dist = self.model.policy(self._seen(obs))
        with as_divergence():
            dist.sample_into(
                actions,
                logp,
                seed=self.seed,
                step=step,
                deterministic=deterministic,
                **self._noise,
            )

    def values(self, obs: Array) -> Array:
        return self._values(obs).numpy()

    def keep_old_policy(self, rollout: Rollout) -> None:
        with torch.no_grad():
            self._old = _copy(self._policy(rollout), self._old)
        self._keep_before()

    def undo(self) -> None:
        moments = dict(self._before)
        with torch.no_grad():
            self._flat.copy_(moments.pop("parameters"))
        self._before = {}  # the optimizer has them now
        self._optimizer.state.clear()
        if moments:
            self._optimizer.state[self._flat] = moments
        self._link()

    def epoch(
        self,
        rollout: Rollout,
        order: NDArray[np.int64],
        loss: Loss,
        step: GradientStep,
    ) -> EpochResult:
        results = []
        for one in np.atleast_2d(order):
            results.append(self._one_epoch(rollout, one, loss, step))
            if results[-1].stopped:
                break
        stats = np.concatenate([result.stats for result in results])
        return EpochResult(stats, stopped=results[-1].stopped)

    def _one_epoch(
        self,
        rollout: Rollout,
        order: NDArray[np.int64],
        loss: Loss,
        step: GradientStep,
    ) -> EpochResult:
        stop_on = STATS.index(step.stop_on)
        rows = []
        index = torch.from_numpy(order)
        for total, stats in self._minibatches(rollout, index, loss, loss.settings(), step):
            row = stats.numpy()
            rows.append(row)
            require_finite_loss(row)
            if step.stop_kl is not None and row[stop_on] > step.stop_kl:
                return EpochResult(np.stack(rows), stopped=True)
            self._descend(total, step)
        return EpochResult(np.stack(rows), stopped=False)

    def _minibatches(
        self,
        rollout: Rollout,
        index: Tensor,
        loss: Loss,
        settings: dict[str, Any],
        step: GradientStep,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The loss of each minibatch of an epoch, with gradients, and its statistics.

        `settings` are those of the loss as `fused_loss` takes them.
        """
        columns = self._gather(rollout, index)
        old = _rows(self._old, index) if loss.uses_kl else None
        size = step.minibatch_size
        for k, obs in enumerate(self._obs_by(rollout, index, size)):
            part = slice(k * size, (k + 1) * size)
            actions, old_logp, advantages, returns, old_values = (x[part] for x in columns)
            dist, values = self.model(obs) if loss.has_critic else (self.model.policy(obs), None)
            with as_divergence():
                result = fused_loss(
                    marginal(dist),
                    actions,
                    advantages,
                    old_logp=old_logp,
                    values=values,
                    returns=returns if loss.has_critic else None,
                    old_values=old_values if loss.clip_range_values is not None else None,
                    old_dist=_rows(old, part),
                    **settings,
                )
            yield result

    def value_epoch(
        self, rollout: Rollout, order: NDArray[np.int64], value_coef: float, step: GradientStep
    ) -> float:
        index = torch.from_numpy(order)
        _, _, _, returns, _ = self._gather(rollout, index)
        losses = []
        size = step.minibatch_size
        parts = zip(self._obs_by(rollout, index, size), torch.split(returns, size), strict=True)
        for obs, expected in parts:
            loss = torch.nn.functional.mse_loss(self.model.values(obs), expected)
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(f"value_loss {losses[-1]}")
            self._descend(value_coef * loss, step)
        return float(np.mean(losses))

    def trust_region(self, rollout: Rollout) -> TorchTrustRegion:
        assert self._old is not None
        index = torch.from_numpy(rollout.samples)
        obs = self._seen_by(rollout, index)
        actions, old_logp, advantages, _, _ = self._gather(rollout, index)
        old = _rows(self._old, index)
        return TorchTrustRegion(self.model.actor, obs, actions, old_logp, advantages, old)

    def policy_change(self, rollout: Rollout) -> PolicyChange:
        stats = dict(zip(STATS, self._change(rollout).tolist(), strict=True))
        return policy_change_of(stats)

    def _change(self, rollout: Rollout) -> Tensor:
        """The statistics of the policy as it is, by what `keep_old_policy` remembered."""
        assert self._old is not None
        valid = rollout.valid
        with torch.no_grad(), as_divergence():
            _, stats = fused_loss(
                self._policy(rollout),
                _flat(rollout.actions),
                _flat(rollout.advantages),
                objective="importance",
                old_logp=_flat(rollout.logp),
                old_dist=self._old,
                mask=None if valid is None else _flat(valid),
            )
        row: Tensor = stats
        return row

    def read(self, numbers: dict[str, Any]) -> dict[str, float]:
        return {name: float(number) for name, number in numbers.items()}

    def observe(self, rollout: Rollout) -> None:
        if self._normalizer is not None:
            obs = rollout.obs[:-1]
            self._normalizer.update(_samples(obs) if rollout.valid is None else obs[rollout.valid])

    def state(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()}
        if self._normalizer is not None:
            state["obs_moments"] = self._normalizer.state()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._link()
            if self._normalizer is not None:
                self._normalizer.load_state(state["obs_moments"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            first_line = str(error).splitlines()[0]
            raise ValueError(f"the state is not of this network: {first_line}") from None

    def network(self) -> PolicyNetwork:
        normalizer = self._normalizer
        return PolicyNetwork(self.model, None if normalizer is None else normalizer.terms())

    def close(self) -> None:
        pass

    def _link(self) -> None:
        """Learn on with the optimiser's tensors as they are now."""

    def _require_finite_gradient(self, norm: float) -> None:
        """Raise FloatingPointError, which tells whose gradient it is, if the norm is not finite."""
        if math.isfinite(norm):
            return
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise FloatingPointError(f"the norm of the gradient is {norm}, that of {name} too")
        require_finite_norm(norm)

    def _keep_before(self) -> None:
        """Copy all that an update changes."""
        moments = self._optimizer.state.get(self._flat, {})  # none before the first step
        now = {"parameters": self._flat.detach(), **moments}
        if self._before.keys() != now.keys():
            self._before = {name: torch.empty_like(x) for name, x in now.items()}
        for name, x in now.items():
            self._before[name].copy_(x)

    def _seen(self, obs: Array) -> Tensor:
        """Observations as the networks see them."""
        return torch.as_tensor(obs if self._normalizer is None else self._normalizer(obs))

    def _blocks(self, obs: Array) -> Iterator[Tensor]:
        """`_seen` of [k, size], in parts of whose features memory has room for all."""
        count = max(1, _MOST_AT_ONCE // obs.shape[1])
        for first in range(0, max(1, len(obs)), count):
            yield self._seen(obs[first : first + count])

    @torch.no_grad()
    def _values(self, obs: Array) -> Tensor:
        return torch.cat([self.model.values(block) for block in self._blocks(obs)])

    def _policy(self, rollout: Rollout) -> Distribution:
        """The distributions of all T * N steps; without gradients."""
        with torch.no_grad():
            blocks = self._blocks(_samples(rollout.obs[:-1]))
            dist: Distribution = _together([marginal(self.model.policy(x)) for x in blocks])
        return dist

    def _seen_by(self, rollout: Rollout, index: Tensor) -> Tensor:
        """The observations of samples, in the given order, as the networks see them."""
        obs = _samples(rollout.obs[:-1])
        chosen = torch.as_tensor(obs).index_select(0, index)
        return self._seen(chosen.numpy() if isinstance(obs, np.ndarray) else chosen)

    def _obs_by(self, rollout: Rollout, index: Tensor, count: int) -> Iterator[Tensor]:
        """`_seen_by`, so many samples at a time; what is large is never gathered whole."""
        if len(index) * rollout.obs.shape[2] <= _MOST_AT_ONCE:
            yield from torch.split(self._seen_by(rollout, index), count)
        else:
            for part in torch.split(index, count):
                yield self._seen_by(rollout, part)

    def _gather(self, rollout: Rollout, index: Tensor) -> list[Tensor]:
        """actions, logp, advantages, returns and values of samples, in the given order."""
        flat = (
            _flat(rollout.actions),
            _flat(rollout.logp),
            _flat(rollout.advantages),
            _flat(rollout.returns),
            _flat(rollout.old_values),
        )
        return [x.index_select(0, index) for x in flat]

    def _descend(self, total: Tensor, step: GradientStep) -> None:
        norm = self._differentiate(total)
        self._require_finite_gradient(norm.item())
        self._optimizer.param_groups[0]["lr"] = step.learning_rate
        self._take_step(norm, step.max_grad_norm)

    def _differentiate(self, total: Tensor) -> Tensor:
        """Let the gradient be that of a loss; returns its norm."""
        gradient = self._flat.grad
        assert gradient is not None  # made by flatten_parameters, never replaced
        gradient.zero_()
        total.backward()  # type: ignore[no-untyped-call]
        norm: Tensor = torch.linalg.vector_norm(gradient)
        return norm

    def _take_step(self, norm: Tensor, max_grad_norm: float | None) -> None:
        """One of Adam's along the gradient, whose norm is given."""
        if max_grad_norm is not None:
            assert self._flat.grad is not None
            # torch.nn.utils.clip_grad_norm_, on one tensor.
            self._flat.grad.mul_(torch.clamp(max_grad_norm / (norm + 1e-6), max=1.0))
        self._optimizer.step()


def require_finite_loss(row: NDArray[np.float64]) -> None:
    """Raise FloatingPointError if the statistics of a loss say that it is not finite."""
    if not np.isfinite(row[_POLICY_LOSS]) or not np.isfinite(row[_VALUE_LOSS]):
        raise FloatingPointError(f"policy_loss {row[_POLICY_LOSS]}, value_loss {row[_VALUE_LOSS]}")


def require_finite_norm(norm: float) -> None:
    """Raise FloatingPointError if the norm of a gradient is not finite."""
    if not math.isfinite(norm):
        raise FloatingPointError(f"the norm of the gradient is {norm}")


def policy_change_of(stats: dict[str, Any]) -> PolicyChange:
    """The change of which `fused_loss` gave these statistics."""
    return PolicyChange(**{f.name: stats[f.name] for f in dataclasses.fields(PolicyChange)})


def _samples(array: Array) -> Array:
    """[T, N, ...] as [T * N, ...] of the same memory."""
    return array.reshape(-1, *array.shape[2:])


def _flat(array: Array) -> Tensor:
    """`_samples` as a tensor."""
    return torch.as_tensor(_samples(array))


def _copy(dist: Any, into: Any = None) -> Any:
    """The same distribution, whatever becomes of the network's own parameters.

    In the memory of another one, if it fits there.
    """
    names = [f.name for f in dataclasses.fields(dist)]
    tensors = {n: getattr(dist, n) for n in names if isinstance(getattr(dist, n), Tensor)}
    if into is None or any(getattr(into, n).shape != x.shape for n, x in tensors.items()):
        return dataclasses.replace(dist, **{n: x.clone() for n, x in tensors.items()})
    for name, x in tensors.items():
        getattr(into, name).copy_(x)
    return into


def _rows(dist: Any, index: Tensor | slice) -> Any:
    """The distribution of some samples; parameters that all samples share stay."""
    if dist is None:
        return None
    return dataclasses.replace(dist, **{n: x[index] for n, x in _per_sample(dist).items()})


def _together(dists: list[Any]) -> Any:
    """The distribution of the samples of all; parameters that all samples share stay."""
    first, *others = dists
    if not others:
        return first
    columns = {name: [_per_sample(dist)[name] for dist in dists] for name in _per_sample(first)}
    return dataclasses.replace(first, **{name: torch.cat(x) for name, x in columns.items()})


def _per_sample(dist: Any) -> dict[str, Tensor]:
    fields = {f.name: getattr(dist, f.name) for f in dataclasses.fields(dist)}
    return {name: x for name, x in fields.items() if isinstance(x, Tensor) and x.ndim > 1}
