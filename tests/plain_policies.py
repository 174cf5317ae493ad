"""Log-probability, entropy and KL of policies in plain torch, for the tests of algorithms."""

import math

import torch


def parts(dist):
    """("logits", x) or ("normal", mean, log_std), whatever class the distribution is of."""
    if hasattr(dist, "logits"):
        return "logits", dist.logits
    plain = dist.gaussian() if hasattr(dist, "gaussian") else dist
    return "normal", plain.mean, plain.log_std.expand_as(plain.mean)


def detached(dist):
    """The parts of an old policy: copies that nothing moves."""
    kind, *tensors = parts(dist)
    return kind, *(x.detach().clone() for x in tensors)


def log_probability(dist, actions):
    kind, *tensors = parts(dist)
    if kind == "logits":
        return torch.distributions.Categorical(logits=tensors[0]).log_prob(actions)
    mean, log_std = tensors
    z = (actions - mean) / log_std.exp()
    return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def entropy(dist):
    kind, *tensors = parts(dist)
    if kind == "logits":
        return torch.distributions.Categorical(logits=tensors[0]).entropy()
    return (tensors[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def kl(old, new):
    """KL(old || new) of each sample; `old` is what `detached` gave."""
    kind, *tensors = old
    _, *others = parts(new)
    if kind == "logits":
        log_p, log_q = (torch.log_softmax(x, -1) for x in (tensors[0], others[0]))
        return (log_p.exp() * (log_p - log_q)).sum(-1)
    (m, s), (n, t) = tensors, others
    return (t - s + ((2 * s).exp() + (m - n) ** 2) / (2 * (2 * t).exp()) - 0.5).sum(-1)
