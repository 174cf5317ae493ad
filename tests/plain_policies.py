"""Log-probability, entropy and KL of policies in plain torch, for the tests of algorithms."""

import math

import numpy as np
import torch


def parts(dist):
    """(family, tensors ...), one of: choices with logits per component; bits; normal; squashed."""
    family = type(dist).__name__
    if family == "Categorical":
        return "choices", dist.logits
    if family == "MultiCategorical":
        return "choices", *dist.logits.split(list(dist.nvec), -1)
    if family == "Bernoulli":
        # A bit is a choice between two logits, 0 and its own.
        return "choices", *(
            torch.stack([torch.zeros_like(x), x], -1) for x in dist.logits.unbind(-1)
        )
    plain = dist.gaussian() if family == "StateDependentNoise" else dist
    kind = "squashed" if family == "SquashedGaussian" else "normal"
    return kind, plain.mean, plain.log_std.expand_as(plain.mean)


def detached(dist):
    """The parts of an old policy: copies that nothing moves."""
    kind, *tensors = parts(dist)
    return kind, *(x.detach().clone() for x in tensors)


def log_probability(dist, actions):
    kind, *tensors = parts(dist)
    if kind == "choices":
        columns = actions.reshape(len(actions), -1).unbind(-1)
        return sum(
            torch.log_softmax(x, -1).gather(-1, a[:, None]).squeeze(-1)
            for x, a in zip(tensors, columns, strict=True)
        )
    mean, log_std = tensors
    z = (actions - mean) / log_std.exp()
    logp = -0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)
    if kind == "squashed":
        logp = logp - _log_slope(actions)
    return logp.sum(-1)


def entropy(dist):
    kind, *tensors = parts(dist)
    if kind == "choices":
        return sum(torch.distributions.Categorical(logits=x).entropy() for x in tensors)
    mean, log_std = tensors
    result = log_std + 0.5 * math.log(2 * math.pi * math.e)
    if kind == "squashed":
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        nodes, weights = (torch.from_numpy(x).to(mean) for x in (nodes, weights / weights.sum()))
        u = mean[..., None] + log_std.exp()[..., None] * nodes
        result = result + (_log_slope(u) * weights).sum(-1)
    return result.sum(-1)


def _log_slope(u):
    """log(1 - tanh(u)^2)."""
    return 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))


def kl(old, new):
    """KL(old || new) of each sample; `old` is what `detached` gave."""
    kind, *tensors = old
    _, *others = parts(new)
    if kind == "choices":
        logs = [
            (torch.log_softmax(x, -1), torch.log_softmax(y, -1))
            for x, y in zip(tensors, others, strict=True)
        ]
        return sum((p.exp() * (p - q)).sum(-1) for p, q in logs)
    (m, s), (n, t) = tensors, others
    return (t - s + ((2 * s).exp() + (m - n) ** 2) / (2 * (2 * t).exp()) - 0.5).sum(-1)
