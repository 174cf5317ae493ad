"""The policy as a function of its flat parameters, with torch: what TRPO asks of a learner."""

import math

import torch
from torch import Tensor

from ppo_fast.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    StateDependentNoise,
)
from ppo_fast.learners import Vector
from ppo_fast.learners.divergence import as_divergence
from ppo_fast.learners.networks import Actor
from ppo_fast.surrogate import fused_loss


class TorchTrustRegion:
    """See `ppo_fast.learners.TrustRegion`.

    The Fisher matrix of the policy's parameters is the mean over samples of J^T M J: J is the
    derivative of the distribution's parameters (logits, or mean and log_std) by the policy's, M the
    Fisher matrix of the distribution itself. J v is a derivative in forward mode, J^T u one in
    backward mode: both are exact and nothing is differentiated twice.
    """

    def __init__(
        self,
        actor: Actor,
        obs: Tensor,
        actions: Tensor,
        old_logp: Tensor,
        advantages: Tensor,
        old: Distribution,
    ) -> None:
        self._actor = actor
        self._parameters = {n: p for n, p in actor.named_parameters() if p.requires_grad}
        self._obs = obs
        self._actions = actions
        self._old_logp = old_logp
        self._advantages = advantages
        self._old = old

    def parameters(self) -> Vector:
        return _join(list(self._parameters.values()))

    def set_parameters(self, parameters: Vector) -> None:
        with torch.no_grad():
            for name, part in self._split(parameters).items():
                self._parameters[name].copy_(part)

    def gradient(self) -> Vector:
        with as_divergence():
            loss, _ = self._surrogate()
        parameters = list(self._parameters.values())
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        return -_join(list(gradients))

    def fisher_product(self, vector: Vector) -> Vector:
        def outputs(parameters: dict[str, Tensor]) -> tuple[Tensor, ...]:
            dist = torch.func.functional_call(self._actor, parameters, (self._obs,))
            return _natural(marginal(dist))

        here = {name: p.detach() for name, p in self._parameters.items()}
        _, tangents = torch.func.jvp(outputs, (here,), (self._split(vector),))[:2]
        pull_back = torch.func.vjp(outputs, here)[1]
        mean = tuple(x / len(self._obs) for x in _fisher(self._old, tangents))
        (product,) = pull_back(mean)
        return _join([product[name] for name in self._parameters])

    def surrogate_and_kl(self) -> tuple[float, float]:
        try:
            with torch.no_grad(), as_divergence():
                loss, dist = self._surrogate()
                kl = self._old.kl(dist)
        except FloatingPointError:
            return -math.inf, math.inf
        return -loss.item(), kl.double().mean().item()

    def _surrogate(self) -> tuple[Tensor, Distribution]:
        dist = marginal(self._actor(self._obs))
        loss, _ = fused_loss(
            dist,
            self._actions,
            self._advantages,
            objective="importance",
            old_logp=self._old_logp,
            entropy_coef=0.0,
            value_coef=0.0,
        )
        return loss, dist

    def _split(self, vector: Vector) -> dict[str, Tensor]:
        sizes = [p.numel() for p in self._parameters.values()]
        parts = torch.split(torch.from_numpy(vector), sizes)
        return {
            name: part.view_as(p).to(p.dtype)
            for (name, p), part in zip(self._parameters.items(), parts, strict=True)
        }


def marginal(dist: Distribution) -> Distribution:
    """What an action is drawn from, seen from outside: the noise of gSDE is a Gaussian then."""
    return dist.gaussian() if isinstance(dist, StateDependentNoise) else dist


def _natural(dist: Distribution) -> tuple[Tensor, ...]:
    """The parameters [B, ...] that `_fisher` is about."""
    if isinstance(dist, Gaussian | SquashedGaussian):
        return dist.mean, dist.log_std.expand_as(dist.mean)
    assert isinstance(dist, Bernoulli | Categorical | MultiCategorical)
    return (dist.logits,)


def _fisher(dist: Distribution, tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """M u of each sample, for the distribution's own Fisher matrix M.

    Gaussian: 1 / std^2 for the mean, 2 for log_std (a tanh changes neither). Logits: the covariance
    of the indicators of what is chosen.
    """
    if isinstance(dist, Gaussian | SquashedGaussian):
        mean, log_std = tangents
        return mean * torch.exp(-2 * dist.log_std), 2 * log_std
    (tangent,) = tangents
    assert isinstance(dist, Bernoulli | Categorical | MultiCategorical)
    if isinstance(dist, Bernoulli):
        p = torch.sigmoid(dist.logits)
        return (p * (1 - p) * tangent,)
    parts = []
    sizes = [dist.logits.shape[1]] if isinstance(dist, Categorical) else list(dist.nvec)
    logits_and_u = (torch.split(x, sizes, 1) for x in (dist.logits, tangent))
    for logits, u in zip(*logits_and_u, strict=True):
        p = torch.softmax(logits, 1)
        parts.append(p * (u - (p * u).sum(1, keepdim=True)))
    return (torch.cat(parts, 1),)


def _join(tensors: list[Tensor]) -> Vector:
    flat: Vector = torch.cat([x.detach().reshape(-1) for x in tensors]).double().numpy()
    return flat
