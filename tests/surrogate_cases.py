"""Cases for the fused losses: settings by name, and batches of every family."""

import torch
from distribution_cases import Case

from ppo_fast.surrogate import fused_loss

DTYPES = [(torch.float64, 1e-10), (torch.float32, 1e-4)]

OBJECTIVES = {
    "policy_gradient": {"objective": "policy_gradient"},
    "importance": {"objective": "importance"},
    "clipped": {"objective": "clipped", "clip_range": 0.2},
    "clipped higher, dual": {
        "objective": "clipped",
        "clip_range": 0.1,
        "clip_range_high": 0.3,
        "dual_clip": 1.2,
    },
}
OPTIONS = {
    "plain": {},
    "everything": {
        "clip_range_values": 0.3,
        "kl_coef": 0.7,
        "kl_hinge": 5.0,
        "kl_hinge_from": 0.02,
        "entropy_coef": 0.05,
        "value_coef": 0.5,
        "normalize_advantages": True,
        "weights": True,
        "mask": True,
    },
    "normalised": {"normalize_advantages": True, "value_coef": 1.0},
    "weights": {"weights": True, "entropy_coef": 0.1, "normalize_advantages": True},
    "mask": {"mask": True, "normalize_advantages": True, "value_coef": 0.5},
    "values": {"clip_range_values": 0.2, "value_coef": 0.5},
    "kl": {"kl_coef": 2.0},
    "hinge below": {"kl_hinge": 3.0, "kl_hinge_from": 1e9},
    "hinge above": {"kl_hinge": 3.0, "kl_hinge_from": 0.01, "entropy_coef": -0.1},
}


class Batch:
    """A case with columns, whose ratios lie on both sides of the clip range."""

    def __init__(self, family, size, seed=0, dtype=torch.float64, dims=5):
        self.case = Case(family, size, dims, seed=seed, dtype=dtype)
        generator = torch.Generator().manual_seed(seed)

        def normal():
            return torch.randn(size, generator=generator, dtype=torch.float64)

        logp = self.case.expected(self.case.doubles())[0].detach()
        values = normal()
        self.columns = {
            "old_logp": logp + 0.3 * normal(),
            "advantages": normal(),
            "values": values,
            "returns": 1 + normal(),
            "old_values": values + 0.3 * normal(),
            "weights": normal().abs(),
        }
        self.columns = {name: x.float().to(dtype) for name, x in self.columns.items()}
        self.columns["weights"][1::7] = 0
        self.columns["values"].requires_grad_()
        self.mask = torch.arange(size) % 5 != 3

    def arguments(self, options):
        chosen = dict(self.columns)
        if not options.get("weights"):
            del chosen["weights"]
        if options.get("mask"):
            chosen["mask"] = self.mask
        rest = {k: v for k, v in options.items() if k not in ("weights", "mask")}
        return chosen | rest

    def loss(self, **options):
        return fused_loss(
            self.case.dist,
            self.case.actions,
            old_dist=self.case.old_dist,
            **self.arguments(options),
        )

    def leaves(self):
        return [*self.case.leaves, self.columns["values"]]
