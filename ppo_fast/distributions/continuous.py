"""Distributions over real numbers."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ppo_fast import _core
from ppo_fast.distributions.base import (
    Array,
    Distribution,
    Parameters,
    Sample,
    require_integer,
)


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian(Distribution):
    """Independent normal distributions; actions are [B, D] of the dtype of the parameters.

    Attributes:
        mean: [B, D].
        log_std: Logarithms of the standard deviations, [D] or [1, D] for all samples, or [B, D].
    """

    mean: Array
    log_std: Array

    _family: ClassVar[int] = _core.Family.gaussian.value

    def _parameters(self) -> Parameters:
        return Parameters(self._family, self.mean, _row_for_all(self.log_std))


@dataclass(frozen=True, slots=True, eq=False)
class SquashedGaussian(Distribution):
    """tanh of independent normal numbers: actions within (-1, 1), of which u is before the tanh.

    `actions` are u everywhere, [B, D], because a tanh that was rounded to 1 has lost it; give the
    environment `squash(u)`. Log-probabilities are those of tanh(u), with the correction
    -sum log(1 - tanh(u)^2) (T. Haarnoja et al., "Soft Actor-Critic", 2018, appendix C).

    The entropy has no closed form: H(normal) + E[log(1 - tanh(u)^2)], with the expectation by the
    trapezoid rule at 33 points from -6 to 6 standard deviations, whose gradient is exact. Its error
    is below 2e-10, 6e-9, 2e-6 and 1e-3 for standard deviations of 0.1, 1, 2 and 4 at any mean.
    (-logp of one sample, which is often used instead, has a gradient with mean zero.)
    The KL divergence of two of them is that of their normals.

    Attributes:
        mean: [B, D] before the tanh.
        log_std: [D] or [1, D] for all samples, or [B, D].
    """

    mean: Array
    log_std: Array

    _family: ClassVar[int] = _core.Family.squashed_gaussian.value

    def _parameters(self) -> Parameters:
        return Parameters(self._family, self.mean, _row_for_all(self.log_std))

    @staticmethod
    def squash(u: Array) -> Array:
        """tanh(u): what an environment is given for the action u."""
        return np.tanh(u) if isinstance(u, np.ndarray) else u.tanh()


@dataclass(frozen=True, slots=True, eq=False)
class StateDependentNoise(Distribution):
    """Generalised state-dependent exploration: actions = mean + latent @ E, [B, D].

    A. Raffin, J. Kober, F. Stulp, "Smooth Exploration for Robotic Reinforcement Learning" (2021). E
    [L, D] has independent normal elements with standard deviations exp(log_std); each environment
    has its own and keeps it for `sample_freq` steps. E is a pure function of (seed, environment,
    step // sample_freq), so there is no noise to carry along.

    Seen at one step the action is normal; log-probabilities, entropies, divergences and losses are
    those of `gaussian()`. `latent` gets no gradient, as is stable-baselines3's default.

    Attributes:
        mean: [B, D].
        latent: [B, L] features of the states.
        log_std: [L, D].
    """

    mean: Array
    latent: Array
    log_std: Array

    def gaussian(self) -> Gaussian:
        """The distribution of an action at one step, with variances latent^2 exp(2 log_std) + 1e-6.

        With torch tensors gradients reach `mean` and `log_std`.

        Raises
        ------
        TypeError
            For parameters that are not all NumPy arrays or all torch tensors, or not all of the
            dtype of `mean`.
        ValueError
            For shapes that do not go together.
        """
        self._check()
        if isinstance(self.mean, np.ndarray):
            variance = self.latent**2 @ np.exp(2 * self.log_std)
            return Gaussian(self.mean, 0.5 * np.log(variance + 1e-6))
        variance = self.latent.detach() ** 2 @ (2 * self.log_std).exp()
        return Gaussian(self.mean, 0.5 * (variance + 1e-6).log())

    def _check(self) -> None:
        """Refuse what NumPy's or torch's operators would fail at in words of their own."""
        mean, latent, log_std = self.mean, self.latent, self.log_std
        is_tensor = hasattr(mean, "detach")
        if not is_tensor and not isinstance(mean, np.ndarray):
            raise TypeError(
                "StateDependentNoise: mean must be a NumPy array or a torch tensor, "
                f"got {type(mean).__name__}"
            )
        for name, x in (("latent", latent), ("log_std", log_std)):
            if not (hasattr(x, "detach") if is_tensor else isinstance(x, np.ndarray)):
                kind = "torch tensor" if is_tensor else "NumPy array"
                raise TypeError(
                    f"StateDependentNoise: {name} must be a {kind} like mean, "
                    f"got {type(x).__name__}"
                )
            if x.dtype != mean.dtype:
                wanted, got = (str(dtype).removeprefix("torch.") for dtype in (mean.dtype, x.dtype))
                raise TypeError(
                    f"StateDependentNoise: {name} must be {wanted} like mean, got {got}"
                )
        if mean.ndim != 2:
            raise ValueError(
                f"StateDependentNoise: mean must have shape (B, D), got {tuple(mean.shape)}"
            )
        batch, dims = mean.shape
        if latent.ndim != 2 or latent.shape[0] != batch:
            raise ValueError(
                f"StateDependentNoise: latent must have shape ({batch}, L), a row for each of "
                f"mean, got {tuple(latent.shape)}"
            )
        if tuple(log_std.shape) != (latent.shape[1], dims):
            raise ValueError(
                f"StateDependentNoise: log_std must have shape ({latent.shape[1]}, {dims}), a row "
                "for each column of latent and a column for each of mean, "
                f"got {tuple(log_std.shape)}"
            )

    def _parameters(self) -> Parameters:
        return self.gaussian()._parameters()

    def sample(
        self,
        *,
        seed: int,
        step: int,
        first_id: int = 0,
        deterministic: bool = False,
        sample_freq: int = 1,
    ) -> Sample:
        """`Distribution.sample` with noise that stays the same for `sample_freq` steps."""
        return self._sample(seed, step, first_id, deterministic, sample_freq)

    def sample_into(
        self,
        actions: Array,
        logp: Array,
        *,
        entropy: Array | None = None,
        seed: int,
        step: int,
        first_id: int = 0,
        deterministic: bool = False,
        sample_freq: int = 1,
    ) -> None:
        """`sample` into NumPy arrays of the caller, which may have any strides."""
        self._sample_into(actions, logp, entropy, seed, step, first_id, deterministic, sample_freq)

    def _noise(self, sample_freq: int) -> tuple[Array, Array, int]:
        require_integer("sample_freq", sample_freq, 1, 2**32)
        return self.latent, self.log_std, sample_freq


def _row_for_all(log_std: Array) -> Array:
    """[D] of [1, D], as networks often have it; anything else as it is."""
    return log_std[0] if getattr(log_std, "ndim", 0) == 2 and len(log_std) == 1 else log_std
