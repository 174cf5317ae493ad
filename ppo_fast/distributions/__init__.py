"""Distributions over actions: sampling, log-probabilities, entropies and divergences, native.

Parameters are NumPy arrays or torch tensors, float32 or float64. Draws come from the
counter-based generator: a pure function of (seed, environment, step), so neither the engine nor the
number of threads can change them.
"""

from ppo_fast.distributions.base import Distribution, Sample
from ppo_fast.distributions.continuous import Gaussian, SquashedGaussian, StateDependentNoise
from ppo_fast.distributions.discrete import Bernoulli, Categorical, MultiCategorical

__all__ = [
    "Bernoulli",
    "Categorical",
    "Distribution",
    "Gaussian",
    "MultiCategorical",
    "Sample",
    "SquashedGaussian",
    "StateDependentNoise",
]
