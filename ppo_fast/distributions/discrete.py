"""Distributions over choices."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ppo_fast import _core
from ppo_fast.distributions.base import Array, Distribution, Parameters


@dataclass(frozen=True, slots=True, eq=False)
class Categorical(Distribution):
    """One of A actions per row; actions are int64 [B].

    Attributes:
        logits: [B, A] unnormalised log-probabilities. A logit of -infinity is an action that is
            never taken; it gets no gradient.
        mask: bool [B, A] or None: True where an action is allowed. A row must allow one.
    """

    logits: Array
    mask: Array | None = None

    _family: ClassVar[int] = _core.Family.categorical.value

    def _parameters(self) -> Parameters:
        return Parameters(self._family, self.logits, None, self.mask)


@dataclass(frozen=True, slots=True, eq=False)
class MultiCategorical(Distribution):
    """Several independent choices per row; actions are int64 [B, len(nvec)].

    Attributes:
        logits: [B, sum(nvec)], the components side by side.
        nvec: How many actions each component chooses from. Within torch.compile a tuple of Python's
            integers: of Gymnasium's array, tuple(nvec.tolist()).
        mask: bool [B, sum(nvec)] or None: True where an action is allowed. Each component of a row
            must allow one.

    Raises:
        TypeError: If nvec is no sequence.
    """

    logits: Array
    nvec: tuple[int, ...]
    mask: Array | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.nvec, (tuple, list, np.ndarray)):
            raise TypeError(
                "MultiCategorical: nvec must be a tuple of integers, one per component, "
                f"got {self.nvec!r}"
            )
        # Gymnasium's is an array; operators of torch take Python's integers.
        numbers = (n.item() if isinstance(n, np.integer) else n for n in self.nvec)
        object.__setattr__(self, "nvec", tuple(numbers))

    _family: ClassVar[int] = _core.Family.categorical.value

    def _parameters(self) -> Parameters:
        return Parameters(self._family, self.logits, None, self.mask, self.nvec)


@dataclass(frozen=True, slots=True, eq=False)
class Bernoulli(Distribution):
    """D independent choices of 0 or 1 per row; actions are int64 [B, D].

    Attributes:
        logits: [B, D]; the probability of 1 is 1 / (1 + exp(-logit)).
    """

    logits: Array

    _family: ClassVar[int] = _core.Family.bernoulli.value

    def _parameters(self) -> Parameters:
        return Parameters(self._family, self.logits)
