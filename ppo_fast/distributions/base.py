"""What all distributions can do."""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from ppo_fast import _core, cuda
from ppo_fast.arrays import in_torch_words

# A NumPy array or a torch tensor on the CPU or a CUDA device; all arrays of a call are of one kind.
Array = Any


class Sample(NamedTuple):
    """What `sample` returns: NumPy arrays; of parameters on a CUDA device tensors there.

    Attributes:
        actions: As the distribution's class describes them.
        logp: [B] their log-probabilities, of the dtype of the parameters.
        entropy: [B] entropies of the distributions, likewise.
    """

    actions: Array
    logp: Array
    entropy: Array


class Parameters(NamedTuple):
    """A distribution as the kernels take it (csrc/distributions/arguments.h)."""

    family: int
    first: Array
    second: Array | None = None
    mask: Array | None = None
    nvec: tuple[int, ...] | None = None


class Distribution:
    """Base of the distributions: B of them, one per row of the parameters."""

    __slots__ = ()

    _family: ClassVar[int]  # of _core.Family

    def _parameters(self) -> Parameters:
        raise NotImplementedError  # this class only holds what all distributions share

    def sample(
        self, *, seed: int, step: int, first_id: int = 0, deterministic: bool = False
    ) -> Sample:
        """Draw an action per row, with its log-probability and the entropy, in one native call.

        Parameters
        ----------
        seed, step
            Where in the counter-based generator to draw.
        first_id
            Global id of the environment of row 0; row i belongs to first_id + i.
        deterministic
            Take the mode instead: the mean, or the most probable action (the first, where several
            are).

        Raises
        ------
        TypeError
            For parameters that are neither float32 nor float64.
        ValueError
            For wrong shapes, for a seed, step or first_id out of range, and for a row that is no
            distribution: a NaN, an infinity, a mask that allows nothing. On a CUDA device, to look
            at rows would mean to wait: the log-probability of such a one is NaN.
        """
        return self._sample(seed, step, first_id, deterministic, 1)

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
    ) -> None:
        """`sample` into NumPy arrays of the caller, which may have any strides.

        Of parameters on a CUDA device: into tensors there. `step` may then be an int64 tensor of
        one number, which is read when the kernel runs.
        """
        self._sample_into(actions, logp, entropy, seed, step, first_id, deterministic, 1)

    def evaluate(self, actions: Array) -> tuple[Array, Array]:
        """Log-probabilities [B] of actions, as `sample` gave them, and the entropies [B].

        torch tensors carry gradients to the parameters; second derivatives are refused.
        """
        parameters = self._parameters()
        if isinstance(parameters.first, np.ndarray):
            return _core.evaluate(parameters, actions)
        front = _torch(self, "evaluate", parameters.first)
        result: tuple[Array, Array] = front.evaluate(parameters, actions)
        return result

    def kl(self, other: "Distribution") -> Array:
        """KL(self || other) [B], exact, for a distribution of the same class and shape.

        `self` is the old policy: with torch tensors gradients reach the parameters of `other` only.
        """
        if type(self) is not type(other):
            raise TypeError(
                f"kl: other must be a {type(self).__name__} like the first distribution, "
                f"got {type(other).__name__}"
            )
        old, new = self._parameters(), other._parameters()
        if isinstance(new.first, np.ndarray):
            return _core.kl(old, new)
        return _torch(other, "kl", new.first).kl(old, new)

    def _sample(
        self, seed: int, step: int, first_id: int, deterministic: bool, sample_freq: int
    ) -> Sample:
        new = (None, None, None)
        return Sample(*self._draw(new, seed, step, first_id, deterministic, sample_freq))

    def _sample_into(
        self,
        actions: Array,
        logp: Array,
        entropy: Array | None,
        seed: int,
        step: Any,
        first_id: int,
        deterministic: bool,
        sample_freq: int,
    ) -> None:
        if actions is None:
            raise TypeError("sample: actions is missing, got None")
        results = (actions, logp, entropy)
        self._draw(results, seed, step, first_id, deterministic, sample_freq)
        if _on_gpu(actions):
            from ppo_fast.torch_memory import note_written

            note_written(*results)

    def _draw(
        self,
        results: tuple[Any, Any, Any],
        seed: int,
        step: Any,
        first_id: int,
        deterministic: bool,
        sample_freq: int,
    ) -> tuple[Array, Array, Array]:
        """Actions, log-probabilities and entropies: the results that are given, or new ones."""
        dist = self._parameters()
        on_gpu = _on_gpu(dist.first)
        require_integer("seed", seed, 0, 2**64)
        if not (on_gpu and hasattr(step, "detach")):
            require_integer("step", step, 0, 2**64)
        require_integer("first_id", first_id, 0, 2**32)
        noise = self._noise(sample_freq)
        draw: tuple[Array, Array, Array]
        if on_gpu:
            kernels = cuda.kernels("sample: parameters on a CUDA device")
            draw = kernels.sample(dist, noise, seed, first_id, step, deterministic, *results)
            return draw
        if noise is not None:
            noise = (to_numpy(noise[0]), to_numpy(noise[1]), noise[2])
        arrays = self._as_arrays(dist)
        try:
            draw = _core.sample(arrays, noise, seed, first_id, step, deterministic, *results)
        except TypeError as error:
            if arrays.first is dist.first:
                raise
            raise TypeError(in_torch_words(error)) from None
        return draw

    def _as_arrays(self, parameters: Parameters) -> Parameters:
        """Parameters on the CPU as NumPy arrays, which say what is wrong with others."""
        try:
            return to_numpy_parameters(parameters)
        except (TypeError, RuntimeError):  # bfloat16, for one, which NumPy does not have
            front = _torch(self, "sample", parameters.first)
            front.require_parameters("sample", parameters)
            raise

    def _noise(self, sample_freq: int) -> tuple[Array, Array, int] | None:
        """What state-dependent noise is drawn from; None: every draw is independent."""
        return None


def require_integer(name: str, value: int, least: int, bound: int) -> None:
    if not isinstance(value, (int, np.integer)) or not least <= value < bound:
        raise ValueError(
            f"sample: {name} must be an integer in [{least}, 2**{bound.bit_length() - 1}), "
            f"got {value!r}"
        )


def _on_gpu(x: Array) -> bool:
    return hasattr(x, "detach") and cuda.holds(x)


def to_numpy(x: Array) -> Array:
    """A torch tensor as the array that it shares memory with; anything else as it is."""
    return x.detach().numpy() if hasattr(x, "detach") else x


def to_numpy_parameters(parameters: Parameters) -> Parameters:
    return Parameters(
        parameters.family,
        to_numpy(parameters.first),
        to_numpy(parameters.second),
        to_numpy(parameters.mask),
        parameters.nvec,
    )


def _torch(dist: Distribution, function: str, first: Array) -> Any:
    """The torch front, for parameters that are tensors, of which this is the first."""
    if not hasattr(first, "detach"):
        raise TypeError(
            f"{function}: the parameters of {type(dist).__name__} must be NumPy arrays or torch "
            f"tensors, got {type(first).__name__}"
        )
    from ppo_fast import torch_ops

    return torch_ops
