"""Advantages from rewards and values: generalized advantage estimation.

J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel, "High-Dimensional Continuous Control Using
Generalized Advantage Estimation" (2016). Needs NumPy only.
"""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from ppo_fast import _core


class GAE(NamedTuple):
    """Result of `gae`: two arrays [T, N] of the dtype of the rewards."""

    advantages: NDArray[Any]
    returns: NDArray[Any]


def gae(
    rewards: NDArray[Any],
    values: NDArray[Any],
    *,
    gamma: float,
    gae_lambda: float,
    last_values: NDArray[Any] | None = None,
    terminated: NDArray[Any] | None = None,
    truncated: NDArray[Any] | None = None,
    final_values: NDArray[Any] | None = None,
    out: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> GAE:
    """Generalized advantage estimates and lambda-returns of T steps of N environments.

    With Gymnasium's flags of transition t, and `terminated` winning where both are set::

        V'_t    = 0 if terminated_t;  final_values_t if truncated_t;  V_{t+1} otherwise
        delta_t = r_t + gamma V'_t - V_t
        A_t     = delta_t + gamma gae_lambda (1 - done_t) A_{t+1},   done = terminated or truncated
        R_t     = A_t + V_t

    In float32 the arithmetic is that of the plain float32 loop, bit for bit.

    Parameters
    ----------
    rewards
        [T, N], float32 or float64, any strides. Never written.
    values
        [T, N]: V of the observation that each step started from.
    gamma
        Discount per step, in [0, 1].
    gae_lambda
        Trades bias (0) for variance (1), in [0, 1].
    last_values
        [N]: V of the observation after the last step; None for zeros.
    terminated
        bool [T, N]: the transition ended its episode and nothing follows; None for never.
    truncated
        bool [T, N]: the transition was the last of a cut episode; needs `final_values`.
    final_values
        [T, N]: V of the last observation of a cut episode; read only where truncated.
    out
        Pair of arrays [T, N] to write advantages and returns into. One may be an input as well
        (then that is overwritten), but must not overlap an input in another layout.

    Returns
    -------
    GAE
        `advantages` and `returns`, [T, N] of the dtype of the rewards.

    Raises
    ------
    TypeError
        For an argument that is no NumPy array, or of another dtype.
    ValueError
        For a wrong shape, a factor outside [0, 1], or `truncated` without `final_values`.
    """
    return GAE(
        *_core.gae(
            rewards,
            values,
            gamma,
            gae_lambda,
            last_values,
            terminated,
            truncated,
            final_values,
            out,
        )
    )
