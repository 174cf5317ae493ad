"""What episodes have brought so far: rewards summed forward in time, across rollouts."""

from ppo_fast.advantage import discounted_returns
from ppo_fast.arrays import Array, cast, library


def running_returns(rewards: Array, done: Array, opening: Array, gamma: float) -> Array:
    """G_t = r_t + gamma (1 - done_{t-1}) G_{t-1}, the rewards-to-go of time run backward.

    Parameters
    ----------
    rewards
        [T, N] float32 or float64.
    done
        bool [T, N]: where an episode ended.
    opening
        float64 [N]: G of the step before the first; 0 where an episode ended there.
    gamma
        Discount per step; 1 sums.

    Returns
    -------
    G, float64 [T, N]. The `opening` of the next rollout is `where(done[-1], 0, G[-1])`.
    """
    xp = library(rewards)
    ends = xp.zeros_like(done)
    ends[:-1] = xp.flip(done[:-1], (0,))
    backward = discounted_returns(
        xp.flip(cast(rewards, "float64"), (0,)),
        gamma=gamma,
        last_values=opening,
        terminated=ends,
        exact=True,
    )
    return xp.flip(backward, (0,))
