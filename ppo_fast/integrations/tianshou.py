"""Advantages for Tianshou 2: its `_gae`, computed by `ppo_fast.gae`.

    ppo_fast.integrations.patch("tianshou")

serves every algorithm of the process that estimates advantages or episodic returns: Reinforce, A2C,
PPO, NPG, TRPO, GAIL, CQL. Tianshou makes NumPy arrays of the values first, so this is the CPU's
work wherever the networks are.

For finite numbers bits are those of Tianshou, but for the sign of a zero, if `gamma` and
`gae_lambda` are Python floats; with others it may compute in float32 where we compute in float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast import advantage
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target


def gae(
    v_s: NDArray[Any],
    v_s_: NDArray[Any],
    rew: NDArray[Any],
    end_flag: NDArray[Any],
    gamma: float,
    gae_lambda: float,
) -> NDArray[np.float64]:
    """Advantages of transitions in a row, with Tianshou's arguments and in float64 like Tianshou's.

    Several environments stand one behind the other. Numbers of any dtype will do, also mixed ones.

    Parameters
    ----------
    v_s
        [T]: V of the observation that each step started from.
    v_s_
        [T]: V of the observation after each step, 0 where the episode terminated.
    rew
        [T]: rewards.
    end_flag
        [T]: set where the next row continues another episode, whatever the reason.
    gamma, gae_lambda
        In [0, 1].

    Returns
    -------
    NDArray[np.float64]
        [T]: advantages.

    Raises
    ------
    ValueError
        For shapes that differ, or a factor outside [0, 1].
    """
    ends = np.asarray(end_flag, bool)
    advantages: NDArray[np.float64] = advantage.gae(
        np.asarray(rew, np.float64),
        np.asarray(v_s, np.float64),
        gamma=gamma,
        gae_lambda=gae_lambda,
        next_values=np.asarray(v_s_, np.float64),
        # v_s_ is 0 already where nothing follows; so all ends are alike.
        terminated=np.zeros_like(ends),
        truncated=ends,
        exact=True,
    ).advantages
    return advantages


def targets() -> list[Target]:
    """What `patch("tianshou")` replaces: the one function behind all its algorithms."""
    return [Target(load("tianshou.algorithm.algorithm_base", "tianshou"), "_gae", gae)]
