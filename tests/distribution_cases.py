"""Every family of distributions with its oracle in plain torch, for tests that need torch."""

import math

import torch
from torch.nn import functional

from ppo_fast.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)

NVEC = (3, 1, 4)
# The quadrature of SquashedGaussian's entropy: points in standard deviations, and their weights.
NODES = 0.375 * torch.arange(-16, 17, dtype=torch.float64)
WEIGHTS = torch.softmax(-(NODES**2) / 2, 0)

FAMILIES = [
    "categorical",
    "masked",
    "multi",
    "masked-multi",
    "bernoulli",
    "gaussian",
    "gaussian-per-sample",
    "squashed",
    "squashed-per-sample",
]


def parameters(family, size, dims, generator, dtype=torch.float64):
    """Leaves with gradients, first the logits or means."""
    columns = sum(NVEC) if "multi" in family else dims
    first = torch.randn(size, columns, generator=generator, dtype=torch.float64)
    result = [2 * first if family in FAMILIES[:5] else first]
    if "gaussian" in family or "squashed" in family:
        shape = (size, columns) if "per-sample" in family else (columns,)
        result.append(0.5 * torch.randn(shape, generator=generator, dtype=torch.float64) - 0.3)
    return [x.float().to(dtype).requires_grad_() for x in result]


def moved(leaves, generator):
    """Parameters near these ones, without gradients: an old policy."""
    return [
        (x + 0.3 * torch.randn(x.shape, generator=generator, dtype=torch.float64)).detach()
        for x in (leaf.detach().double() for leaf in leaves)
    ]


def mask_of(family, size):
    """A mask that allows the first action of each component, and others by turns; or None."""
    if "masked" not in family:
        return None
    columns = sum(NVEC) if "multi" in family else None
    rows = torch.arange(size)[:, None]

    def mask(width):
        allowed = (rows + torch.arange(width)) % 3 != 0
        starts = (0, *torch.tensor(NVEC).cumsum(0)[:-1].tolist()) if columns else (0,)
        allowed[:, list(starts)] = True
        return allowed

    return mask(columns) if columns else mask


def distribution(family, leaves, mask=None):
    if "categorical" in family or family == "masked":
        return Categorical(*leaves, mask)
    if "multi" in family:
        return MultiCategorical(*leaves, NVEC, mask)
    if family == "bernoulli":
        return Bernoulli(*leaves)
    return (SquashedGaussian if "squashed" in family else Gaussian)(*leaves)


class Case:
    """A batch of one family: leaves, actions, an old policy, and what plain torch makes of them."""

    def __init__(self, family, size, dims=5, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        self.family, self.size = family, size
        self.leaves = parameters(family, size, dims, generator, dtype)
        self.old = [x.float().to(dtype) for x in moved(self.leaves, generator)]
        mask = mask_of(family, size)
        self.mask = mask(dims) if callable(mask) else mask
        self.dist = distribution(family, self.leaves, self.mask)
        self.old_dist = distribution(family, self.old, self.mask)
        sample = distribution(family, [x.float().detach() for x in self.leaves], self.mask)
        actions = torch.as_tensor(sample.sample(seed=seed, step=0).actions)
        self.actions = actions.to(dtype) if actions.is_floating_point() else actions

    def doubles(self):
        """Leaves in float64 to differentiate by, with the same values."""
        return [x.detach().double().requires_grad_() for x in self.leaves]

    def expected(self, leaves):
        """logp, entropy and KL(old || new) [B] of the leaves, by torch."""
        return terms(self.family, leaves, self.actions, [x.double() for x in self.old], self.mask)


def terms(family, leaves, actions, old, mask=None):
    if family in ("categorical", "masked"):
        return _softmax_terms(leaves[0], actions, old[0], mask)
    if "multi" in family:
        masks = [None] * len(NVEC) if mask is None else mask.split(NVEC, 1)
        parts = [
            _softmax_terms(logits, actions[:, c], old_logits, part)
            for c, (logits, old_logits, part) in enumerate(
                zip(leaves[0].split(NVEC, 1), old[0].split(NVEC, 1), masks, strict=True)
            )
        ]
        return tuple(sum(part) for part in zip(*parts, strict=True))
    if family == "bernoulli":
        new, before = (torch.distributions.Bernoulli(logits=x[0]) for x in (leaves, old))
        kl = torch.distributions.kl_divergence(before, new)
        return tuple(x.sum(1) for x in (new.log_prob(actions.double()), new.entropy(), kl))
    new, before = (torch.distributions.Normal(x[0], x[1].exp()) for x in (leaves, old))
    logp, entropy = new.log_prob(actions.double()), new.entropy()
    kl = torch.distributions.kl_divergence(before, new)
    if "squashed" in family:
        logp = logp - log_slope(actions.double())
        std = leaves[1].exp().expand_as(leaves[0])
        nodes = leaves[0][..., None] + std[..., None] * NODES
        entropy = entropy + log_slope(nodes) @ WEIGHTS
    return logp.sum(1), entropy.expand_as(leaves[0]).sum(1), kl.sum(1)


def _softmax_terms(logits, actions, old_logits, mask):
    # Never an infinity, whose gradients autograd takes for NaN.
    if mask is not None:
        logits, old_logits = (x.masked_fill(~mask, -1e9) for x in (logits, old_logits))
    logp_all, old_all = torch.log_softmax(logits, 1), torch.log_softmax(old_logits, 1)
    entropy = -(logp_all.exp() * logp_all).sum(1)
    kl = (old_all.exp() * (old_all - logp_all)).sum(1)
    return logp_all.gather(1, actions[:, None])[:, 0], entropy, kl


def log_slope(u):
    """log(1 - tanh(u)^2)"""
    # torch's softplus is the identity above its threshold.
    return 2 * (math.log(2) - u - functional.softplus(-2 * u, threshold=1000))


def assert_close(ours, expected, tolerance):
    """Relative to the largest element: small ones are differences of larger terms."""
    ours, expected = ours.detach().double(), expected.detach().double()
    assert ours.shape == expected.shape
    assert torch.isfinite(ours).all()
    scale = expected.abs().max().clamp(min=1e-300)
    assert (ours - expected).abs().max() <= tolerance * scale, (ours, expected)
