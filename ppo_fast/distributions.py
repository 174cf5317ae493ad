"""Distributions over actions: sampling and log-probabilities in one native call.

Draws come from the counter-based generator: a pure function of (seed, environment, step), so
neither the engine nor the number of threads can change them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast import _core

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class Categorical:
    """One of A actions per row.

    Attributes:
        logits: [N, A] unnormalised log-probabilities, NumPy array or torch tensor. A logit of
            -infinity is an action that is never taken.
    """

    logits: "NDArray[Any] | torch.Tensor"

    def sample(
        self, *, seed: int, step: int, first_id: int = 0, deterministic: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Draw one action per row.

        Parameters
        ----------
        seed, step
            Where in the counter-based generator to draw.
        first_id
            Global id of the environment of row 0; row i belongs to first_id + i.
        deterministic
            Take the most probable action instead (the first, where several are).

        Returns
        -------
        tuple
            Actions int64 [N] and their log-probabilities float32 [N].
        """
        rows = len(self.logits)
        actions = np.empty(rows, np.int64)
        logp = np.empty(rows, np.float32)
        self.sample_into(
            actions, logp, seed=seed, step=step, first_id=first_id, deterministic=deterministic
        )
        return actions, logp

    def sample_into(
        self,
        actions: NDArray[np.int64],
        logp: NDArray[np.float32],
        *,
        seed: int,
        step: int,
        first_id: int = 0,
        deterministic: bool = False,
    ) -> None:
        """`sample` into arrays of the caller, [N] each."""
        for name, value, bits in (
            ("seed", seed, 64),
            ("step", step, 64),
            ("first_id", first_id, 32),
        ):
            if not isinstance(value, (int, np.integer)) or not 0 <= value < 2**bits:
                raise ValueError(
                    f"sample: {name} must be an integer in [0, 2**{bits}), got {value!r}"
                )
        logits = self.logits
        if hasattr(logits, "detach"):
            logits = logits.detach().numpy()
        _core.categorical_sample(logits, seed, first_id, step, deterministic, actions, logp)
